/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/foresight.h"

#include "util/arith.h"

#define MISSED (-1)
#define FOUND  2

void foresight_init(struct foresight *f)
{
    atomic_store(&f->wanted, FORESIGHT_SURE / 2);
    for (size_t i = 0; i < FORESIGHT_PROBES; i++)
        atomic_store(&f->probes[i], 0);
}

/* FNV-1a; never 0. */
static uint64_t digest(uint64_t directory, const char *name, size_t name_bytes)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ directory;
    for (size_t i = 0; i < name_bytes; i++)
        h = (h ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
    return (h ^ (h >> 32)) | 1;
}

static atomic_uint_least64_t *slot(struct foresight *f, uint64_t probe)
{
    return &f->probes[(probe >> 1) % FORESIGHT_PROBES];
}

static bool is_probe(uint64_t place)
{
    for (uint64_t at = FORESIGHT_FIRST; at <= place; at *= 4)
        if (at == place)
            return true;
    return false;
}

/* Two threads that learn at once may lose one of their lessons. */
static void learn(struct foresight *f, int lesson)
{
    int wanted = atomic_load_explicit(&f->wanted, memory_order_relaxed) + lesson;
    wanted = MAX(-FORESIGHT_SURE, MIN(FORESIGHT_SURE, wanted));
    atomic_store_explicit(&f->wanted, wanted, memory_order_relaxed);
}

bool foresight_gives(struct foresight *f, uint64_t directory, uint64_t place, const char *name,
                     size_t name_bytes)
{
    if (is_probe(place)) {
        uint64_t probe = digest(directory, name, name_bytes);
        uint64_t before = atomic_exchange_explicit(slot(f, probe), probe, memory_order_relaxed);
        if (before && before != probe)
            learn(f, MISSED);
        return false;
    }
    return atomic_load_explicit(&f->wanted, memory_order_relaxed) > 0;
}

void foresight_looked_up(struct foresight *f, uint64_t directory, const char *name, size_t name_bytes)
{
    uint64_t probe = digest(directory, name, name_bytes);
    if (atomic_compare_exchange_strong_explicit(slot(f, probe), &(uint64_t){probe}, 0,
                                                memory_order_relaxed, memory_order_relaxed))
        learn(f, FOUND);
}
