/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/share.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/cow.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

struct share {
    unsigned count;
    int fds[CONFIG_MAX_DIRECTORIES];
    struct cow cows[CONFIG_MAX_DIRECTORIES]; /* whose fd is the directory's then */
};

static const enum fs_cache caches[] = {
    [DAYFLY_SHARE_CACHE_AUTO] = FS_CACHE_AUTO,
    [DAYFLY_SHARE_CACHE_NONE] = FS_CACHE_NONE,
    [DAYFLY_SHARE_CACHE_ALWAYS] = FS_CACHE_ALWAYS,
};

static void copy_extents(struct fs_idmap_table *table, const struct dayfly_id_extent *extents,
                         size_t count)
{
    table->count = (unsigned)MIN(count, (size_t)FS_IDMAP_EXTENTS_MAX);
    for (unsigned i = 0; i < table->count; i++)
        table->extents[i] =
            (struct fs_idmap_extent){extents[i].guest, extents[i].host, extents[i].count};
}

/* The rule is in dayfly/config.h, at enum dayfly_share_ids. */
static void map_ids(struct fs_idmap *map, const struct config_directory *config,
                    const struct stat *directory)
{
    static const enum fs_idmap_kind kinds[] = {
        [DAYFLY_SHARE_SQUASH] = FS_IDMAP_SQUASH,
        [DAYFLY_SHARE_IDENTITY] = FS_IDMAP_IDENTITY,
        [DAYFLY_SHARE_MAP] = FS_IDMAP_MAP,
    };
    bool root = geteuid() == 0;
    *map = (struct fs_idmap){
        .kind = kinds[config->ids],
        .host_uid = root ? directory->st_uid : geteuid(),
        .host_gid = root ? directory->st_gid : getegid(),
        .shown_uid = config->shown_uid,
        .shown_gid = config->shown_gid,
    };
    copy_extents(&map->uids, config->uids, config->uid_count);
    copy_extents(&map->gids, config->gids, config->gid_count);
}

/* A directory that stays as it is, under the one that the guest changes. */
static int open_cow(struct cow *cow, const struct config_directory *config, struct dayfly_err *err)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", config->fd);
    const struct cow_options options = {.dir = config->path ? config->path : path,
                                        .changes = config->changes};
    return cow_open(cow, &options, err);
}

/* What to call a directory in a message: its path, wherever that is known from. */
static const char *name_of(const struct config_directory *config, char buffer[PATH_MAX])
{
    char link[32];
    if (config->path)
        return config->path;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", config->fd);
    ssize_t n = readlink(link, buffer, PATH_MAX - 1);
    if (n < 0)
        return config->name ? config->name : "directory";
    buffer[n] = '\0';
    return buffer;
}

static int open_directory(struct share *share, struct fs_directory *out,
                          const struct config_directory *config, struct dayfly_err *err)
{
    char buffer[PATH_MAX];
    const char *name = name_of(config, buffer);
    unsigned i = share->count++;
    struct stat st;
    int r;
    share->fds[i] = -1;
    share->cows[i] = (struct cow)COW_INIT;
    if (config->mode == DAYFLY_SHARE_COW) {
        if ((r = open_cow(&share->cows[i], config, err)) < 0)
            return err_wrap(err, "share %s", name);
        out->fd = share->cows[i].fd;
    } else {
        out->fd = share->fds[i] = config->path ? open(config->path, O_PATH | O_DIRECTORY | O_CLOEXEC)
                                               : fcntl(config->fd, F_DUPFD_CLOEXEC, 0);
        if (out->fd < 0)
            return err_errno(err, errno, "share %s", name);
    }
    if (fstat(out->fd, &st) < 0)
        return err_errno(err, errno, "share %s", name);
    out->name = config->name;
    out->read_only = config->mode == DAYFLY_SHARE_RO;
    map_ids(&out->idmap, config, &st);
    return 0;
}

/* A guest that opens, locks and remembers all it can leaves disks, vsock and other machines theirs. */
static void limit_descriptors(struct fs_options *options, size_t shares)
{
    struct rlimit limit = {.rlim_cur = 1024};
    getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t budget = MIN(limit.rlim_cur, UINT64_C(1) << 20) / 2 / MAX(shares, (size_t)1);
    options->open_max = (unsigned)MAX(budget / 2, 16u);
    options->fds_max = (unsigned)MAX(budget / 4, 16u);
}

int share_open(struct share **out, struct fs **server, const struct config_share *config, size_t shares,
               const struct log *log, struct dayfly_err *err)
{
    size_t count;
    const struct config_directory *directories = config_share_directories(config, &count);
    struct fs_directory opened[CONFIG_MAX_DIRECTORIES] = {0};
    struct fs_options options = {
        .directories = opened,
        .directory_count = (unsigned)count,
        .cache = caches[config->cache],
        .writeback = config->writeback,
        .no_xattr = !config->xattr,
        .window_bytes = config->window_bytes,
        .log = log,
    };
    limit_descriptors(&options, shares);
    if (count > CONFIG_MAX_DIRECTORIES)
        return err_set(err, EINVAL, "share %s: more than %d directories", config->tag,
                       CONFIG_MAX_DIRECTORIES);
    struct share *share = calloc(1, sizeof(*share));
    if (!share)
        return err_set(err, ENOMEM, "share %s: out of memory", config->tag);
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++)
        r = open_directory(share, &opened[i], &directories[i], err);
    if (r == 0 && (r = fs_new(server, &options, err)) < 0)
        r = err_wrap(err, "share %s", config->tag);
    if (r < 0) {
        share_close(share);
        return r;
    }
    *out = share;
    return 0;
}

void share_close(struct share *share)
{
    if (!share)
        return;
    for (unsigned i = 0; i < share->count; i++) {
        close_fd(&share->fds[i]);
        cow_close(&share->cows[i]);
    }
    free(share);
}
