/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done with inodes. See inode.h; memory is inode_table.c's, descriptors inode_open.c's. */
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/inode_table.h"
#include "util/arith.h"

int inode_check_name(const char *name)
{
    size_t len = strnlen(name, FS_NAME_MAX + 1);
    if (len > FS_NAME_MAX)
        return -ENAMETOOLONG;
    if (len == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || memchr(name, '/', len))
        return -EINVAL;
    return 0;
}

/* -- references --------------------------------------------------------------------------------------
 */

/* Locked. */
static void take(struct inode *inode, struct inode_ref *ref)
{
    inode->refs++;
    *ref = (struct inode_ref){.inode = inode,
                              .export = inode->export,
                              .nodeid = inode->nodeid,
                              .type = inode->type,
                              .fd = -1};
}

/* Locked. */
static void count_lookup(struct inode *inode)
{
    if (!inode_is_root(inode) && inode->lookups++ == 0)
        inode->refs++;
}

int inode_get(struct inode_table *table, uint64_t nodeid, struct inode_ref *ref)
{
    *ref = (struct inode_ref){.fd = -1};
    table_lock(table);
    struct inode *inode = table_by_id(table, nodeid);
    bool known = inode && (inode->lookups > 0 || inode_is_root(inode));
    if (known)
        take(inode, ref);
    table_unlock(table);
    return known ? 0 : -ESTALE;
}

void inode_put(struct inode_table *table, struct inode_ref *ref)
{
    if (!ref->inode)
        return;
    table_lock(table);
    if (ref->fd >= 0)
        held_unpin(table, ref->inode);
    inode_unref(table, ref->inode);
    table_unlock(table);
    *ref = (struct inode_ref){.fd = -1};
}

int inode_open(struct inode_table *table, struct inode_ref *ref)
{
    if (ref->fd >= 0)
        return 0;
    if (!ref->export)
        return -EPERM;
    return held_pin(table, ref->inode, &ref->fd);
}

void inode_count(struct inode_table *table, struct inode_ref *ref)
{
    table_lock(table);
    count_lookup(ref->inode);
    table_unlock(table);
}

void inode_forget(struct inode_table *table, uint64_t nodeid, uint64_t lookups)
{
    table_lock(table);
    struct inode *inode = table_by_id(table, nodeid);
    if (inode && inode->lookups > 0) { /* never a root's */
        inode->lookups -= MIN(lookups, inode->lookups);
        if (inode->lookups == 0)
            inode_unref(table, inode);
    }
    table_unlock(table);
}

/* -- looks at files ----------------------------------------------------------------------------------
 */

static int stat_fd(int fd, struct statx *stx)
{
    return statx(fd, "", AT_EMPTY_PATH, IDENTITY_MASK, stx) < 0 ? -errno : 0;
}

static int stat_name(int dirfd, const char *name, struct statx *stx)
{
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
    return statx(dirfd, name, flags, IDENTITY_MASK, stx) < 0 ? -errno : 0;
}

/* Where the root of another mount is found, its file system says whether births count. */
static int look_across(int dirfd, const char *name, struct statx *stx, bool *births)
{
    int fd = open_beneath(dirfd, name);
    if (fd < 0)
        return fd;
    int rc = stat_fd(fd, stx);
    *births = births_reliable(fd);
    close(fd);
    return rc;
}

/* Something that was seen: what it is, and where. */
struct sighting {
    struct inode *dir;
    const char *name; /* NULL: it has none */
    bool births;
    const struct statx *stx;
};

/* The inode that was seen, with one look-up counted; made if it was not known. */
static int sight(struct inode_table *table, const struct sighting *seen, struct inode_ref *ref)
{
    const struct export *export = seen->dir->export;
    struct inode_identity identity = identity_of(seen->stx, seen->births);
    mode_t type = seen->stx->stx_mode & S_IFMT;
    char *name = NULL;
    if (seen->name && !(name = strdup(seen->name)))
        return -ENOMEM;

    table_lock(table);
    struct inode *inode = table_by_identity(table, export, &identity, type);
    if (!inode) {
        inode = inode_make(export, &identity, type, seen->births);
        if (inode && table_insert(table, inode) < 0) {
            free(inode);
            inode = NULL;
        }
    }
    if (inode) {
        take(inode, ref);
        count_lookup(inode);
    }
    if (inode && name)
        place_set(table, inode, seen->dir, name);
    else
        free(name);
    table_unlock(table);
    return inode ? 0 : -ENOMEM;
}

