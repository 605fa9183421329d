/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the file system device, from the pop to the push. Theory and invariants are in fs.c.
 *
 * Bounds. A turn takes TURN_MAX chains of a queue. What is in flight is bounded by the rings; parked
 * requests may fill half of theirs, so that the unlock they wait for finds room. A chain has at most
 * FS_SEGMENTS_MAX segments and less than 4 GiB (ring.h).
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "util/clock.h"
#include "util/iov.h"
#include "virtio/fs_private.h"

#define TURN_MAX 16
/* So many requests that stand behind one are worth waking a worker for it, or fewer when it is large.
 */
#define BACKLOG       8
#define BACKLOG_BYTES (512u * 1024)
/* A lock on the host may be let go of by anybody: asked again this often. */
#define RETRY_NS (10 * NS_PER_MS)
/* An interrupt for what nobody waits for (FORGET) is put off for so long, or until so many are
 * done: mostly another request's comes before. */
#define SAY_NS     (2 * NS_PER_MS)
#define UNSAID_MAX 16
/* 1 MiB in pages and the headers. Kept for the next; longer ones are freed. */
#define KEPT_SEGMENTS 288
#define KEPT_MAX      32

/* A request that outlives the turn in which it was popped. */
struct request {
    struct list node; /* a job, parked or kept */
    struct virtio_fs_queue *queue;
    struct ring_chain chain; /* its iov is this one */
    uint64_t unique;         /* parked: the guest's name for it */
    unsigned room;
    struct iovec iov[];
};

static struct ring *ring_of(struct virtio_fs *f, const struct virtio_fs_queue *q)
{
    return &f->dev.queues[q->index].ring;
}

/* -- requests that are kept ------------------------------------------------------------------------ */

/* A copy of a popped chain; NULL without memory. With the lock held, as all that follows. */
static struct request *keep(struct virtio_fs *f, struct virtio_fs_queue *q,
                            const struct ring_chain *chain)
{
    unsigned segments = chain->readable + chain->writable, room = MAX(segments, KEPT_SEGMENTS);
    struct request *r;
    if (room == KEPT_SEGMENTS && f->kept_count > 0) {
        r = list_entry(f->kept.next, struct request, node);
        list_remove(&r->node);
        f->kept_count--;
    } else if ((r = malloc(sizeof(*r) + room * sizeof(r->iov[0])))) {
        list_init(&r->node);
        r->room = room;
    } else {
        return NULL;
    }
    r->queue = q;
    r->chain = *chain;
    r->chain.iov = memcpy(r->iov, chain->iov, segments * sizeof(r->iov[0]));
    return r;
}

/* NULL is legal. */
static void drop(struct virtio_fs *f, struct request *r)
{
    if (r && r->room == KEPT_SEGMENTS && f->kept_count < KEPT_MAX) {
        list_append(&f->kept, &r->node);
        f->kept_count++;
    } else {
        free(r);
    }
}

void virtio_fs_free_kept(struct virtio_fs *f)
{
    struct request *r, *tmp;
    list_for_each (r, tmp, &f->kept, node)
        free(r);
}

/* -- the life of a request --------------------------------------------------------------------------
 */

static void no_longer_busy(struct virtio_fs *f, struct virtio_fs_queue *q)
{
    if (--q->busy == 0)
        pthread_cond_broadcast(&f->quiet);
}

static uint64_t unique_of(const struct ring_chain *chain)
{
    struct fuse_in_header in = {0};
    iov_copy_out(chain->iov, chain->readable, 0, &in, sizeof(in));
    return in.unique;
}

/* Answer with an error in the server's place. */
static ssize_t refuse(const struct ring_chain *chain, int code)
{
    struct fuse_out_header out = {.len = sizeof(out), .error = -code, .unique = unique_of(chain)};
    return (ssize_t)iov_copy_in(chain->iov + chain->readable, chain->writable, 0, &out, sizeof(out));
}

static void push(struct virtio_fs *f, struct virtio_fs_queue *q, const struct ring_chain *chain,
                 ssize_t written, bool awaited)
{
    ring_push(ring_of(f, q), chain->head, (uint32_t)MIN((uint64_t)written, chain->writable_bytes));
    if (awaited)
        q->pushed = true;
    else
        q->unsaid++;
}

void virtio_fs_interrupt(struct virtio_fs *f, struct virtio_fs_queue *q)
{
    if (q->pushed || q->unsaid > 0)
        virtio_interrupt(&f->dev, q->index);
    q->pushed = false;
    q->unsaid = 0;
}

/* At the end of a turn, in the loop's thread. */
static void interrupt_soon(struct virtio_fs *f, struct virtio_fs_queue *q)
{
    if (q->pushed || q->unsaid >= UNSAID_MAX)
        virtio_fs_interrupt(f, q);
    else if (q->unsaid > 0 && !f->say.loop)
        loop_timer_set(f->dev.loop, &f->say, clock_ns() + SAY_NS);
}

