/* SPDX-License-Identifier: Apache-2.0 */
#include "block/overlay_map.h"

#include <errno.h>
#include <sys/mman.h>

#include "util/arith.h"

#define PER_WORD 32u /* clusters */
#define LOW_BITS UINT64_C(0x5555555555555555)

int overlay_map_init(struct overlay_map *map, uint64_t clusters)
{
    uint64_t bytes = (clusters / PER_WORD + 1) * sizeof(uint64_t);
    void *at =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *map = (struct overlay_map){0};
    if (at == MAP_FAILED)
        return -errno;
    /* A huge page here would stand for 32 GiB of disk. */
    madvise(at, bytes, MADV_NOHUGEPAGE);
    *map = (struct overlay_map){at, bytes};
    return 0;
}

void overlay_map_finish(struct overlay_map *map)
{
    if (map->words)
        munmap(map->words, map->mapped_bytes);
    *map = (struct overlay_map){0};
}

enum overlay_state overlay_map_get(const struct overlay_map *map, uint64_t cluster)
{
    return (enum overlay_state)(map->words[cluster / PER_WORD] >> (cluster % PER_WORD * 2) & 3);
}

/* The bits of those of `count` clusters from *first on that share its word; go behind them. */
static uint64_t next_bits(uint64_t *first, uint64_t *count)
{
    unsigned from = (unsigned)(*first % PER_WORD);
    unsigned n = (unsigned)MIN(PER_WORD - from, *count);
    *first += n;
    *count -= n;
    return (n == PER_WORD ? UINT64_MAX : (UINT64_C(1) << (2 * n)) - 1) << (2 * from);
}

void overlay_map_set(struct overlay_map *map, uint64_t first, uint64_t count, enum overlay_state state)
{
    while (count > 0) {
        uint64_t *word = &map->words[first / PER_WORD];
        uint64_t bits = next_bits(&first, &count);
        uint64_t want = (*word & ~bits) | (LOW_BITS * (uint64_t)state & bits);
        if (*word != want) /* what is so already costs no memory */
            *word = want;
    }
}

uint64_t overlay_map_run(const struct overlay_map *map, uint64_t first, uint64_t count)
{
    uint64_t all_here = LOW_BITS * (uint64_t)overlay_map_get(map, first);
    uint64_t at = first, left = count;
    while (left > 0) {
        uint64_t word = map->words[at / PER_WORD];
        uint64_t differs = (word ^ all_here) & next_bits(&at, &left);
        if (differs)
            return align_down(at - 1, PER_WORD) + (unsigned)__builtin_ctzll(differs) / 2 - first;
    }
    return count;
}

/* The low bits of the clusters in a word that are OVERLAY_DATA. */
static uint64_t data_in(uint64_t word)
{
    return word & ~(word >> 1) & LOW_BITS;
}

bool overlay_map_has_data(const struct overlay_map *map, uint64_t first, uint64_t count)
{
    while (count > 0) {
        uint64_t word = map->words[first / PER_WORD];
        if (data_in(word & next_bits(&first, &count)))
            return true;
    }
    return false;
}

void overlay_map_drop_data(struct overlay_map *map, uint64_t first, uint64_t count)
{
    while (count > 0) {
        uint64_t *word = &map->words[first / PER_WORD];
        uint64_t data = data_in(*word & next_bits(&first, &count));
        if (data)
            *word ^= data | data << 1; /* 01 becomes 10 */
    }
}
