/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See fit.h.
 *
 * Theory of operation. A request is a job. One that suits the disk below is one step; another goes from
 * its first byte to its last in pieces of a buffer, each of which is a step, or two where a piece has
 * bytes that the request leaves alone: read, then write. A discard leaves out the parts of units at its
 * ends, and zeroes are written only there.
 *
 * With units larger than the guest's, what changes the disk holds its units (range_locks.h), so that
 * no step writes back what another request has changed meanwhile. Reads hold nothing: what is written
 * back around a change is what was there.
 *
 * Bounds. One buffer of PIECE_BYTES a job, made when it needs one and freed with its end.
 */
#include "block/fit.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/range_locks.h"
#include "block/stack.h"
#include "util/arith.h"
#include "util/err.h"
#include "util/iov.h"

#define PIECE_BYTES  (64u * 1024)
#define BUFFER_ALIGN (64u * 1024)

static_assert(PIECE_BYTES % BLOCK_FIT_UNIT_MAX == 0, "a piece is whole units");

enum step {
    STEP_PASS, /* bytes up to job->next, as they are */
    STEP_READ, /* a piece into the buffer, for the request */
    STEP_FILL, /* a piece into the buffer, to be changed */
    STEP_WRITE,
};

struct job {
    struct stack_job base;
    struct fit *fit;
    struct range_lock lock;
    struct stack_request lower;
    enum step step;
    uint64_t at, next, end; /* bytes of the disk, as in overlay.c */
    uint8_t *buffer;
    struct iovec piece; /* the buffer's part in use */
};

struct fit {
    struct stack stack;
    struct disk_direct want;
    bool locks_units;
    struct range_locks locks;
    struct job jobs[STACK_JOBS];
};

static struct fit *fit_of(struct stack *stack)
{
    return container_of(stack, struct fit, stack);
}

static void finish(struct job *job, int result)
{
    free(job->buffer);
    job->buffer = NULL;
    if (job->lock.held)
        range_unlock(&job->fit->locks, &job->lock);
    stack_complete(&job->fit->stack, &job->base, result);
}

static bool is_whole(const struct fit *fit, uint64_t bytes)
{
    return is_aligned(bytes, fit->want.file_bytes);
}

/* Whether the request can be passed on. */
static bool suits(const struct fit *fit, const struct block_request *r)
{
    uint64_t memory = 0, file = r->offset_bytes | r->length_bytes;
    for (unsigned i = 0; i < r->iov_count; i++) {
        memory |= (uintptr_t)r->iov[i].iov_base;
        file |= r->iov[i].iov_len;
    }
    return is_whole(fit, file) && is_aligned(memory, fit->want.memory_bytes);
}

/* -- steps --------------------------------------------------------------------------------------- */

static void advance(struct job *job);
static void step_done(struct block_request *io, int result);

static void send(struct job *job, enum step step)
{
    job->step = step;
    job->lower.io.done = step_done;
    int rc = stack_send(&job->fit->stack, 0, &job->lower);
    if (rc < 0)
        finish(job, rc);
}

static void send_piece(struct job *job, enum block_op op, enum step step)
{
    job->lower.io = (struct block_request){
        .op = op,
        .offset_bytes = align_down(job->at, job->fit->want.file_bytes),
        .length_bytes = job->piece.iov_len,
        .iov = &job->piece,
        .iov_count = 1,
    };
    send(job, step);
}

/* Whole units that need no buffer: a discard's, or zeroes. */
static void send_range(struct job *job, uint64_t begin, uint64_t end)
{
    const struct block_request *r = job->base.request;
    job->lower.io = (struct block_request){
        .op = r->op, .offset_bytes = begin, .length_bytes = end - begin, .unmap = r->unmap};
    send(job, STEP_PASS);
}

/* The buffer holds what is to stay: put the request's bytes into it, and write it. */
static void change(struct job *job)
{
    const struct block_request *r = job->base.request;
    uint8_t *to = job->buffer + (job->at & (job->fit->want.file_bytes - 1));
    if (r->op == BLOCK_WRITE)
        iov_copy_out(r->iov, r->iov_count, job->at - r->offset_bytes, to, job->next - job->at);
    else
        memset(to, 0, job->next - job->at);
    send_piece(job, BLOCK_WRITE, STEP_WRITE);
}

/* The next piece of what is read, written or zeroed through the buffer, at most until `end`. */
static void begin_piece(struct job *job, uint64_t end)
{
    uint32_t unit = job->fit->want.file_bytes;
    uint64_t begin = align_down(job->at, unit);
    job->next = MIN(end, begin + PIECE_BYTES);
    job->piece.iov_len = align_up(job->next, unit) - begin;
    if (!job->buffer && !(job->buffer = aligned_alloc(BUFFER_ALIGN, PIECE_BYTES))) {
        finish(job, -ENOMEM);
        return;
    }
    job->piece.iov_base = job->buffer;
    if (job->base.request->op == BLOCK_READ)
        send_piece(job, BLOCK_READ, STEP_READ);
    else if (is_whole(job->fit, job->at | job->next))
        change(job);
    else
        send_piece(job, BLOCK_READ, STEP_FILL);
}

