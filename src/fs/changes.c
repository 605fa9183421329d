/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory of changes as a whole: who holds it, what it is a difference of, its listing and its end.
 * Promotion is promote.c's. overlayfs's form (Documentation/filesystems/overlayfs.rst): a character
 * device 0:0 stands for a deleted file, an "opaque" mark for a directory that hides the one below it.
 */
#include "fs/changes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/overlay.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/tree.h"

#define ORIGIN     "origin"
#define ORIGIN_NEW "origin.new"
#define DROPPED    "dropped" /* an upper on its way out */

static int lock(int *fd, const char *path, struct dayfly_err *err)
{
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return err_errno(err, errno, "changes in %s", path);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    int code = errno == EWOULDBLOCK ? EBUSY : errno;
    close_fd(fd);
    return code == EBUSY ? err_set(err, EBUSY, "changes in %s: a sandbox is using them", path)
                         : err_errno(err, code, "changes in %s: lock", path);
}

/* The path in ORIGIN; -ENOENT when there is none. */
static int read_origin(int fd, char **base)
{
    size_t len;
    int r = io_read_file(fd, ORIGIN, PATH_MAX, base, &len);
    if (r == 0 && (len == 0 || strlen(*base) != len || **base != '/')) {
        free(steal_ptr(base));
        r = -EINVAL;
    }
    return r;
}

/* Remove what an earlier claim that was not finished left, and nothing else: such an upper directory is
 * empty, and so is what overlayfs has in its work directory. Whoever keeps an overlay of his own in the
 * same form loses nothing. */
