/* SPDX-License-Identifier: Apache-2.0 */

/* Operations on attributes, and statistics of a file system. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "fs/server.h"

/* -- reading ------------------------------------------------------------------------------------- */

static int stat_fd(int fd, struct statx *stx)
{
    return statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, stx) < 0 ? -errno : 0;
}

/* A directory that is nowhere on the host. */
static void stat_made_up(struct statx *stx)
{
    *stx = (struct statx){
        .stx_mask = STATX_BASIC_STATS,
        .stx_ino = FUSE_ROOT_ID,
        .stx_mode = S_IFDIR | 0555,
        .stx_nlink = 2,
        .stx_blksize = 4096,
    };
}

int node_stat(struct request *r, struct inode_ref *ref, struct statx *stx)
{
    if (ref->export)
        return inode_stat(r->fs->inodes, ref, stx);
    stat_made_up(stx);
    return 0;
}

/* By the open file where the guest names one, which needs no path. A handle of another inode, or one
 * that is gone, is no reason to fail. */
static int stat_open(struct request *r, bool by_handle, uint64_t fh, struct statx *stx)
{
    struct open_file *file = NULL;
    if (!by_handle || fh == 0 || request_file(r, fh, &file) < 0 || file->fd < 0) {
        open_put(file);
        return node_stat(r, &r->node, stx);
    }
    int rc = stat_fd(file->fd, stx);
    open_put(file);
    return rc;
}

int op_getattr(struct request *r)
{
    struct fuse_getattr_in in;
    struct statx stx;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = stat_open(r, in.getattr_flags & FUSE_GETATTR_FH, in.fh, &stx);
    return rc < 0 ? rc : attr_reply(r, &stx);
}

static struct fuse_sx_time wire_time(const struct statx_timestamp *t)
{
    return (struct fuse_sx_time){.tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec};
}

int op_statx(struct request *r)
{
    struct fuse_statx_in in;
    struct statx stx;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = stat_open(r, in.getattr_flags & FUSE_GETATTR_FH, in.fh, &stx);
    if (rc < 0)
        return rc;
    struct fuse_attr attr;
    attr_fill(r->node.export, &stx, &attr);
    window_told(&r->fs->window, r->node.nodeid, stx.stx_size);
    struct fuse_statx_out out = {
        .attr_valid = attr_seconds(r->fs),
        .stat =
            {
                .mask = stx.stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
                .blksize = attr.blksize,
                .attributes = stx.stx_attributes & ~(uint64_t)STATX_ATTR_MOUNT_ROOT,
                .attributes_mask = stx.stx_attributes_mask & ~(uint64_t)STATX_ATTR_MOUNT_ROOT,
                .nlink = attr.nlink,
                .uid = attr.uid,
                .gid = attr.gid,
                .mode = stx.stx_mode,
                .ino = attr.ino,
                .size = attr.size,
                .blocks = attr.blocks,
                .atime = wire_time(&stx.stx_atime),
                .btime = wire_time(&stx.stx_btime),
                .ctime = wire_time(&stx.stx_ctime),
                .mtime = wire_time(&stx.stx_mtime),
                .rdev_major = stx.stx_rdev_major,
                .rdev_minor = stx.stx_rdev_minor,
            },
    };
    return request_reply(r, &out, sizeof(out));
}

/* The guest's kernel checks permissions itself (default_permissions), and asks no more after this. */
int op_access(struct request *r)
{
    return -ENOSYS;
}

int op_statfs(struct request *r)
{
    struct fuse_statfs_out out = {.st = {.bsize = 4096, .frsize = 4096, .namelen = FS_NAME_MAX}};
    if (r->node.export) {
        struct statfs st;
        int rc = inode_open(r->fs->inodes, &r->node);
        if (rc < 0)
            return rc;
        if (fstatfs(r->node.fd, &st) < 0)
            return -errno;
        out.st = (struct fuse_kstatfs){
            .blocks = st.f_blocks,
            .bfree = st.f_bfree,
            .bavail = st.f_bavail,
            .files = st.f_files,
            .ffree = st.f_ffree,
            .bsize = (uint32_t)st.f_bsize,
            .namelen = (uint32_t)st.f_namelen,
            .frsize = (uint32_t)st.f_frsize,
        };
    }
    return request_reply(r, &out, sizeof(out));
}

