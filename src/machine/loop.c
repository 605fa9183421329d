/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See loop.h. One epoll descriptor, one eventfd that wakes it for posted calls and for stop, and a
 * list of timers (a machine has few: a scan is cheaper than a heap).
 *
 * Removal during dispatch: epoll may have handed out several events at once, so a source removed by
 * the handler of an earlier one must not be called for a later one. loop_remove clears the pointer in
 * the batch that is being dispatched.
 */
#include "machine/loop.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

#define LOOP_BATCH 32

struct posted {
    void (*fn)(void *arg);
    void *arg;
    bool *done; /* of loop_call, whose caller owns this: set under the lock when fn ran. NULL: freed */
    struct list node;
};

struct loop {
    int epoll_fd;
    int wake_fd;
    struct list timers;
    struct list sources;

    struct epoll_event batch[LOOP_BATCH]; /* being dispatched */
    int batch_count;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t called;
    struct list posts;
    bool running;     /* some thread is in loop_run */
    pthread_t runner; /* which one */
    bool has_thread;  /* loop_start made it */
    pthread_t thread;
    atomic_bool stop;
};

int loop_new(struct loop **out)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return -ENOMEM;
    list_init(&loop->timers);
    list_init(&loop->sources);
    list_init(&loop->posts);
    pthread_mutex_init(&loop->lock, NULL);
    pthread_cond_init(&loop->called, NULL);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event wake = {.events = EPOLLIN, .data.ptr = NULL};
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake) < 0) {
        int code = errno;
        loop_free(loop);
        return -code;
    }
    *out = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    loop_stop(loop);
    struct posted *p, *tmp;
    list_for_each (p, tmp, &loop->posts, node)
        free(p);
    close_fd(&loop->wake_fd);
    close_fd(&loop->epoll_fd);
    pthread_cond_destroy(&loop->called);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static void wake(struct loop *loop)
{
    uint64_t one = 1;
    /* EAGAIN means that the counter is full: the loop is awake already. */
    while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* With the lock held, which is let go of around each call. */
static void run_posts(struct loop *loop)
{
    while (!list_empty(&loop->posts)) {
        struct posted *p = list_entry(loop->posts.next, struct posted, node);
        list_remove(&p->node);
        pthread_mutex_unlock(&loop->lock);
        p->fn(p->arg);
        pthread_mutex_lock(&loop->lock);
        if (p->done) {
            *p->done = true;
            pthread_cond_broadcast(&loop->called);
        } else {
            free(p);
        }
    }
}

static void woken(struct loop *loop)
{
    uint64_t count;
    while (read(loop->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&loop->lock);
    run_posts(loop);
    pthread_mutex_unlock(&loop->lock);
}

/* Milliseconds until the next timer, rounded up, no more than `limit_ms` (-1: none). */
static int next_timeout_ms(struct loop *loop, int limit_ms)
{
    uint64_t now = clock_ns();
    int64_t best = limit_ms < 0 ? INT64_MAX : limit_ms;
    struct loop_timer *t, *tmp;
    list_for_each (t, tmp, &loop->timers, node) {
        uint64_t left = t->deadline_ns > now ? t->deadline_ns - now : 0;
        best = MIN(best, (int64_t)((left + NS_PER_MS - 1) / NS_PER_MS));
    }
    return best == INT64_MAX ? -1 : (int)MIN(best, (int64_t)INT_MAX);
}

static int fire_timers(struct loop *loop)
{
    int fired = 0;
    uint64_t now = clock_ns();
    for (;;) {
        /* From the start each time: a callback may arm and cancel any timer. */
        struct loop_timer *due = NULL, *t, *tmp;
        list_for_each (t, tmp, &loop->timers, node)
            if (t->deadline_ns <= now && (!due || t->deadline_ns < due->deadline_ns))
                due = t;
        if (!due)
            return fired;
        loop_timer_cancel(due);
        due->fired(due);
        fired++;
    }
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
    int n = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, next_timeout_ms(loop, timeout_ms));
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    bool posted = false;
    int handled = 0;
    loop->batch_count = n;
    for (int i = 0; i < loop->batch_count; i++) {
        struct epoll_event *event = &loop->batch[i];
        if (event->data.ptr == NULL) {
            posted |= event->events != 0;
            continue;
        }
        struct loop_source *source = event->data.ptr;
        event->data.ptr = NULL;
        source->ready(source, event->events);
        event->events = 0;
        handled++;
    }
    loop->batch_count = 0;
    handled += fire_timers(loop);
    if (posted) {
        woken(loop);
        handled++;
    }
    return handled;
}

void loop_run(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->running = true;
    loop->runner = pthread_self();
    pthread_mutex_unlock(&loop->lock);

    while (!atomic_load(&loop->stop))
        loop_run_once(loop, -1);

    /* Who still saw it running, and waits for an answer, gets it. */
    pthread_mutex_lock(&loop->lock);
    run_posts(loop);
    loop->running = false;
    atomic_store(&loop->stop, false);
    pthread_mutex_unlock(&loop->lock);
}

static void *loop_thread(void *arg)
{
    loop_run(arg);
    return NULL;
}

int loop_start(struct loop *loop, const char *name)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&loop->lock);
    int r = pthread_create(&loop->thread, NULL, loop_thread, loop);
    if (r == 0) {
        /* Set here, so that a loop_call right after loop_start waits for the thread. */
        loop->has_thread = true;
        loop->running = true;
        loop->runner = loop->thread;
        pthread_setname_np(loop->thread, name);
    }
    pthread_mutex_unlock(&loop->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

void loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool running = loop->running, join = loop->has_thread;
    loop->has_thread = false;
    if (running)
        atomic_store(&loop->stop, true);
    pthread_mutex_unlock(&loop->lock);
    if (running)
        wake(loop);
    if (join)
        pthread_join(loop->thread, NULL);
}