static void begin_discard(struct job *job)
{
    uint32_t unit = job->fit->want.file_bytes;
    uint64_t begin = align_up(job->at, unit), end = align_down(job->end, unit);
    job->next = job->end;
    if (begin < end)
        send_range(job, begin, end);
    else
        finish(job, 0);
}

static void begin_zeroes(struct job *job)
{
    uint32_t unit = job->fit->want.file_bytes;
    uint64_t whole = align_down(job->end, unit);
    if (!is_whole(job->fit, job->at) || whole <= job->at) {
        begin_piece(job, MIN(job->end, align_down(job->at, unit) + unit));
        return;
    }
    job->next = whole;
    send_range(job, job->at, whole);
}

/* Begin the next step, or end. */
static void advance(struct job *job)
{
    const struct block_request *r = job->base.request;
    if (job->at == job->end) {
        finish(job, 0);
    } else if (r->op == BLOCK_DISCARD) {
        begin_discard(job);
    } else if (r->op == BLOCK_WRITE_ZEROES) {
        begin_zeroes(job);
    } else if (job->at == r->offset_bytes && suits(job->fit, r)) {
        job->lower.io = *r;
        job->next = job->end;
        send(job, STEP_PASS);
    } else {
        begin_piece(job, job->end);
    }
}

static void step_done(struct block_request *io, int result)
{
    struct job *job = container_of(io, struct job, lower.io);
    const struct block_request *r = job->base.request;
    if (result < 0) {
        finish(job, result);
        return;
    }
    if (job->step == STEP_FILL) {
        change(job);
        return;
    }
    if (job->step == STEP_READ)
        iov_copy_in(r->iov, r->iov_count, job->at - r->offset_bytes,
                    job->buffer + (job->at & (job->fit->want.file_bytes - 1)), job->next - job->at);
    job->at = job->next;
    advance(job);
}

/* -- the operations ------------------------------------------------------------------------------ */

static void flush_done(struct block_request *io, int result)
{
    finish(container_of(io, struct job, lower.io), result);
}

static void flush(struct job *job)
{
    job->lower.io = (struct block_request){.op = BLOCK_FLUSH, .done = flush_done};
    int rc = stack_send(&job->fit->stack, 0, &job->lower);
    if (rc < 0)
        finish(job, rc);
}

static int fit_submit(struct block *block, struct block_request *request)
{
    struct fit *fit = fit_of(container_of(block, struct stack, block));
    struct stack_job *base = stack_take(&fit->stack, request);
    if (!base)
        return -EBUSY;
    struct job *job = container_of(base, struct job, base);
    if (request->op == BLOCK_FLUSH) {
        flush(job);
        return 0;
    }
    job->at = request->offset_bytes;
    job->end = request->offset_bytes + request->length_bytes;
    if (request->op == BLOCK_READ || !fit->locks_units || job->at == job->end) {
        advance(job);
        return 0;
    }
    job->lock.first = job->at / fit->want.file_bytes;
    job->lock.last = (job->end - 1) / fit->want.file_bytes;
    if (range_lock(&fit->locks, &job->lock))
        advance(job);
    return 0;
}

/* Begin those whose units have become free. */
static void begin_the_waiting(struct stack *stack)
{
    struct fit *fit = fit_of(stack);
    struct range_lock *lock;
    while ((lock = range_lock_next(&fit->locks)))
        advance(container_of(lock, struct job, lock));
}

static void fit_destroy(struct block *block)
{
    struct fit *fit = fit_of(container_of(block, struct stack, block));
    stack_finish(&fit->stack);
    free(fit);
}

static const struct block_ops fit_ops = {
    .name = "fit",
    .submit = fit_submit,
    .kick = stack_kick,
    .reap = stack_reap,
    .drain = stack_drain,
    .destroy = fit_destroy,
};

/* -- opening ------------------------------------------------------------------------------------- */

int block_fit_open(struct block **out, struct block *lower, const struct disk_direct *want,
                   struct dayfly_err *err)
{
    struct fit *fit = calloc(1, sizeof(*fit));
    if (!fit) {
        block_destroy(lower);
        return err_set(err, ENOMEM, "direct I/O: out of memory");
    }
    fit->stack.block = *lower;
    fit->stack.block.ops = &fit_ops;
    fit->stack.block.block_bytes = MAX(lower->block_bytes, want->file_bytes);
    fit->stack.block.event_fd = -1;
    fit->stack.wake_fd = -1;
    fit->stack.resume = begin_the_waiting;
    fit->want = *want;
    fit->locks_units = want->file_bytes > lower->unit_bytes;
    range_locks_init(&fit->locks);
    int rc = stack_init(&fit->stack, &lower, 1);
    if (rc < 0)
        err_errno(err, -rc, "direct I/O");
    else if (want->file_bytes > BLOCK_FIT_UNIT_MAX || want->memory_bytes > BUFFER_ALIGN ||
             want->file_bytes < lower->unit_bytes)
        rc = err_set(err, EINVAL, "direct I/O in units of %u bytes, memory of %u", want->file_bytes,
                     want->memory_bytes);
    if (rc < 0) {
        fit_destroy(&fit->stack.block);
        return rc;
    }
    for (unsigned i = 0; i < STACK_JOBS; i++) {
        fit->jobs[i].fit = fit;
        list_append(&fit->stack.idle, &fit->jobs[i].base.node);
    }
    *out = &fit->stack.block;
    return 0;
}
