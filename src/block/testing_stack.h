/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_TESTING_STACK_H
#define BLOCK_TESTING_STACK_H

/*
 * For tests: back ends stacked in every way, on files and on a toy, and requests to wait for. Included
 * by *_test.c files only.
 *
 * The toy keeps its disk in memory and is as awkward as the contract allows: it completes in any order
 * and only some at a time, has room for a few requests, begins as noise, and a discarded range becomes
 * noise again; a transfer may do a part and say that it would have to wait. It can be told to fail, to
 * be full, and to keep what it is given in a volatile cache, which toy_cut loses.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "block/crypt.h"
#include "block/fit.h"
#include "block/overlay.h"
#include "block/patient.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/iov.h"
#include "util/testing.h"

/* -- chance -------------------------------------------------------------------------------------- */

/* splitmix64: the same seed gives the same test. */
static inline uint64_t chance(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline void fill_by_chance(uint64_t *seed, uint8_t *at, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(chance(seed) >> 32);
}

/* -- the toy ------------------------------------------------------------------------------------- */

#define TOY_ROOM 24

struct toy {
    struct block block;
    pthread_mutex_t lock; /* of all that a transfer looks at, which any thread may ask for */
    uint8_t *bytes;
    uint64_t seed;
    struct block_request *queue[TOY_ROOM];
    unsigned count;
    int fail_writes;  /* 0, or the error */
    int fail_flushes; /* 0, or the error */
    int full;         /* 0, or the error of everything that takes room or gives it back */
    unsigned discards, flushes, writes, refusals;
    struct disk_direct want; /* every request has to suit it; 0: any does */
    /* The medium behind a volatile cache; NULL: there is no cache. */
    uint8_t *medium;
    uint64_t *changed;          /* by sector: when its bytes last changed; 0: the medium has them */
    uint64_t now;               /* counts what was done */
    uint64_t flushed[TOY_ROOM]; /* by place in the queue: what a flush is sure to cover */
};

static inline int toy_submit(struct block *block, struct block_request *request)
{
    struct toy *toy = container_of(block, struct toy, block);
    if (toy->count == TOY_ROOM)
        return -EBUSY;
    if (toy->want.file_bytes) {
        assert_true(is_aligned(request->offset_bytes | request->length_bytes, toy->want.file_bytes));
        for (unsigned i = 0; i < request->iov_count; i++) {
            assert_true(is_aligned(request->iov[i].iov_len, toy->want.file_bytes));
            assert_true(is_aligned((uintptr_t)request->iov[i].iov_base, toy->want.memory_bytes));
        }
    }
    pthread_mutex_lock(&toy->lock);
    toy->flushed[toy->count] = toy->now;
    toy->queue[toy->count++] = request;
    pthread_mutex_unlock(&toy->lock);
    return 0;
}

static inline int toy_kick(struct block *block)
{
    struct toy *toy = container_of(block, struct toy, block);
    if (toy->count > 0)
        eventfd_write(block->event_fd, 1);
    return 0;
}

static inline void toy_persist(struct toy *toy, uint64_t sector)
{
    memcpy(toy->medium + sector * 512, toy->bytes + sector * 512, 512);
    toy->changed[sector] = 0;
}

/* Before the bytes change. What a flush in the queue is to cover, and would not find, is saved first.
 */
static inline void toy_changed(struct toy *toy, const struct block_request *r)
{
    uint64_t owed = 0;
    for (unsigned i = 0; i < toy->count; i++)
        if (toy->queue[i]->op == BLOCK_FLUSH)
            owed = MAX(owed, toy->flushed[i]);
    toy->now++;
    for (uint64_t i = 0; toy->medium && i < r->length_bytes; i += 512) {
        uint64_t sector = (r->offset_bytes + i) / 512;
        if (toy->changed[sector] && toy->changed[sector] <= owed)
            toy_persist(toy, sector);
        toy->changed[sector] = toy->now;
    }
}

/* A flush covers what was done before it was submitted, and not a sector more. */
static inline void toy_flush(struct toy *toy, uint64_t until)
{
    for (uint64_t i = 0; toy->medium && i < toy->block.size_bytes / 512; i++)
        if (toy->changed[i] && toy->changed[i] <= until)
            toy_persist(toy, i);
}

/* The power fails: of what was not flushed some sectors have reached the medium. From now on everything
 * fails. Returns the medium, which is the caller's. */
static inline uint8_t *toy_cut(struct toy *toy)
{
    for (uint64_t i = 0; i < toy->block.size_bytes / 512; i++)
        if (toy->changed[i] && chance(&toy->seed) % 2)
            toy_persist(toy, i);
    toy->fail_writes = toy->fail_flushes = -EIO;
    uint8_t *medium = toy->medium;
    toy->medium = NULL;
    return medium;
}

static inline int toy_do(struct toy *toy, const struct block_request *r, uint64_t flushed)
{
    uint8_t *at = toy->bytes + r->offset_bytes;
    if (toy->full && r->op != BLOCK_READ && r->op != BLOCK_FLUSH) {
        toy->refusals++;
        return toy->full;
    }
    if (r->op != BLOCK_READ && r->op != BLOCK_FLUSH)
        toy_changed(toy, r);
    switch (r->op) {
    case BLOCK_READ:
        iov_copy_in(r->iov, r->iov_count, 0, at, r->length_bytes);
        return 0;
    case BLOCK_WRITE:
        toy->writes++;
        if (!toy->fail_writes)
            iov_copy_out(r->iov, r->iov_count, 0, at, r->length_bytes);
        return toy->fail_writes;
    case BLOCK_DISCARD:
        toy->discards++;
        fill_by_chance(&toy->seed, at, r->length_bytes);
        return 0;
    case BLOCK_WRITE_ZEROES:
        if (!toy->fail_writes)
            memset(at, 0, r->length_bytes);
        return toy->fail_writes;
    default:
        toy->flushes++;
        toy_flush(toy, flushed);
        return toy->fail_flushes;
    }
}

static inline uint64_t toy_chance(struct toy *toy)
{
    pthread_mutex_lock(&toy->lock);
    uint64_t number = chance(&toy->seed);
    pthread_mutex_unlock(&toy->lock);
    return number;
}

/* A third of them is done, a third refused at once, and a third refused halfway. */
static inline int toy_transfer(struct block *block, const struct block_request *request)
{
    struct toy *toy = container_of(block, struct toy, block);
    struct block_request part = *request;
    uint64_t fate = toy_chance(toy) % 3;
    if (toy->full || fate == 0)
        return -EAGAIN;
    if (fate == 1)
        part.length_bytes = align_down(request->length_bytes / 2, MAX(512u, toy->want.file_bytes));
    pthread_mutex_lock(&toy->lock);
    int rc = toy_do(toy, &part, 0);
    pthread_mutex_unlock(&toy->lock);
    return fate == 1 ? -EAGAIN : rc;
}

static inline unsigned toy_reap(struct block *block)
{
    struct toy *toy = container_of(block, struct toy, block);
    eventfd_t count;
    eventfd_read(block->event_fd, &count);
    unsigned some = toy->count ? (unsigned)(toy_chance(toy) % toy->count) + 1 : 0;
    for (unsigned i = 0; i < some; i++) {
        unsigned which = (unsigned)(toy_chance(toy) % toy->count);
        pthread_mutex_lock(&toy->lock);
        struct block_request *request = toy->queue[which];
        uint64_t flushed = toy->flushed[which];
        toy->queue[which] = toy->queue[--toy->count];
        toy->flushed[which] = toy->flushed[toy->count];
        int result = toy_do(toy, request, flushed);
        pthread_mutex_unlock(&toy->lock);
        request->done(request, result);
    }
    toy_kick(block); /* what is left */
    return some;
}

static inline void toy_drain(struct block *block)
{
    struct toy *toy = container_of(block, struct toy, block);
    while (toy->count > 0)
        toy_reap(block);
}

static inline void toy_destroy(struct block *block)
{
    struct toy *toy = container_of(block, struct toy, block);
    close_fd(&block->event_fd);
    pthread_mutex_destroy(&toy->lock);
    free(toy->bytes);
    free(toy->medium);
    free(toy->changed);
    free(toy);
}

static const struct block_ops toy_ops = {
    .name = "toy",
    .submit = toy_submit,
    .transfer = toy_transfer,
    .kick = toy_kick,
    .reap = toy_reap,
    .drain = toy_drain,
    .destroy = toy_destroy,
};

static inline struct toy *toy_new(uint64_t bytes, uint64_t seed)
{
    struct toy *toy = calloc(1, sizeof(*toy));
    toy->bytes = malloc(bytes);
    toy->seed = seed;
    pthread_mutex_init(&toy->lock, NULL);
    fill_by_chance(&toy->seed, toy->bytes, bytes);
    toy->block = (struct block){.ops = &toy_ops,
                                .size_bytes = bytes,
                                .block_bytes = 4096,
                                .unit_bytes = 512,
                                .discard = true,
                                .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    return toy;
}

/* From now on it has a volatile cache. */
static inline void toy_make_volatile(struct toy *toy)
{
    toy->medium = malloc(toy->block.size_bytes);
    memcpy(toy->medium, toy->bytes, toy->block.size_bytes);
    toy->changed = calloc(toy->block.size_bytes / 512, sizeof(*toy->changed));
}

/* -- stacks -------------------------------------------------------------------------------------- */

struct stack_kind {
    const char *name;
    bool overlay, crypt, toy, patient, direct;
    struct disk_direct fit; /* where it is not 0, fit.h makes requests suit it */
    enum block_io io;
    uint32_t cluster_bytes;
    uint64_t size_bytes;
};

#define STACK_BYTES (UINT64_C(4) << 20)

static const struct stack_kind stack_kinds[] = {
    {"raw, io_uring", .io = BLOCK_IO_URING, .size_bytes = STACK_BYTES},
    {"raw, threads", .io = BLOCK_IO_THREADS, .size_bytes = STACK_BYTES},
    {"crypt on raw, io_uring", .crypt = true, .io = BLOCK_IO_URING, .size_bytes = STACK_BYTES},
    {"crypt on raw, threads", .crypt = true, .io = BLOCK_IO_THREADS, .size_bytes = STACK_BYTES},
    {"crypt on toy", .crypt = true, .toy = true, .size_bytes = STACK_BYTES},
    {"overlay on raw, io_uring", .overlay = true, .io = BLOCK_IO_URING, .size_bytes = STACK_BYTES},
    {"overlay on raw, threads", .overlay = true, .io = BLOCK_IO_THREADS, .size_bytes = STACK_BYTES},
    {"overlay on toy, odd end", .overlay = true, .toy = true, .size_bytes = STACK_BYTES + 1536},
    {"overlay of 64 KiB on toy", .overlay = true, .toy = true, .cluster_bytes = 65536,
     .size_bytes = STACK_BYTES + 512},
    {"overlay on crypt on raw, io_uring", .overlay = true, .crypt = true, .io = BLOCK_IO_URING,
     .size_bytes = STACK_BYTES},
    {"overlay on crypt on raw, threads", .overlay = true, .crypt = true, .io = BLOCK_IO_THREADS,
     .size_bytes = STACK_BYTES},
    {"overlay on crypt on toy, odd end", .overlay = true, .crypt = true, .toy = true,
     .size_bytes = STACK_BYTES + 1536},
    {"overlay of 64 KiB on crypt on toy", .overlay = true, .crypt = true, .toy = true,
     .cluster_bytes = 65536, .size_bytes = STACK_BYTES + 4096},
    {"fit of 512 on toy", .toy = true, .fit = {512, 512}, .size_bytes = STACK_BYTES},
    {"fit of 4 KiB, memory of 8 bytes, on toy", .toy = true, .fit = {8, 4096},
     .size_bytes = STACK_BYTES},
    {"fit of 64 KiB on toy", .toy = true, .fit = {4096, 65536}, .size_bytes = STACK_BYTES},
    {"patient on overlay on crypt on fit of 16 KiB on toy", .toy = true, .fit = {512, 16384},
     .crypt = true, .overlay = true, .patient = true, .size_bytes = STACK_BYTES},
    {"raw, direct, io_uring", .direct = true, .io = BLOCK_IO_URING, .size_bytes = STACK_BYTES + 512},
    {"patient on toy", .patient = true, .toy = true, .size_bytes = STACK_BYTES},
    {"patient on overlay on crypt on raw, direct", .patient = true, .overlay = true, .crypt = true,
     .direct = true, .io = BLOCK_IO_AUTO, .size_bytes = STACK_BYTES},
    {"crypt on raw", .crypt = true, .io = BLOCK_IO_AUTO, .size_bytes = STACK_BYTES},
    {"overlay on crypt on raw", .overlay = true, .crypt = true, .io = BLOCK_IO_AUTO,
     .size_bytes = STACK_BYTES},
};

static inline int nameless_file(uint64_t bytes)
{
    int fd = open(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

/* A host may forbid io_uring; then there is nothing to test with it. */
static inline struct block *open_raw(int fd, bool read_only, bool direct, enum block_io io)
{
    struct block *block = NULL;
    struct dayfly_err err = {0};
    const struct block_raw_options options = {
        .fd = fd, .read_only = read_only, .direct = direct, .io = io};
    int rc = block_raw_open(&block, &options, &err);
    if (io == BLOCK_IO_URING && (rc == -ENOSYS || rc == -EPERM))
        skip();
    if (direct && rc == -EOPNOTSUPP)
        skip();
    if (rc < 0)
        fail_msg("%s", err.msg);
    return block;
}

struct stacked {
    struct block *block;
    int file;        /* the lowest one, where it is raw: sees what the back end did; else -1 */
    struct toy *toy; /* the lowest one, where it is a toy */
};

#define BASE_PATTERN(offset) ((uint8_t)((offset) / 512 * 7 + 1))

/* A base in which every sector has bytes of its own, none of them zero. */
static inline struct block *make_base(uint64_t bytes, bool direct, enum block_io io)
{
    int fd = nameless_file(bytes);
    _cleanup_free_ uint8_t *content = malloc(bytes);
    for (uint64_t i = 0; i < bytes; i++)
        content[i] = BASE_PATTERN(i) ? BASE_PATTERN(i) : 255;
    assert_int_equal(pwrite(fd, content, bytes, 0), bytes);
    return open_raw(fd, true, direct, io);
}

static inline struct stacked stack_up(const struct stack_kind *kind)
{
    struct stacked s = {.file = -1};
    struct dayfly_err err = {0};
    uint64_t below = align_up(kind->size_bytes, MAX(kind->cluster_bytes, 4096u));
    if (kind->toy) {
        s.toy = toy_new(kind->overlay ? below : kind->size_bytes, 1);
        s.block = &s.toy->block;
    } else {
        s.file = nameless_file(kind->overlay ? below : kind->size_bytes);
        s.block = open_raw(fcntl(s.file, F_DUPFD_CLOEXEC, 0), false, kind->direct, kind->io);
    }
    if (kind->fit.file_bytes) {
        s.toy->want = kind->fit;
        if (block_fit_open(&s.block, s.block, &kind->fit, &err))
            fail_msg("%s", err.msg);
    }
    if (kind->crypt &&
        block_crypt_open(&s.block, &(struct block_crypt_options){.lower = s.block, .threads = 2}, &err))
        fail_msg("%s", err.msg);
    if (kind->overlay) {
        const struct block_overlay_options options = {
            .base = make_base(kind->size_bytes, kind->direct, kind->io),
            .delta = s.block,
            .cluster_bytes = kind->cluster_bytes};
        if (block_overlay_open(&s.block, &options, &err))
            fail_msg("%s", err.msg);
    }
    if (kind->patient &&
        block_patient_open(&s.block, &(struct block_patient_options){.lower = s.block, .name = "x"},
                           &err))
        fail_msg("%s", err.msg);
    return s;
}

static inline void stack_down(struct stacked *s)
{
    block_destroy(s->block);
    close_fd(&s->file);
    *s = (struct stacked){.file = -1};
}

/* -- requests ------------------------------------------------------------------------------------ */

struct waited {
    struct block_request request;
    struct iovec one;
    unsigned done;
    int result;
};

static inline void on_done(struct block_request *request, int result)
{
    struct waited *w = container_of(request, struct waited, request);
    w->done++;
    w->result = result;
}

static inline void prepare(struct waited *w, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
    *w = (struct waited){.one = {buf, len}};
    w->request =
        (struct block_request){.op = op, .offset_bytes = offset, .length_bytes = len, .done = on_done};
    if (op == BLOCK_READ || op == BLOCK_WRITE) {
        w->request.iov = &w->one;
        w->request.iov_count = 1;
    }
}

/* Wait by the event descriptor, as a device does. */
static inline void wait_event(struct block *block)
{
    struct pollfd p = {.fd = block->event_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1);
    block_reap(block);
}

/* Submit, waiting for room. */
static inline int submit_waiting(struct block *block, struct block_request *request)
{
    int rc;
    while ((rc = block_submit(block, request)) == -EBUSY) {
        block_kick(block);
        wait_event(block);
    }
    return rc;
}

/* Submit and wait for it. Returns its result, or what submit said. */
static inline int run_waited(struct block *block, struct waited *w)
{
    int rc = submit_waiting(block, &w->request);
    if (rc < 0) {
        assert_int_equal(w->done, 0);
        return rc;
    }
    assert_int_equal(block_kick(block), 0);
    while (!w->done)
        wait_event(block);
    assert_int_equal(w->done, 1);
    return w->result;
}

static inline int run_one(struct block *block, enum block_op op, uint64_t offset, void *buf,
                          uint64_t len)
{
    struct waited w;
    prepare(&w, op, offset, buf, len);
    return run_waited(block, &w);
}

/* -- one case over all stacks -------------------------------------------------------------------- */

struct planned {
    const struct stack_kind *kind;
    void (*run)(struct stacked *s);
    char name[96];
};

static inline void run_planned(void **state)
{
    const struct planned *p = *state;
    struct stacked s = stack_up(p->kind);
    p->run(&s);
    stack_down(&s);
}

#endif
