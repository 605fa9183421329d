/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the shares of a description make sense, and whether this host can serve them: names that are
 * names, directories that are there and allow what the mode promises, ids that can be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/validate.h"
#include "util/arith.h"
#include "util/units.h"

static void join(place out, const char *around, const char *key)
{
    snprintf(out, sizeof(place), "%.80s%s", around, key);
}

static void check_name(struct validator *v, const char *where, const char *name)
{
    if (!*name)
        validate_fault(v, where, NULL, "the text is empty");
    else if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
        validate_fault(v, where, "take one name, as of a file", "\"%.40s\" is not a name", name);
}

/* Whether `fd` or, without one, `path` is a directory that may be used as the mode says. */
static void check_source(struct validator *v, const char *where, const struct config_directory *dir)
{
    const char *verb = dir->mode == DAYFLY_SHARE_RW ? "write" : "read";
    int access = X_OK | R_OK | (dir->mode == DAYFLY_SHARE_RW ? W_OK : 0);
    struct stat st;
    if (!dir->path) {
        if (fstat(dir->fd, &st) < 0)
            validate_fault(v, where, NULL, "descriptor %d is not open", dir->fd);
        else if (!S_ISDIR(st.st_mode))
            validate_fault(v, where, NULL, "descriptor %d is not a folder", dir->fd);
    } else if (stat(dir->path, &st) < 0) {
        validate_cannot_use(v, where, dir->path, "folder", errno, verb);
    } else if (!S_ISDIR(st.st_mode)) {
        validate_fault(v, where, "only a folder can be shared", "%s is a file", dir->path);
    } else if (faccessat(AT_FDCWD, dir->path, access, AT_EACCESS) < 0) {
        if (errno == EROFS)
            validate_fault(v, where, "write `mode: ro`, or `mode: cow`",
                           "%s is on a file system that is read-only", dir->path);
        else
            validate_cannot_use(v, where, dir->path, "folder", errno, verb);
    }
}

/* Where the difference is kept: an empty path has been told of by the schema. */
static void check_changes(struct validator *v, const char *where, const struct config_directory *dir)
{
    struct stat st;
    if (!dir->changes || !*dir->changes)
        return;
    if (dir->mode != DAYFLY_SHARE_COW)
        validate_fault(v, where, "write `mode: cow`, or leave it out",
                       "it counts with `mode: cow` only");
    else if (stat(dir->changes, &st) < 0 && errno == ENOENT)
        validate_can_make(v, where, dir->changes);
    else if (stat(dir->changes, &st) < 0)
        validate_cannot_use(v, where, dir->changes, "folder", errno, "write");
    else if (!S_ISDIR(st.st_mode))
        validate_fault(v, where, NULL, "%s is a file", dir->changes);
    else if (faccessat(AT_FDCWD, dir->changes, W_OK | X_OK, AT_EACCESS) < 0)
        validate_cannot_use(v, where, dir->changes, "folder", errno, "write");
}

/* [a, a + a_count) and [b, b + b_count) have an id in common. */
static bool overlap(uint32_t a, uint32_t a_count, uint32_t b, uint32_t b_count)
{
    return a < (uint64_t)b + b_count && b < (uint64_t)a + a_count;
}

static void check_extents(struct validator *v, const char *where,
                          const struct dayfly_id_extent *extents, size_t count)
{
    count = MIN(count, (size_t)CONFIG_MAX_ID_EXTENTS);
    for (size_t i = 0; i < count; i++) {
        const struct dayfly_id_extent *x = &extents[i];
        place here;
        snprintf(here, sizeof(here), "%.80s[%zu]", where, i);
        if ((uint64_t)MAX(x->guest, x->host) + x->count > UINT32_MAX)
            validate_fault(v, here, "the last id is 4294967294", "the ids go too far");
        for (size_t j = 0; j < i; j++) {
            const struct dayfly_id_extent *y = &extents[j];
            bool in_guest = overlap(x->guest, x->count, y->guest, y->count);
            if (!in_guest && !overlap(x->host, x->count, y->host, y->count))
                continue;
            char hint[SCHEMA_MAX_PATH + 32];
            snprintf(hint, sizeof(hint), "%.80s[%zu] has them", where, j);
            validate_fault(v, here, hint, "some of these ids of the %s are taken",
                           in_guest ? "guest" : "host");
            break;
        }
    }
}

