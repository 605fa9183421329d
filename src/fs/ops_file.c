/* SPDX-License-Identifier: Apache-2.0 */

/* Operations on open files. Data moves between the file and the guest's memory without a copy. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/iov.h"

/* Bytes that one COPY_FILE_RANGE moves at most; the guest's program goes on with the rest. */
#define COPY_MAX (64u << 20)

int request_file(struct request *r, uint64_t fh, struct open_file **file)
{
    if (r->fs->without_opens && fh == 0)
        return implicit_get(r, file);
    *file = open_get(&r->fs->files, fh);
    if (*file && (*file)->nodeid == r->in.nodeid)
        return 0;
    open_put(*file);
    *file = NULL;
    return -EBADF;
}

/* An open file that is not a directory. */
static int regular_file(struct request *r, uint64_t fh, struct open_file **file)
{
    int rc = request_file(r, fh, file);
    if (rc == 0 && (*file)->dir) {
        open_put(*file);
        *file = NULL;
        return -EISDIR;
    }
    return rc;
}

/* -- open and close ------------------------------------------------------------------------------ */

/*
 * O_DIRECT is the guest's own matter: it goes around the guest's page cache. On the host it would only
 * add rules of alignment that the guest's kernel does not know of.
 *
 * Nor is O_APPEND kept: it would move pages of a shared mapping, which the guest's kernel writes back
 * by any handle that may write, to the file's end. Each write says whether it appends.
 *
 * With a write-back cache the guest's kernel reads the pages that it writes to in part, by any handle.
 */
int host_open_flags(const struct request *r, uint32_t guest)
{
    uint32_t flags = guest & (O_ACCMODE | O_SYNC | O_DSYNC | O_TRUNC);
    if ((r->fs->flags & FUSE_WRITEBACK_CACHE) && (flags & O_ACCMODE) == O_WRONLY)
        flags = (flags & ~(uint32_t)O_ACCMODE) | O_RDWR;
    return (int)flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
}

static bool wants_write(uint32_t flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/*
 * Whether a close of this file must be told (FLUSH): it ends the process's record locks, and may fail
 * on what the host has over a network. Before the first such lock of a session that is left out for
 * files opened as nobody opens what he locks: only to read, or made or emptied. Should the first lock
 * come by one of those, it lives until RELEASE.
 */
static bool wants_flush(const struct request *r, const struct export *export, uint32_t guest_flags)
{
    if ((r->fs->flags & FUSE_WRITEBACK_CACHE) || (!export->local && wants_write(guest_flags)))
        return true;
    return atomic_load(&r->fs->record_locks) ||
           (wants_write(guest_flags) && !(guest_flags & (O_EXCL | O_TRUNC)));
}

static uint32_t reply_flags(const struct request *r, const struct export *export, uint32_t guest_flags,
                            bool keep_cache)
{
    uint32_t flags = wants_flush(r, export, guest_flags) ? 0 : FOPEN_NOFLUSH;
    if (r->fs->cache == FS_CACHE_NONE)
        return flags | FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
    return flags | (keep_cache ? FOPEN_KEEP_CACHE : 0);
}

int open_reply_fill(struct request *r, struct inode_ref *ref, int fd, uint32_t guest_flags,
                    bool keep_cache, struct fuse_open_out *out)
{
    struct open_file *file = NULL;
    int rc = open_add(&r->fs->files, fd, ref->nodeid, false, &file);
    if (rc < 0)
        return rc;
    file->writable = (guest_flags & O_ACCMODE) != O_RDONLY;
    inode_opened(r->fs->inodes, ref);
    *out = (struct fuse_open_out){.fh = file->fh,
                                  .open_flags = reply_flags(r, ref->export, guest_flags, keep_cache)};
    open_put(file);
    return 0;
}

static int open_node(struct request *r, int flags)
{
    int fd = fs_fd_open(&r->node, flags);
    if (fd == -EACCES && (r->fs->flags & FUSE_WRITEBACK_CACHE) &&
        (flags & O_ACCMODE) == O_RDWR) /* only the guest's cache wanted to read as well */
        fd = fs_fd_open(&r->node, (flags & ~O_ACCMODE) | O_WRONLY);
    return fd;
}

static bool keeps_cache(struct request *r, int fd)
{
    struct stat st;
    if (r->fs->cache == FS_CACHE_ALWAYS)
        return true;
    return fstat(fd, &st) == 0 && fresh_since_last(&r->fs->fresh, r->node.nodeid, &st);
}

int file_open_to_read(struct request *r, struct open_file **file)
{
    int rc = open_table_check(&r->fs->files);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    int fd = rc < 0 ? rc : open_node(r, host_open_flags(r, O_RDONLY));
    if (fd < 0)
        return fd;
    rc = open_add(&r->fs->files, fd, r->node.nodeid, false, file);
    if (rc == 0)
        inode_opened(r->fs->inodes, &r->node);
    return rc;
}

int op_open(struct request *r)
{
    struct fuse_open_in in;
    struct fuse_open_out out;
    int rc = request_args(r, &in);
    if (rc < 0)
        return rc;
    if (r->fs->without_opens)
        return -ENOSYS;
    /* Only what is a regular file: a FIFO would wait, a device would act. An inode keeps its type. */
    if (!S_ISREG(r->node.type))
        return S_ISLNK(r->node.type) ? -ELOOP : S_ISDIR(r->node.type) ? -EISDIR : -ENXIO;
    if (wants_write(in.flags) && r->node.export->read_only)
        return -EROFS;
    rc = open_table_check(&r->fs->files);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc == 0 && (in.flags & O_TRUNC))
        rc = fs_thread_keep_setid(r->thread, r->node.export, !(in.open_flags & FUSE_OPEN_KILL_SUIDGID));
    if (rc < 0)
        return rc;
    int fd = open_node(r, host_open_flags(r, in.flags));
    if (fd < 0)
        return fd;
    rc = open_reply_fill(r, &r->node, fd, in.flags, keeps_cache(r, fd), &out);
    return rc < 0 ? rc : request_reply(r, &out, sizeof(out));
}

