/* SPDX-License-Identifier: Apache-2.0 */

/* Attributes and directory entries as the protocol carries them. */

#include <errno.h>
#include <sys/sysmacros.h>

#include "fs/server.h"

uint64_t attr_seconds(const struct fs *fs)
{
    switch (fs->cache) {
    case FS_CACHE_NONE:
        return 0;
    case FS_CACHE_ALWAYS:
        return FS_ALWAYS_SECONDS;
    case FS_CACHE_AUTO:
        break;
    }
    return FS_AUTO_SECONDS;
}

uint32_t device_to_wire(uint32_t major, uint32_t minor)
{
    return (minor & 0xff) | (major & 0xfff) << 8 | (minor & ~UINT32_C(0xff)) << 12;
}

dev_t device_from_wire(uint32_t wire)
{
    return makedev((wire >> 8) & 0xfff, (wire & 0xff) | ((wire >> 12) & ~UINT32_C(0xff)));
}

/* The made-up root (no export) belongs to whomever the guest's root is. */
void attr_fill(const struct export *export, const struct statx *stx, struct fuse_attr *attr)
{
    *attr = (struct fuse_attr){
        .ino = stx->stx_ino,
        .size = stx->stx_size,
        .blocks = stx->stx_blocks,
        .atime = (uint64_t)stx->stx_atime.tv_sec,
        .mtime = (uint64_t)stx->stx_mtime.tv_sec,
        .ctime = (uint64_t)stx->stx_ctime.tv_sec,
        .atimensec = stx->stx_atime.tv_nsec,
        .mtimensec = stx->stx_mtime.tv_nsec,
        .ctimensec = stx->stx_ctime.tv_nsec,
        .mode = stx->stx_mode,
        .nlink = stx->stx_nlink,
        .uid = export ? fs_idmap_uid_to_guest(&export->idmap, stx->stx_uid) : 0,
        .gid = export ? fs_idmap_gid_to_guest(&export->idmap, stx->stx_gid) : 0,
        .rdev = device_to_wire(stx->stx_rdev_major, stx->stx_rdev_minor),
        .blksize = stx->stx_blksize,
    };
}

bool attr_wants_window(const struct fs *fs, const struct export *export, const struct statx *stx)
{
    return (fs->flags & FUSE_HAS_INODE_DAX) && export && export->mappable && S_ISREG(stx->stx_mode) &&
           stx->stx_size >= FS_WINDOW_FILE_MIN && stx->stx_dev_major == export->dev_major &&
           stx->stx_dev_minor == export->dev_minor;
}

/* As attr_fill, and what follows from the guest's knowing it. */
static void attr_tell(struct fs *fs, const struct inode_ref *ref, const struct statx *stx,
                      struct fuse_attr *attr)
{
    attr_fill(ref->export, stx, attr);
    if (attr_wants_window(fs, ref->export, stx))
        attr->flags |= FUSE_ATTR_DAX;
    window_told(&fs->window, ref->nodeid, stx->stx_size);
}

int attr_reply(struct request *r, const struct statx *stx)
{
    struct fuse_attr_out out = {.attr_valid = attr_seconds(r->fs)};
    attr_tell(r->fs, &r->node, stx, &out.attr);
    return request_reply(r, &out, sizeof(out));
}

void entry_fill(struct request *r, const struct inode_ref *dir, const struct inode_ref *ref,
                const struct statx *stx, struct fuse_entry_out *entry)
{
    *entry = (struct fuse_entry_out){
        .nodeid = ref->nodeid,
        .entry_valid = attr_seconds(r->fs),
        .attr_valid = attr_seconds(r->fs),
    };
    attr_tell(r->fs, ref, stx, &entry->attr);
    if ((r->fs->flags & FUSE_SUBMOUNTS) && inode_is_submount(r->fs->inodes, dir, ref))
        entry->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

int entry_reply(struct request *r, const char *name)
{
    struct inode_ref ref = {.fd = -1};
    struct fuse_entry_out entry;
    struct statx stx;
    int rc = inode_lookup(r->fs->inodes, &r->node, name, &ref, &stx);
    if (rc < 0)
        return rc;
    entry_fill(r, &r->node, &ref, &stx, &entry);
    inode_put(r->fs->inodes, &ref);
    return request_reply(r, &entry, sizeof(entry));
}
