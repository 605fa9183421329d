/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See crypt.h.
 *
 * Theory of operation. A request is cut into pieces of at most PIECE_BYTES, and each piece has a buffer
 * of a pool: a write is encrypted from the caller's segments into the buffer, and the buffer is
 * written; a read goes into the buffer, and is decrypted from there into the segments. The segments are
 * a guest's memory, which another processor of the guest reads and writes at the same time: ciphertext
 * in them would tell the guest what its key does to chosen text, and deciphering in place could be
 * raced. A unit that is cut by the segments is gathered in the buffer and changed there.
 *
 * Bounds. PIECES buffers a disk, taken by the requests in the order of arrival; a request that gets
 * none waits until one is free. The pool is touched from its warm end, so a quiet disk costs little.
 *
 * Copies. As long as the layer below has what is read in memory, and takes what is written there, a
 * piece is done in one go, by block_transfer and the cipher: its buffer is in the processor's cache
 * then, and the next piece uses it again. Once a piece of a request would have to wait, that and all
 * that follow are submitted below.
 *
 * Threads. The cipher is most of the work. Where the host has processors to spare, a request of several
 * pieces shares them out: some go to worker threads, which begin only where a processor is idle, and
 * the rest is done by the caller's thread meanwhile, which then takes back what no worker has begun. A
 * piece is its worker's until that has put it on `ended`, from where the caller's thread takes it
 * again.
 *
 * The key is in locked memory while it becomes the cipher's, and nowhere in ours afterwards.
 */
#include "block/crypt.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "block/cipher.h"
#include "block/stack.h"
#include "block/workers.h"
#include "util/err.h"
#include "util/iov.h"
#include "util/secret.h"

#define UNIT CIPHER_UNIT_BYTES
/* 4 MiB of buffers a disk. A piece's buffer stays in the processor's cache from cipher to kernel. With
 * 128 KiB, 1 MiB would be done 3% sooner; but the kernel would keep what was written in folios of as
 * much, and writes of 4 KiB into these took ext4 a quarter longer (Linux 6.18, bench/layer). */
#define PIECE_BYTES (64u * 1024)
#define PIECES      64
/* A request of so much takes longer than to wake a thread for half of it. */
#define SHARED_BYTES (256u * 1024)

static_assert(BLOCK_CRYPT_KEY_BYTES == CIPHER_KEY_BYTES, "the same key");

struct job;

struct piece {
    struct stack_request lower;
    struct job *job;
    struct piece *next; /* free */
    uint64_t begin, end;
    struct iov_cursor data; /* where the bytes from begin on are */
    struct iovec iov;       /* the buffer's part in use */
    uint8_t *buffer;
    bool waits;   /* the layer below is not asked for a copy */
    bool arrived; /* the buffer has what is read */
    struct work work;
    int result;       /* the worker's */
    struct list node; /* in crypt.ended */
};

struct job {
    struct stack_job base;
    struct stack_request through; /* of what is not cut */
    struct crypt *crypt;
    struct list node; /* in crypt.hungry */
    uint64_t at, end; /* what no piece has yet */
    struct iov_cursor data;
    unsigned pieces; /* in flight */
    bool waits;      /* so do the pieces that are cut from now on */
    int result;
};

struct crypt {
    struct stack stack;
    struct cipher cipher; /* the caller's thread's */
    struct workers workers;
    unsigned workers_max;
    atomic_uint away;     /* pieces that workers have, or that wait for one */
    pthread_mutex_t lock; /* guards what follows */
    struct cipher ciphers[WORKERS_MAX], *idle[WORKERS_MAX];
    unsigned idle_count;
    struct list ended;

    /* the caller's thread's again */
    uint8_t *pool;
    struct piece *free;
    struct list hungry; /* jobs that wait for a buffer */
    struct job jobs[STACK_JOBS];
    struct piece pieces[PIECES];
};

static struct crypt *crypt_of(struct stack *stack)
{
    return container_of(stack, struct crypt, stack);
}

/* -- units --------------------------------------------------------------------------------------- */

/* Fill the piece's buffer with the ciphertext of its segments. */
static int encrypt(struct cipher *cipher, struct piece *piece)
{
    bool zeroes = piece->job->base.request->op == BLOCK_WRITE_ZEROES;
    for (uint64_t at = piece->begin; at < piece->end; at += UNIT) {
        uint8_t *out = piece->buffer + (at - piece->begin);
        const void *in = zeroes ? NULL : iov_next(&piece->data, UNIT);
        if (zeroes)
            memset(out, 0, UNIT);
        else if (!in)
            iov_next_out(&piece->data, out, UNIT);
        int rc = cipher_encrypt(cipher, at / UNIT, in ? in : out, out);
        if (rc < 0) {
            explicit_bzero(piece->buffer, PIECE_BYTES);
            return rc;
        }
    }
    return 0;
}

