/* SPDX-License-Identifier: Apache-2.0 */
/* A lazily started pool of serving threads. See fs_workers.h. */
#include "virtio/fs_workers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "util/err.h"

struct fs_worker {
    struct fs_workers *pool;
    pthread_t thread;
    bool done_entering;
    int entered; /* what fs_thread_enter said */
    struct dayfly_err err;
    struct fs_hand hand;
};

void fs_workers_init(struct fs_workers *workers)
{
    list_init(&workers->jobs);
    pthread_cond_init(&workers->wake, NULL);
    pthread_cond_init(&workers->started, NULL);
}

static void serve_jobs(struct fs_workers *pool, struct fs_hand *hand)
{
    for (;;) {
        while (list_empty(&pool->jobs) && !pool->stop) {
            pool->idle++;
            pthread_cond_wait(&pool->wake, pool->lock);
            pool->idle--;
        }
        if (pool->stop)
            return;
        struct list *job = pool->jobs.next;
        fs_workers_cancel(pool, job);
        pool->run(pool, hand, job);
    }
}

static void *worker_main(void *arg)
{
    struct fs_worker *worker = arg;
    struct fs_workers *pool = worker->pool;
    pthread_setname_np(pthread_self(), "dayfly fs work");
    int entered = fs_thread_enter(pool->fs, &worker->hand.thread, &worker->err);
    pthread_mutex_lock(pool->lock);
    worker->entered = entered;
    worker->done_entering = true;
    pthread_cond_broadcast(&pool->started);
    if (entered == 0)
        serve_jobs(pool, &worker->hand);
    pthread_mutex_unlock(pool->lock);
    if (entered == 0)
        fs_thread_leave(&worker->hand.thread);
    return NULL;
}

/* Signals are left to those who expect them. */
static int create_thread(struct fs_worker *worker)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static int start_one(struct fs_workers *pool, struct dayfly_err *err)
{
    struct fs_worker *worker = calloc(1, sizeof(*worker));
    if (!worker)
        return err_errno(err, ENOMEM, "a worker thread");
    worker->pool = pool;
    int r = create_thread(worker);
    if (r < 0) {
        free(worker);
        return err_errno(err, -r, "a worker thread");
    }
    while (!worker->done_entering)
        pthread_cond_wait(&pool->started, pool->lock);
    if (worker->entered < 0) {
        pthread_join(worker->thread, NULL); /* it does not take the lock any more */
        r = worker->entered;
        *err = worker->err;
        free(worker);
        return r;
    }
    pool->workers[pool->count++] = worker;
    return 0;
}

bool fs_workers_have_room(const struct fs_workers *pool)
{
    return pool->job_count < pool->idle || pool->count < pool->max;
}

bool fs_workers_submit(struct fs_workers *pool, struct list *job)
{
    if (pool->job_count >= pool->idle && pool->count < pool->max) {
        struct dayfly_err err;
        if (start_one(pool, &err) < 0) {
            log_line(pool->log, LOG_WARN, "file system: goes on with %u worker threads: %s",
                     pool->count, err.msg);
            pool->max = pool->count;
        }
    }
    if (pool->count == 0)
        return false;
    list_append(&pool->jobs, job);
    pool->job_count++;
    pthread_cond_signal(&pool->wake);
    return true;
}

void fs_workers_cancel(struct fs_workers *pool, struct list *job)
{
    list_remove(job);
    pool->job_count--;
}

void fs_workers_finish(struct fs_workers *pool)
{
    pthread_mutex_lock(pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(pool->lock);
    for (unsigned i = 0; i < pool->count; i++) {
        pthread_join(pool->workers[i]->thread, NULL);
        free(pool->workers[i]);
    }
    pool->count = 0;
    pthread_cond_destroy(&pool->started);
    pthread_cond_destroy(&pool->wake);
}
