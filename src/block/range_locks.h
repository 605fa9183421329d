/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_RANGE_LOCKS_H
#define BLOCK_RANGE_LOCKS_H

/*
 * Which request holds which range of a disk, in units of the caller's. Not threads wait here but jobs:
 * one that cannot have its range is handed out by range_lock_next when it can. Those that wait for the
 * same units get them in the order in which they came.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/stack.h"
#include "util/list.h"

struct range_lock {
    uint64_t first, last; /* units, both included */
    bool shared;          /* with others that are */
    bool held;
    unsigned index;   /* in range_locks.held */
    struct list node; /* in range_locks.waiting */
};

struct range_locks {
    /* Side by side, for a look at all of them is what every request costs. */
    struct range_span {
        uint64_t first, last;
        bool shared;
    } spans[STACK_JOBS];
    struct range_lock *held[STACK_JOBS];
    unsigned count;
    struct list waiting;
    bool freed; /* since all that wait were looked at */
};

void range_locks_init(struct range_locks *locks);

/* Take the range (first, last, shared are set). False: it waits. At most STACK_JOBS at a time. */
bool range_lock(struct range_locks *locks, struct range_lock *lock);
void range_unlock(struct range_locks *locks, struct range_lock *lock);

/* One that waited and holds its range now, or NULL. */
struct range_lock *range_lock_next(struct range_locks *locks);

#endif
