/* SPDX-License-Identifier: Apache-2.0 */
#include "block/range_locks.h"

#include <stddef.h>

void range_locks_init(struct range_locks *locks)
{
    locks->count = 0;
    locks->freed = false;
    list_init(&locks->waiting);
}

static bool held_against(const struct range_locks *locks, const struct range_lock *lock)
{
    for (unsigned i = 0; i < locks->count; i++) {
        const struct range_span *s = &locks->spans[i];
        if (s->first <= lock->last && lock->first <= s->last && !(s->shared && lock->shared))
            return true;
    }
    return false;
}

/* Whether one that has waited longer, up to `end` of the list, wants what this one wants. */
static bool wanted_before(const struct range_locks *locks, const struct range_lock *lock,
                          const struct list *end)
{
    for (const struct list *n = locks->waiting.next; n != end; n = n->next) {
        const struct range_lock *w = list_entry(n, const struct range_lock, node);
        if (w->first <= lock->last && lock->first <= w->last && !(w->shared && lock->shared))
            return true;
    }
    return false;
}

static void hold(struct range_locks *locks, struct range_lock *lock)
{
    lock->held = true;
    lock->index = locks->count++;
    locks->held[lock->index] = lock;
    locks->spans[lock->index] = (struct range_span){lock->first, lock->last, lock->shared};
}

bool range_lock(struct range_locks *locks, struct range_lock *lock)
{
    if (held_against(locks, lock) || wanted_before(locks, lock, &locks->waiting)) {
        list_append(&locks->waiting, &lock->node);
        return false;
    }
    hold(locks, lock);
    return true;
}

void range_unlock(struct range_locks *locks, struct range_lock *lock)
{
    unsigned last = --locks->count;
    locks->held[lock->index] = locks->held[last];
    locks->spans[lock->index] = locks->spans[last];
    locks->held[lock->index]->index = lock->index;
    lock->held = false;
    locks->freed = true;
}

struct range_lock *range_lock_next(struct range_locks *locks)
{
    if (!locks->freed)
        return NULL;
    struct range_lock *lock, *tmp;
    list_for_each (lock, tmp, &locks->waiting, node) {
        if (held_against(locks, lock) || wanted_before(locks, lock, &lock->node))
            continue;
        list_remove(&lock->node);
        hold(locks, lock);
        return lock;
    }
    locks->freed = false;
    return NULL;
}