/* Fill the piece's segments from its buffer, which begins where the unit of its first byte does. */
static int decrypt(struct cipher *cipher, struct piece *piece)
{
    for (uint64_t at = piece->begin; at < piece->end;) {
        uint64_t unit = align_down(at, UNIT);
        uint64_t end = MIN(unit + UNIT, piece->end);
        uint8_t *in = piece->buffer + (unit - align_down(piece->begin, UNIT));
        bool whole = end - at == UNIT;
        void *out = whole ? iov_next(&piece->data, UNIT) : NULL;
        int rc = cipher_decrypt(cipher, unit / UNIT, in, out ? out : in);
        if (rc < 0)
            return rc;
        if (!out) {
            iov_next_in(&piece->data, in + (at - unit), end - at);
            explicit_bzero(in, UNIT);
        }
        at = end;
    }
    return 0;
}

/* -- pieces -------------------------------------------------------------------------------------- */

static bool is_read(const struct piece *piece)
{
    return piece->job->base.request->op == BLOCK_READ;
}

/* Do all of a piece that can be done without waiting. Any thread. Returns 0 or -errno; -EAGAIN: it is
 * to be submitted below, a write with its buffer filled. */
static int run_piece(struct crypt *crypt, struct cipher *cipher, struct piece *piece)
{
    struct block *lower = crypt->stack.layers[0].block;
    int rc = 0;
    if (!is_read(piece))
        rc = encrypt(cipher, piece);
    if (rc == 0 && !piece->arrived)
        rc = piece->waits ? -EAGAIN : block_transfer(lower, &piece->lower.io);
    if (rc == 0 && is_read(piece))
        rc = decrypt(cipher, piece);
    return rc;
}

static void give(struct crypt *crypt, struct piece *piece)
{
    piece->next = crypt->free;
    crypt->free = piece;
    piece->job->pieces--;
}

static void piece_ended(struct piece *piece, int result)
{
    struct job *job = piece->job;
    struct crypt *crypt = job->crypt;
    if (result < 0) {
        job->result = job->result ? job->result : result;
        job->at = job->end; /* no more of it */
    }
    give(crypt, piece);
    if (job->at < job->end || job->pieces > 0)
        return;
    list_remove(&job->node); /* an error ends the waiting for a buffer */
    stack_complete(&crypt->stack, &job->base, job->result);
}

/* Go on with what run_piece said. */
static void piece_ran(struct crypt *crypt, struct piece *piece, int result)
{
    if (result == -EAGAIN) {
        piece->job->waits = true;
        result = stack_send(&crypt->stack, 0, &piece->lower);
        if (result == 0)
            return;
    }
    piece_ended(piece, result);
}

static void run_here(struct crypt *crypt, struct piece *piece)
{
    piece_ran(crypt, piece, run_piece(crypt, &crypt->cipher, piece));
}

/* -- workers ------------------------------------------------------------------------------------- */

static void run_in_worker(struct work *work)
{
    struct piece *piece = container_of(work, struct piece, work);
    struct crypt *crypt = piece->job->crypt;
    pthread_mutex_lock(&crypt->lock);
    struct cipher *cipher = crypt->idle[--crypt->idle_count];
    pthread_mutex_unlock(&crypt->lock);
    piece->result = run_piece(crypt, cipher, piece);
    atomic_fetch_sub(&crypt->away, 1);
    pthread_mutex_lock(&crypt->lock);
    crypt->idle[crypt->idle_count++] = cipher;
    /* Who was the first has told already. Within the lock, which keeps the back end from ending. */
    if (list_empty(&crypt->ended))
        stack_wake(&crypt->stack);
    list_append(&crypt->ended, &piece->node);
    pthread_mutex_unlock(&crypt->lock);
}

/* Give a piece to a worker where that pays: one of many, and each worker has at most one that waits for
 * it. False: the caller does it. */
static bool give_to_worker(struct crypt *crypt, struct piece *piece)
{
    if (atomic_load(&crypt->away) >= 2 * crypt->workers_max ||
        piece->job->base.request->length_bytes < SHARED_BYTES)
        return false;
    if (is_read(piece) && !piece->arrived && piece->waits)
        return false;
    atomic_fetch_add(&crypt->away, 1);
    piece->work.run = run_in_worker;
    workers_submit(&crypt->workers, &piece->work);
    return true;
}

