/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Operations on names. A name is one component (request_name), used with the descriptor of its
 * directory, so nothing can lead out of it; what is created is created by an exclusive call, what is
 * found is found by inode_lookup, which follows no symbolic link.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/iov.h"

#define FORGET_BATCH 64

/* -- look-ups ------------------------------------------------------------------------------------ */

/* "." and "..": asked for by the guest's NFS server and by open_by_handle_at there. */
static int lookup_dots(struct request *r, bool parent)
{
    struct inode_table *inodes = r->fs->inodes;
    struct inode_ref ref = {.fd = -1};
    struct fuse_entry_out entry;
    struct statx stx;
    int rc = parent ? inode_parent(inodes, &r->node, &ref) : inode_get(inodes, r->node.nodeid, &ref);
    if (rc == 0)
        rc = node_stat(r, &ref, &stx);
    if (rc == 0) {
        inode_count(inodes, &ref);
        entry_fill(r, &r->node, &ref, &stx, &entry);
        rc = request_reply(r, &entry, sizeof(entry));
    }
    inode_put(inodes, &ref);
    return rc;
}

int op_lookup(struct request *r)
{
    char name[FS_NAME_MAX + 1];
    int rc = request_text(r, name, sizeof(name));
    if (rc < 0)
        return rc;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return lookup_dots(r, name[1] == '.');
    if (strchr(name, '/'))
        return -EINVAL;
    foresight_looked_up(&r->fs->foresight, r->in.nodeid, name, strlen(name));
    rc = entry_reply(r, name);
    if (rc == -ENOENT && r->fs->cache != FS_CACHE_NONE) {
        /* Node id 0: there is none, and that may be believed for a while as well. */
        struct fuse_entry_out none = {.entry_valid = attr_seconds(r->fs)};
        return request_reply(r, &none, sizeof(none));
    }
    return rc;
}

int op_forget(struct request *r)
{
    struct fuse_forget_in in;
    int rc = request_args(r, &in);
    if (rc == 0)
        inode_forget(r->fs->inodes, r->in.nodeid, in.nlookup);
    return rc;
}

int op_batch_forget(struct request *r)
{
    struct fuse_batch_forget_in in;
    int rc = request_args(r, &in);
    if (rc < 0)
        return rc;
    uint64_t left = MIN(in.count, request_left(r) / sizeof(struct fuse_forget_one));
    while (left > 0) {
        struct fuse_forget_one batch[FORGET_BATCH];
        size_t n = MIN(left, FORGET_BATCH);
        rc = request_bytes(r, batch, n * sizeof(batch[0]));
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < n; i++)
            inode_forget(r->fs->inodes, batch[i].nodeid, batch[i].nlookup);
        left -= n;
    }
    return 0;
}

int op_readlink(struct request *r)
{
    char target[PATH_MAX];
    if (!S_ISLNK(r->node.type))
        return -EINVAL;
    int rc = inode_open(r->fs->inodes, &r->node);
    if (rc < 0)
        return rc;
    ssize_t len = readlinkat(r->node.fd, "", target, sizeof(target));
    if (len < 0)
        return -errno;
    return request_reply(r, target, MIN((uint64_t)len, request_room(r)));
}

/* -- making names -------------------------------------------------------------------------------- */

bool keeps_setid(const struct export *export)
{
    return export->idmap.kind != FS_IDMAP_SQUASH;
}

static mode_t stored_mode(const struct request *r, uint32_t mode)
{
    mode &= 07777;
    return keeps_setid(r->node.export) ? mode : mode & ~(uint32_t)(S_ISUID | S_ISGID);
}

/* What every creation needs: the directory open, umask and group of the guest's process. */
static int begin_create(struct request *r, uint32_t umask_bits, struct request_extensions *ext)
{
    int rc = request_extensions(r, ext);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc == 0 && ext->group != UINT32_MAX)
        rc = fs_thread_supplementary(r->thread, r->node.export, ext->group);
    if (rc == 0)
        fs_thread_umask(r->thread, umask_bits);
    return rc;
}

