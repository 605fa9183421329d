/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Promotion: what the guest saw becomes the base, entry by entry. On one file system each entry moves
 * from the upper directory to the base by a rename. Over two, each is copied beside its place and then
 * renamed, and nothing leaves the upper directory before all of it is on the base's disk: no order
 * holds between two journals. So at any moment base and upper together show the same tree, and the work
 * can be taken up again by doing it once more.
 *
 * The one order that matters: where an entry hides a directory of the base, that directory goes first;
 * the entry is then an addition, whose marks may be cleared.
 */
#include "fs/changes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/overlay.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/tree.h"

#define ASIDE           ".dayfly-promoted" /* a copy before it has its name */
#define FD_PATH_BYTES   32
#define XATTR_BYTES_MAX 65536

static const int dir_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/* ---- copies, to another file system ---- */

/* [at, end), which holds data. */
static int copy_range(int from, int to, off_t at, off_t end)
{
    char buffer[65536];
    while (at < end) {
        off_t in = at, out = at;
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
            n = io_pread_full(from, buffer, MIN(sizeof(buffer), (size_t)(end - at)), at);
            int r = n > 0 ? io_pwrite_full(to, buffer, (size_t)n, at) : 0;
            if (n < 0 || r < 0)
                return n < 0 ? (int)n : r;
        } else if (n < 0) {
            return -errno;
        }
        if (n == 0)
            return -EIO; /* it shrank */
        at += n;
    }
    return 0;
}

/* Holes stay holes. */
static int copy_data(int from, int to, off_t size)
{
    int r = 0;
    for (off_t at = 0, end; at < size && r == 0; at = end) {
        if ((at = lseek(from, at, SEEK_DATA)) < 0) {
            if (errno == ENXIO)
                break;
            return -errno;
        }
        if ((end = lseek(from, at, SEEK_HOLE)) < 0)
            return -errno;
        r = copy_range(from, to, at, end);
    }
    return r == 0 && ftruncate(to, size) < 0 ? -errno : r;
}

static int copy_xattrs(int from, int to)
{
    char from_path[FD_PATH_BYTES], to_path[FD_PATH_BYTES];
    _cleanup_free_ char *list = malloc(XATTR_BYTES_MAX), *value = malloc(XATTR_BYTES_MAX);
    if (!list || !value)
        return -ENOMEM;
    snprintf(from_path, sizeof(from_path), "/proc/self/fd/%d", from);
    snprintf(to_path, sizeof(to_path), "/proc/self/fd/%d", to);
    ssize_t bytes = listxattr(from_path, list, XATTR_BYTES_MAX);
    for (const char *name = list; bytes > 0 && name < list + bytes; name += strlen(name) + 1) {
        ssize_t len = getxattr(from_path, name, value, XATTR_BYTES_MAX);
        if (len < 0 || setxattr(to_path, name, value, (size_t)len, 0) < 0)
            return -errno;
    }
    return 0;
}

/* Owner before mode: a change of owner clears set-id bits. */
static int copy_attributes(int from, int to, const struct stat *st)
{
    char path[FD_PATH_BYTES];
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    snprintf(path, sizeof(path), "/proc/self/fd/%d", to);
    if (fchownat(to, "", st->st_uid, st->st_gid, AT_EMPTY_PATH) < 0)
        return -errno;
    if (!S_ISLNK(st->st_mode)) {
        int r = copy_xattrs(from, to);
        if (r < 0)
            return r;
        if (chmod(path, st->st_mode & 07777) < 0)
            return -errno;
    }
    return utimensat(AT_FDCWD, path, times, 0) < 0 ? -errno : 0;
}

static int copy_tree(int from_dir, const char *name, int to_dir, const char *to_name, unsigned depth);

static int copy_below(int from_dir, const char *name, int to_dir, const char *to_name, unsigned depth)
{
    struct dirent **names;
    _cleanup_close_ int from = openat(from_dir, name, dir_flags), to = -1;
    if (depth >= CHANGES_DEPTH_MAX)
        return -ELOOP;
    if (from < 0 || mkdirat(to_dir, to_name, 0700) < 0 || (to = openat(to_dir, to_name, dir_flags)) < 0)
        return -errno;
    int count = overlay_names(from, &names), r = count < 0 ? count : 0;
    for (int i = 0; i < count && r == 0; i++)
        r = copy_tree(from, names[i]->d_name, to, names[i]->d_name, depth + 1);
    overlay_free_names(names, count);
    return r;
}

