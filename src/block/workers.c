/* SPDX-License-Identifier: Apache-2.0 */
/* A lazily started thread pool. See workers.h. */
#include "block/workers.h"

#include <signal.h>

#include "util/arith.h"

void workers_init(struct workers *workers, unsigned max)
{
    *workers = (struct workers){.max = MIN(max, WORKERS_MAX)};
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    list_init(&workers->queue);
}

static void *worker(void *arg)
{
    struct workers *workers = arg;
    pthread_setname_np(pthread_self(), "block-io");
    pthread_mutex_lock(&workers->lock);
    for (;;) {
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
}

void workers_submit(struct workers *workers, struct work *work)
{
    pthread_mutex_lock(&workers->lock);
    if (workers->idle == 0 && workers->count < workers->max)
        start_one(workers);
    bool have = workers->count > 0;
    if (have) {
        list_append(&workers->queue, &work->node);
        pthread_cond_signal(&workers->wake);
    }
    pthread_mutex_unlock(&workers->lock);
    if (!have)
        work->run(work);
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
    pthread_cond_destroy(&workers->wake);
    pthread_mutex_destroy(&workers->lock);
}
