/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_WORKERS_H
#define BLOCK_WORKERS_H

/*
 * A few threads for calls that block, started when there is work for them and not before.
 *
 * Threads: workers_submit from one thread at a time; `run` is called in a worker, with all signals
 * blocked, or in the submitter where no thread can be had.
 */

#include <pthread.h>

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
    pthread_t threads[WORKERS_MAX];
};

/* At most `max` threads, and WORKERS_MAX. */
void workers_init(struct workers *workers, unsigned max);

/* Ends the threads; whatever was submitted has run by then. */
void workers_finish(struct workers *workers);

void workers_submit(struct workers *workers, struct work *work);

#endif