/* The reply of what has a new name. A label that cannot be stored undoes it (flags: AT_REMOVEDIR). */
static int end_create(struct request *r, const char *name, const struct request_extensions *ext,
                      int undo_flags)
{
    if (ext->label_bytes > 0) {
        _cleanup_close_ int fd = openat(r->node.fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        int rc = fd < 0 ? -errno : xattr_set_label(r, fd, ext);
        if (rc < 0) {
            unlinkat(r->node.fd, name, undo_flags);
            return rc;
        }
    }
    return entry_reply(r, name);
}

/* Device nodes are for who is root on the host too; a whiteout (overlayfs) is none. */
static bool may_make_node(const struct export *export, mode_t type, dev_t device)
{
    if (S_ISCHR(type) && device == 0)
        return true;
    if (S_ISCHR(type) || S_ISBLK(type))
        return export->idmap.kind == FS_IDMAP_IDENTITY;
    return S_ISREG(type) || S_ISFIFO(type) || S_ISSOCK(type);
}

int op_mknod(struct request *r)
{
    char name[FS_NAME_MAX + 1];
    struct fuse_mknod_in in;
    struct request_extensions ext;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_name(r, name);
    if (rc == 0)
        rc = begin_create(r, in.umask, &ext);
    if (rc < 0)
        return rc;
    mode_t type = in.mode & S_IFMT ?: S_IFREG;
    dev_t device = S_ISCHR(type) || S_ISBLK(type) ? device_from_wire(in.rdev) : 0;
    if (!may_make_node(r->node.export, type, device))
        return -EPERM;
    if (mknodat(r->node.fd, name, type | stored_mode(r, in.mode), device) < 0)
        return -errno;
    return end_create(r, name, &ext, 0);
}

int op_mkdir(struct request *r)
{
    char name[FS_NAME_MAX + 1];
    struct fuse_mkdir_in in;
    struct request_extensions ext;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_name(r, name);
    if (rc == 0)
        rc = begin_create(r, in.umask, &ext);
    if (rc < 0)
        return rc;
    if (mkdirat(r->node.fd, name, in.mode & 07777) < 0)
        return -errno;
    return end_create(r, name, &ext, AT_REMOVEDIR);
}

int op_symlink(struct request *r)
{
    char name[FS_NAME_MAX + 1], target[PATH_MAX];
    struct request_extensions ext;
    int rc = request_name(r, name);
    if (rc == 0)
        rc = request_text(r, target, sizeof(target));
    if (rc == 0)
        rc = begin_create(r, r->thread->umask, &ext);
    if (rc < 0)
        return rc;
    if (symlinkat(target, r->node.fd, name) < 0)
        return -errno;
    return end_create(r, name, &ext, 0);
}

/* The other directory of a request that has two: opened, and of the same export. */
static int other_node(struct request *r, uint64_t nodeid, struct inode_ref *ref)
{
    int rc = inode_get(r->fs->inodes, nodeid, ref);
    if (rc < 0)
        return rc;
    if (ref->export != r->node.export)
        return -EXDEV;
    rc = inode_open(r->fs->inodes, ref);
    return rc < 0 ? rc : act_on(r, ref);
}

int op_link(struct request *r)
{
    char name[FS_NAME_MAX + 1], path[FS_FD_PATH_BYTES];
    struct fuse_link_in in;
    struct inode_ref old = {.fd = -1};
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_name(r, name);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc == 0)
        rc = other_node(r, in.oldnodeid, &old);
    /* By the descriptor's name in /proc, since AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH. */
    if (rc == 0 && S_ISDIR(old.type))
        rc = -EPERM;
    if (rc == 0 && linkat(AT_FDCWD, fs_fd_path(old.fd, path), r->node.fd, name, AT_SYMLINK_FOLLOW) < 0)
        rc = -errno;
    inode_put(r->fs->inodes, &old);
    return rc < 0 ? rc : entry_reply(r, name);
}

/* -- removing and moving names ------------------------------------------------------------------- */

static int remove_name(struct request *r, int flags)
{
    char name[FS_NAME_MAX + 1];
    int rc = request_name(r, name);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc < 0)
        return rc;
    inode_unlinking(r->fs->inodes, &r->node, name);
    if (unlinkat(r->node.fd, name, flags) < 0) {
        rc = -errno;
        inode_unlink_failed(r->fs->inodes, &r->node, name, rc);
    }
    return rc;
}

int op_unlink(struct request *r)
{
    return remove_name(r, 0);
}

int op_rmdir(struct request *r)
{
    return remove_name(r, AT_REMOVEDIR);
}

