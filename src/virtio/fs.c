/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File system device (virtio 1.2, section 5.11): queue 0 for what must not wait behind others (FORGET,
 * INTERRUPT), then the request queues. A chain is one FUSE request; what is in it is the server's
 * business (fs/fs.h), save two things that only who holds the chains can do: a request that has to wait
 * for a lock is parked here, and FUSE_INTERRUPT finds it here.
 *
 * Theory of operation. All queues are popped by one thread, that of the device's own loop. A kick only
 * notes its queue; at the end of the loop's round (a timer that is due) the queues noted get a turn.
 * Requests are served there and then, with the device's lock let go of: to wake another thread costs
 * more than most of them. A few workers get those that wait by their nature (fs_may_block), those that
 * turn out to need a disk (FS_WAITS), all of them for a while after one was slow, and, on hosts with
 * processors to spare, those with much more behind them. Whoever served a request pushes it; a turn
 * ends with one interrupt.
 *
 * Invariants
 *   - dev.lock guards everything here but what the server is given. It is never held in fs_serve.
 *   - A request counts in its queue's `busy` from the pop until it is pushed, parked or dropped. While
 *     any does, guest memory stays mapped: reset and drain wait for it, on `quiet`.
 *   - Segments are kept as popped; the server gets a copy, so that a request can be tried again.
 *   - loop sources and timers are touched in the loop's thread alone; others write to `wake`.
 *
 * Bounds. A turn takes TURN_MAX chains of a queue. What is in flight is bounded by the rings; parked
 * requests may fill half of theirs, so that the unlock they wait for finds room. A chain has at most
 * FS_SEGMENTS_MAX segments and less than 4 GiB (ring.h).
 *
 * Limits. No notification queue. A vhost-user front end that takes the ring away (GET_VRING_BASE) while
 * a lock is waited for makes that wait end with EINTR: nobody could say later where the chain was.
 */
#include "virtio/fs.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/iov.h"
#include "virtio/fs_workers.h"

#define HIPRIO 0u

#define SHARED_WINDOW 0 /* the DAX window's id (5.11.6.4) */

#define QUEUE_SIZE RING_SIZE_MAX
#define TURN_MAX   16
/* So many requests that stand behind one are worth waking a worker for it, or fewer when it is large.
 */
#define BACKLOG       8
#define BACKLOG_BYTES (512u * 1024)
/* The loop's thread and a guest's processor; from there on a worker has one, too. */
#define PROCESSORS_SPARE 3
/* One that took so long may have waited for a disk: the next ones are not risked for a while. */
#define SLOW_NS    (1 * NS_PER_MS)
#define CAREFUL_NS (20 * NS_PER_MS)
/* A lock on the host may be let go of by anybody: asked again this often. */
#define RETRY_NS (10 * NS_PER_MS)
/* 1 MiB in pages and the headers. Kept for the next; longer ones are freed. */
#define KEPT_SEGMENTS 288
#define KEPT_MAX      32

struct config {
    uint8_t tag[VIRTIO_FS_TAG_BYTES];
    uint32_t num_request_queues;
};

static_assert(sizeof(struct config) == 40, "as in the specification");

struct queue {
    unsigned index;
    unsigned busy;     /* popped, and neither pushed nor parked */
    unsigned parked;   /* of virtio_fs.parked */
    unsigned draining; /* who waits for busy to become 0 */
    bool pushed;       /* since the last interrupt */
};

/* A request that outlives the turn in which it was popped. */
struct request {
    struct list node; /* a job, parked or kept */
    struct queue *queue;
    struct ring_chain chain; /* its iov is this one */
    uint64_t unique;         /* parked: the guest's name for it */
    unsigned room;
    struct iovec iov[];
};

struct virtio_fs {
    struct virtio_device dev;
    struct fs *fs;
    struct config config;
    struct loop_source wake; /* an eventfd: another thread has something for the loop */
    struct loop_timer turn;  /* due: some queue is noted */
    struct loop_timer retry; /* due: try what is parked */
    pthread_t thread;        /* the loop's */
    struct fs_hand hand;     /* and its means to serve */
    struct fs_workers workers;
    struct iovec popped[FS_SEGMENTS_MAX]; /* by the loop's thread */
    uint64_t careful_until_ns;            /* likewise */
    bool processors_spare;

    uint32_t noted; /* queues to serve, a bit each */
    bool entered;   /* fs_thread_enter succeeded */
    struct list parked;
    uint64_t unlocked; /* fs_unlocked when the parked ones were last tried */
    struct list kept;
    unsigned kept_count;
    pthread_cond_t quiet; /* some queue's busy became 0 */
    struct queue queues[1 + VIRTIO_FS_QUEUES_MAX];
};

static_assert(1 + VIRTIO_FS_QUEUES_MAX <= 32, "a bit each in `noted`");