static void unlocked(struct fs *fs)
{
    atomic_fetch_add(&fs->unlocked, 1);
}

/* Also RELEASEDIR. */
int op_release(struct request *r)
{
    struct fuse_release_in in;
    struct open_file *file = NULL;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    bool locks = atomic_load(&file->has_locks);
    bool mine = open_remove(&r->fs->files, file);
    if (mine)
        inode_closed(r->fs->inodes, file->nodeid);
    if (locks)
        lock_drop_handle(&r->fs->locks, file->fh);
    open_put(file);
    if (locks) /* only now is the descriptor closed, and a flock gone with it */
        unlocked(r->fs);
    return mine ? 0 : -EBADF;
}

/* What a close says of what was written. */
static int close_another(const struct open_file *file)
{
    int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 || close(fd) < 0 ? -errno : 0;
}

/* Some process closed a descriptor of the file: its POSIX locks go, whichever it had set them by. */
int op_flush(struct request *r)
{
    struct fuse_flush_in in;
    struct open_file *file = NULL;
    int rc = request_args(r, &in);
    if (r->fs->without_opens) /* the guest's kernel then asks no more */
        return -ENOSYS;
    if (rc == 0)
        rc = request_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    if (lock_drop_owner(&r->fs->locks, file->nodeid, in.lock_owner))
        unlocked(r->fs);
    rc = file->writable && file->fd >= 0 ? close_another(file) : 0;
    open_put(file);
    return rc;
}

/* Also FSYNCDIR. */
int op_fsync(struct request *r)
{
    struct fuse_fsync_in in;
    struct open_file *file = NULL;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    if (file->fd >= 0) {
        bool data_only = in.fsync_flags & FUSE_FSYNC_FDATASYNC;
        rc = (data_only ? fdatasync(file->fd) : fsync(file->fd)) < 0 ? -errno : 0;
    }
    open_put(file);
    return rc;
}

/* -- data ---------------------------------------------------------------------------------------- */

