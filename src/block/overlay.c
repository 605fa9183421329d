/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See overlay.h.
 *
 * Theory of operation. A request is a job, which goes from its first byte to its last in steps
 * (walk.h), one request to a layer at a time; most have one step:
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
 * Bounds. One buffer of a cluster a job. What is in it is nobody else's to see: it is in no core dump,
 * and memory of its own, which the kernel wipes before anybody gets it.
 */
#include "block/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block/overlay_map.h"
#include "block/walk.h"
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
    struct walk walk;
    enum step step;
    struct iovec *slice; /* of the request's segments; malloc'ed for the step, or NULL */
    uint8_t *buffer;     /* a cluster, in the pool */
    struct iovec buffer_iov;
};

struct overlay {
    struct walk_stack walks;
    uint64_t cluster_bytes;
    struct overlay_map map;
    void *pool; /* NULL, or the buffers of all jobs */
    struct job jobs[STACK_JOBS];
};

static struct job *job_of(struct walk *walk)
{
    return container_of(walk, struct job, walk);
}

static struct overlay *overlay_of(const struct job *job)
{
    return container_of(job->walk.owner, struct overlay, walks);
}

/* The end of a step, and of the job. */
static void drop_slice(struct walk *walk)
{
    struct job *job = job_of(walk);
    free(job->slice);
    job->slice = NULL;
}

/* -- steps --------------------------------------------------------------------------------------- */

static void send(struct job *job, enum step step, unsigned layer)
{
    job->step = step;
    walk_send(&job->walk, layer);
}

/* The request's segments from job->walk.at to job->walk.next, or none for WRITE_ZEROES. */
static int point_at_data(struct job *job, struct block_request *io)
{
    const struct block_request *r = job->walk.base.request;
    io->offset_bytes = job->walk.at;
    io->length_bytes = job->walk.next - job->walk.at;
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
        iov_slice(r->iov, r->iov_count, job->walk.at - r->offset_bytes, io->length_bytes, job->slice);
    return 0;
}

/* Send the request's own bytes up to job->walk.next. */
static void send_part(struct job *job, enum step step, unsigned layer)
{
    job->walk.lower.io = (struct block_request){.op = job->walk.base.request->op};
    int rc = point_at_data(job, &job->walk.lower.io);
    if (rc < 0)
        walk_finish(&job->walk, rc);
    else
        send(job, step, layer);
}

static void send_hole(struct job *job, enum step step, uint64_t begin, uint64_t end)
{
    job->walk.lower.io =
        (struct block_request){.op = BLOCK_DISCARD, .offset_bytes = begin, .length_bytes = end - begin};
    send(job, step, DELTA);
}