/* Do what no worker has begun. */
static void take_back(struct crypt *crypt)
{
    struct work *work;
    while ((work = workers_take_back(&crypt->workers))) {
        atomic_fetch_sub(&crypt->away, 1);
        run_here(crypt, container_of(work, struct piece, work));
    }
}

/* Go on with what workers have ended. */
static void take_ended(struct crypt *crypt)
{
    for (;;) {
        struct piece *piece = NULL;
        pthread_mutex_lock(&crypt->lock);
        if (!list_empty(&crypt->ended)) {
            piece = list_entry(crypt->ended.next, struct piece, node);
            list_remove(&piece->node);
        }
        pthread_mutex_unlock(&crypt->lock);
        if (!piece)
            return;
        piece_ran(crypt, piece, piece->result);
    }
}

/* -- jobs ---------------------------------------------------------------------------------------- */

static void piece_done(struct block_request *io, int result)
{
    struct piece *piece = container_of(io, struct piece, lower.io);
    struct crypt *crypt = piece->job->crypt;
    if (result < 0 || !is_read(piece)) {
        piece_ended(piece, result);
        return;
    }
    piece->arrived = true;
    if (!give_to_worker(crypt, piece))
        run_here(crypt, piece);
}

/* Cut the next piece, and do it or have it done. */
static void begin_piece(struct crypt *crypt, struct job *job)
{
    struct piece *piece = crypt->free;
    bool reads = job->base.request->op == BLOCK_READ;
    uint64_t first = align_down(job->at, UNIT);
    crypt->free = piece->next;
    piece->job = job;
    piece->begin = job->at;
    piece->end = MIN(job->end, first + PIECE_BYTES);
    piece->data = job->data;
    piece->waits = job->waits;
    piece->arrived = false;
    job->pieces++;
    job->at = piece->end;
    if (job->base.request->op != BLOCK_WRITE_ZEROES)
        iov_skip(&job->data, piece->end - piece->begin);
    piece->iov = (struct iovec){piece->buffer, align_up(piece->end, UNIT) - first};
    piece->lower.io = (struct block_request){
        .op = reads ? BLOCK_READ : BLOCK_WRITE,
        .offset_bytes = first,
        .length_bytes = piece->iov.iov_len,
        .iov = &piece->iov,
        .iov_count = 1,
        .done = piece_done,
    };
    if (!give_to_worker(crypt, piece))
        run_here(crypt, piece);
}

/* Begin as many pieces as there are buffers for. False when the job still wants one. */
static bool feed(struct crypt *crypt, struct job *job)
{
    job->pieces++; /* its last piece may end at once, and it has to be looked at */
    while (job->at < job->end && crypt->free)
        begin_piece(crypt, job);
    job->pieces--;
    if (job->at < job->end)
        return false;
    if (job->pieces == 0)
        stack_complete(&crypt->stack, &job->base, job->result);
    return true;
}

static void go_on(struct stack *stack)
{
    struct crypt *crypt = crypt_of(stack);
    take_back(crypt);
    take_ended(crypt);
    while (crypt->free && !list_empty(&crypt->hungry)) {
        struct job *job = list_entry(crypt->hungry.next, struct job, node);
        if (!feed(crypt, job))
            return;
        list_remove(&job->node);
    }
}

/* -- the operations ------------------------------------------------------------------------------ */

static void through_done(struct block_request *io, int result)
{
    struct job *job = container_of(io, struct job, through.io);
    stack_complete(&job->crypt->stack, &job->base, result);
}

static int crypt_submit(struct block *block, struct block_request *request)
{
    struct crypt *crypt = crypt_of(container_of(block, struct stack, block));
    struct stack_job *base = stack_take(&crypt->stack, request);
    if (!base)
        return -EBUSY;
    struct job *job = container_of(base, struct job, base);
    job->result = 0;
    /* The ring takes a batch of small reads in one call of the kernel. */
    job->waits = request->op == BLOCK_READ && request->length_bytes < PIECE_BYTES;
    if (request->op == BLOCK_FLUSH || request->op == BLOCK_DISCARD) {
        job->through.io = *request;
        job->through.io.done = through_done;
        int rc = stack_send(&crypt->stack, 0, &job->through);
        if (rc < 0)
            stack_complete(&crypt->stack, base, rc);
        return 0;
    }
    job->at = request->offset_bytes;
    job->end = request->offset_bytes + request->length_bytes;
    job->data = (struct iov_cursor){request->iov, request->iov_count, 0};
    if (!list_empty(&crypt->hungry) || !feed(crypt, job))
        list_append(&crypt->hungry, &job->node);
    return 0;
}

