/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw images on a regular file or a block device.
 *
 * Theory of operation. Requests become jobs of a fixed pool. With io_uring, reads, writes and flushes
 * are queued in the submission ring and handed over as one batch by kick; the ring's eventfd tells of
 * completions. Whatever io_uring does not do in one piece (discard, zeroes, the rest of a short
 * transfer, a request cancelled because the thread that submitted it ended) goes to a few worker
 * threads, which do everything where io_uring is refused. Workers put what they finished on a list and
 * count up the same eventfd. Completions are delivered by reap alone, in the caller's thread.
 *
 * A write that goes to the page cache of a local file is a copy, which the caller's thread does itself:
 * most file systems have io_uring hand it to a thread of the kernel's, one after another for a file,
 * and to wake that costs more than many a copy. Where one waits (for a disk to take dirty pages), the
 * next go by the ring (util/careful.h).
 *
 * With direct I/O the file is opened anew, and this stands below fit.h, so that what comes here suits
 * the file system. Nothing goes through the page cache then: a request in it that shares a page with a
 * direct one can undo it, and the kernel, which notices, reports a write error at the next flush.
 *
 * When a flush fails, the kernel has dropped what it could not write, and another one would succeed
 * (fsync(2), errors since Linux 4.13): so all later ones fail too. For the same reason there is one
 * fdatasync at a time, as only one of two would hear of the error. Those that come meanwhile share the
 * next one.
 *
 * The image's pages are never mapped: a file that shrinks under us is a short read, hence -EIO, and no
 * SIGBUS.
 */
#include "block/block.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "block/fit.h"
#include "block/raw_image.h"
#include "block/raw_sync.h"
#include "block/workers.h"
#include "util/arith.h"
#include "util/careful.h"
#include "util/cleanup.h"
#include "util/err.h"

#define JOBS           256 /* in flight at once */
#define RING_ENTRIES   128 /* of the submission ring; the completion ring has twice as many, so JOBS */
#define REAP_BATCH     64
#define HERE_BYTES_MAX (1u << 20) /* of a copy in the caller's thread: some 100 us */

struct raw;

struct raw_job {
    struct raw *raw;
    struct block_request *request;
    uint64_t from; /* where a worker goes on */
    int result;
    struct work work;
    struct list node; /* in one of raw's lists */
};

struct raw {
    struct block block;
    struct raw_image image;
    bool unsynced;
    int flush_error;          /* 0, or what the first flush that failed said */
    struct raw_job *flushing; /* stands for itself and the riders; NULL: no flush is under way */
    struct list riders;
    struct list flushes; /* waiting for the next one */
    struct list idle;    /* jobs */
    unsigned in_flight;

    bool reads_here, writes_here; /* by a copy in the caller's thread, the latter unless */
    struct careful careful;

    bool has_ring;
    struct io_uring ring;

    struct workers workers;
    pthread_mutex_t lock; /* guards finished, which workers fill */
    struct list finished;

    struct raw_job jobs[JOBS];
};

static struct raw *raw_of(struct block *block)
{
    return container_of(block, struct raw, block);
}

/* -- jobs --------------------------------------------------------------------------------------------
 */

/* Give the request back with its result. The callback may submit again, so the job goes back first. */
static void deliver(struct raw_job *job, int result)
{
    struct raw *raw = job->raw;
    struct block_request *request = job->request;
    job->request = NULL;
    list_append(&raw->idle, &job->node);
    raw->in_flight--;
    request->done(request, result);
}

/* Have the job delivered by the next reap. */
static void finish(struct raw_job *job, int result)
{
    struct raw *raw = job->raw;
    job->result = result;
    pthread_mutex_lock(&raw->lock);
    /* Who was the first has told already. Within the lock: once it is released, a drain may find the
     * job and free the whole back end. */
    if (list_empty(&raw->finished))
        eventfd_write(raw->block.event_fd, 1);
    list_append(&raw->finished, &job->node);
    pthread_mutex_unlock(&raw->lock);
}