static struct virtio_fs *fs_of(struct virtio_device *dev)
{
    return container_of(dev, struct virtio_fs, dev);
}

static struct ring *ring_of(struct virtio_fs *f, const struct queue *q)
{
    return &f->dev.queues[q->index].ring;
}

/* -- requests that are kept ------------------------------------------------------------------------ */

/* A copy of a popped chain; NULL without memory. With the lock held, as all that follows. */
static struct request *keep(struct virtio_fs *f, struct queue *q, const struct ring_chain *chain)
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

/* -- the life of a request --------------------------------------------------------------------------
 */

static void no_longer_busy(struct virtio_fs *f, struct queue *q)
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

static void push(struct virtio_fs *f, struct queue *q, const struct ring_chain *chain, ssize_t written)
{
    ring_push(ring_of(f, q), chain->head, (uint32_t)MIN((uint64_t)written, chain->writable_bytes));
    q->pushed = true;
}

static void interrupt(struct virtio_fs *f, struct queue *q)
{
    if (q->pushed)
        virtio_interrupt(&f->dev, q->index);
    q->pushed = false;
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
    pthread_mutex_lock(&f->dev.lock);
    return n;
}

/* A request waits for a lock. Returns FS_LATER when it is parked, and r taken; else as fs_serve. */
static ssize_t park(struct virtio_fs *f, struct queue *q, const struct ring_chain *chain,
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
static void settle(struct virtio_fs *f, struct queue *q, const struct ring_chain *chain,
                   struct request *r, ssize_t result)
{
    if (result == FS_LATER)
        result = park(f, q, chain, r);
    if (result == FS_BROKEN)
        virtio_violation(&f->dev, "queue %u: no FUSE request", q->index);
    else if (result != FS_LATER)
        push(f, q, chain, result);
    if (result != FS_LATER)
        drop(f, r);
    no_longer_busy(f, q);
}

/* A worker's. */
static void run_job(struct fs_workers *workers, struct fs_hand *hand, struct list *job)
{
    struct virtio_fs *f = container_of(workers, struct virtio_fs, workers);
    struct request *r = list_entry(job, struct request, node);
    struct queue *q = r->queue;
    settle(f, q, &r->chain, r, serve(f, hand, &r->chain, false));
    interrupt(f, q);
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
    struct list tried;
    list_init(&tried);
    f->unlocked = fs_unlocked(f->fs);
    unsigned count = 0;
    for (struct list *at = f->parked.next; at != &f->parked; at = at->next)
        count++;
    /* With the lock let go of, they may become fewer, or more at the end. */
    for (; count > 0 && !list_empty(&f->parked); count--) {
        struct request *r = list_entry(f->parked.next, struct request, node);
        struct queue *q = r->queue;
        unpark(r);
        q->busy++;
        settle(f, q, &r->chain, r, serve(f, &f->hand, &r->chain, false));
        interrupt(f, q);
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
static void give_up_parked(struct virtio_fs *f, const struct queue *only, const uint64_t *unique)
{
    struct request *r, *tmp;
    list_for_each (r, tmp, &f->parked, node) {
        struct queue *q = r->queue;
        if ((only && q != only) || (unique && r->unique != *unique))
            continue;
        unpark(r);
        push(f, q, &r->chain, refuse(&r->chain, EINTR));
        drop(f, r);
        interrupt(f, q);
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
        give_up_parked(f, NULL, &in.interrupt.unique);
}

static bool is_careful(struct virtio_fs *f)
{
    if (f->careful_until_ns && clock_ns() >= f->careful_until_ns)
        f->careful_until_ns = 0;
    return f->careful_until_ns > 0;
}

/* Whether a worker should have it from the outset. */
static bool wants_worker(struct virtio_fs *f, struct queue *q, const struct ring_chain *chain)
{
    const struct fs_request request = request_of(chain, chain->iov);
    const struct ring *ring = ring_of(f, q);
    if (q->index == HIPRIO)
        return false;
    if (fs_may_block(&request) || is_careful(f))
        return true;
    uint16_t behind = (uint16_t)(ring->avail_seen - ring->next_avail);
    return f->processors_spare && behind > 0 && fs_workers_have_room(&f->workers) &&
           (behind > BACKLOG || behind * (request.in_bytes + request.out_bytes) > BACKLOG_BYTES);
}

/* Serve in the loop's thread, unless that would wait: FS_WAITS. */
static ssize_t serve_here(struct virtio_fs *f, struct queue *q, const struct ring_chain *chain)
{
    uint64_t began_ns = clock_ns();
    ssize_t result = serve(f, &f->hand, chain, q->index != HIPRIO);
    uint64_t now_ns = clock_ns();
    if (now_ns - began_ns >= SLOW_NS)
        f->careful_until_ns = now_ns + CAREFUL_NS;
    return result;
}

/* A chain that was popped, and stands in `popped`. */
static void begin(struct virtio_fs *f, struct queue *q, const struct ring_chain *chain)
{
    ssize_t result = FS_WAITS;
    q->busy++;
    if (q->index == HIPRIO)
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
    settle(f, q, chain, NULL, result);
}

static void note(struct virtio_fs *f, unsigned queue)
{
    f->noted |= UINT32_C(1) << queue;
}

static void serve_queue(struct virtio_fs *f, struct queue *q)
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
        interrupt(f, q);
    } while (budget > 0 && q->draining == 0 && virtio_kicks_on(&f->dev, q->index));
    if (budget == 0)
        note(f, q->index);
}

static void take_turn(struct virtio_fs *f)
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

static void turn_due(struct loop_timer *timer)
{
    take_turn(container_of(timer, struct virtio_fs, turn));
}

static void woken(struct loop_source *source, uint32_t events)
{
    eventfd_t count;
    eventfd_read(source->fd, &count);
    take_turn(container_of(source, struct virtio_fs, wake));
}

static void retry_due(struct loop_timer *timer)
{
    struct virtio_fs *f = container_of(timer, struct virtio_fs, retry);
    pthread_mutex_lock(&f->dev.lock);
    try_parked(f);
    watch_parked(f);
    pthread_mutex_unlock(&f->dev.lock);
}

/* -- what the transport asks for ---------------------------------------------------------------------
 */

static void kick(struct virtio_device *dev, unsigned queue)
{
    struct virtio_fs *f = fs_of(dev);
    note(f, queue);
    if (!pthread_equal(f->thread, pthread_self()))
        eventfd_write(f->wake.fd, 1);
    else if (!f->turn.loop)
        loop_timer_set(dev->loop, &f->turn, 0);
}

static bool is_busy(const struct virtio_fs *f)
{
    for (unsigned i = 0; i < f->dev.queue_count; i++)
        if (f->queues[i].busy > 0)
            return true;
    return false;
}

/* Lets go of the lock while it waits. */
static void drain(struct virtio_device *dev, unsigned queue)
{
    struct virtio_fs *f = fs_of(dev);
    struct queue *q = &f->queues[queue];
    q->draining++;
    give_up_parked(f, q, NULL);
    while (q->busy > 0)
        pthread_cond_wait(&f->quiet, &dev->lock);
    q->draining--;
}

/* The queues may run already, but are served from here on. */
static void activate(struct virtio_device *dev)
{
    fs_show_window(fs_of(dev)->fs, dev->shared_shown);
}

static bool mend(struct virtio_device *dev)
{
    return fs_mend_window(fs_of(dev)->fs);
}

/* As drain. What nobody has begun is dropped. */
static void reset(struct virtio_device *dev)
{
    struct virtio_fs *f = fs_of(dev);
    struct request *r, *tmp;
    f->noted = 0;
    list_for_each (r, tmp, &f->parked, node) {
        unpark(r);
        drop(f, r);
    }
    list_for_each (r, tmp, &f->workers.jobs, node) {
        fs_workers_cancel(&f->workers, &r->node);
        no_longer_busy(f, r->queue);
        drop(f, r);
    }
    while (is_busy(f))
        pthread_cond_wait(&f->quiet, &dev->lock);
    for (unsigned i = 0; i < dev->queue_count; i++)
        f->queues[i].pushed = false;
    fs_reset(f->fs);
}

static const struct virtio_ops fs_ops = {
    .name = "file system",
    .id = VIRTIO_ID_FS,
    .front_end_config = true,
    .activate = activate,
    .kick = kick,
    .reset = reset,
    .drain = drain,
    .mend = mend,
};

/* -- making -------------------------------------------------------------------------------------------
 */

struct setup {
    struct virtio_fs *f;
    const struct virtio_fs_options *options;
    int result;
    struct dayfly_err *err;
};

/* The loop's thread, and with it the workers that it makes. In the loop's thread, as what follows. */
static int lock_up(struct virtio_fs *f, const struct setup *setup)
{
    const struct isolate_calls *carrier = setup->options->carrier_calls;
    const struct isolate_calls calls[2] = {loop_calls, carrier ? *carrier : (struct isolate_calls){0}};
    unsigned applied;
    int r = fs_lock_up(f->fs, calls, carrier ? 2 : 1, &applied, setup->err);
    if (r == 0)
        log_line(f->dev.log, LOG_DEBUG, "file system: served %s a root of its own, %s landlock",
                 applied & ISOLATE_NAMESPACES ? "in" : "without",
                 applied & ISOLATE_LANDLOCK ? "under" : "without");
    return r;
}

static void enter(void *arg)
{
    struct setup *setup = arg;
    struct virtio_fs *f = setup->f;
    f->thread = pthread_self();
    setup->result = lock_up(f, setup);
    if (setup->result == 0)
        setup->result = fs_thread_enter(f->fs, &f->hand.thread, setup->err);
    if (setup->result < 0)
        return;
    f->entered = true;
    if ((setup->result = loop_add(f->dev.loop, &f->wake)) < 0)
        err_errno(setup->err, -setup->result, "file system device");
}

static void leave(void *arg)
{
    struct virtio_fs *f = arg;
    loop_remove(&f->wake);
    loop_timer_cancel(&f->turn);
    loop_timer_cancel(&f->retry);
    if (f->entered)
        fs_thread_leave(&f->hand.thread);
}

static int check(const struct virtio_fs_options *options, struct dayfly_err *err)
{
    size_t bytes = strlen(options->tag);
    if (bytes == 0 || bytes > VIRTIO_FS_TAG_BYTES)
        return err_set(err, EINVAL, "shared folder's tag '%s': must have 1 to %d bytes", options->tag,
                       VIRTIO_FS_TAG_BYTES);
    if (options->queues > VIRTIO_FS_QUEUES_MAX)
        return err_set(err, EINVAL, "shared folder with %u request queues: at most %d", options->queues,
                       VIRTIO_FS_QUEUES_MAX);
    if (options->workers_max > VIRTIO_FS_WORKERS_MAX)
        return err_set(err, EINVAL, "shared folder with %u threads: at most %d", options->workers_max,
                       VIRTIO_FS_WORKERS_MAX);
    return 0;
}

static int processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* All that can be done before there is a thread. */
static void prepare(struct virtio_fs *f, struct fs *fs, const struct virtio_fs_options *options,
                    const struct log *log)
{
    unsigned queues = options->queues ? options->queues : 1;
    struct virtio_shared_memory window = {.id = SHARED_WINDOW};
    window.hva = fs_window(fs, &window.bytes);
    f->fs = fs;
    memcpy(f->config.tag, options->tag, strlen(options->tag));
    f->config.num_request_queues = htole32(queues);
    virtio_init(&f->dev, &(struct virtio_init){.ops = &fs_ops,
                                               .queue_count = 1 + queues,
                                               .queue_size = QUEUE_SIZE,
                                               .config = &f->config,
                                               .config_bytes = sizeof(f->config),
                                               .shared = window,
                                               .log = log});
    for (unsigned i = 0; i < f->dev.queue_count; i++)
        f->queues[i].index = i;
    list_init(&f->parked);
    list_init(&f->kept);
    pthread_cond_init(&f->quiet, NULL);
    f->turn.fired = turn_due;
    f->retry.fired = retry_due;
    f->wake = (struct loop_source){.fd = -1, .events = EPOLLIN, .ready = woken};
    f->processors_spare = processors() >= PROCESSORS_SPARE;
    f->workers.lock = &f->dev.lock;
    f->workers.fs = fs;
    f->workers.log = log;
    f->workers.run = run_job;
    f->workers.max = options->workers_max ? options->workers_max : 4;
    fs_workers_init(&f->workers);
}

static int start(struct virtio_fs *f, const struct virtio_fs_options *options, struct dayfly_err *err)
{
    struct setup setup = {.f = f, .options = options, .err = err};
    int r = loop_new(&f->dev.loop);
    if (r == 0 && (f->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        r = -errno;
    if (r == 0)
        r = loop_start(f->dev.loop, "dayfly fs");
    if (r < 0)
        return err_errno(err, -r, "file system device");
    loop_call(f->dev.loop, enter, &setup);
    return setup.result;
}

int virtio_fs_new(struct virtio_device **out, struct fs *fs, const struct virtio_fs_options *options,
                  const struct log *log, struct dayfly_err *err)
{
    int r = check(options, err);
    struct virtio_fs *f = r == 0 ? calloc(1, sizeof(*f)) : NULL;
    if (!f) {
        fs_free(fs);
        return r < 0 ? r : err_set(err, ENOMEM, "file system device: out of memory");
    }
    prepare(f, fs, options, log);
    if ((r = start(f, options, err)) < 0) {
        virtio_fs_free(&f->dev);
        return r;
    }
    *out = &f->dev;
    return 0;
}

void virtio_fs_free(struct virtio_device *dev)
{
    if (!dev)
        return;
    struct virtio_fs *f = fs_of(dev);
    struct request *r, *tmp;
    virtio_reset(dev);
    fs_workers_finish(&f->workers);
    if (dev->loop)
        loop_call(dev->loop, leave, f);
    loop_free(dev->loop);
    close_fd(&f->wake.fd);
    fs_free(f->fs);
    list_for_each (r, tmp, &f->kept, node)
        free(r);
    pthread_cond_destroy(&f->quiet);
    virtio_finish(dev);
    free(f);
}
