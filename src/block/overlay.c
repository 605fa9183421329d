/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See overlay.h.
 *
 * Theory of operation. A request is a job, which goes from its first byte to its last in steps, one
 * request to a layer at a time; most have one step:
 *
 *   read           a run of clusters that are in the same place, from there
 *   write          whole clusters to the delta, wherever they were; they are moved when it has them.
 *                  A part of a cluster goes there directly if the cluster is there already and the
 *                  delta takes such a part; else the cluster is filled into a buffer from where it
 *                  is, changed, and written whole
 *   write zeroes   whole clusters in the map, and a hole in the delta; parts as a write
 *   discard        the whole clusters in it that are in the delta
 *
 * A job holds its clusters (range_locks.h) from before it looks at the map until it has ended, so two
 * writes of parts of one cluster, or a write and the hole of a discard, come one after the other.
 *
 * Bounds. One buffer of a cluster a job, made when it first needs one.
 */
#include "block/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/range_locks.h"
#include "block/overlay_map.h"
#include "block/stack.h"
#include "util/err.h"
#include "util/iov.h"

#define CLUSTER_MIN 4096u
#define CLUSTER_MAX (2u << 20)

enum { BASE, DELTA }; /* layers */

/* What the request to a layer that a job waits for is. */
enum step {
    STEP_PASS,  /* a read, or a part of a cluster that is in the delta */
    STEP_FILL,  /* a cluster into the buffer */
    STEP_MOVE,  /* whole clusters to the delta */
    STEP_ZERO,  /* a hole, for clusters that are zeroes from now on */
    STEP_PUNCH, /* a hole, for what was discarded */
};

struct job {
    struct stack_job base;
    struct overlay *overlay;
    struct range_lock lock;
    struct stack_request lower;
    enum step step;
    uint64_t at, next; /* bytes of the disk: done up to; done up to when the step is */
    uint64_t end;
    struct iovec *slice; /* of the request's segments; malloc'ed for the step, or NULL */
    uint8_t *buffer;     /* a cluster; NULL before the first use */
    struct iovec buffer_iov;
};

struct overlay {
    struct stack stack;
    uint64_t cluster_bytes;
    struct overlay_map map;
    struct range_locks locks;
    struct job jobs[STACK_JOBS];
};

static struct overlay *overlay_of(struct stack *stack)
{
    return container_of(stack, struct overlay, stack);
}

static void finish(struct job *job, int result)
{
    if (job->lock.held)
        range_unlock(&job->overlay->locks, &job->lock);
    stack_complete(&job->overlay->stack, &job->base, result);
}

/* -- steps --------------------------------------------------------------------------------------- */

static void advance(struct job *job);
static void step_done(struct block_request *io, int result);

static void send(struct job *job, enum step step, unsigned layer)
{
    job->step = step;
    job->lower.io.done = step_done;
    int rc = stack_send(&job->overlay->stack, layer, &job->lower);
    if (rc < 0) {
        free(job->slice);
        job->slice = NULL;
        finish(job, rc);
    }
}

/* The request's segments from job->at to job->next, or none for WRITE_ZEROES. */
static int point_at_data(struct job *job, struct block_request *io)
{
    const struct block_request *r = job->base.request;
    io->offset_bytes = job->at;
    io->length_bytes = job->next - job->at;
    if (r->op == BLOCK_WRITE_ZEROES || io->length_bytes == r->length_bytes) {
        io->iov = r->iov;
        io->iov_count = r->iov_count;
        return 0;
    }
    job->slice = malloc(r->iov_count * sizeof(*job->slice));
    if (!job->slice)
        return -ENOMEM;
    io->iov = job->slice;
    io->iov_count =
        iov_slice(r->iov, r->iov_count, job->at - r->offset_bytes, io->length_bytes, job->slice);
    return 0;
}

/* Send the request's own bytes up to job->next. */
static void send_part(struct job *job, enum step step, unsigned layer)
{
    job->lower.io = (struct block_request){.op = job->base.request->op};
    int rc = point_at_data(job, &job->lower.io);
    if (rc < 0)
        finish(job, rc);
    else
        send(job, step, layer);
}

static void send_hole(struct job *job, enum step step, uint64_t begin, uint64_t end)
{
    job->lower.io =
        (struct block_request){.op = BLOCK_DISCARD, .offset_bytes = begin, .length_bytes = end - begin};
    send(job, step, DELTA);
}

/* The whole cluster that job->at is in, from a layer into the buffer or the other way. */
static void send_buffer(struct job *job, enum block_op op, enum step step, unsigned layer)
{
    struct overlay *o = job->overlay;
    uint64_t begin = align_down(job->at, o->cluster_bytes);
    uint64_t there = o->stack.layers[layer].block->size_bytes - begin; /* a base may end in it */
    job->buffer_iov = (struct iovec){job->buffer, MIN(o->cluster_bytes, there)};
    job->lower.io = (struct block_request){
        .op = op,
        .offset_bytes = begin,
        .length_bytes = job->buffer_iov.iov_len,
        .iov = &job->buffer_iov,
        .iov_count = 1,
    };
    send(job, step, layer);
}