typedef ssize_t transfer_call(int fd, const struct iovec *iov, int count, off_t offset);

/* preadv of what the page cache holds, else -EAGAIN. A file system that cannot tell reads as always. */
static ssize_t preadv_at_once(int fd, const struct iovec *iov, int count, off_t offset)
{
    ssize_t n = preadv2(fd, iov, count, offset, RWF_NOWAIT);
    return n < 0 && errno == EOPNOTSUPP ? preadv(fd, iov, count, offset) : n;
}

/* pwritev to the end, wherever that is by now: others append as well. */
static ssize_t pwritev_append(int fd, const struct iovec *iov, int count, off_t offset)
{
    return pwritev2(fd, iov, count, offset, RWF_APPEND);
}

/* What a program appends. Pages that the guest's cache writes back have their place; with a write-back
 * cache everything has, said by the guest's kernel, for which the file's end is its own. */
static bool appends(const struct request *r, const struct fuse_write_in *in)
{
    return (in->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE) &&
           !(r->fs->flags & FUSE_WRITEBACK_CACHE);
}

/* preadv or pwritev until all is through, the file ends, or an error comes after some bytes. Returns
 * the bytes, or -errno when there are none; -EAGAIN also when there are some, since the guest would
 * take fewer for the end of the file. */
static ssize_t transfer(transfer_call *call, int fd, struct iovec *iov, unsigned count, size_t bytes,
                        uint64_t offset)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = call(fd, iov, (int)MIN(count, IOV_MAX), (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (done == 0 || errno == EAGAIN))
            return -errno;
        if (n <= 0)
            break;
        done += (size_t)n;
        count = iov_drop_front(&iov, count, (uint64_t)n);
    }
    return (ssize_t)done;
}

static bool legal_range(uint64_t offset, uint64_t bytes)
{
    return bytes <= FS_TRANSFER_MAX && range_within(offset, bytes, INT64_MAX);
}

int op_read(struct request *r)
{
    struct fuse_read_in in;
    struct open_file *file = NULL;
    struct iovec *iov;
    size_t bytes;
    int rc = request_args(r, &in);
    if (rc < 0)
        return rc;
    if (!legal_range(in.offset, in.size))
        return -EINVAL;
    rc = regular_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    unsigned count = request_data_out(r, in.size, &iov, &bytes);
    bool at_once = r->raw->at_once;
    ssize_t n = transfer(at_once ? preadv_at_once : preadv, file->fd, iov, count, bytes, in.offset);
    open_put(file);
    if (n == -EAGAIN && at_once)
        return REQUEST_WAITS;
    if (n < 0)
        return (int)n;
    r->reply_bytes = (uint64_t)n;
    return 0;
}

int op_write(struct request *r)
{
    struct fuse_write_in in;
    struct open_file *file = NULL;
    struct iovec *iov;
    int rc = request_args(r, &in);
    if (rc < 0)
        return rc;
    if (!legal_range(in.offset, in.size))
        return in.size > FS_TRANSFER_MAX ? -EINVAL : -EFBIG;
    int count = request_data_in(r, in.size, &iov);
    if (count < 0)
        return count;
    rc = regular_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    rc = fs_thread_keep_setid(r->thread, r->node.export, !(in.write_flags & FUSE_WRITE_KILL_SUIDGID));
    transfer_call *call = appends(r, &in) ? pwritev_append : pwritev;
    ssize_t n = rc < 0 ? rc : transfer(call, file->fd, iov, (unsigned)count, in.size, in.offset);
    open_put(file);
    window_told(&r->fs->window, r->in.nodeid, in.offset + in.size);
    if (n < 0)
        return (int)n;
    struct fuse_write_out out = {.size = (uint32_t)n};
    return request_reply(r, &out, sizeof(out));
}

/* FALLOCATE and COPY_FILE_RANGE do not say whether set-id bits are to go. The guest's root may keep
 * them, nobody else. */
static int keep_roots_setid(struct request *r)
{
    return fs_thread_keep_setid(r->thread, r->node.export, r->in.uid == 0);
}