static int copy_file(int from_dir, const char *name, int to_dir, const char *to_name, off_t size)
{
    _cleanup_close_ int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_close_ int to =
        openat(to_dir, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (from < 0 || to < 0)
        return -errno;
    return copy_data(from, to, size);
}

static int copy_symlink(int from_dir, const char *name, int to_dir, const char *to_name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    return symlinkat(target, to_dir, to_name) < 0 ? -errno : 0;
}

static int copy_tree(int from_dir, const char *name, int to_dir, const char *to_name, unsigned depth)
{
    struct stat st;
    int r;
    if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        r = copy_below(from_dir, name, to_dir, to_name, depth);
    else if (S_ISREG(st.st_mode))
        r = copy_file(from_dir, name, to_dir, to_name, st.st_size);
    else if (S_ISLNK(st.st_mode))
        r = copy_symlink(from_dir, name, to_dir, to_name);
    else
        r = mknodat(to_dir, to_name, st.st_mode, st.st_rdev) < 0 ? -errno : 0;
    if (r < 0)
        return r;
    _cleanup_close_ int from = openat(from_dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int to = openat(to_dir, to_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return from < 0 || to < 0 ? -errno : copy_attributes(from, to, &st);
}

/* ---- promotion ---- */

struct promotion {
    bool across; /* two file systems */
};

/* The marks of an entry and of all below it: left where they are, an overlay over the base would heed
 * them one day. */
static int clear_marks(int dir_fd, const char *name, mode_t mode, unsigned depth)
{
    int r = overlay_clear_marks(dir_fd, name);
    if (r < 0 || !S_ISDIR(mode))
        return r;
    if (depth >= CHANGES_DEPTH_MAX)
        return -ELOOP;
    _cleanup_close_ int fd = openat(dir_fd, name, dir_flags);
    struct dirent **names;
    if (fd < 0)
        return -errno;
    int count = overlay_names(fd, &names);
    r = count < 0 ? count : 0;
    for (int i = 0; i < count && r == 0; i++) {
        struct stat st;
        if (fstatat(fd, names[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            r = -errno;
        /* Within a directory that hides the base's, a whiteout hides nothing. */
        else if (S_ISCHR(st.st_mode) && st.st_rdev == 0)
            r = unlinkat(fd, names[i]->d_name, 0) < 0 ? -errno : 0;
        else
            r = clear_marks(fd, names[i]->d_name, st.st_mode, depth + 1);
    }
    overlay_free_names(names, count);
    return r;
}

/* Over two file systems. */
static int promote_copy(int upper_fd, int base_fd, const char *name)
{
    int r = tree_remove(base_fd, ASIDE);
    if (r < 0 && r != -ENOENT)
        return r;
    r = copy_tree(upper_fd, name, base_fd, ASIDE, 0);
    return r == 0 && renameat(base_fd, ASIDE, base_fd, name) < 0 ? -errno : r;
}

static int promote_full(const struct promotion *promotion, int upper_fd, int base_fd, const char *name,
                        const struct overlay_entry *entry)
{
    int r = 0;
    /* rename(2) replaces a file by a file, and no directory by anything but an empty one. */
    if (entry->base_is_dir || (entry->in_base && S_ISDIR(entry->st.st_mode)))
        r = tree_remove(base_fd, name);
    if (r == 0)
        r = clear_marks(upper_fd, name, entry->st.st_mode, 0);
    if (r < 0)
        return r;
    if (promotion->across)
        return promote_copy(upper_fd, base_fd, name);
    return renameat(upper_fd, name, base_fd, name) < 0 ? -errno : 0;
}

static int promote_dir(const struct promotion *promotion, int upper_fd, int base_fd, unsigned depth);

static int promote_merged(const struct promotion *promotion, int upper_fd, int base_fd,
                          const char *name, const struct overlay_entry *entry, unsigned depth)
{
    if (depth >= CHANGES_DEPTH_MAX)
        return -ELOOP;
    _cleanup_close_ int upper = openat(upper_fd, name, dir_flags);
    _cleanup_close_ int base = openat(base_fd, name, dir_flags);
    if (upper < 0 || base < 0)
        return -errno;
    int r = promote_dir(promotion, upper, base, depth + 1);
    if (r == 0)
        r = overlay_clear_marks(upper_fd, name);
    if (r == 0)
        r = copy_attributes(upper, base, &entry->st);
    if (r < 0 || promotion->across)
        return r;
    return unlinkat(upper_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int promote_entry(const struct promotion *promotion, int upper_fd, int base_fd, const char *name,
                         unsigned depth)
{
    struct overlay_entry entry;
    int r = overlay_look(upper_fd, base_fd, name, &entry);
    if (r < 0)
        return r;
    switch (entry.kind) {
    case OVERLAY_WHITEOUT:
        r = entry.in_base ? tree_remove(base_fd, name) : 0;
        if (r == 0 && !promotion->across && unlinkat(upper_fd, name, 0) < 0)
            r = -errno;
        return r;
    case OVERLAY_MERGED:
        return promote_merged(promotion, upper_fd, base_fd, name, &entry, depth);
    default:
        return promote_full(promotion, upper_fd, base_fd, name, &entry);
    }
}

static int promote_dir(const struct promotion *promotion, int upper_fd, int base_fd, unsigned depth)
{
    struct dirent **names;
    int count = overlay_names(upper_fd, &names), r = count < 0 ? count : 0;
    for (int i = 0; i < count && r == 0; i++)
        r = promote_entry(promotion, upper_fd, base_fd, names[i]->d_name, depth);
    overlay_free_names(names, count);
    return r;
}

static int promote_all(struct changes *changes)
{
    struct stat upper, base;
    if (fstat(changes->upper_fd, &upper) < 0 || fstat(changes->base_fd, &base) < 0)
        return -errno;
    const struct promotion promotion = {.across = upper.st_dev != base.st_dev};
    /* A name must not reach the disk before its content. */
    if (syncfs(changes->upper_fd) < 0)
        return -errno;
    int r = promote_dir(&promotion, changes->upper_fd, changes->base_fd, 0);
    if (r == 0)
        r = overlay_clear_marks(changes->fd, CHANGES_UPPER);
    if (r == 0)
        r = copy_attributes(changes->upper_fd, changes->base_fd, &upper);
    return r == 0 && syncfs(changes->base_fd) < 0 ? -errno : r;
}

int changes_promote(struct changes *changes, struct dayfly_err *err)
{
    int r = changes->upper_fd >= 0 ? promote_all(changes) : 0;
    if (r < 0)
        return err_errno(
            err, -r,
            "promote the changes of %s (nothing of them is lost: mend the cause and promote "
            "again)",
            changes->base);
    return changes_drop(changes, err);
}
