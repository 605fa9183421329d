/* SPDX-License-Identifier: Apache-2.0 */

/* Mapping files into the DAX window (window.h), and taking them out. */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/cleanup.h"

/* In one REMOVEMAPPING: as many as fit into a page, which is what Linux sends at most. */
#define REMOVE_MAX 256

/* Another descriptor of what the guest has open. Puts the file, which may be NULL. */
static int descriptor_of(struct open_file *file, bool writable)
{
    int rc = -EACCES;
    if (file && open_can_map(file, writable)) {
        int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
        rc = fd < 0 ? -errno : fd;
    }
    open_put(file);
    return rc;
}

/* The guest names an inode and no handle. It may have opened a file in a mode that it could not get a
 * second time. */
static int open_node(struct request *r, bool writable)
{
    int rc = inode_open(r->fs->inodes, &r->node);
    if (rc < 0)
        return rc;
    int fd = fs_fd_open(&r->node, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd == -EACCES)
        return descriptor_of(open_find(&r->fs->files, r->node.nodeid, writable), writable);
    return fd;
}

static int descriptor(struct request *r, uint64_t fh, bool writable)
{
    struct open_file *file;
    if (fh == UINT64_MAX)
        return open_node(r, writable);
    int rc = request_file(r, fh, &file);
    return rc < 0 ? rc : descriptor_of(file, writable);
}

/* A mapping reaches the page cache of whatever file system the file is on. */
static int check_file(const struct request *r, int fd)
{
    const struct export *export = r->node.export;
    struct statx stx;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &stx) < 0)
        return -errno;
    if (!export->mappable || stx.stx_dev_major != export->dev_major ||
        stx.stx_dev_minor != export->dev_minor)
        return -EOPNOTSUPP;
    return 0;
}

int op_setupmapping(struct request *r)
{
    struct fuse_setupmapping_in in;
    int rc = request_args(r, &in);
    if (rc < 0)
        return rc;
    if (!r->fs->window_shown)
        return -ENOSYS;
    bool writable = in.flags & FUSE_SETUPMAPPING_FLAG_WRITE;
    if (!S_ISREG(r->node.type))
        return S_ISDIR(r->node.type) ? -EISDIR : -EACCES;
    if (writable && r->node.export->read_only)
        return -EROFS;
    const struct window_piece piece = {
        .nodeid = r->node.nodeid,
        .offset = in.foffset,
        .bytes = in.len,
        .at = in.moffset,
        .writable = writable,
    };
    rc = window_map(&r->fs->window, &piece, -1);
    if (rc != -ENOENT)
        return rc;
    _cleanup_close_ int fd = descriptor(r, in.fh, writable);
    if (fd < 0)
        return fd;
    rc = check_file(r, fd);
    return rc < 0 ? rc : window_map(&r->fs->window, &piece, fd);
}

int op_removemapping(struct request *r)
{
    struct fuse_removemapping_in in;
    struct fuse_removemapping_one one;
    int rc = request_args(r, &in);
    if (rc < 0)
        return rc;
    if (!r->fs->window_shown)
        return -ENOSYS;
    if (in.count > REMOVE_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < in.count && rc == 0; i++) {
        rc = request_args(r, &one);
        if (rc == 0)
            rc = window_unmap(&r->fs->window, one.moffset, one.len);
    }
    return rc;
}