void virtio_fs_say(struct virtio_fs *f)
{
    pthread_mutex_lock(&f->dev.lock);
    for (unsigned i = 0; i < f->dev.queue_count; i++)
        virtio_fs_interrupt(f, &f->queues[i]);
    pthread_mutex_unlock(&f->dev.lock);
}

/* The server's view of a chain, whose segments are `iov`. */
static struct fs_request request_of(const struct ring_chain *chain, struct iovec *iov)
{
    return (struct fs_request){
        .in = iov,
        .in_count = chain->readable,
        .in_bytes = chain->readable_bytes,
        .out = iov + chain->readable,
        .out_count = chain->writable,
        .out_bytes = chain->writable_bytes,
    };
}

/* Serve with the lock let go of. */
static ssize_t serve(struct virtio_fs *f, struct fs_hand *hand, const struct ring_chain *chain,
                     bool at_once)
{
    unsigned segments = chain->readable + chain->writable;
    struct fs_request request = request_of(chain, hand->iov);
    request.at_once = at_once;
    pthread_mutex_unlock(&f->dev.lock);
    memcpy(hand->iov, chain->iov, segments * sizeof(hand->iov[0]));
    ssize_t n = fs_serve(f->fs, &hand->thread, &request);
    hand->unawaited = request.unawaited;
    pthread_mutex_lock(&f->dev.lock);
    return n;
}

/* A request waits for a lock. Returns FS_LATER when it is parked, and r taken; else as fs_serve. */
static ssize_t park(struct virtio_fs *f, struct virtio_fs_queue *q, const struct ring_chain *chain,
                    struct request *r)
{
    unsigned most = MAX(ring_of(f, q)->setup.size / 2, 1u);
    if (!f->dev.active || q->draining > 0)
        return refuse(chain, EINTR);
    if (q->parked >= most || (!r && !(r = keep(f, q, chain))))
        return refuse(chain, ENOLCK);
    r->unique = unique_of(chain);
    list_append(&f->parked, &r->node);
    q->parked++;
    return FS_LATER;
}

/* What becomes of a request that was served. Takes r; NULL while the request stands in `popped` alone.
 */
static void settle(struct virtio_fs *f, struct virtio_fs_queue *q, const struct ring_chain *chain,
                   struct request *r, ssize_t result, bool awaited)
{
    if (result == FS_LATER)
        result = park(f, q, chain, r);
    if (result == FS_BROKEN)
        virtio_violation(&f->dev, "queue %u: no FUSE request", q->index);
    else if (result != FS_LATER)
        push(f, q, chain, result, awaited);
    if (result != FS_LATER)
        drop(f, r);
    no_longer_busy(f, q);
}

void virtio_fs_run_job(struct fs_workers *workers, struct fs_hand *hand, struct list *job)
{
    struct virtio_fs *f = container_of(workers, struct virtio_fs, workers);
    struct request *r = list_entry(job, struct request, node);
    struct virtio_fs_queue *q = r->queue;
    settle(f, q, &r->chain, r, serve(f, hand, &r->chain, false), true);
    virtio_fs_interrupt(f, q);
    if (!list_empty(&f->parked)) /* this one, or one that waited for it */
        eventfd_write(f->wake.fd, 1);
}

/* -- parked requests: in the loop's thread ----------------------------------------------------------
 */

static void unpark(struct request *r)
{
    list_remove(&r->node);
    r->queue->parked--;
}

/* Try each that was parked before, once. */
static void try_parked(struct virtio_fs *f)
{
    f->unlocked = fs_unlocked(f->fs);
    unsigned count = 0;
    for (struct list *at = f->parked.next; at != &f->parked; at = at->next)
        count++;
    /* With the lock let go of, they may become fewer, or more at the end. */
    for (; count > 0 && !list_empty(&f->parked); count--) {
        struct request *r = list_entry(f->parked.next, struct request, node);
        struct virtio_fs_queue *q = r->queue;
        unpark(r);
        q->busy++;
        settle(f, q, &r->chain, r, serve(f, &f->hand, &r->chain, false), true);
        virtio_fs_interrupt(f, q);
    }
}

static void watch_parked(struct virtio_fs *f)
{
    if (!list_empty(&f->parked) && f->unlocked != fs_unlocked(f->fs))
        try_parked(f);
    if (list_empty(&f->parked))
        loop_timer_cancel(&f->retry);
    else if (!f->retry.loop)
        loop_timer_set(f->dev.loop, &f->retry, clock_ns() + RETRY_NS);
}

/* Answer the parked requests of a queue, or that one of all with this name. */
static void give_up(struct virtio_fs *f, const struct virtio_fs_queue *only, const uint64_t *unique)
{
    struct request *r, *tmp;
    list_for_each (r, tmp, &f->parked, node) {
        struct virtio_fs_queue *q = r->queue;
        if ((only && q != only) || (unique && r->unique != *unique))
            continue;
        unpark(r);
        push(f, q, &r->chain, refuse(&r->chain, EINTR), true);
        drop(f, r);
        virtio_fs_interrupt(f, q);
    }
}

