/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_WALK_H
#define BLOCK_WALK_H

/*
 * What formats on top of others (stack.h) have in common when their requests go from the first byte to
 * the last in steps, one request to a layer at a time, and hold their range of the disk meanwhile
 * (range_locks.h).
 *
 * Such a format embeds struct walk_stack, and a struct walk in each of its jobs. Its ops table has
 * walk_submit, and what stack.h has; it brings `destroy`, which begins with stack_finish.
 *
 * Threads: those of block.h.
 */

#include "block/range_locks.h"
#include "block/stack.h"

struct walk_stack;

struct walk {
    struct stack_job base; /* base.request is what is walked */
    struct walk_stack *owner;
    struct range_lock lock;
    struct stack_request lower;
    uint64_t at, next,
        end; /* bytes of the disk: done up to; done up to when the step is; where it ends */
};

struct walk_ops {
    /* Send the step that begins at `at`, with `next` set (walk_send), or end (walk_finish). */
    void (*advance)(struct walk *walk);
    /* A layer has answered the step, with 0 or -errno: end, send another, or go on behind `next`. */
    void (*answered)(struct walk *walk, int result);
    /* The walk ends, a flush too: free what it has for itself. */
    void (*ended)(struct walk *walk);
};

struct walk_stack {
    struct stack stack;
    const struct walk_ops *ops;
    unsigned flush_layer; /* the one that flushes go to */
    uint64_t held_bytes;  /* a power of two: what is changed is held in units of this; 0: nothing is */
    bool reads_hold;      /* so is what is read, by any number of reads */
    struct range_locks locks;
};

/* As stack_init, with the lists of locks. The caller has set stack.block, ops and the fields that
 * follow, and adds its jobs with walk_add. */
int walk_init(struct walk_stack *walks, struct block *const *below, unsigned count);
void walk_add(struct walk_stack *walks, struct walk *walk);

/* Send walk->lower.io, its `done` set here. One that is refused ends the walk. */
void walk_send(struct walk *walk, unsigned layer);
void walk_finish(struct walk *walk, int result);

/* For struct block_ops. */
int walk_submit(struct block *block, struct block_request *request);

#endif