static int lookup_export(struct inode_table *table, const char *name, struct inode_ref *ref,
                         struct statx *stx)
{
    for (unsigned i = 0; i < table->export_count; i++) {
        const struct export *export = &table->exports[i];
        if (strcmp(export->name, name) != 0)
            continue;
        int rc = stat_fd(export->fd, stx);
        if (rc < 0)
            return rc;
        table_lock(table);
        take(export->root, ref);
        table_unlock(table);
        return 0;
    }
    return -ENOENT;
}

int inode_lookup(struct inode_table *table, struct inode_ref *dir, const char *name,
                 struct inode_ref *ref, struct statx *stx)
{
    *ref = (struct inode_ref){.fd = -1};
    int rc = inode_check_name(name);
    if (rc < 0)
        return rc;
    if (dir->type != S_IFDIR)
        return -ENOTDIR;
    if (!dir->export)
        return lookup_export(table, name, ref, stx);
    rc = inode_open(table, dir);
    if (rc < 0)
        return rc;
    struct sighting seen = {dir->inode, name, dir->inode->births, stx};
    rc = stat_name(dir->fd, name, stx);
    if (rc == 0 && stx->stx_mnt_id != dir->inode->identity.mount)
        rc = look_across(dir->fd, name, stx, &seen.births);
    return rc < 0 ? rc : sight(table, &seen, ref);
}

int inode_adopt(struct inode_table *table, struct inode_ref *dir, const char *name, int fd,
                struct inode_ref *ref, struct statx *stx)
{
    *ref = (struct inode_ref){.fd = -1};
    int rc = name ? inode_check_name(name) : 0;
    if (rc == 0 && (!dir->export || dir->type != S_IFDIR))
        rc = -ENOTDIR;
    if (rc == 0)
        rc = stat_fd(fd, stx);
    if (rc < 0)
        return rc;
    struct sighting seen = {dir->inode, name, dir->inode->births, stx};
    if (stx->stx_mnt_id != dir->inode->identity.mount)
        seen.births = births_reliable(fd);
    rc = sight(table, &seen, ref);
    if (rc == 0 && !name) {
        rc = held_adopt(table, ref->inode, fd);
        if (rc < 0) {
            inode_forget(table, ref->nodeid, 1);
            inode_put(table, ref);
        }
    }
    return rc;
}

int inode_stat(struct inode_table *table, struct inode_ref *ref, struct statx *stx)
{
    if (!ref->export)
        return -EPERM;
    struct inode *inode = ref->inode;
    struct inode_ref parent = {.fd = -1};
    char name[FS_NAME_MAX + 1];
    if (ref->fd < 0) {
        table_lock(table);
        if (!held_pin_cached(inode, &ref->fd) && inode->parent) {
            take(inode->parent, &parent);
            strcpy(name, inode->name);
        }
        table_unlock(table);
    }
    if (parent.inode) {
        /* Its directory rather than itself: that serves what lies beside it as well. */
        int rc = inode_open(table, &parent);
        if (rc == 0)
            rc = stat_name(parent.fd, name, stx);
        inode_put(table, &parent);
        if (rc == 0 && (stx->stx_mode & S_IFMT) == inode->type) {
            struct inode_identity identity = identity_of(stx, inode->births);
            if (identity_equal(&identity, &inode->identity))
                return 0;
        }
    }
    int rc = inode_open(table, ref);
    return rc < 0 ? rc : stat_fd(ref->fd, stx);
}

