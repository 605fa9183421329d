/* SPDX-License-Identifier: Apache-2.0 */
/* Ids of the guest and ids of the host. See idmap.h. */
#include "fs/idmap.h"

#include <errno.h>

#define KEEP UINT32_MAX /* chown(2)'s -1: never the id of anybody */

static bool ranges_overlap(uint32_t a, uint32_t a_count, uint32_t b, uint32_t b_count)
{
    return a < (uint64_t)b + b_count && b < (uint64_t)a + a_count;
}

static int table_check(const struct fs_idmap_table *table)
{
    if (table->count > FS_IDMAP_EXTENTS_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < table->count; i++) {
        const struct fs_idmap_extent *e = &table->extents[i];
        if (e->count == 0 || (uint64_t)e->guest + e->count > KEEP ||
            (uint64_t)e->host + e->count > KEEP)
            return -EINVAL;
        for (unsigned j = 0; j < i; j++) {
            const struct fs_idmap_extent *f = &table->extents[j];
            if (ranges_overlap(e->guest, e->count, f->guest, f->count) ||
                ranges_overlap(e->host, e->count, f->host, f->count))
                return -EINVAL;
        }
    }
    return 0;
}

int fs_idmap_check(const struct fs_idmap *map)
{
    switch (map->kind) {
    case FS_IDMAP_SQUASH:
        if (map->host_uid == KEEP || map->host_gid == KEEP || map->shown_uid == KEEP ||
            map->shown_gid == KEEP)
            return -EINVAL;
        return 0;
    case FS_IDMAP_IDENTITY:
        return 0;
    case FS_IDMAP_MAP:
        return table_check(&map->uids) < 0 ? -EINVAL : table_check(&map->gids);
    }
    return -EINVAL;
}

static bool table_to_host(const struct fs_idmap_table *table, uint32_t guest, uint32_t *host)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct fs_idmap_extent *e = &table->extents[i];
        if (guest >= e->guest && guest - e->guest < e->count) {
            *host = e->host + (guest - e->guest);
            return true;
        }
    }
    return false;
}

static uint32_t table_to_guest(const struct fs_idmap_table *table, uint32_t host)
{
    for (unsigned i = 0; i < table->count; i++) {
        const struct fs_idmap_extent *e = &table->extents[i];
        if (host >= e->host && host - e->host < e->count)
            return e->guest + (host - e->host);
    }
    return FS_NOBODY;
}

/* What uids and gids have in common: `squashed` is the host's id, `shown` how the guest sees it. */
static bool to_host(const struct fs_idmap *map, const struct fs_idmap_table *table, uint32_t squashed,
                    uint32_t guest, uint32_t *host)
{
    *host = guest;
    if (guest == KEEP)
        return true;
    switch (map->kind) {
    case FS_IDMAP_SQUASH:
        *host = squashed;
        return true;
    case FS_IDMAP_IDENTITY:
        return true;
    case FS_IDMAP_MAP:
        return table_to_host(table, guest, host);
    }
    return false;
}

static uint32_t to_guest(const struct fs_idmap *map, const struct fs_idmap_table *table,
                         uint32_t squashed, uint32_t shown, uint32_t host)
{
    switch (map->kind) {
    case FS_IDMAP_SQUASH:
        return host == squashed ? shown : FS_NOBODY;
    case FS_IDMAP_IDENTITY:
        return host;
    case FS_IDMAP_MAP:
        return table_to_guest(table, host);
    }
    return FS_NOBODY;
}

bool fs_idmap_uid_to_host(const struct fs_idmap *map, uint32_t guest, uid_t *host)
{
    return to_host(map, &map->uids, map->host_uid, guest, host);
}

bool fs_idmap_gid_to_host(const struct fs_idmap *map, uint32_t guest, gid_t *host)
{
    return to_host(map, &map->gids, map->host_gid, guest, host);
}

uint32_t fs_idmap_uid_to_guest(const struct fs_idmap *map, uid_t host)
{
    return to_guest(map, &map->uids, map->host_uid, map->shown_uid, host);
}

uint32_t fs_idmap_gid_to_guest(const struct fs_idmap *map, gid_t host)
{
    return to_guest(map, &map->gids, map->host_gid, map->shown_gid, host);
}
