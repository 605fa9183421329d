/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors of inodes: a bounded cache, and how an inode without one is found again.
 *
 * A descriptor is pinned while an inode_ref uses it, and for longer where it is, or may become, the
 * only way to a file (kept). Others are idle, and the least recently used is closed first. Pinned ones
 * may pass fds_max, since a request under way must end; at fds_hard it fails with ENFILE.
 *
 * An inode is opened by its handle, which it gets when it was opened first, else by name in its
 * directory, which may have to be opened first in the same way, and so on up to a root. Whatever was
 * opened is the inode only if its identity is the one remembered. Two threads may open the same inode
 * at once; the second one's descriptor is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/inode_table.h"
#include "fs/thread.h"
#include "util/cleanup.h"

int open_beneath(int dirfd, const char *name)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
    if (fd >= 0)
        return fd;
    /* EXDEV: it was there, and somebody moved it out of the directory meanwhile. */
    return errno == EXDEV ? -ENOENT : -errno;
}

bool births_reliable(int fd)
{
    struct statfs sfs;
    return fstatfs(fd, &sfs) == 0 && sfs.f_type != OVERLAYFS_SUPER_MAGIC;
}

/* -- the cache ---------------------------------------------------------------------------------------
 */

/* Locked: close idle ones until `keep` descriptors are left, or none is idle. */
static void evict_to(struct inode_table *table, unsigned keep)
{
    while (table->held_count > keep && !list_empty(&table->idle))
        held_drop(table, list_entry(table->idle.next, struct held, node)->inode);
}

/* `fd` is taken. */
static int make_held(int fd, struct held **out)
{
    struct held *held = malloc(sizeof(*held));
    if (!held) {
        close(fd);
        return -ENOMEM;
    }
    *held = (struct held){.fd = fd};
    list_init(&held->node);
    *out = held;
    return 0;
}

static void pin(struct held *held)
{
    if (held->pins++ == 0)
        list_remove(&held->node);
}

bool held_pin_cached(struct inode *inode, int *fd)
{
    if (inode_is_root(inode)) {
        *fd = inode->export->fd;
        return true;
    }
    if (!inode->held)
        return false;
    pin(inode->held);
    *fd = inode->held->fd;
    return true;
}

void held_unpin(struct inode_table *table, struct inode *inode)
{
    if (inode_is_root(inode) || --inode->held->pins > 0)
        return;
    list_append(&table->idle, &inode->held->node);
    evict_to(table, table->fds_max);
}

/* Locked: `held` becomes the inode's, pinned once, or dies because another thread was faster. */
static int install(struct inode_table *table, struct inode *inode, struct held *held)
{
    int rc = 0;
    if (!inode->held) {
        evict_to(table, table->fds_max - 1);
        if (table->held_count < table->fds_hard) {
            table->held_count++;
            held->inode = inode;
            inode->held = held;
            pin(held);
            return 0;
        }
        rc = -ENFILE;
    } else {
        pin(inode->held);
    }
    list_append(&table->dead, &held->node);
    return rc;
}

void held_drop(struct inode_table *table, struct inode *inode)
{
    struct held *held = inode->held;
    if (!held)
        return;
    if (inode->kept)
        table->kept_count--;
    inode->kept = 0;
    inode->held = NULL;
    table->held_count--;
    list_remove(&held->node);
    list_append(&table->dead, &held->node);
}

bool held_keep(struct inode_table *table, struct inode *inode, unsigned reason, bool urgent)
{
    unsigned room = urgent ? table->fds_max : table->fds_max / 2;
    if (inode_is_root(inode))
        return true;
    if (!inode->kept) {
        if (!inode->held || table->kept_count >= room)
            return false;
        pin(inode->held);
        table->kept_count++;
    }
    inode->kept |= reason;
    return true;
}

void held_release(struct inode_table *table, struct inode *inode, unsigned reason)
{
    if (!inode->kept || (inode->kept &= ~reason))
        return;
    table->kept_count--;
    held_unpin(table, inode);
}

/* -- opening -----------------------------------------------------------------------------------------
 */

/* What one opening needs of the table's memory, so that it can run without the lock. */
struct way {
    struct inode *inode;
    struct inode *parent; /* pinned; NULL: by handle */
    int parent_fd;
    union {
        char name[FS_NAME_MAX + 1];
        union handle handle;
    };
};

/* Locked: the first inode to open on the way down to `inode`. Takes references. */
static bool find_way(struct inode *inode, struct way *way)
{
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        way->inode = inode;
        way->parent = NULL;
        if (inode->handle) {
            memcpy(&way->handle, inode->handle, sizeof(*inode->handle) + inode->handle->handle_bytes);
            inode->refs++;
            return true;
        }
        if (!inode->parent)
            return false;
        if (held_pin_cached(inode->parent, &way->parent_fd)) {
            way->parent = inode->parent;
            strcpy(way->name, inode->name);
            way->parent->refs++;
            inode->refs++;
            return true;
        }
        inode = inode->parent;
    }
    return false;
}