void virtio_fs_give_up_parked(struct virtio_fs *f, const struct virtio_fs_queue *q)
{
    give_up(f, q, NULL);
}

void virtio_fs_drop_waiting(struct virtio_fs *f)
{
    struct request *r, *tmp;
    list_for_each (r, tmp, &f->parked, node) {
        unpark(r);
        drop(f, r);
    }
    list_for_each (r, tmp, &f->workers.jobs, node) {
        fs_workers_cancel(&f->workers, &r->node);
        no_longer_busy(f, r->queue);
        drop(f, r);
    }
}

/* -- turns: in the loop's thread --------------------------------------------------------------------
 */

/* The server has no hold of a parked request: the guest's wish to end one is met here. What was not
 * parked it gets, and ignores. */
static void heed_interrupt(struct virtio_fs *f, const struct ring_chain *chain)
{
    struct {
        struct fuse_in_header header;
        struct fuse_interrupt_in interrupt;
    } in;
    if (!list_empty(&f->parked) &&
        iov_copy_out(chain->iov, chain->readable, 0, &in, sizeof(in)) == sizeof(in) &&
        in.header.opcode == FUSE_INTERRUPT)
        give_up(f, NULL, &in.interrupt.unique);
}

/* Whether a worker should have it from the outset. */
static bool wants_worker(struct virtio_fs *f, struct virtio_fs_queue *q, const struct ring_chain *chain)
{
    const struct ring *ring = ring_of(f, q);
    if (q->index == VIRTIO_FS_HIPRIO)
        return false;
    /* Behind workers that all wait it would wait as well, and for longer than a careful while. */
    if (careful_now(&f->careful) && fs_workers_have_room(&f->workers))
        return true;
    uint16_t behind = (uint16_t)(ring->avail_seen - ring->next_avail);
    return f->processors_spare && behind > 0 && fs_workers_have_room(&f->workers) &&
           (behind > BACKLOG ||
            behind * (chain->readable_bytes + chain->writable_bytes) > BACKLOG_BYTES);
}

/* Serve in the loop's thread, unless that would wait: FS_WAITS. */
static ssize_t serve_here(struct virtio_fs *f, struct virtio_fs_queue *q,
                          const struct ring_chain *chain)
{
    uint64_t began_ns = clock_ns();
    ssize_t result = serve(f, &f->hand, chain, q->index != VIRTIO_FS_HIPRIO);
    careful_did(&f->careful, began_ns);
    return result;
}

/* A chain that was popped, and stands in `popped`. */
static void begin(struct virtio_fs *f, struct virtio_fs_queue *q, const struct ring_chain *chain)
{
    ssize_t result = FS_WAITS;
    q->busy++;
    if (q->index == VIRTIO_FS_HIPRIO)
        heed_interrupt(f, chain);
    if (!wants_worker(f, q, chain))
        result = serve_here(f, q, chain);
    if (result == FS_WAITS) {
        struct request *r = keep(f, q, chain);
        if (r && fs_workers_submit(&f->workers, &r->node))
            return;
        drop(f, r);
        result = serve(f, &f->hand, chain, false);
    }
    settle(f, q, chain, NULL, result, !f->hand.unawaited);
}

void virtio_fs_note(struct virtio_fs *f, unsigned queue)
{
    f->noted |= UINT32_C(1) << queue;
}

static void serve_queue(struct virtio_fs *f, struct virtio_fs_queue *q)
{
    struct ring *ring = ring_of(f, q);
    struct ring_chain chain;
    unsigned budget = TURN_MAX;
    if (q->draining > 0)
        return;
    do {
        ring_kicks_off(ring);
        while (budget > 0 && q->draining == 0 &&
               virtio_pop(&f->dev, q->index, &chain, f->popped, FS_SEGMENTS_MAX)) {
            begin(f, q, &chain);
            budget--;
        }
        interrupt_soon(f, q);
    } while (budget > 0 && q->draining == 0 && virtio_kicks_on(&f->dev, q->index));
    if (budget == 0)
        virtio_fs_note(f, q->index);
}

void virtio_fs_take_turn(struct virtio_fs *f)
{
    pthread_mutex_lock(&f->dev.lock);
    uint32_t noted = f->noted;
    f->noted = 0;
    for (unsigned i = 0; i < f->dev.queue_count; i++)
        if (noted & (UINT32_C(1) << i))
            serve_queue(f, &f->queues[i]);
    watch_parked(f);
    if (f->noted) /* not before the loop has looked at everything else */
        loop_timer_set(f->dev.loop, &f->turn, clock_ns());
    pthread_mutex_unlock(&f->dev.lock);
}

void virtio_fs_try_parked(struct virtio_fs *f)
{
    pthread_mutex_lock(&f->dev.lock);
    try_parked(f);
    watch_parked(f);
    pthread_mutex_unlock(&f->dev.lock);
}