static void run_job(struct work *work)
{
    struct raw_job *job = container_of(work, struct raw_job, work);
    struct raw *raw = job->raw;
    enum block_op op = job->request->op;
    const struct raw_image *image = &raw->image;
    bool claims = image->claim_fd >= 0 && (op == BLOCK_DISCARD || op == BLOCK_WRITE_ZEROES);
    finish(job,
           raw_sync(claims ? image->claim_fd : image->fd, image->is_device, job->request, job->from));
}

static void give_to_worker(struct raw_job *job, uint64_t from)
{
    job->from = from;
    job->work.run = run_job;
    workers_submit(&job->raw->workers, &job->work);
}

/* -- io_uring ----------------------------------------------------------------------------------------
 */

/* Hand the queued entries to the kernel. */
static int ring_submit(struct raw *raw)
{
    int rc;
    do
        rc = io_uring_submit(&raw->ring);
    while (rc == -EINTR);
    if (rc >= 0 && io_uring_sq_ready(&raw->ring) == 0)
        return 0;
    /* The kernel is short of something for the moment. The entries stay queued; come back soon. */
    eventfd_write(raw->block.event_fd, 1);
    return rc < 0 ? rc : -EAGAIN;
}

/* Queue a job in the submission ring. False when it does not go there. */
static bool ring_queue(struct raw *raw, struct raw_job *job)
{
    const struct block_request *r = job->request;
    if (!raw->has_ring || r->op == BLOCK_DISCARD || r->op == BLOCK_WRITE_ZEROES)
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&raw->ring);
    if (!sqe && ring_submit(raw) == 0)
        sqe = io_uring_get_sqe(&raw->ring);
    if (!sqe)
        return false;
    const int fd = 0; /* of the registered files: the image */
    switch (r->op) {
    case BLOCK_READ:
        io_uring_prep_readv(sqe, fd, r->iov, r->iov_count, r->offset_bytes);
        break;
    case BLOCK_WRITE:
        io_uring_prep_writev(sqe, fd, r->iov, r->iov_count, r->offset_bytes);
        break;
    default:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    }
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, job);
    return true;
}

static int raw_kick(struct block *block)
{
    struct raw *raw = raw_of(block);
    return raw->has_ring && io_uring_sq_ready(&raw->ring) > 0 ? ring_submit(raw) : 0;
}

/* -- copies ------------------------------------------------------------------------------------------
 */

/* Any thread. */
static int raw_transfer(struct block *block, const struct block_request *request)
{
    struct raw *raw = raw_of(block);
    bool copies = request->op == BLOCK_READ ? raw->reads_here : raw->writes_here;
    if (!copies || request->length_bytes > HERE_BYTES_MAX)
        return -EAGAIN;
    if (request->op == BLOCK_READ)
        return raw_read_cached(raw->image.fd, request);
    if (careful_now(&raw->careful))
        return -EAGAIN;
    uint64_t began_ns = clock_ns();
    int rc = raw_sync(raw->image.fd, false, request, 0);
    careful_did(&raw->careful, began_ns);
    return rc;
}

/* -- flushes -----------------------------------------------------------------------------------------
 */

static void start(struct raw_job *job)
{
    struct raw *raw = job->raw;
    int rc = job->request->op == BLOCK_WRITE ? raw_transfer(&raw->block, job->request) : -EAGAIN;
    if (rc != -EAGAIN)
        finish(job, rc);
    else if (!ring_queue(raw, job))
        give_to_worker(job, 0);
}

/* Begin one for all that wait, unless one is under way: it may have begun before what they are for. */
static void start_flush(struct raw *raw)
{
    if (raw->flushing || list_empty(&raw->flushes))
        return;
    raw->flushing = list_entry(raw->flushes.next, struct raw_job, node);
    list_remove(&raw->flushing->node);
    list_move_all(&raw->riders, &raw->flushes);
    start(raw->flushing);
}

static void complete(struct raw_job *job, int result)
{
    struct raw *raw = job->raw;
    if (job != raw->flushing) {
        deliver(job, result);
        return;
    }
    struct list riders;
    list_init(&riders);
    list_move_all(&riders, &raw->riders);
    result = raw->flush_error = raw->flush_error ? raw->flush_error : result;
    raw->flushing = NULL;
    start_flush(raw);
    raw_kick(&raw->block);
    deliver(job, result);
    while (!list_empty(&riders)) {
        struct raw_job *rider = list_entry(riders.next, struct raw_job, node);
        list_remove(&rider->node);
        deliver(rider, result);
    }
}