static void crypt_destroy(struct block *block)
{
    struct crypt *crypt = crypt_of(container_of(block, struct stack, block));
    workers_finish(&crypt->workers);
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        cipher_finish(&crypt->ciphers[i]);
    cipher_finish(&crypt->cipher);
    stack_finish(&crypt->stack);
    pthread_mutex_destroy(&crypt->lock);
    if (crypt->pool)
        munmap(crypt->pool, PIECES * PIECE_BYTES);
    free(crypt);
}

static const struct block_ops crypt_ops = {
    .name = "crypt",
    .submit = crypt_submit,
    .kick = stack_kick,
    .reap = stack_reap,
    .drain = stack_drain,
    .destroy = crypt_destroy,
};

/* -- opening ------------------------------------------------------------------------------------- */

static int init_ciphers(struct crypt *crypt, const uint8_t *key, struct dayfly_err *err)
{
    int rc = cipher_init(&crypt->cipher, key, err);
    for (unsigned i = 0; i < crypt->workers_max && rc == 0; i++) {
        rc = cipher_init(&crypt->ciphers[i], key, err);
        crypt->idle[crypt->idle_count++] = &crypt->ciphers[i];
    }
    return rc;
}

static int random_key(struct crypt *crypt, const struct log *log, struct dayfly_err *err)
{
    struct secret key;
    int rc = secret_new(&key, CIPHER_KEY_BYTES, log, err);
    if (rc < 0)
        return rc;
    /* So few bytes come whole; it waits only where the host has just been switched on. */
    if (getrandom(key.bytes, CIPHER_KEY_BYTES, 0) != CIPHER_KEY_BYTES)
        rc = err_errno(err, errno, "a random key");
    else
        rc = init_ciphers(crypt, key.bytes, err);
    secret_finish(&key);
    return rc;
}

static int open_in(struct crypt *crypt, const struct block_crypt_options *options,
                   struct dayfly_err *err)
{
    int rc = stack_init(&crypt->stack, &options->lower, 1);
    if (rc < 0)
        return err_errno(err, -rc, "encrypted disk");
    if (crypt->stack.block.size_bytes == 0 || UNIT % options->lower->unit_bytes != 0)
        return err_set(err, EINVAL, "an encrypted disk has at least %u bytes", UNIT);
    void *pool =
        mmap(NULL, PIECES * PIECE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED)
        return err_errno(err, errno, "buffers of an encrypted disk");
    /* A unit that is cut is in it in the clear, for moments. */
    madvise(pool, PIECES * PIECE_BYTES, MADV_DONTDUMP);
    crypt->pool = pool;
    for (unsigned i = PIECES; i-- > 0;) {
        struct piece *piece = &crypt->pieces[i];
        piece->buffer = crypt->pool + (size_t)i * PIECE_BYTES;
        piece->next = crypt->free;
        crypt->free = piece;
    }
    return options->key ? init_ciphers(crypt, options->key, err) : random_key(crypt, options->log, err);
}

int block_crypt_open(struct block **out, const struct block_crypt_options *options,
                     struct dayfly_err *err)
{
    struct crypt *crypt = calloc(1, sizeof(*crypt));
    if (!crypt) {
        block_destroy(options->lower);
        return err_set(err, ENOMEM, "encrypted disk: out of memory");
    }
    crypt->stack.block = (struct block){
        .ops = &crypt_ops,
        .size_bytes = align_down(options->lower->size_bytes, UNIT),
        .block_bytes = MAX(UNIT, options->lower->block_bytes),
        .unit_bytes = UNIT,
        .read_only = options->lower->read_only,
        .discard = options->lower->discard,
        .event_fd = -1,
    };
    crypt->stack.wake_fd = -1;
    crypt->stack.resume = go_on;
    list_init(&crypt->hungry);
    list_init(&crypt->ended);
    pthread_mutex_init(&crypt->lock, NULL);
    long threads = options->threads ? (long)options->threads : sysconf(_SC_NPROCESSORS_ONLN) - 1;
    crypt->workers_max = (unsigned)MAX(0, MIN(threads, WORKERS_MAX));
    workers_init(&crypt->workers, crypt->workers_max, true);
    int rc = open_in(crypt, options, err);
    if (rc < 0) {
        crypt_destroy(&crypt->stack.block);
        return rc;
    }
    for (unsigned i = 0; i < STACK_JOBS; i++) {
        struct job *job = &crypt->jobs[i];
        job->crypt = crypt;
        list_init(&job->node);
        list_append(&crypt->stack.idle, &job->base.node);
    }
    *out = &crypt->stack.block;
    return 0;
}