/* The whole cluster that job->walk.at is in, from a layer into the buffer or the other way. */
static void send_buffer(struct job *job, enum block_op op, enum step step, unsigned layer)
{
    struct overlay *o = overlay_of(job);
    uint64_t begin = align_down(job->walk.at, o->cluster_bytes);
    uint64_t there = o->walks.stack.layers[layer].block->size_bytes - begin; /* a base may end in it */
    job->buffer_iov = (struct iovec){job->buffer, MIN(o->cluster_bytes, there)};
    job->walk.lower.io = (struct block_request){
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
    const struct block_request *r = job->walk.base.request;
    uint8_t *to = job->buffer + (job->walk.at & (overlay_of(job)->cluster_bytes - 1));
    if (r->op == BLOCK_WRITE_ZEROES)
        memset(to, 0, job->walk.next - job->walk.at);
    else
        iov_copy_out(r->iov, r->iov_count, job->walk.at - r->offset_bytes, to,
                     job->walk.next - job->walk.at);
    send_buffer(job, BLOCK_WRITE, STEP_MOVE, DELTA);
}

/* Part of a cluster, up to job->walk.next. True when there is nothing to wait for. */
static bool change_part(struct job *job, enum overlay_state state)
{
    struct overlay *o = overlay_of(job);
    bool zeroes = job->walk.base.request->op == BLOCK_WRITE_ZEROES;
    if (zeroes && state == OVERLAY_ZERO)
        return true;
    if (state == OVERLAY_DATA &&
        is_aligned(job->walk.at | job->walk.next, o->walks.stack.layers[DELTA].block->unit_bytes)) {
        send_part(job, STEP_PASS, DELTA);
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
    struct overlay *o = overlay_of(job);
    uint64_t first = job->walk.at / o->cluster_bytes,
             count = (job->walk.next - job->walk.at) / o->cluster_bytes;
    if (job->walk.base.request->op == BLOCK_WRITE) {
        send_part(job, STEP_MOVE, DELTA);
        return false;
    }
    if (overlay_map_has_data(&o->map, first, count)) {
        send_hole(job, STEP_ZERO, job->walk.at, job->walk.next);
        return false;
    }
    overlay_map_set(&o->map, first, count, OVERLAY_ZERO);
    return true;
}

/* True when there is nothing to wait for. */
static bool change_some(struct job *job)
{
    uint64_t size = overlay_of(job)->cluster_bytes;
    uint64_t whole = align_down(job->walk.end, size);
    bool begins = is_aligned(job->walk.at, size);
    if (begins && whole > job->walk.at) {
        job->walk.next = whole;
        return change_clusters(job);
    }
    job->walk.next = MIN(align_down(job->walk.at, size) + size, job->walk.end);
    return change_part(job, overlay_map_get(&overlay_of(job)->map, job->walk.at / size));
}

/* True when there is nothing to wait for. */
static bool read_some(struct job *job)
{
    struct overlay *o = overlay_of(job);
    const struct block_request *r = job->walk.base.request;
    uint64_t first = job->walk.at / o->cluster_bytes;
    uint64_t run = overlay_map_run(&o->map, first, (job->walk.end - 1) / o->cluster_bytes + 1 - first);
    enum overlay_state state = overlay_map_get(&o->map, first);
    job->walk.next = MIN((first + run) * o->cluster_bytes, job->walk.end);
    if (state != OVERLAY_ZERO) {
        send_part(job, STEP_PASS, state == OVERLAY_DATA ? DELTA : BASE);
        return false;
    }
    iov_fill(r->iov, r->iov_count, job->walk.at - r->offset_bytes, 0, job->walk.next - job->walk.at);
    return true;
}

/* True when there is nothing to wait for. */
static bool discard_some(struct job *job)
{
    struct overlay *o = overlay_of(job);
    uint64_t first = align_up(job->walk.at, o->cluster_bytes),
             end = align_down(job->walk.end, o->cluster_bytes);
    job->walk.next = job->walk.end;
    if (first >= end ||
        !overlay_map_has_data(&o->map, first / o->cluster_bytes, (end - first) / o->cluster_bytes))
        return true;
    send_hole(job, STEP_PUNCH, first, end);
    return false;
}

/* Go on until there is something to wait for, or an end. */
static void advance(struct walk *walk)
{
    struct job *job = job_of(walk);
    enum block_op op = job->walk.base.request->op;
    while (job->walk.at < job->walk.end) {
        bool on = op == BLOCK_READ      ? read_some(job)
                  : op == BLOCK_DISCARD ? discard_some(job)
                                        : change_some(job);
        if (!on)
            return;
        job->walk.at = job->walk.next;
    }
    walk_finish(&job->walk, 0);
}

static void step_done(struct walk *walk, int result)
{
    struct job *job = job_of(walk);
    struct overlay *o = overlay_of(job);
    const struct block_request *io = &walk->lower.io;
    uint64_t size = o->cluster_bytes;
    uint64_t first = job->walk.at / size, count = (job->walk.next - 1) / size + 1 - first;
    drop_slice(walk);
    /* A hole is advice to the delta: zeroes are zeroes by the map, even where it could not. */
    if (result < 0 && job->step != STEP_ZERO && job->step != STEP_PUNCH) {
        walk_finish(&job->walk, result);
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
    job->walk.at = job->walk.next;
    advance(walk);
}

/* -- the operations ------------------------------------------------------------------------------ */

static const struct walk_ops walk_ops = {
    .advance = advance,
    .answered = step_done,
    .ended = drop_slice,
};

static void overlay_destroy(struct block *block)
{
    struct overlay *o = container_of(block, struct overlay, walks.stack.block);
    stack_finish(&o->walks.stack);
    overlay_map_finish(&o->map);
    if (o->pool)
        munmap(o->pool, STACK_JOBS * o->cluster_bytes);
    free(o);
}

static const struct block_ops overlay_ops = {
    .name = "overlay",
    .submit = walk_submit,
    .kick = stack_kick,
    .reap = stack_reap,
    .drain = stack_drain,
    .destroy = overlay_destroy,
};

/* -- opening ------------------------------------------------------------------------------------- */

static int make_buffers(struct overlay *o)
{
    void *pool = mmap(NULL, STACK_JOBS * o->cluster_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool == MAP_FAILED)
        return -errno;
    o->pool = pool;
    madvise(pool, STACK_JOBS * o->cluster_bytes, MADV_DONTDUMP);
    for (unsigned i = 0; i < STACK_JOBS; i++)
        o->jobs[i].buffer = (uint8_t *)pool + i * o->cluster_bytes;
    return 0;
}

static int open_in(struct overlay *o, const struct block_overlay_options *options,
                   struct dayfly_err *err)
{
    const struct block *base = options->base, *delta = options->delta;
    uint64_t size = o->cluster_bytes;
    int rc = walk_init(&o->walks,
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
    rc = make_buffers(o);
    if (rc == 0)
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
    o->walks.stack.block = (struct block){
        .ops = &overlay_ops,
        .size_bytes = options->base->size_bytes,
        .block_bytes = 4096,
        .unit_bytes = 512,
        .discard = options->delta->discard,
    };
    o->walks.ops = &walk_ops;
    o->walks.flush_layer = DELTA; /* what was moved is there; of the map nothing has to survive */
    o->walks.held_bytes = o->cluster_bytes;
    o->walks.reads_hold = true;
    int rc = open_in(o, options, err);
    if (rc < 0) {
        overlay_destroy(&o->walks.stack.block);
        return rc;
    }
    for (unsigned i = 0; i < STACK_JOBS; i++)
        walk_add(&o->walks, &o->jobs[i].walk);
    *out = &o->walks.stack.block;
    return 0;
}
