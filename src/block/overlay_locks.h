/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_OVERLAY_LOCKS_H
#define BLOCK_OVERLAY_LOCKS_H

/*
 * Which request holds which clusters. Not threads wait here but jobs: one that cannot have its range is
 * handed out by overlay_lock_next when it can. Those that wait for the same clusters get them in the
 * order in which they came.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/stack.h"
#include "util/list.h"

struct overlay_lock {
    uint64_t first, last; /* clusters, both included */
    bool shared;          /* with others that are */
    bool held;
    unsigned index;   /* in overlay_locks.held */
    struct list node; /* in overlay_locks.waiting */
};

struct overlay_locks {
    /* Side by side, for a look at all of them is what every request costs. */
    struct overlay_span {
        uint64_t first, last;
        bool shared;
    } spans[STACK_JOBS];
    struct overlay_lock *held[STACK_JOBS];
    unsigned count;
    struct list waiting;
    bool freed; /* since all that wait were looked at */
};

void overlay_locks_init(struct overlay_locks *locks);

/* Take the range (first, last, shared are set). False: it waits. At most STACK_JOBS at a time. */
bool overlay_lock(struct overlay_locks *locks, struct overlay_lock *lock);
void overlay_unlock(struct overlay_locks *locks, struct overlay_lock *lock);

/* One that waited and holds its range now, or NULL. */
struct overlay_lock *overlay_lock_next(struct overlay_locks *locks);

#endif
