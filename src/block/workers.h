/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_WORKERS_H
#define BLOCK_WORKERS_H

/*
 * A few threads for calls that block, or that take long, started when there is work for them and not
 * before.
 *
 * Threads: workers_submit and workers_take_back from one thread at a time; `run` is called in a worker,
 * with all signals blocked, or in the submitter where no thread can be had.
 *
 * A worker made by a thread that is locked up is locked up like that one, and then keeps of its system
 * calls only those of raw_sync.h, which is all that `run` may make.
 */

#include <pthread.h>
#include <stdbool.h>

#include "isolate/isolate.h"
#include "util/list.h"

#define WORKERS_MAX 4

struct work {
    void (*run)(struct work *work); /* the work is the owner's again from here on */
    struct list node;
};

struct workers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct list queue;
    unsigned idle;
    bool stop;
    unsigned count, max;
    bool yielding;
    unsigned ready, refused; /* of count: who works, and who could not be locked up and has ended */
    pthread_cond_t begun;
    pthread_t threads[WORKERS_MAX];
};

/* At most `max` threads, and WORKERS_MAX. `yielding`: they begin where a processor has nothing to do,
 * and take none from others (SCHED_BATCH). */
void workers_init(struct workers *workers, unsigned max, bool yielding);

/* The system calls of who submits, beside isolate_thread_calls and isolate_tighten_calls. */
extern const struct isolate_calls workers_calls;

/* Ends the threads; whatever was submitted has run by then. */
void workers_finish(struct workers *workers);

void workers_submit(struct workers *workers, struct work *work);

/* Some work that no thread has begun yet; NULL: there is none. */
struct work *workers_take_back(struct workers *workers);

#endif
