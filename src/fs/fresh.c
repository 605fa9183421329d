/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/fresh.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct fresh_slot {
    uint64_t nodeid; /* 0: none */
    uint64_t digest;
};

int fresh_init(struct fresh *f, bool keep)
{
    *f = (struct fresh){0};
    if (!keep)
        return 0;
    f->slots = calloc(FRESH_SLOTS, sizeof(*f->slots));
    if (!f->slots)
        return -ENOMEM;
    return -pthread_mutex_init(&f->lock, NULL);
}

void fresh_finish(struct fresh *f)
{
    if (!f->slots)
        return;
    free(f->slots);
    f->slots = NULL;
    pthread_mutex_destroy(&f->lock);
}

static uint64_t ns_of(const struct timespec *t)
{
    return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec;
}

/* splitmix64's finaliser: each bit of v changes half of the result's. */
static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) + UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
    return h ^ (h >> 31);
}

static bool settled(const struct stat *st)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t changed = ns_of(&st->st_ctim);
    return changed < ns_of(&now) && ns_of(&now) - changed >= FRESH_SETTLED_NS;
}

bool fresh_since_last(struct fresh *f, uint64_t nodeid, const struct stat *st)
{
    if (!f->slots)
        return false;
    bool keep = settled(st);
    uint64_t digest = mix(mix(mix(0, ns_of(&st->st_mtim)), ns_of(&st->st_ctim)), (uint64_t)st->st_size);
    struct fresh_slot *slot = &f->slots[nodeid % FRESH_SLOTS];
    pthread_mutex_lock(&f->lock);
    bool same = slot->nodeid == nodeid && slot->digest == digest;
    if (keep)
        *slot = (struct fresh_slot){.nodeid = nodeid, .digest = digest};
    else if (slot->nodeid == nodeid)
        slot->nodeid = 0;
    pthread_mutex_unlock(&f->lock);
    return same && keep;
}