int loop_add(struct loop *loop, struct loop_source *source)
{
    struct epoll_event event = {.events = source->events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0)
        return -errno;
    source->loop = loop;
    list_append(&loop->sources, &source->node);
    return 0;
}

int loop_modify(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (source->events == events)
        return 0;
    if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
        return -errno;
    source->events = events;
    return 0;
}

void loop_remove(struct loop_source *source)
{
    struct loop *loop = source->loop;
    if (!loop)
        return;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    for (int i = 0; i < loop->batch_count; i++)
        if (loop->batch[i].data.ptr == source)
            loop->batch[i] = (struct epoll_event){0};
    list_remove(&source->node);
    source->loop = NULL;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
    loop_timer_cancel(timer);
    timer->deadline_ns = deadline_ns;
    timer->loop = loop;
    list_append(&loop->timers, &timer->node);
}

void loop_timer_cancel(struct loop_timer *timer)
{
    if (!timer->loop)
        return;
    list_remove(&timer->node);
    timer->loop = NULL;
}

bool loop_is_mine(const struct loop *loop)
{
    struct loop *l = (struct loop *)loop;
    pthread_mutex_lock(&l->lock);
    bool mine = !l->running || pthread_equal(l->runner, pthread_self());
    pthread_mutex_unlock(&l->lock);
    return mine;
}

/* Queue p, unless the loop runs in no other thread than the caller's. */
static bool post_unless_mine(struct loop *loop, struct posted *p)
{
    pthread_mutex_lock(&loop->lock);
    bool mine = !loop->running || pthread_equal(loop->runner, pthread_self());
    if (!mine)
        list_append(&loop->posts, &p->node);
    pthread_mutex_unlock(&loop->lock);
    if (!mine)
        wake(loop);
    return !mine;
}

int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    struct posted *p = malloc(sizeof(*p));
    if (!p)
        return -ENOMEM;
    *p = (struct posted){.fn = fn, .arg = arg};
    pthread_mutex_lock(&loop->lock);
    list_append(&loop->posts, &p->node);
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
    return 0;
}

int loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
    bool done = false;
    struct posted p = {.fn = fn, .arg = arg, .done = &done};
    if (!post_unless_mine(loop, &p)) {
        fn(arg);
        return 0;
    }
    pthread_mutex_lock(&loop->lock);
    while (!done)
        pthread_cond_wait(&loop->called, &loop->lock);
    pthread_mutex_unlock(&loop->lock);
    return 0;
}

static const struct isolate_call calls[] = {
    ISOLATE_CALL(epoll_wait),
    ISOLATE_CALL(epoll_pwait),
    ISOLATE_CALL(epoll_ctl),
};

const struct isolate_calls loop_calls = ISOLATE_CALLS(calls);

struct lock_up {
    struct jail *jail;
    const char *who;
    struct isolate_options options;
    struct dayfly_err *err;
    int result;
};

static void lock_up(void *arg)
{
    struct lock_up *l = arg;
    l->result = jail_enter(l->jail, l->who, &l->options, l->err);
}

int loop_lock_up(struct loop *loop, struct jail *jail, const char *who,
                 const struct isolate_options *options, struct dayfly_err *err)
{
    static const struct isolate_calls *const own[] = {&isolate_base_calls, &loop_calls, NULL};
    struct lock_up l = {.jail = jail, .who = who, .options = *options, .err = err};
    if (!isolate_add_calls(&l.options, own))
        return err_set(err, E2BIG, "too many lists of system calls");
    loop_call(loop, lock_up, &l);
    return l.result;
}
