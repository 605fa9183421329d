/* SPDX-License-Identifier: Apache-2.0 */
/* A lazily started thread pool. See workers.h. */
#include "block/workers.h"

#include <sched.h>
#include <signal.h>

#include "block/raw_sync.h"
#include "util/arith.h"

void workers_init(struct workers *workers, unsigned max, bool yielding)
{
    *workers = (struct workers){.max = MIN(max, WORKERS_MAX), .yielding = yielding};
    pthread_cond_init(&workers->begun, NULL);
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    list_init(&workers->queue);
}

/* Of who makes them. */
static const struct isolate_call calls[] = {
    {
        .number = SYS_sched_setscheduler, /* the caller, and to yield */
        .check_count = 2,
        .checks = {{.arg = 0, .mask = UINT64_MAX, .value = 0},
                   {.arg = 1, .mask = UINT64_MAX, .value = SCHED_BATCH}},
    },
};

const struct isolate_calls workers_calls = ISOLATE_CALLS(calls);

/* Whoever made this thread may do much more than it has to. */
static int give_up_calls(void)
{
    const struct isolate_calls tables[] = {isolate_base_calls, raw_sync_calls};
    return isolate_is_filtered() ? isolate_seccomp(tables, ARRAY_SIZE(tables), NULL) : 0;
}

static void *worker(void *arg)
{
    struct workers *workers = arg;
    pthread_setname_np(pthread_self(), "block-io");
    if (workers->yielding)
        sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    bool works = give_up_calls() >= 0;
    pthread_mutex_lock(&workers->lock);
    workers->ready += works;
    workers->refused += !works;
    pthread_cond_signal(&workers->begun);
    while (works) {
        while (list_empty(&workers->queue) && !workers->stop) {
            workers->idle++;
            pthread_cond_wait(&workers->wake, &workers->lock);
            workers->idle--;
        }
        if (list_empty(&workers->queue))
            break;
        struct work *work = list_entry(workers->queue.next, struct work, node);
        list_remove(&work->node);
        pthread_mutex_unlock(&workers->lock);
        work->run(work);
        pthread_mutex_lock(&workers->lock);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

/* Locked. A thread more, with the signals left to those who expect them. */
static void start_one(struct workers *workers)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&workers->threads[workers->count], NULL, worker, workers) == 0)
        workers->count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    /* It has nobody's work before it is known to do it. */
    while (workers->ready == 0 && workers->refused < workers->count)
        pthread_cond_wait(&workers->begun, &workers->lock);
}

void workers_submit(struct workers *workers, struct work *work)
{
    pthread_mutex_lock(&workers->lock);
    if (workers->idle == 0 && workers->count < workers->max)
        start_one(workers);
    bool have = workers->ready > 0;
    if (have) {
        list_append(&workers->queue, &work->node);
        pthread_cond_signal(&workers->wake);
    }
    pthread_mutex_unlock(&workers->lock);
    if (!have)
        work->run(work);
}

struct work *workers_take_back(struct workers *workers)
{
    struct work *work = NULL;
    pthread_mutex_lock(&workers->lock);
    if (!list_empty(&workers->queue)) {
        work = list_entry(workers->queue.prev, struct work, node);
        list_remove(&work->node);
    }
    pthread_mutex_unlock(&workers->lock);
    return work;
}

void workers_finish(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->stop = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->count; i++)
        pthread_join(workers->threads[i], NULL);
    workers->count = 0;
    pthread_cond_destroy(&workers->begun);
    pthread_cond_destroy(&workers->wake);
    pthread_mutex_destroy(&workers->lock);
}