/* -- completions -------------------------------------------------------------------------------------
 */

/* One completion of the ring: done, failed, or to be finished by a worker. True when delivered. */
static bool ring_completed(struct raw_job *job, int res)
{
    const struct block_request *r = job->request;
    bool moves_bytes = r->op != BLOCK_FLUSH;
    if (res == -EINTR || res == -EAGAIN || res == -ECANCELED) {
        give_to_worker(job, 0);
        return false;
    }
    if (res > 0 && moves_bytes && (uint64_t)res < r->length_bytes) {
        give_to_worker(job, (uint64_t)res);
        return false;
    }
    if (res == 0 && moves_bytes && r->length_bytes > 0)
        res = -EIO; /* someone truncated the file */
    complete(job, MIN(res, 0));
    return true;
}

static unsigned ring_reap(struct raw *raw)
{
    struct io_uring_cqe *cqes[REAP_BATCH];
    unsigned delivered = 0, n;
    while ((n = io_uring_peek_batch_cqe(&raw->ring, cqes, REAP_BATCH)) > 0) {
        struct {
            struct raw_job *job;
            int res;
        } batch[REAP_BATCH];
        for (unsigned i = 0; i < n; i++) {
            batch[i].job = io_uring_cqe_get_data(cqes[i]);
            batch[i].res = cqes[i]->res;
        }
        io_uring_cq_advance(&raw->ring, n);
        for (unsigned i = 0; i < n; i++)
            delivered += ring_completed(batch[i].job, batch[i].res);
    }
    return delivered;
}

/* What some builds of the library leave out (Debian 12's). */
static int ring_register(struct raw *raw, unsigned what, void *arg, unsigned count)
{
    return syscall(SYS_io_uring_register, raw->ring.ring_fd, what, arg, count) < 0 ? -errno : 0;
}

/*
 * For ever: three operations, on the image alone, and nothing else to be registered. What a ring does
 * passes by the seccomp filter of the thread that submits, so this is the ring's own.
 */
