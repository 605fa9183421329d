/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_STACK_H
#define BLOCK_STACK_H

/*
 * What back ends that stand on others have in common: a pool of jobs (one for each request that they
 * took), the layers below with requests that these had no room for, one event descriptor for all, and
 * completions that are delivered by reap and drain alone.
 *
 * A format embeds struct stack and a struct stack_job in each of its jobs, and brings its own submit,
 * destroy and, if jobs of it wait for each other, `resume`. The rest of struct block_ops is here.
 *
 * Threads: those of block.h.
 */

#include <stdatomic.h>

#include "block/block.h"
#include "util/list.h"

#define STACK_JOBS       256 /* requests in flight at once, as of raw images */
#define STACK_LAYERS_MAX 2

/* A request to a layer. The format fills in `io`; it may be sent again from io.done on. */
struct stack_request {
    struct block_request io;
    struct list node; /* in layer.full */
};

struct stack_layer {
    struct block *block;
    struct list full; /* requests that wait until the layer has room */
};

struct stack_job {
    struct block_request *request;
    int result;
    struct list node; /* in idle or finished */
};

struct stack {
    struct block block;
    struct stack_layer layers[STACK_LAYERS_MAX];
    unsigned layer_count;
    int wake_fd;       /* an eventfd: something finished without a layer */
    bool told;         /* wake_fd is to be read: by stack_complete */
    atomic_bool woken; /* the same, by stack_wake, from any thread */
    bool reaping;
    bool moved; /* something was sent to a layer since they were last kicked */
    struct list idle, finished;
    unsigned in_flight;
    void (*resume)(struct stack *stack); /* after each look at the layers; NULL is legal */
};

/*
 * Make the event descriptor and the lists. `below` are the layers, taken even on failure. The caller
 * has set stack->block but for event_fd, and adds its jobs to stack->idle. On failure, and at the end,
 * stack_finish. Returns 0 or -errno.
 */
int stack_init(struct stack *stack, struct block *const *below, unsigned count);

/* Have the event descriptor tell of one more. Returns 0 or -errno. */
int stack_watch(struct stack *stack, int fd);

/* Destroys the layers as well. Nothing is in flight. */
void stack_finish(struct stack *stack);

/* A job for the request; NULL when all are in use. */
struct stack_job *stack_take(struct stack *stack, struct block_request *request);

/* The job's request is answered with this at the next delivery; the job is then idle again. */
void stack_complete(struct stack *stack, struct stack_job *job, int result);

/* Have the event descriptor become readable, so that reap is called, and with it `resume`. From any
 * thread, while something is in flight. */
void stack_wake(struct stack *stack);

/* Send a request to a layer, now or when it has room. Returns 0, or -errno when the layer refuses it
 * for another reason: done is not called then. It is never called from here. */
int stack_send(struct stack *stack, unsigned layer, struct stack_request *request);

/* For struct block_ops. */
int stack_kick(struct block *block);
unsigned stack_reap(struct block *block);
void stack_drain(struct block *block);

#endif