int inode_parent(struct inode_table *table, struct inode_ref *dir, struct inode_ref *ref)
{
    *ref = (struct inode_ref){.fd = -1};
    if (dir->type != S_IFDIR)
        return -ENOTDIR;
    struct inode *parent = table->root;
    struct statx stx;
    if (!inode_is_root(dir->inode)) {
        /* Where it is now, if the guest has been there. Nothing is opened, so that a directory which
         * the host moved out of the export leads nowhere. */
        int rc = inode_open(table, dir);
        if (rc == 0)
            rc = stat_name(dir->fd, "..", &stx);
        if (rc < 0)
            return rc;
        parent = NULL;
    }
    table_lock(table);
    for (int births = 0; !parent && births < 2; births++) {
        struct inode_identity identity = identity_of(&stx, births);
        parent = table_by_identity(table, dir->export, &identity, S_IFDIR);
    }
    if (parent)
        take(parent, ref);
    table_unlock(table);
    return parent ? 0 : -ESTALE;
}

/* -- what the guest does -----------------------------------------------------------------------------
 */

void inode_opened(struct inode_table *table, struct inode_ref *ref)
{
    table_lock(table);
    ref->inode->opens++;
    held_keep(table, ref->inode, KEPT_OPEN, false);
    table_unlock(table);
}

void inode_closed(struct inode_table *table, uint64_t nodeid)
{
    table_lock(table);
    struct inode *inode = table_by_id(table, nodeid);
    if (inode && inode->opens > 0 && --inode->opens == 0)
        held_release(table, inode, KEPT_OPEN);
    table_unlock(table);
}

void inode_unlinking(struct inode_table *table, struct inode_ref *dir, const char *name)
{
    struct inode_ref ref = {.fd = -1};
    table_lock(table);
    struct inode *inode = table_by_place(table, dir->inode, name);
    if (inode) {
        /* What else is in use the guest's kernel does not tell: a working directory, an open FIFO. */
        bool used = inode->opens > 0 || inode->type != S_IFREG || table->writeback;
        if (!held_keep(table, inode, KEPT_GONE, used) && used)
            take(inode, &ref);
    }
    table_unlock(table);
    if (!ref.inode)
        return;
    if (inode_open(table, &ref) == 0) {
        table_lock(table);
        held_keep(table, ref.inode, KEPT_GONE, true);
        table_unlock(table);
    }
    inode_put(table, &ref);
}

void inode_unlink_failed(struct inode_table *table, struct inode_ref *dir, const char *name, int error)
{
    if (error == -ENOENT) /* somebody else was faster */
        return;
    table_lock(table);
    struct inode *inode = table_by_place(table, dir->inode, name);
    if (inode)
        held_release(table, inode, KEPT_GONE);
    table_unlock(table);
}

/* Locked. `name` is taken; NULL: there was no memory for it, and the guest has to look again. */
static void move(struct inode_table *table, struct inode *inode, struct inode *dir, char *name)
{
    if (inode && name && inode->export == dir->export)
        place_set(table, inode, dir, name);
    else
        free(name);
}

/* Locked. NULL is legal, as for inode_unref. */
static void hold(struct inode *inode)
{
    if (inode)
        inode->refs++;
}

void inode_renamed(struct inode_table *table, struct inode_ref *from, const char *from_name,
                   struct inode_ref *to, const char *to_name, bool exchanged)
{
    char *there = strdup(to_name), *back = exchanged ? strdup(from_name) : NULL;
    table_lock(table);
    struct inode *moved = table_by_place(table, from->inode, from_name);
    struct inode *other = table_by_place(table, to->inode, to_name);
    /* What the guest forgot is here because something is remembered in it. That may end on the way. */
    hold(moved);
    hold(other);
    if (moved)
        place_clear(table, moved);
    if (other)
        place_clear(table, other);
    move(table, moved, to->inode, there);
    move(table, exchanged ? other : NULL, from->inode, back);
    inode_unref(table, moved);
    inode_unref(table, other);
    table_unlock(table);
}

bool inode_is_submount(struct inode_table *table, const struct inode_ref *dir,
                       const struct inode_ref *ref)
{
    if (ref->type != S_IFDIR)
        return false;
    return dir->export != ref->export || dir->inode->identity.mount != ref->inode->identity.mount ||
           dir->inode->identity.dev != ref->inode->identity.dev;
}