static int ring_restrict(struct raw *raw)
{
    struct io_uring_restriction only[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
    };
    int rc = io_uring_register_eventfd(&raw->ring, raw->block.event_fd);
    if (rc == 0)
        rc = io_uring_register_files(&raw->ring, &raw->image.fd, 1);
    if (rc == 0)
        rc = ring_register(raw, IORING_REGISTER_RESTRICTIONS, only, ARRAY_SIZE(only));
    return rc < 0 ? rc : ring_register(raw, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* Restricted, or not at all: before Linux 5.10 threads do the work. */
static int ring_open(struct raw *raw)
{
    int rc = io_uring_queue_init(RING_ENTRIES, &raw->ring, IORING_SETUP_R_DISABLED);
    if (rc < 0)
        return rc;
    rc = ring_restrict(raw);
    if (rc < 0) {
        io_uring_queue_exit(&raw->ring);
        return rc;
    }
    raw->has_ring = true;
    return 0;
}

/* -- the operations ----------------------------------------------------------------------------------
 */

static int raw_submit(struct block *block, struct block_request *request)
{
    struct raw *raw = raw_of(block);
    if (list_empty(&raw->idle))
        return -EBUSY;
    struct raw_job *job = list_entry(raw->idle.next, struct raw_job, node);
    list_remove(&job->node);
    raw->in_flight++;
    job->request = request;
    if (request->op != BLOCK_FLUSH) {
        start(job);
    } else if (raw->unsynced) {
        finish(job, 0);
    } else {
        list_append(&raw->flushes, &job->node);
        start_flush(raw);
    }
    return 0;
}

static unsigned raw_reap(struct block *block)
{
    struct raw *raw = raw_of(block);
    /* First the count, then the completions: one that comes in between counts again. */
    eventfd_t count;
    eventfd_read(block->event_fd, &count);
    unsigned delivered = 0;
    if (raw->has_ring) {
        raw_kick(block);
        delivered += ring_reap(raw);
    }
    struct list mine;
    list_init(&mine);
    pthread_mutex_lock(&raw->lock);
    list_move_all(&mine, &raw->finished);
    pthread_mutex_unlock(&raw->lock);
    while (!list_empty(&mine)) {
        struct raw_job *job = list_entry(mine.next, struct raw_job, node);
        list_remove(&job->node);
        complete(job, job->result);
        delivered++;
    }
    return delivered;
}

static void raw_drain(struct block *block)
{
    struct raw *raw = raw_of(block);
    raw_kick(block);
    raw_reap(block);
    while (raw->in_flight > 0) {
        struct pollfd p = {.fd = block->event_fd, .events = POLLIN};
        poll(&p, 1, -1);
        raw_reap(block);
    }
}

static void raw_destroy(struct block *block)
{
    struct raw *raw = raw_of(block);
    workers_finish(&raw->workers);
    raw_image_unlock(&raw->image);
    if (raw->has_ring)
        io_uring_queue_exit(&raw->ring);
    close_fd(&raw->block.event_fd);
    raw_image_close(&raw->image);
    pthread_mutex_destroy(&raw->lock);
    free(raw);
}

static const struct block_ops raw_ops = {
    .name = "raw",
    .submit = raw_submit,
    .transfer = raw_transfer,
    .kick = raw_kick,
    .reap = raw_reap,
    .drain = raw_drain,
    .destroy = raw_destroy,
};

/* -- opening -----------------------------------------------------------------------------------------
 */

static int open_in(struct raw *raw, const struct block_raw_options *options, struct disk_direct *direct,
                   struct dayfly_err *err)
{
    int rc = raw_image_open(&raw->image, options, direct, err);
    if (rc < 0)
        return rc;
    raw->block.size_bytes = raw->image.size_bytes;
    raw->block.block_bytes = 4096;
    /* Partition tables and file systems on a device count in its sectors. */
    raw->block.unit_bytes = raw->image.sector_bytes;
    raw->reads_here = options->io == BLOCK_IO_AUTO && !options->direct;
    raw->writes_here = options->io == BLOCK_IO_AUTO && raw->image.copies_writes;
    raw->block.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (raw->block.event_fd < 0)
        return err_errno(err, errno, "disk %s: eventfd", raw->image.name);
    if (options->io != BLOCK_IO_THREADS) {
        rc = ring_open(raw);
        if (rc < 0 && options->io == BLOCK_IO_URING)
            return err_errno(err, -rc, "disk %s: io_uring", raw->image.name);
    }
    return 0;
}

int block_raw_open(struct block **out, const struct block_raw_options *options, struct dayfly_err *err)
{
    struct raw *raw = calloc(1, sizeof(*raw));
    if (!raw) {
        int fd = options->fd;
        close_fd(&fd);
        return err_set(err, ENOMEM, "disk: out of memory");
    }
    raw->block = (struct block){.ops = &raw_ops,
                                .read_only = options->read_only,
                                .discard = !options->read_only,
                                .event_fd = -1};
    raw->image = (struct raw_image)RAW_IMAGE_INIT;
    raw->unsynced = options->unsynced;
    list_init(&raw->idle);
    list_init(&raw->finished);
    list_init(&raw->flushes);
    list_init(&raw->riders);
    pthread_mutex_init(&raw->lock, NULL);
    workers_init(&raw->workers, WORKERS_MAX, false);
    for (unsigned i = 0; i < JOBS; i++) {
        raw->jobs[i].raw = raw;
        list_append(&raw->idle, &raw->jobs[i].node);
    }
    struct disk_direct direct = {0, 1};
    int rc = open_in(raw, options, &direct, err);
    if (rc < 0) {
        raw_destroy(&raw->block);
        return rc;
    }
    if (options->direct)
        return block_fit_open(out, &raw->block, &direct, err);
    *out = &raw->block;
    return 0;
}

/* Whoever submits and reaps; besides what raw_sync and the workers make. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL(io_uring_enter), /* on a ring that was restricted when it was made */
    ISOLATE_CALL(poll),
};

const struct isolate_calls block_raw_calls = ISOLATE_CALLS(calls);
