/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_OVERLAY_MAP_H
#define BLOCK_OVERLAY_MAP_H

/*
 * Where each cluster of an overlay is: two bits a cluster, in memory that costs something only where
 * it has been written to. With clusters of 4 KiB that is at most 1/16384 of the disk (32 MiB for
 * 512 GiB), and a page of it for each 64 MiB that the guest touched.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum overlay_state {
    OVERLAY_BASE, /* in the base, as at the beginning */
    OVERLAY_DATA, /* in the layer above */
    OVERLAY_ZERO, /* nowhere: zeroes */
};

struct overlay_map {
    uint64_t *words; /* NULL: none */
    size_t mapped_bytes;
};

/* All in the base. Returns 0 or -errno. */
int overlay_map_init(struct overlay_map *map, uint64_t clusters);
void overlay_map_finish(struct overlay_map *map); /* safe on a zeroed one */

enum overlay_state overlay_map_get(const struct overlay_map *map, uint64_t cluster);
void overlay_map_set(struct overlay_map *map, uint64_t first, uint64_t count, enum overlay_state state);

/* How many of `count` clusters, from first on, are where the first one is. count > 0. */
uint64_t overlay_map_run(const struct overlay_map *map, uint64_t first, uint64_t count);

/* Whether one of them is OVERLAY_DATA. */
bool overlay_map_has_data(const struct overlay_map *map, uint64_t first, uint64_t count);

/* Those that are OVERLAY_DATA become OVERLAY_ZERO, the others stay. */
void overlay_map_drop_data(struct overlay_map *map, uint64_t first, uint64_t count);

#endif
