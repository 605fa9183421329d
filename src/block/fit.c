/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See fit.h.
 *
 * Theory of operation. A request is a job. One that suits the disk below is one step; another goes from
 * its first byte to its last (walk.h) in pieces of a buffer, each of which is a step, or two where a
 * piece has bytes that the request leaves alone: read, then write. A discard leaves out the parts of
 * units at its ends, and zeroes are written only there.
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

#include "block/walk.h"
#include "util/arith.h"
#include "util/err.h"
#include "util/iov.h"

#define PIECE_BYTES  (64u * 1024)
#define BUFFER_ALIGN (64u * 1024)

static_assert(PIECE_BYTES % BLOCK_FIT_UNIT_MAX == 0, "a piece is whole units");

enum step {
    STEP_PASS, /* bytes up to job->walk.next, as they are */
    STEP_READ, /* a piece into the buffer, for the request */
    STEP_FILL, /* a piece into the buffer, to be changed */
    STEP_WRITE,
};

struct job {
    struct walk walk;
    enum step step;
    uint8_t *buffer;
    struct iovec piece; /* the buffer's part in use */
};

struct fit {
    struct walk_stack walks;
    struct disk_direct want;
    struct job jobs[STACK_JOBS];
};

static struct job *job_of(struct walk *walk)
{
    return container_of(walk, struct job, walk);
}

static struct fit *fit_of(const struct job *job)
{
    return container_of(job->walk.owner, struct fit, walks);
}

