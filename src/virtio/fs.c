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
 * more than most of them. A few workers get those that wait by their nature or turn out to need a disk
 * (FS_WAITS), all of them for a while after one was slow, and, on hosts with
 * processors to spare, those with much more behind them. Whoever served a request pushes it; a turn
 * ends with one interrupt, or none for now where nobody waits for what was done.
 *
 * Invariants
 *   - dev.lock guards everything here but what the server is given. It is never held in fs_serve.
 *   - A request counts in its queue's `busy` from the pop until it is pushed, parked or dropped. While
 *     any does, guest memory stays mapped: reset and drain wait for it, on `quiet`.
 *   - Segments are kept as popped; the server gets a copy, so that a request can be tried again.
 *   - loop sources and timers are touched in the loop's thread alone; others write to `wake`.
 *
 * Limits. No notification queue. A vhost-user front end that takes the ring away (GET_VRING_BASE) while
 * a lock is waited for makes that wait end with EINTR: nobody could say later where the chain was.
 */
#include "virtio/fs.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "virtio/fs_private.h"

#define SHARED_WINDOW 0 /* the DAX window's id (5.11.6.4) */

#define QUEUE_SIZE RING_SIZE_MAX
/* The loop's thread and a guest's processor; from there on a worker has one, too. */
#define PROCESSORS_SPARE 3

static_assert(sizeof(struct virtio_fs_config) == 40, "as in the specification");
static_assert(1 + VIRTIO_FS_QUEUES_MAX <= 32, "a bit each in `noted`");

/* -- the loop: in its thread ------------------------------------------------------------------------
 */

static void turn_due(struct loop_timer *timer)
{
    virtio_fs_take_turn(container_of(timer, struct virtio_fs, turn));
}

static void retry_due(struct loop_timer *timer)
{
    virtio_fs_try_parked(container_of(timer, struct virtio_fs, retry));
}

static void say_due(struct loop_timer *timer)
{
    virtio_fs_say(container_of(timer, struct virtio_fs, say));
}

static void woken(struct loop_source *source, uint32_t events)
{
    eventfd_t count;
    eventfd_read(source->fd, &count);
    virtio_fs_take_turn(container_of(source, struct virtio_fs, wake));
}

static void window_changed(struct loop_source *source, uint32_t events)
{
    fs_heed_window(container_of(source, struct virtio_fs, window)->fs);
}

/* -- what the transport asks for ---------------------------------------------------------------------
 */

static void kick(struct virtio_device *dev, unsigned queue)
{
    struct virtio_fs *f = virtio_fs_of(dev);
    virtio_fs_note(f, queue);
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
    struct virtio_fs *f = virtio_fs_of(dev);
    struct virtio_fs_queue *q = &f->queues[queue];
    q->draining++;
    virtio_fs_give_up_parked(f, q);
    while (q->busy > 0)
        pthread_cond_wait(&f->quiet, &dev->lock);
    virtio_fs_interrupt(f, q);
    q->draining--;
}

/* The queues may run already, but are served from here on. */
static void activate(struct virtio_device *dev)
{
    fs_show_window(virtio_fs_of(dev)->fs, dev->shared_shown);
}

static bool mend(struct virtio_device *dev)
{
    return fs_mend_window(virtio_fs_of(dev)->fs);
}

/* As drain. What nobody has begun is dropped. */
static void reset(struct virtio_device *dev)
{
    struct virtio_fs *f = virtio_fs_of(dev);
    f->noted = 0;
    virtio_fs_drop_waiting(f);
    while (is_busy(f))
        pthread_cond_wait(&f->quiet, &dev->lock);
    for (unsigned i = 0; i < dev->queue_count; i++) {
        f->queues[i].pushed = false;
        f->queues[i].unsaid = 0;
    }
    fs_reset(f->fs);
}

/* Of those, as far as they are not the server's own (fs_lock_up): what a reset, the window and its
 * mending take, in a processor's thread. */
static const struct isolate_call register_calls[] = {
    ISOLATE_CALL(inotify_rm_watch),
    ISOLATE_CALL(fallocate),
};
static const struct isolate_calls register_table = ISOLATE_CALLS(register_calls);
static const struct isolate_calls *const fs_calls[] = {&register_table, NULL};

static const struct virtio_ops fs_ops = {
    .name = "file system",
    .id = VIRTIO_ID_FS,
    .calls = fs_calls,
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
    return fs_lock_up(f->fs, setup->options->jail, calls, carrier ? 2 : 1, setup->err);
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
    setup->result = loop_add(f->dev.loop, &f->wake);
    if (setup->result == 0 && f->window.fd >= 0)
        setup->result = loop_add(f->dev.loop, &f->window);
    if (setup->result < 0)
        err_errno(setup->err, -setup->result, "file system device");
}

static void leave(void *arg)
{
    struct virtio_fs *f = arg;
    loop_remove(&f->wake);
    loop_remove(&f->window);
    loop_timer_cancel(&f->turn);
    loop_timer_cancel(&f->retry);
    loop_timer_cancel(&f->say);
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
    f->say.fired = say_due;
    f->wake = (struct loop_source){.fd = -1, .events = EPOLLIN, .ready = woken};
    f->window =
        (struct loop_source){.fd = fs_window_events(fs), .events = EPOLLIN, .ready = window_changed};
    f->processors_spare = processors() >= PROCESSORS_SPARE;
    f->workers.lock = &f->dev.lock;
    f->workers.fs = fs;
    f->workers.log = log;
    f->workers.run = virtio_fs_run_job;
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
    struct virtio_fs *f = virtio_fs_of(dev);
    virtio_reset(dev);
    fs_workers_finish(&f->workers);
    if (dev->loop)
        loop_call(dev->loop, leave, f);
    loop_free(dev->loop);
    close_fd(&f->wake.fd);
    fs_free(f->fs);
    virtio_fs_free_kept(f);
    pthread_cond_destroy(&f->quiet);
    virtio_finish(dev);
    free(f);
}
