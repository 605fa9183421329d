/* SPDX-License-Identifier: Apache-2.0 */

/* A file server's life: made from its options, reset, freed. */

#include "fs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define OPEN_DEFAULT_MAX (1u << 20)

static uint32_t open_files_max(const struct fs_options *options)
{
    struct rlimit nofile = {.rlim_cur = 1024};
    if (options->open_max > 0)
        return options->open_max;
    getrlimit(RLIMIT_NOFILE, &nofile);
    return (uint32_t)MAX(MIN(nofile.rlim_cur / 2, OPEN_DEFAULT_MAX), 16u);
}

static int check(const struct fs_options *options, struct dayfly_err *err)
{
    if (options->directory_count < 1 || options->directory_count > FS_DIRECTORIES_MAX)
        return err_set(err, EINVAL, "a file server shares 1 to %d directories, not %u",
                       FS_DIRECTORIES_MAX, options->directory_count);
    if (options->writeback && options->cache == FS_CACHE_NONE)
        return err_set(err, EINVAL, "a write-back cache needs a cache policy other than none");
    return 0;
}

static int make_window(struct fs *fs, uint64_t bytes, struct dayfly_err *err)
{
    bool any = false;
    unsigned count;
    const struct export *exports = inode_exports(fs->inodes, &count);
    for (unsigned i = 0; i < count; i++)
        any |= exports[i].mappable;
    if (bytes > 0 && !any)
        log_line(fs->log, LOG_WARN, "no DAX window: it needs ext4, xfs, btrfs, f2fs, erofs or tmpfs");
    return window_init(&fs->window, any ? bytes : 0, err);
}

int fs_new(struct fs **out, const struct fs_options *options, struct dayfly_err *err)
{
    int rc = check(options, err);
    if (rc < 0)
        return rc;
    struct fs *fs = calloc(1, sizeof(*fs));
    if (!fs)
        return err_set(err, ENOMEM, "no memory for a file server");
    fs->cache = options->cache;
    fs->writeback = options->writeback;
    fs->no_xattr = options->no_xattr;
    fs->log = options->log;
    fs->fds_fd = -1;
    foresight_init(&fs->foresight);
    rc = -pthread_rwlock_init(&fs->session, NULL);
    if (rc < 0) {
        free(fs);
        return err_set(err, -rc, "no lock for a file server");
    }
    uint32_t open_max = open_files_max(options);
    rc = open_table_init(&fs->files, open_max);
    if (rc == 0)
        rc = lock_table_init(&fs->locks, MIN(open_max / 4, LOCK_PAIRS_MAX));
    if (rc == 0)
        rc = fresh_init(&fs->fresh, fs->cache == FS_CACHE_AUTO);
    if (rc < 0)
        err_set(err, -rc, "no memory for a file server's tables");
    else
        rc = inode_table_new(&fs->inodes, options, err);
    if (rc == 0)
        rc = make_window(fs, options->window_bytes, err);
    if (rc < 0) {
        fs_free(fs);
        return rc;
    }
    *out = fs;
    return 0;
}

void fs_free(struct fs *fs)
{
    if (!fs)
        return;
    window_finish(&fs->window);
    lock_table_finish(&fs->locks);
    open_table_finish(&fs->files);
    fresh_finish(&fs->fresh);
    inode_table_free(fs->inodes);
    close_fd(&fs->fds_fd);
    pthread_rwlock_destroy(&fs->session);
    free(fs);
}

void fs_reset(struct fs *fs)
{
    session_end(fs);
}

void *fs_window(const struct fs *fs, uint64_t *bytes)
{
    *bytes = fs->window.bytes;
    return fs->window.hva;
}

void fs_show_window(struct fs *fs, bool shown)
{
    fs->window_shown = shown && fs->window.bytes > 0;
}

int fs_window_events(const struct fs *fs)
{
    return fs->window.events;
}

void fs_heed_window(struct fs *fs)
{
    window_heed(&fs->window);
}

bool fs_mend_window(struct fs *fs)
{
    return window_mend(&fs->window);
}

uint64_t fs_unlocked(struct fs *fs)
{
    return atomic_load(&fs->unlocked);
}

void fs_get_stats(struct fs *fs, struct fs_stats *stats)
{
    *stats = (struct fs_stats){0};
    inode_table_stats(fs->inodes, stats);
    stats->requests = atomic_load(&fs->requests);
    stats->open_files = open_table_count(&fs->files);
    stats->mapped = atomic_load(&fs->window.used);
}