static void job_ended(struct walk *walk)
{
    struct job *job = job_of(walk);
    free(job->buffer);
    job->buffer = NULL;
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

static void send(struct job *job, enum step step)
{
    job->step = step;
    walk_send(&job->walk, 0);
}

static void send_piece(struct job *job, enum block_op op, enum step step)
{
    job->walk.lower.io = (struct block_request){
        .op = op,
        .offset_bytes = align_down(job->walk.at, fit_of(job)->want.file_bytes),
        .length_bytes = job->piece.iov_len,
        .iov = &job->piece,
        .iov_count = 1,
    };
    send(job, step);
}

/* Whole units that need no buffer: a discard's, or zeroes. */
static void send_range(struct job *job, uint64_t begin, uint64_t end)
{
    const struct block_request *r = job->walk.base.request;
    job->walk.lower.io = (struct block_request){
        .op = r->op, .offset_bytes = begin, .length_bytes = end - begin, .unmap = r->unmap};
    send(job, STEP_PASS);
}

/* The buffer holds what is to stay: put the request's bytes into it, and write it. */
static void change(struct job *job)
{
    const struct block_request *r = job->walk.base.request;
    uint8_t *to = job->buffer + (job->walk.at & (fit_of(job)->want.file_bytes - 1));
    if (r->op == BLOCK_WRITE)
        iov_copy_out(r->iov, r->iov_count, job->walk.at - r->offset_bytes, to,
                     job->walk.next - job->walk.at);
    else
        memset(to, 0, job->walk.next - job->walk.at);
    send_piece(job, BLOCK_WRITE, STEP_WRITE);
}

/* The next piece of what is read, written or zeroed through the buffer, at most until `end`. */
static void begin_piece(struct job *job, uint64_t end)
{
    uint32_t unit = fit_of(job)->want.file_bytes;
    uint64_t begin = align_down(job->walk.at, unit);
    job->walk.next = MIN(end, begin + PIECE_BYTES);
    job->piece.iov_len = align_up(job->walk.next, unit) - begin;
    if (!job->buffer && !(job->buffer = aligned_alloc(BUFFER_ALIGN, PIECE_BYTES))) {
        walk_finish(&job->walk, -ENOMEM);
        return;
    }
    job->piece.iov_base = job->buffer;
    if (job->walk.base.request->op == BLOCK_READ)
        send_piece(job, BLOCK_READ, STEP_READ);
    else if (is_whole(fit_of(job), job->walk.at | job->walk.next))
        change(job);
    else
        send_piece(job, BLOCK_READ, STEP_FILL);
}

static void begin_discard(struct job *job)
{
    uint32_t unit = fit_of(job)->want.file_bytes;
    uint64_t begin = align_up(job->walk.at, unit), end = align_down(job->walk.end, unit);
    job->walk.next = job->walk.end;
    if (begin < end)
        send_range(job, begin, end);
    else
        walk_finish(&job->walk, 0);
}

static void begin_zeroes(struct job *job)
{
    uint32_t unit = fit_of(job)->want.file_bytes;
    uint64_t whole = align_down(job->walk.end, unit);
    if (!is_whole(fit_of(job), job->walk.at) || whole <= job->walk.at) {
        begin_piece(job, MIN(job->walk.end, align_down(job->walk.at, unit) + unit));
        return;
    }
    job->walk.next = whole;
    send_range(job, job->walk.at, whole);
}

/* Begin the next step, or end. */
static void advance(struct walk *walk)
{
    struct job *job = job_of(walk);
    const struct block_request *r = job->walk.base.request;
    if (job->walk.at == job->walk.end) {
        walk_finish(&job->walk, 0);
    } else if (r->op == BLOCK_DISCARD) {
        begin_discard(job);
    } else if (r->op == BLOCK_WRITE_ZEROES) {
        begin_zeroes(job);
    } else if (job->walk.at == r->offset_bytes && suits(fit_of(job), r)) {
        job->walk.lower.io = *r;
        job->walk.next = job->walk.end;
        send(job, STEP_PASS);
    } else {
        begin_piece(job, job->walk.end);
    }
}

static void step_done(struct walk *walk, int result)
{
    struct job *job = job_of(walk);
    const struct block_request *r = job->walk.base.request;
    if (result < 0) {
        walk_finish(&job->walk, result);
        return;
    }
    if (job->step == STEP_FILL) {
        change(job);
        return;
    }
    if (job->step == STEP_READ)
        iov_copy_in(r->iov, r->iov_count, job->walk.at - r->offset_bytes,
                    job->buffer + (job->walk.at & (fit_of(job)->want.file_bytes - 1)),
                    job->walk.next - job->walk.at);
    job->walk.at = job->walk.next;
    advance(&job->walk);
}

/* -- the operations ------------------------------------------------------------------------------ */

static const struct walk_ops walk_ops = {
    .advance = advance,
    .answered = step_done,
    .ended = job_ended,
};

static void fit_destroy(struct block *block)
{
    struct fit *fit = container_of(block, struct fit, walks.stack.block);
    stack_finish(&fit->walks.stack);
    free(fit);
}

static const struct block_ops fit_ops = {
    .name = "fit",
    .submit = walk_submit,
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
    fit->walks.stack.block = *lower;
    fit->walks.stack.block.ops = &fit_ops;
    fit->walks.stack.block.block_bytes = MAX(lower->block_bytes, want->file_bytes);
    fit->want = *want;
    fit->walks.ops = &walk_ops;
    fit->walks.held_bytes = want->file_bytes > lower->unit_bytes ? want->file_bytes : 0;
    int rc = walk_init(&fit->walks, &lower, 1);
    if (rc < 0)
        err_errno(err, -rc, "direct I/O");
    else if (want->file_bytes > BLOCK_FIT_UNIT_MAX || want->memory_bytes > BUFFER_ALIGN ||
             want->file_bytes < lower->unit_bytes)
        rc = err_set(err, EINVAL, "direct I/O in units of %u bytes, memory of %u", want->file_bytes,
                     want->memory_bytes);
    if (rc < 0) {
        fit_destroy(&fit->walks.stack.block);
        return rc;
    }
    for (unsigned i = 0; i < STACK_JOBS; i++)
        walk_add(&fit->walks, &fit->jobs[i].walk);
    *out = &fit->walks.stack.block;
    return 0;
}