/* The buffer holds what the cluster is: change it, and move it. */
static void merge(struct job *job)
{
    const struct block_request *r = job->base.request;
    uint8_t *to = job->buffer + (job->at & (job->overlay->cluster_bytes - 1));
    if (r->op == BLOCK_WRITE_ZEROES)
        memset(to, 0, job->next - job->at);
    else
        iov_copy_out(r->iov, r->iov_count, job->at - r->offset_bytes, to, job->next - job->at);
    send_buffer(job, BLOCK_WRITE, STEP_MOVE, DELTA);
}

/* Part of a cluster, up to job->next. True when there is nothing to wait for. */
static bool change_part(struct job *job, enum overlay_state state)
{
    struct overlay *o = job->overlay;
    bool zeroes = job->base.request->op == BLOCK_WRITE_ZEROES;
    if (zeroes && state == OVERLAY_ZERO)
        return true;
    if (state == OVERLAY_DATA &&
        is_aligned(job->at | job->next, o->stack.layers[DELTA].block->unit_bytes)) {
        send_part(job, STEP_PASS, DELTA);
        return false;
    }
    if (!job->buffer && !(job->buffer = malloc(o->cluster_bytes))) {
        finish(job, -ENOMEM);
        return false;
    }
    memset(job->buffer, 0, o->cluster_bytes);
    if (state == OVERLAY_ZERO)
        merge(job);
    else
        send_buffer(job, BLOCK_READ, STEP_FILL, state == OVERLAY_DATA ? DELTA : BASE);
    return false;
}

/* True when there is nothing to wait for. */
static bool change_clusters(struct job *job)
{
    struct overlay *o = job->overlay;
    uint64_t first = job->at / o->cluster_bytes, count = (job->next - job->at) / o->cluster_bytes;
    if (job->base.request->op == BLOCK_WRITE) {
        send_part(job, STEP_MOVE, DELTA);
        return false;
    }
    if (overlay_map_has_data(&o->map, first, count)) {
        send_hole(job, STEP_ZERO, job->at, job->next);
        return false;
    }
    overlay_map_set(&o->map, first, count, OVERLAY_ZERO);
    return true;
}

/* True when there is nothing to wait for. */
static bool change_some(struct job *job)
{
    uint64_t size = job->overlay->cluster_bytes;
    uint64_t whole = align_down(job->end, size);
    bool begins = is_aligned(job->at, size);
    if (begins && whole > job->at) {
        job->next = whole;
        return change_clusters(job);
    }
    job->next = MIN(align_down(job->at, size) + size, job->end);
    return change_part(job, overlay_map_get(&job->overlay->map, job->at / size));
}

/* True when there is nothing to wait for. */
static bool read_some(struct job *job)
{
    struct overlay *o = job->overlay;
    const struct block_request *r = job->base.request;
    uint64_t first = job->at / o->cluster_bytes;
    uint64_t run = overlay_map_run(&o->map, first, (job->end - 1) / o->cluster_bytes + 1 - first);
    enum overlay_state state = overlay_map_get(&o->map, first);
    job->next = MIN((first + run) * o->cluster_bytes, job->end);
    if (state != OVERLAY_ZERO) {
        send_part(job, STEP_PASS, state == OVERLAY_DATA ? DELTA : BASE);
        return false;
    }
    iov_fill(r->iov, r->iov_count, job->at - r->offset_bytes, 0, job->next - job->at);
    return true;
}

/* True when there is nothing to wait for. */
static bool discard_some(struct job *job)
{
    struct overlay *o = job->overlay;
    uint64_t first = align_up(job->at, o->cluster_bytes), end = align_down(job->end, o->cluster_bytes);
    job->next = job->end;
    if (first >= end ||
        !overlay_map_has_data(&o->map, first / o->cluster_bytes, (end - first) / o->cluster_bytes))
        return true;
    send_hole(job, STEP_PUNCH, first, end);
    return false;
}

/* Go on until there is something to wait for, or an end. */
static void advance(struct job *job)
{
    enum block_op op = job->base.request->op;
    while (job->at < job->end) {
        bool on = op == BLOCK_READ      ? read_some(job)
                  : op == BLOCK_DISCARD ? discard_some(job)
                                        : change_some(job);
        if (!on)
            return;
        job->at = job->next;
    }
    finish(job, 0);
}

static void step_done(struct block_request *io, int result)
{
    struct job *job = container_of(io, struct job, lower.io);
    struct overlay *o = job->overlay;
    uint64_t size = o->cluster_bytes;
    uint64_t first = job->at / size, count = (job->next - 1) / size + 1 - first;
    free(job->slice);
    job->slice = NULL;
    /* A hole is advice to the delta: zeroes are zeroes by the map, even where it could not. */
    if (result < 0 && job->step != STEP_ZERO && job->step != STEP_PUNCH) {
        finish(job, result);
        return;
    }
    switch (job->step) {
    case STEP_FILL:
        merge(job);
        return;
    case STEP_PASS:
        break;
    case STEP_MOVE:
        overlay_map_set(&o->map, first, count, OVERLAY_DATA);
        break;
    case STEP_ZERO:
        overlay_map_set(&o->map, first, count, OVERLAY_ZERO);
        break;
    case STEP_PUNCH:
        overlay_map_drop_data(&o->map, io->offset_bytes / size, io->length_bytes / size);
        break;
    }
    job->at = job->next;
    advance(job);
}