int op_fallocate(struct request *r)
{
    struct fuse_fallocate_in in;
    struct open_file *file = NULL;
    int rc = request_args(r, &in);
    if (rc == 0 && (in.offset > INT64_MAX || in.length > INT64_MAX))
        rc = -EFBIG;
    if (rc == 0)
        rc = regular_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    rc = keep_roots_setid(r);
    while (rc == 0 && fallocate(file->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0) {
        if (errno != EINTR)
            rc = -errno;
    }
    open_put(file);
    window_told(&r->fs->window, r->in.nodeid, INT64_MAX); /* it may also move what is there */
    return rc;
}

/* The header names the source; the destination may be of another directory, with other rights. */
int op_copy_file_range(struct request *r)
{
    struct fuse_copy_file_range_in in;
    struct open_file *from = NULL, *to = NULL;
    int rc = request_args(r, &in);
    if (rc == 0 && in.flags != 0)
        rc = -EINVAL;
    if (rc == 0 && (in.off_in > INT64_MAX || in.off_out > INT64_MAX))
        rc = -EINVAL;
    if (rc == 0)
        rc = regular_file(r, in.fh_in, &from);
    if (rc == 0) {
        to = open_get(&r->fs->files, in.fh_out);
        if (!to || to->nodeid != in.nodeid_out || !to->writable || to->dir)
            rc = -EBADF;
    }
    if (rc == 0)
        rc = keep_roots_setid(r);
    ssize_t n = -1;
    if (rc == 0) {
        off_t off_in = (off_t)in.off_in, off_out = (off_t)in.off_out;
        do
            n = copy_file_range(from->fd, &off_in, to->fd, &off_out, MIN(in.len, COPY_MAX), 0);
        while (n < 0 && errno == EINTR);
        rc = n < 0 ? -errno : 0;
    }
    window_told(&r->fs->window, in.nodeid_out, in.off_out + (uint64_t)MAX(n, 0));
    open_put(from);
    open_put(to);
    if (rc < 0)
        return rc;
    struct fuse_write_out out = {.size = (uint32_t)n};
    return request_reply(r, &out, sizeof(out));
}

/*
 * Holes and data; other kinds of seeking are the guest's own affair. Linux asks without writing its
 * cache back first: what a write-back cache still holds would be a hole, and a copy made by holes would
 * lack it. With ENOSYS it takes the whole file for data.
 */
int op_lseek(struct request *r)
{
    struct fuse_lseek_in in;
    struct open_file *file = NULL;
    int rc = request_args(r, &in);
    if (rc == 0 && (r->fs->flags & FUSE_WRITEBACK_CACHE))
        rc = -ENOSYS;
    if (rc == 0 && ((in.whence != SEEK_DATA && in.whence != SEEK_HOLE) || in.offset > INT64_MAX))
        rc = -EINVAL;
    if (rc == 0)
        rc = regular_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    off_t at = lseek(file->fd, (off_t)in.offset, (int)in.whence);
    rc = at < 0 ? -errno : 0;
    open_put(file);
    if (rc < 0)
        return rc;
    struct fuse_lseek_out out = {.offset = (uint64_t)at};
    return request_reply(r, &out, sizeof(out));
}

/* -- whole file systems -------------------------------------------------------------------------- */

static int sync_directory(int path_fd)
{
    char buf[FS_FD_PATH_BYTES];
    _cleanup_close_ int fd = open(fs_fd_path(path_fd, buf), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return syncfs(fd) < 0 ? -errno : 0;
}

int op_syncfs(struct request *r)
{
    int rc = 0;
    if (r->node.export) {
        rc = inode_open(r->fs->inodes, &r->node);
        return rc < 0 ? rc : sync_directory(r->node.fd);
    }
    unsigned count;
    const struct export *exports = inode_exports(r->fs->inodes, &count);
    for (unsigned i = 0; i < count; i++) {
        int one = fs_thread_act_any(r->thread, &exports[i]);
        if (one == 0)
            one = sync_directory(exports[i].fd);
        if (one < 0)
            rc = one;
    }
    return rc;
}