static int rename_to(struct request *r, uint64_t newdir, uint32_t flags)
{
    char from[FS_NAME_MAX + 1], to[FS_NAME_MAX + 1];
    struct inode_table *inodes = r->fs->inodes;
    struct inode_ref dir = {.fd = -1};
    bool over = !(flags & (RENAME_EXCHANGE | RENAME_NOREPLACE));
    if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
        return -EINVAL;
    int rc = request_name(r, from);
    if (rc == 0)
        rc = request_name(r, to);
    if (rc == 0)
        rc = inode_open(inodes, &r->node);
    if (rc == 0)
        rc = other_node(r, newdir, &dir);
    if (rc == 0) {
        if (over)
            inode_unlinking(inodes, &dir, to);
        if (renameat2(r->node.fd, from, dir.fd, to, flags) < 0) {
            rc = -errno;
            if (over)
                inode_unlink_failed(inodes, &dir, to, rc);
        } else {
            inode_renamed(inodes, &r->node, from, &dir, to, flags & RENAME_EXCHANGE);
        }
    }
    inode_put(inodes, &dir);
    return rc;
}

int op_rename(struct request *r)
{
    struct fuse_rename_in in;
    int rc = request_args(r, &in);
    return rc < 0 ? rc : rename_to(r, in.newdir, 0);
}

int op_rename2(struct request *r)
{
    struct fuse_rename2_in in;
    int rc = request_args(r, &in);
    return rc < 0 ? rc : rename_to(r, in.newdir, in.flags);
}

/* -- new open files ------------------------------------------------------------------------------ */

/* What CREATE and TMPFILE have in common once `fd` is open: node, entry and handle. fd is taken. */
static int end_open(struct request *r, const char *name, int fd, uint32_t flags,
                    const struct request_extensions *ext)
{
    struct inode_ref ref = {.fd = -1};
    struct statx stx;
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = {0};
    int rc = ext->label_bytes > 0 ? xattr_set_label(r, fd, ext) : 0;
    if (rc == 0)
        rc = inode_adopt(r->fs->inodes, &r->node, name, fd, &ref, &stx);
    if (rc < 0) {
        close(fd);
        if (name)
            unlinkat(r->node.fd, name, 0);
        return rc;
    }
    entry_fill(r, &r->node, &ref, &stx, &out.entry);
    rc = open_reply_fill(r, &ref, fd, flags, true, &out.open);
    if (rc < 0)
        inode_forget(r->fs->inodes, ref.nodeid, 1);
    inode_put(r->fs->inodes, &ref);
    return rc < 0 ? rc : request_reply(r, &out, sizeof(out));
}

/*
 * Only ever a new file. When the name exists although the guest saw none, somebody else has just made
 * it, and the guest has not checked whether its user may open it: ESTALE makes its kernel look the name
 * up again (LOOKUP_REVAL) and open what it finds in the ordinary way.
 */
int op_create(struct request *r)
{
    char name[FS_NAME_MAX + 1];
    struct fuse_create_in in;
    struct request_extensions ext;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_name(r, name);
    if (rc == 0)
        rc = open_table_check(&r->fs->files);
    if (rc == 0)
        rc = begin_create(r, in.umask, &ext);
    if (rc < 0)
        return rc;
    int flags = host_open_flags(r, in.flags) | O_CREAT | O_EXCL | O_NOFOLLOW;
    int fd = openat(r->node.fd, name, flags, stored_mode(r, in.mode));
    if (fd < 0)
        return errno == EEXIST && !(in.flags & O_EXCL) ? -ESTALE : -errno;
    return end_open(r, name, fd, in.flags, &ext);
}

int op_tmpfile(struct request *r)
{
    char unused[FS_NAME_MAX + 1];
    struct fuse_create_in in;
    struct request_extensions ext;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_text(r, unused, sizeof(unused));
    if (rc == 0)
        rc = open_table_check(&r->fs->files);
    if (rc == 0)
        rc = begin_create(r, in.umask, &ext);
    if (rc < 0)
        return rc;
    int flags = (host_open_flags(r, in.flags) & ~O_TRUNC) | O_TMPFILE | (in.flags & O_EXCL);
    int fd = openat(r->node.fd, ".", flags, stored_mode(r, in.mode));
    return fd < 0 ? -errno : end_open(r, NULL, fd, in.flags, &ext);
}
