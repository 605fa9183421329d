/* SPDX-License-Identifier: Apache-2.0 */
/* What a serving thread keeps when it is locked up. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

static const struct isolate_call calls[] = {
    /* names */
    ISOLATE_CALL(openat),
    ISOLATE_CALL(openat2),
    ISOLATE_CALL(statx),
    ISOLATE_CALL(readlink),
    ISOLATE_CALL(readlinkat),
    ISOLATE_CALL(faccessat),
    ISOLATE_CALL(faccessat2),
    ISOLATE_CALL(mkdirat),
    ISOLATE_CALL(mknodat),
    ISOLATE_CALL(symlinkat),
    ISOLATE_CALL(linkat),
    ISOLATE_CALL(unlinkat),
    ISOLATE_CALL(renameat),
    ISOLATE_CALL(renameat2),
    ISOLATE_CALL(getdents64),
    /* attributes */
    ISOLATE_CALL(chmod),
    ISOLATE_CALL(fchmod),
    ISOLATE_CALL(fchmodat),
    ISOLATE_CALL(fchown),
    ISOLATE_CALL(fchownat),
    ISOLATE_CALL(utimensat),
    ISOLATE_CALL(truncate),
    ISOLATE_CALL(ftruncate),
    ISOLATE_CALL(statfs),
    ISOLATE_CALL(fstatfs),
    ISOLATE_CALL(getxattr),
    ISOLATE_CALL(setxattr),
    ISOLATE_CALL(listxattr),
    ISOLATE_CALL(removexattr),
    ISOLATE_CALL(fgetxattr),
    ISOLATE_CALL(fsetxattr),
    /* data */
    ISOLATE_CALL(pread64),
    ISOLATE_CALL(pwrite64),
    ISOLATE_CALL(preadv),
    ISOLATE_CALL(pwritev),
    ISOLATE_CALL(preadv2),
    ISOLATE_CALL(pwritev2),
    ISOLATE_CALL(fallocate),
    ISOLATE_CALL(copy_file_range),
    ISOLATE_CALL(fsync),
    ISOLATE_CALL(fdatasync),
    ISOLATE_CALL(syncfs),
    ISOLATE_CALL(flock),
    /* the window */
    ISOLATE_CALL(inotify_add_watch),
    ISOLATE_CALL(inotify_rm_watch),
    /* who the thread is: thread.c; without the capabilities for it they give nothing */
    ISOLATE_CALL(capget),
    ISOLATE_CALL(capset),
    ISOLATE_CALL(setfsuid),
    ISOLATE_CALL(setfsgid),
    ISOLATE_CALL(setgroups),
    ISOLATE_CALL(geteuid),
    ISOLATE_CALL(getegid),
    ISOLATE_CALL(umask),
    ISOLATE_CALL(fchdir),
    ISOLATE_CALL_IF(unshare, 0, UINT64_MAX, CLONE_FS),
};

/* Inodes of directories that are not squashed are found again by handle. */
static const struct isolate_call handle_calls[] = {
    ISOLATE_CALL(name_to_handle_at),
    ISOLATE_CALL(open_by_handle_at),
};

/* Whether all directories act as one user of the host. */
static bool one_user(const struct fs *fs, struct isolate_options *options)
{
    unsigned count;
    const struct export *exports = inode_exports(fs->inodes, &count);
    for (unsigned i = 0; i < count; i++) {
        const struct fs_idmap *map = &exports[i].idmap;
        if (map->kind != FS_IDMAP_SQUASH || map->host_uid != exports[0].idmap.host_uid ||
            map->host_gid != exports[0].idmap.host_gid)
            return false;
    }
    options->uid = exports[0].idmap.host_uid;
    options->gid = exports[0].idmap.host_gid;
    return true;
}

int fs_lock_up(struct fs *fs, struct jail *jail, const struct isolate_calls *more, size_t more_count,
               struct dayfly_err *err)
{
    struct isolate_dir dirs[FS_DIRECTORIES_MAX];
    struct isolate_options options = {
        .calls = {isolate_base_calls, isolate_thread_calls, ISOLATE_CALLS(calls)}, .dirs = dirs};
    size_t tables = 3;
    unsigned count;
    if (fs->fds_fd >= 0)
        return err_set(err, EALREADY, "a thread is locked up already");
    const struct export *exports = inode_exports(fs->inodes, &count);
    for (unsigned i = 0; i < count; i++) {
        dirs[i] = (struct isolate_dir){exports[i].fd, exports[i].read_only};
        options.no_landlock = options.no_landlock || exports[i].by_handle;
    }
    options.dir_count = count;
    options.change_user = one_user(fs, &options);
    if (!options.change_user)
        options.capabilities = fs_thread_capabilities;
    if (options.no_landlock)
        options.calls[tables++] = (struct isolate_calls)ISOLATE_CALLS(handle_calls);
    if (more_count > ISOLATE_TABLES_MAX - tables)
        return err_set(err, E2BIG, "too many lists of system calls");
    memcpy(options.calls + tables, more, more_count * sizeof(*more));

    /* There is no /proc where the thread is going. */
    fs->fds_fd = open("/proc/thread-self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fs->fds_fd < 0)
        return err_errno(err, errno, "/proc/thread-self/fd");
    return jail_enter(jail, "file server", &options, err);
}