/* -- changing ------------------------------------------------------------------------------------ */

/* A file to change: by descriptor where it is open, by its name in /proc where that is O_PATH. */
struct target {
    struct open_file *file; /* NULL: none named */
    char buf[FS_FD_PATH_BYTES];
    const char *path;
};

static int change_owner(struct request *r, const struct fuse_setattr_in *in)
{
    const struct fs_idmap *map = &r->node.export->idmap;
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;
    if (map->kind == FS_IDMAP_SQUASH)
        return 0;
    if ((in->valid & FATTR_UID) && !fs_idmap_uid_to_host(map, in->uid, &uid))
        return -EPERM;
    if ((in->valid & FATTR_GID) && !fs_idmap_gid_to_host(map, in->gid, &gid))
        return -EPERM;
    return fchownat(r->node.fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int change_mode(struct request *r, const struct target *target, uint32_t mode)
{
    mode &= 07777;
    if (S_ISLNK(r->node.type))
        return -EOPNOTSUPP;
    if (!keeps_setid(r->node.export) && !S_ISDIR(r->node.type))
        mode &= ~(uint32_t)(S_ISUID | S_ISGID);
    /* The guest's kernel has decided whether the set-group-id bit may be there. */
    int rc = fs_thread_keep_setid(r->thread, r->node.export, true);
    if (rc == 0 && fchmodat(AT_FDCWD, target->path, mode, 0) < 0)
        rc = -errno;
    return rc;
}

static int change_size(struct request *r, const struct target *target, const struct fuse_setattr_in *in)
{
    if (!S_ISREG(r->node.type))
        return S_ISDIR(r->node.type) ? -EISDIR : -EINVAL;
    if (in->size > INT64_MAX)
        return -EFBIG;
    int rc = fs_thread_keep_setid(r->thread, r->node.export, !(in->valid & FATTR_KILL_SUIDGID));
    if (rc < 0)
        return rc;
    if (target->file && target->file->writable)
        rc = ftruncate(target->file->fd, (off_t)in->size);
    else
        rc = truncate(target->path, (off_t)in->size);
    return rc < 0 ? -errno : 0;
}

static struct timespec wanted_time(uint32_t valid, uint32_t set, uint32_t now, uint64_t sec,
                                   uint32_t nsec)
{
    if (!(valid & set))
        return (struct timespec){.tv_nsec = UTIME_OMIT};
    if (valid & now)
        return (struct timespec){.tv_nsec = UTIME_NOW};
    return (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = nsec};
}

/* Change time is the host's own affair: FATTR_CTIME, of a write-back cache, is passed over. */
static int change_times(struct request *r, const struct fuse_setattr_in *in)
{
    if (in->atimensec >= 1000000000 || in->mtimensec >= 1000000000)
        return -EINVAL;
    struct timespec times[2] = {
        wanted_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
        wanted_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
    };
    return utimensat(r->node.fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* The owner before the mode, since a change of owner takes set-id bits away; times last, since the
 * others set them. */
static int change(struct request *r, const struct target *target, const struct fuse_setattr_in *in)
{
    int rc = 0;
    if (in->valid & (FATTR_UID | FATTR_GID))
        rc = change_owner(r, in);
    if (rc == 0 && (in->valid & FATTR_MODE))
        rc = change_mode(r, target, in->mode);
    if (rc == 0 && (in->valid & FATTR_SIZE))
        rc = change_size(r, target, in);
    if (rc == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME)))
        rc = change_times(r, in);
    return rc;
}

int op_setattr(struct request *r)
{
    struct fuse_setattr_in in;
    struct target target = {0};
    struct statx stx;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc < 0)
        return rc;
    target.path = fs_fd_path(r->node.fd, target.buf);
    if (in.valid & FATTR_FH)
        rc = request_file(r, in.fh, &target.file);
    if (rc == 0)
        rc = change(r, &target, &in);
    if (rc == 0)
        rc = stat_fd(r->node.fd, &stx);
    open_put(target.file);
    return rc < 0 ? rc : attr_reply(r, &stx);
}