/* -- the operations ------------------------------------------------------------------------------ */

static void flush_done(struct block_request *io, int result)
{
    finish(container_of(io, struct job, lower.io), result);
}

/* What was moved before is in the delta; of the map nothing has to survive. */
static void flush(struct job *job)
{
    job->lower.io = (struct block_request){.op = BLOCK_FLUSH, .done = flush_done};
    int rc = stack_send(&job->overlay->stack, DELTA, &job->lower);
    if (rc < 0)
        finish(job, rc);
}

static int overlay_submit(struct block *block, struct block_request *request)
{
    struct overlay *o = overlay_of(container_of(block, struct stack, block));
    struct stack_job *base = stack_take(&o->stack, request);
    if (!base)
        return -EBUSY;
    struct job *job = container_of(base, struct job, base);
    if (request->op == BLOCK_FLUSH) {
        flush(job);
        return 0;
    }
    if (request->length_bytes == 0) {
        finish(job, 0);
        return 0;
    }
    job->at = request->offset_bytes;
    job->end = request->offset_bytes + request->length_bytes;
    job->lock.first = job->at / o->cluster_bytes;
    job->lock.last = (job->end - 1) / o->cluster_bytes;
    job->lock.shared = request->op == BLOCK_READ;
    if (range_lock(&o->locks, &job->lock))
        advance(job);
    return 0;
}

/* Begin those whose clusters have become free. */
static void begin_the_waiting(struct stack *stack)
{
    struct overlay *o = overlay_of(stack);
    struct range_lock *lock;
    while ((lock = range_lock_next(&o->locks)))
        advance(container_of(lock, struct job, lock));
}

static void overlay_destroy(struct block *block)
{
    struct overlay *o = overlay_of(container_of(block, struct stack, block));
    stack_finish(&o->stack);
    overlay_map_finish(&o->map);
    for (unsigned i = 0; i < STACK_JOBS; i++) {
        if (o->jobs[i].buffer)
            explicit_bzero(o->jobs[i].buffer, o->cluster_bytes);
        free(o->jobs[i].buffer);
    }
    free(o);
}

static const struct block_ops overlay_ops = {
    .name = "overlay",
    .submit = overlay_submit,
    .kick = stack_kick,
    .reap = stack_reap,
    .drain = stack_drain,
    .destroy = overlay_destroy,
};

/* -- opening ------------------------------------------------------------------------------------- */

static int open_in(struct overlay *o, const struct block_overlay_options *options,
                   struct dayfly_err *err)
{
    const struct block *base = options->base, *delta = options->delta;
    uint64_t size = o->cluster_bytes;
    int rc = stack_init(&o->stack,
                        (struct block *const[]){[BASE] = options->base, [DELTA] = options->delta}, 2);
    if (rc < 0)
        return err_errno(err, -rc, "overlay");
    if (size < CLUSTER_MIN || size > CLUSTER_MAX || (size & (size - 1)) != 0 ||
        size % delta->unit_bytes != 0)
        return err_set(err, EINVAL, "an overlay cannot have clusters of %llu bytes",
                       (unsigned long long)size);
    if (delta->read_only)
        return err_set(err, EROFS, "what an overlay writes to is read-only");
    if (delta->size_bytes < align_up(base->size_bytes, size))
        return err_set(err, EINVAL, "what an overlay writes to has %llu bytes, and its base %llu",
                       (unsigned long long)delta->size_bytes, (unsigned long long)base->size_bytes);
    rc = overlay_map_init(&o->map, align_up(base->size_bytes, size) / size);
    return rc < 0 ? err_errno(err, -rc, "the map of an overlay") : 0;
}

int block_overlay_open(struct block **out, const struct block_overlay_options *options,
                       struct dayfly_err *err)
{
    struct overlay *o = calloc(1, sizeof(*o));
    if (!o) {
        block_destroy(options->base);
        block_destroy(options->delta);
        return err_set(err, ENOMEM, "overlay: out of memory");
    }
    o->cluster_bytes = options->cluster_bytes ? options->cluster_bytes : BLOCK_OVERLAY_CLUSTER_BYTES;
    o->stack.block = (struct block){
        .ops = &overlay_ops,
        .size_bytes = options->base->size_bytes,
        .block_bytes = 4096,
        .unit_bytes = 512,
        .discard = options->delta->discard,
        .event_fd = -1,
    };
    o->stack.wake_fd = -1;
    o->stack.resume = begin_the_waiting;
    range_locks_init(&o->locks);
    int rc = open_in(o, options, err);
    if (rc < 0) {
        overlay_destroy(&o->stack.block);
        return rc;
    }
    for (unsigned i = 0; i < STACK_JOBS; i++) {
        o->jobs[i].overlay = o;
        list_append(&o->stack.idle, &o->jobs[i].base.node);
    }
    *out = &o->stack.block;
    return 0;
}