/* Locked: give a pin and a reference back. NULL is legal. */
static void let_go(struct inode_table *table, struct inode *inode)
{
    if (!inode)
        return;
    held_unpin(table, inode);
    inode_unref(table, inode);
}

/* To a handle of a file that is gone, whose inode number another file is being made with, Linux answers
 * ENOMEM until that file is made (iget_locked), and only then ESTALE: it is asked again, for 8 ms at
 * most. */
static int open_handle(const struct export *export, const union handle *handle)
{
    for (unsigned wait_us = 31;; wait_us *= 2) {
        /* The kernel's interface is not const; it writes nothing. */
        int fd =
            open_by_handle_at(export->mount_fd, (struct file_handle *)&handle->fh, O_PATH | O_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno != ENOMEM || wait_us > 4000)
            return -errno;
        usleep(wait_us);
    }
}

static int open_way(const struct way *way)
{
    return way->parent ? open_beneath(way->parent_fd, way->name)
                       : open_handle(way->inode->export, &way->handle);
}

/* Where the process has no descriptor left, half of the idle ones are closed, for one more try. */
static int open_way_evicting(struct inode_table *table, const struct way *way)
{
    int fd = open_way(way);
    if (fd != -EMFILE && fd != -ENFILE)
        return fd;
    table_lock(table);
    evict_to(table, table->held_count / 2);
    table_unlock(table);
    return open_way(way);
}

static int check_identity(const struct inode *inode, int fd)
{
    struct statx stx;
    if (statx(fd, "", AT_EMPTY_PATH, IDENTITY_MASK, &stx) < 0)
        return -errno;
    struct inode_identity identity = identity_of(&stx, inode->births);
    bool same = (stx.stx_mode & S_IFMT) == inode->type && identity_equal(&identity, &inode->identity);
    return same ? 0 : -ESTALE;
}

/* How to find again what a name led to. NULL: only by a name. */
static struct file_handle *make_handle(const struct inode *inode, int fd)
{
    union handle handle = {.fh.handle_bytes = MAX_HANDLE_SZ};
    const struct export *export = inode->export;
    int mount_id;
    if (!export->by_handle || inode->identity.mount != export->root->identity.mount ||
        name_to_handle_at(fd, "", &handle.fh, &mount_id, AT_EMPTY_PATH) < 0)
        return NULL;
    size_t bytes = sizeof(handle.fh) + handle.fh.handle_bytes;
    struct file_handle *copy = malloc(bytes);
    return copy ? memcpy(copy, &handle, bytes) : NULL;
}

/* Not locked. */
static int open_held(struct inode_table *table, const struct way *way, struct held **out)
{
    int fd = open_way_evicting(table, way);
    if (fd < 0)
        return fd == -ENOENT ? -ESTALE : fd;
    int rc = check_identity(way->inode, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return make_held(fd, out);
}

/* Locked, but not while it opens. On success way->inode has a pin. A handle that does not open is
 * dropped: the next step goes by name. */
static int step(struct inode_table *table, struct way *way)
{
    struct inode *inode = way->inode;
    struct file_handle *handle = NULL;
    struct held *held;
    table_unlock(table);
    int rc = open_held(table, way, &held);
    if (rc == 0 && way->parent)
        handle = make_handle(inode, held->fd);
    table_lock(table);
    if (rc == 0) {
        if (!inode->handle)
            inode->handle = steal_ptr(&handle);
        rc = install(table, inode, held);
    } else if (!way->parent && (rc == -ESTALE || rc == -EPERM)) {
        free(inode->handle);
        inode->handle = NULL;
        rc = -EAGAIN;
    }
    free(handle);
    return rc;
}

int held_pin(struct inode_table *table, struct inode *inode, int *fd)
{
    struct inode *opened = NULL; /* the last one on the way, pinned until the next is open */
    int rc = -ESTALE;
    table_lock(table);
    /* Renames by other threads can lengthen the way while it is walked, but not for ever. */
    for (unsigned steps = 0; steps < 2 * DEPTH_MAX; steps++) {
        struct way way;
        if (held_pin_cached(inode, fd)) {
            rc = 0;
            break;
        }
        if (!find_way(inode, &way))
            break;
        int done = step(table, &way);
        let_go(table, way.parent);
        if (done == 0) {
            let_go(table, opened);
            opened = way.inode;
            continue;
        }
        inode_unref(table, way.inode);
        if (done != -EAGAIN) {
            rc = done;
            break;
        }
    }
    let_go(table, opened);
    table_unlock(table);
    return rc;
}

int held_adopt(struct inode_table *table, struct inode *inode, int fd)
{
    char name[FS_FD_PATH_BYTES];
    struct held *held;
    int path_fd = openat(table->proc_fd, fs_fd_path(fd, name), O_PATH | O_CLOEXEC);
    if (path_fd < 0)
        return -errno;
    int rc = make_held(path_fd, &held);
    if (rc < 0)
        return rc;
    table_lock(table);
    rc = install(table, inode, held);
    if (rc == 0) {
        rc = held_keep(table, inode, KEPT_GONE, true) ? 0 : -ENFILE;
        held_unpin(table, inode);
    }
    table_unlock(table);
    return rc;
}