static int clear_unfinished(int fd)
{
    static const char *const names[] = {CHANGES_WORK "/work", CHANGES_WORK "/index", CHANGES_WORK,
                                        CHANGES_UPPER_NEW, CHANGES_UPPER};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (unlinkat(fd, names[i], AT_REMOVEDIR) < 0 && errno != ENOENT)
            return errno == ENOTEMPTY || errno == ENOTDIR ? -EEXIST : -errno;
    return unlinkat(fd, ORIGIN_NEW, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static bool is_empty(int fd)
{
    struct dirent **names;
    int count = overlay_names(fd, &names);
    overlay_free_names(names, count);
    return count == 0;
}

static int clear(int fd)
{
    static const char *const names[] = {DROPPED,      CHANGES_UPPER, CHANGES_UPPER_NEW,
                                        CHANGES_WORK, ORIGIN_NEW,    ORIGIN};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int r = tree_remove(fd, names[i]);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    return 0;
}

int changes_claim(int *lock_fd, const char *path, const char *base, bool *fresh, struct dayfly_err *err)
{
    _cleanup_free_ char *wanted = realpath(base, NULL), *origin = NULL;
    _cleanup_close_ int fd = -1;
    if (!wanted)
        return err_errno(err, errno, "share %s", base);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "make the directory of changes %s", path);
    int r = lock(&fd, path, err);
    if (r < 0)
        return r;
    r = read_origin(fd, &origin);
    if (r < 0 && r != -ENOENT)
        return err_errno(err, -r, "changes in %s: read their origin", path);
    if (r == 0 && strcmp(origin, wanted) != 0)
        return err_set(
            err, EEXIST,
            "changes in %s are those of %s, not of %s; promote or drop them, or name another "
            "directory",
            path, origin, wanted);
    *fresh = r == -ENOENT;
    r = *fresh ? clear_unfinished(fd) : 0;
    if (r == -EEXIST || (*fresh && r == 0 && !is_empty(fd)))
        return err_set(
            err, EEXIST,
            "%s is not empty and holds no changes; name an empty directory, or one that does "
            "not exist",
            path);
    if (r < 0)
        return err_errno(err, -r, "clear %s", path);
    *lock_fd = steal_fd(&fd);
    return 0;
}

int changes_begin(int lock_fd, const char *base, struct dayfly_err *err)
{
    _cleanup_free_ char *path = realpath(base, NULL);
    _cleanup_close_ int fd =
        openat(lock_fd, ORIGIN_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (!path || fd < 0 || io_write_full(fd, path, strlen(path)) < 0 || fsync(fd) < 0 ||
        renameat(lock_fd, ORIGIN_NEW, lock_fd, ORIGIN) < 0)
        return err_errno(err, errno, "note the origin of the changes of %s", base);
    return 0;
}

int changes_open(struct changes *changes, const char *path, struct dayfly_err *err)
{
    *changes = (struct changes){.fd = -1, .upper_fd = -1, .base_fd = -1};
    int r = lock(&changes->fd, path, err);
    if (r < 0)
        return r;
    r = read_origin(changes->fd, &changes->base);
    if (r == -ENOENT)
        r = err_set(err, ENOENT, "%s holds no changes of a share", path);
    else if (r < 0)
        r = err_errno(err, -r, "changes in %s: read their origin", path);
    if (r == 0) {
        changes->base_fd = open(changes->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (changes->base_fd < 0)
            r = err_errno(err, errno, "changes in %s are those of %s", path, changes->base);
    }
    if (r == 0) {
        changes->upper_fd =
            openat(changes->fd, CHANGES_UPPER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (changes->upper_fd < 0 && errno != ENOENT)
            r = err_errno(err, errno, "changes in %s", path);
    }
    if (r < 0)
        changes_close(changes);
    return r;
}

void changes_close(struct changes *changes)
{
    if (!changes->base && changes->fd <= 0)
        return;
    close_fd(&changes->upper_fd);
    close_fd(&changes->base_fd);
    close_fd(&changes->fd);
    free(steal_ptr(&changes->base));
}

int changes_drop(struct changes *changes, struct dayfly_err *err)
{
    close_fd(&changes->upper_fd);
    /* One rename, and they are gone as a whole. */
    if (renameat(changes->fd, CHANGES_UPPER, changes->fd, DROPPED) < 0 && errno != ENOENT)
        return err_errno(err, errno, "drop the changes of %s", changes->base);
    int r = clear(changes->fd);
    return r < 0 ? err_errno(err, -r, "drop the changes of %s", changes->base) : 0;
}

/* ---- the listing ---- */

struct listing {
    change_fn *fn;
    void *opaque;
    char path[PATH_MAX]; /* of the entry at hand */
};

static int list_dir(struct listing *listing, int upper_fd, int base_fd, size_t len, unsigned depth);

static int list_entry(struct listing *listing, int upper_fd, int base_fd, const char *name, size_t len,
                      unsigned depth)
{
    struct overlay_entry entry;
    int n = snprintf(listing->path + len, sizeof(listing->path) - len, "%s%s", len ? "/" : "", name);
    if (n < 0 || (size_t)n >= sizeof(listing->path) - len)
        return -ENAMETOOLONG;
    int r = overlay_look(upper_fd, base_fd, name, &entry);
    if (r < 0)
        return r;
    switch (entry.kind) {
    case OVERLAY_WHITEOUT:
        return entry.in_base ? listing->fn(listing->opaque, CHANGE_DELETED, listing->path) : 0;
    case OVERLAY_MERGED:
        if (entry.attributes_differ)
            r = listing->fn(listing->opaque, CHANGE_MODIFIED, listing->path);
        break;
    default:
        r = listing->fn(listing->opaque, entry.in_base ? CHANGE_MODIFIED : CHANGE_ADDED, listing->path);
    }
    if (r != 0 || !S_ISDIR(entry.st.st_mode))
        return r;
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    _cleanup_close_ int below = -1, base_below = -1;
    if (depth >= CHANGES_DEPTH_MAX)
        return -ELOOP;
    if ((below = openat(upper_fd, name, flags)) < 0)
        return -errno;
    if (entry.kind == OVERLAY_MERGED && (base_below = openat(base_fd, name, flags)) < 0)
        return -errno;
    return list_dir(listing, below, base_below, len + (size_t)n, depth + 1);
}

static int list_dir(struct listing *listing, int upper_fd, int base_fd, size_t len, unsigned depth)
{
    struct dirent **entries;
    int count = overlay_names(upper_fd, &entries), r = count < 0 ? count : 0;
    for (int i = 0; i < count; i++) {
        if (r == 0)
            r = list_entry(listing, upper_fd, base_fd, entries[i]->d_name, len, depth);
        listing->path[len] = '\0';
    }
    overlay_free_names(entries, count);
    return r;
}

int changes_list(struct changes *changes, change_fn *fn, void *opaque, struct dayfly_err *err)
{
    struct listing listing = {.fn = fn, .opaque = opaque};
    if (changes->upper_fd < 0)
        return 0;
    int r = list_dir(&listing, changes->upper_fd, changes->base_fd, 0, 0);
    return r < 0 ? err_errno(err, -r, "list the changes of %s", changes->base) : r;
}
