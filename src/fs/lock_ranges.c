/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/lock_ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"

void lock_ranges_free(struct lock_ranges *r)
{
    free(r->at);
    *r = (struct lock_ranges){0};
}

int lock_ranges_reserve(struct lock_ranges *r)
{
    /* One is added, and one may be cut in two. */
    uint32_t need = r->count + 2;
    if (need <= r->room)
        return 0;
    uint32_t room = MAX(need, r->room * 2);
    struct lock_range *at = reallocarray(r->at, room, sizeof(*at));
    if (!at)
        return -ENOMEM;
    r->at = at;
    r->room = room;
    return 0;
}

static void insert(struct lock_ranges *r, uint32_t i, struct lock_range range)
{
    memmove(&r->at[i + 1], &r->at[i], (r->count - i) * sizeof(r->at[0]));
    r->at[i] = range;
    r->count++;
}

static void erase(struct lock_ranges *r, uint32_t i)
{
    r->count--;
    memmove(&r->at[i], &r->at[i + 1], (r->count - i) * sizeof(r->at[0]));
}

/* Take start to end away. Returns where a range that begins at `start` has its place. */
static uint32_t cut(struct lock_ranges *r, uint64_t start, uint64_t end)
{
    uint32_t i = 0;
    while (i < r->count && r->at[i].end < start)
        i++;
    if (i < r->count && r->at[i].start < start) {
        struct lock_range tail = r->at[i];
        r->at[i].end = start - 1;
        i++;
        if (tail.end > end) {
            tail.start = end + 1;
            insert(r, i, tail);
            return i;
        }
    }
    while (i < r->count && r->at[i].end <= end)
        erase(r, i);
    if (i < r->count && r->at[i].start <= end)
        r->at[i].start = end + 1;
    return i;
}

/* Join i and i + 1 where nothing is between them. */
static void join(struct lock_ranges *r, uint32_t i)
{
    if (i + 1 >= r->count || r->at[i].type != r->at[i + 1].type ||
        r->at[i].end + 1 != r->at[i + 1].start)
        return;
    r->at[i].end = r->at[i + 1].end;
    erase(r, i + 1);
}

void lock_ranges_set(struct lock_ranges *r, const struct lock_range *range)
{
    uint32_t i = cut(r, range->start, range->end);
    if (range->type == F_UNLCK)
        return;
    insert(r, i, *range);
    join(r, i);
    if (i > 0)
        join(r, i - 1);
}

const struct lock_range *lock_ranges_conflict(const struct lock_ranges *r,
                                              const struct lock_range *wanted)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const struct lock_range *held = &r->at[i];
        if (held->start <= wanted->end && wanted->start <= held->end &&
            (held->type == F_WRLCK || wanted->type == F_WRLCK))
            return held;
    }
    return NULL;
}