/* `around` is "shares[0]." or "shares[0].directories[1].". */
static void check_ids(struct validator *v, const char *around, const struct config_directory *dir)
{
    bool map = dir->ids == DAYFLY_SHARE_MAP, squash = dir->ids == DAYFLY_SHARE_SQUASH;
    place where;
    join(where, around, "ids");
    if (!squash && geteuid() != 0)
        validate_fault(v, where, "run it as root, or leave it at `ids: squash`",
                       "only root can take the ids of others");
    if (map && !dir->uid_count && !dir->gid_count)
        validate_fault(v, where, "write `uids: [{guest: 0, host: 100000, count: 65536}]`, and `gids`",
                       "the map is empty");
    join(where, around, dir->uid_count ? "uids" : "gids");
    if (!map && (dir->uid_count || dir->gid_count))
        validate_fault(v, where, "write `ids: map`, or leave it out", "it counts with `ids: map` only");
    join(where, around, dir->shown_uid ? "shown_uid" : "shown_gid");
    if (!squash && (dir->shown_uid || dir->shown_gid))
        validate_fault(v, where, "leave it out", "it counts with `ids: squash` only");
    join(where, around, "uids");
    check_extents(v, where, dir->uids, dir->uid_count);
    join(where, around, "gids");
    check_extents(v, where, dir->gids, dir->gid_count);
}

static void check_directory(struct validator *v, const char *around, const struct config_directory *dir)
{
    place where;
    join(where, around, "path");
    if (dir->path ? *dir->path != '\0' : dir->fd >= 0)
        check_source(v, where, dir);
    join(where, around, "changes");
    check_changes(v, where, dir);
    check_ids(v, around, dir);
}

/* What stands beside `path` means nothing beside `directories`. */
static bool is_used(const struct config_directory *only)
{
    return only->path || only->fd >= 0 || only->mode || only->changes || only->ids || only->shown_uid ||
           only->shown_gid || only->uid_count || only->gid_count;
}

static void check_window(struct validator *v, const char *around, const struct config_share *share)
{
    size_t count;
    const struct config_directory *dirs = config_share_directories(share, &count);
    bool all_cow = true;
    char have[UNITS_FORMAT_BYTES];
    place where;
    join(where, around, "dax");
    for (size_t i = 0; i < MIN(count, (size_t)CONFIG_MAX_DIRECTORIES); i++)
        all_cow &= dirs[i].mode == DAYFLY_SHARE_COW;
    if (!config_window_fits(share->window_bytes))
        validate_fault(v, where, "take a power of two from 2MiB to 16GiB, such as 1GiB",
                       "%s%s cannot be a window's size", units_format_size(share->window_bytes, have),
                       share->window_bytes % 1024 ? " bytes" : "");
    else if (share->window_bytes && all_cow)
        validate_fault(v, where, "leave one of the two out",
                       "files of `mode: cow` cannot be mapped from the host");
    else if (share->window_bytes && share->cache == DAYFLY_SHARE_CACHE_NONE)
        validate_fault(v, where, "leave one of the two out",
                       "with `cache: none` programs move data between files and mappings, which no "
                       "device can reach");
}

static void check_share(struct validator *v, const struct config_share *share, size_t index,
                        bool incomplete)
{
    place around, where;
    snprintf(around, sizeof(around), "shares[%zu].", index);
    join(where, around, "tag");
    if (share->tag && !*share->tag)
        validate_fault(v, where, NULL, "the text is empty");
    join(where, around, "writeback");
    if (share->writeback && share->cache == DAYFLY_SHARE_CACHE_NONE)
        validate_fault(v, where, "leave one of the two out",
                       "with `cache: none` the guest has nothing to gather writes in");
    check_window(v, around, share);
    if (!share->directory_count) {
        join(where, around, "path");
        if (!share->only.path && share->only.fd < 0 && !incomplete)
            validate_fault(v, where, "write `path: src`, or `directories`", "missing");
        check_directory(v, around, &share->only);
        return;
    }
    join(where, around, "directories");
    if (is_used(&share->only))
        validate_fault(v, where, "put path, mode and ids into the items",
                       "a share has a directory of its own, or several");
    for (size_t i = 0; i < MIN(share->directory_count, (size_t)CONFIG_MAX_DIRECTORIES); i++) {
        const struct config_directory *dir = &share->directories[i];
        place item;
        snprintf(item, sizeof(item), "%.80sdirectories[%zu].", around, i);
        join(where, item, "name");
        if (dir->name)
            check_name(v, where, dir->name);
        check_directory(v, item, dir);
    }
}

void validate_shares(struct validator *v, const struct dayfly_config *config)
{
    size_t slots = config->disk_count + config->share_count + config->network_count;
    if (slots > CONFIG_MAX_SLOTS && config->disk_count <= CONFIG_MAX_DISKS &&
        config->share_count <= CONFIG_MAX_SHARES && config->network_count <= CONFIG_MAX_NETWORKS) {
        char hint[96];
        snprintf(hint, sizeof(hint), "at most %d; a share can have several directories",
                 CONFIG_MAX_SLOTS);
        validate_fault(v, "shares", hint,
                       "%zu disks, shares and networks are more than the bus has room for", slots);
    }
    for (size_t i = 0; i < MIN(config->share_count, (size_t)CONFIG_MAX_SHARES); i++)
        check_share(v, &config->shares[i], i, config->incomplete);
}
