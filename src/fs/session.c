/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A session from INIT to DESTROY, and the way of each request to its operation.
 *
 * The table below is the whole of the protocol that is served. Its rows say what is checked here, once
 * for all operations: sizes, the inode, read-only directories, as whom the thread acts.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/iov.h"
#include "util/log.h"

/* Requests that the guest may have under way for readahead and write-back; Linux' own idea is 12. */
#define BACKGROUND_MAX       64
#define BACKGROUND_CONGESTED 48

static int op_init(struct request *r);
static int op_destroy(struct request *r);

#define IN(type)  (uint16_t)sizeof(struct fuse_##type##_in)
#define OUT(type) (uint16_t)sizeof(struct fuse_##type##_out)

static const struct row TABLE[] = {
    [FUSE_LOOKUP] = {"LOOKUP", op_lookup, 0, OUT(entry), ROW_NODE},
    [FUSE_FORGET] = {"FORGET", op_forget, IN(forget), 0, ROW_NO_REPLY | ROW_UNAWAITED},
    [FUSE_GETATTR] = {"GETATTR", op_getattr, IN(getattr), OUT(attr), ROW_NODE},
    [FUSE_SETATTR] = {"SETATTR", op_setattr, IN(setattr), OUT(attr), ROW_NODE | ROW_CHANGES},
    [FUSE_READLINK] = {"READLINK", op_readlink, 0, 0, ROW_NODE},
    [FUSE_SYMLINK] = {"SYMLINK", op_symlink, 0, OUT(entry), ROW_NODE | ROW_CHANGES | ROW_CREATES},
    [FUSE_MKNOD] = {"MKNOD", op_mknod, IN(mknod), OUT(entry), ROW_NODE | ROW_CHANGES | ROW_CREATES},
    [FUSE_MKDIR] = {"MKDIR", op_mkdir, IN(mkdir), OUT(entry), ROW_NODE | ROW_CHANGES | ROW_CREATES},
    [FUSE_UNLINK] = {"UNLINK", op_unlink, 0, 0, ROW_NODE | ROW_CHANGES},
    [FUSE_RMDIR] = {"RMDIR", op_rmdir, 0, 0, ROW_NODE | ROW_CHANGES},
    [FUSE_RENAME] = {"RENAME", op_rename, IN(rename), 0, ROW_NODE | ROW_CHANGES},
    [FUSE_LINK] = {"LINK", op_link, IN(link), OUT(entry), ROW_NODE | ROW_CHANGES},
    [FUSE_OPEN] = {"OPEN", op_open, IN(open), OUT(open), ROW_NODE},
    [FUSE_READ] = {"READ", op_read, IN(read), 0, ROW_BY_HANDLE},
    [FUSE_WRITE] = {"WRITE", op_write, IN(write), OUT(write), ROW_NODE | ROW_CHANGES},
    [FUSE_STATFS] = {"STATFS", op_statfs, 0, OUT(statfs), ROW_NODE},
    [FUSE_RELEASE] = {"RELEASE", op_release, IN(release), 0, ROW_BY_HANDLE},
    [FUSE_FSYNC] = {"FSYNC", op_fsync, IN(fsync), 0, ROW_BY_HANDLE | ROW_MAY_BLOCK},
    [FUSE_SETXATTR] = {"SETXATTR", op_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, 0,
                       ROW_NODE | ROW_CHANGES},
    [FUSE_GETXATTR] = {"GETXATTR", op_getxattr, IN(getxattr), 0, ROW_NODE},
    [FUSE_LISTXATTR] = {"LISTXATTR", op_listxattr, IN(getxattr), 0, ROW_NODE},
    [FUSE_REMOVEXATTR] = {"REMOVEXATTR", op_removexattr, 0, 0, ROW_NODE | ROW_CHANGES},
    [FUSE_FLUSH] = {"FLUSH", op_flush, IN(flush), 0, ROW_BY_HANDLE},
    [FUSE_INIT] = {"INIT", op_init, 2 * sizeof(uint32_t), OUT(init), ROW_SESSION},
    [FUSE_OPENDIR] = {"OPENDIR", op_opendir, IN(open), OUT(open), ROW_NODE},
    [FUSE_READDIR] = {"READDIR", op_readdir, IN(read), 0, ROW_NODE},
    [FUSE_RELEASEDIR] = {"RELEASEDIR", op_release, IN(release), 0, ROW_BY_HANDLE},
    [FUSE_FSYNCDIR] = {"FSYNCDIR", op_fsync, IN(fsync), 0, ROW_BY_HANDLE | ROW_MAY_BLOCK},
    [FUSE_GETLK] = {"GETLK", op_getlk, IN(lk), OUT(lk), ROW_NODE},
    [FUSE_SETLK] = {"SETLK", op_setlk, IN(lk), 0, ROW_NODE},
    [FUSE_SETLKW] = {"SETLKW", op_setlkw, IN(lk), 0, ROW_NODE},
    [FUSE_ACCESS] = {"ACCESS", op_access, IN(access), 0, 0},
    [FUSE_CREATE] = {"CREATE", op_create, IN(create), OUT(entry) + OUT(open),
                     ROW_NODE | ROW_CHANGES | ROW_CREATES},
    [FUSE_DESTROY] = {"DESTROY", op_destroy, 0, 0, ROW_SESSION},
    [FUSE_BATCH_FORGET] = {"BATCH_FORGET", op_batch_forget, IN(batch_forget), 0,
                           ROW_NO_REPLY | ROW_UNAWAITED},
    [FUSE_FALLOCATE] = {"FALLOCATE", op_fallocate, IN(fallocate), 0,
                        ROW_NODE | ROW_CHANGES | ROW_MAY_BLOCK},
    [FUSE_READDIRPLUS] = {"READDIRPLUS", op_readdirplus, IN(read), 0, ROW_NODE},
    [FUSE_RENAME2] = {"RENAME2", op_rename2, IN(rename2), 0, ROW_NODE | ROW_CHANGES | ROW_CREATES},
    [FUSE_LSEEK] = {"LSEEK", op_lseek, IN(lseek), OUT(lseek), ROW_BY_HANDLE},
    [FUSE_COPY_FILE_RANGE] = {"COPY_FILE_RANGE", op_copy_file_range, IN(copy_file_range), OUT(write),
                              ROW_NODE | ROW_MAY_BLOCK},
    [FUSE_SETUPMAPPING] = {"SETUPMAPPING", op_setupmapping, IN(setupmapping), 0, ROW_NODE},
    [FUSE_REMOVEMAPPING] = {"REMOVEMAPPING", op_removemapping, IN(removemapping), 0, ROW_BY_HANDLE},
    [FUSE_SYNCFS] = {"SYNCFS", op_syncfs, IN(syncfs), 0, ROW_NODE | ROW_MAY_BLOCK},
    [FUSE_TMPFILE] = {"TMPFILE", op_tmpfile, IN(create), OUT(entry) + OUT(open),
                      ROW_NODE | ROW_CHANGES | ROW_CREATES},
    [FUSE_STATX] = {"STATX", op_statx, IN(statx), OUT(statx), ROW_NODE},
};

const struct row *session_row(uint32_t opcode)
{
    if (opcode >= ARRAY_SIZE(TABLE) || !TABLE[opcode].serve)
        return NULL;
    return &TABLE[opcode];
}

/* -- begin and end ------------------------------------------------------------------------------- */

static void file_closed(void *opaque, struct open_file *file)
{
    struct fs *fs = opaque;
    inode_closed(fs->inodes, file->nodeid);
}

/* With the session lock held for writing, or nobody serving. */
void session_end(struct fs *fs)
{
    window_clear(&fs->window);
    lock_drop_all(&fs->locks);
    open_table_clear(&fs->files, file_closed, fs);
    inode_table_reset(fs->inodes);
    atomic_fetch_add(&fs->unlocked, 1);
    atomic_store(&fs->record_locks, false);
    foresight_init(&fs->foresight);
    fs->started = false;
    fs->flags = 0;
    fs->without_opens = false;
}

#define NO_OPENS ((uint64_t)FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT)

/* Whether files are read without being opened (implicit.h). */
static bool without_opens(const struct fs *fs, uint64_t offered)
{
    bool read_only = true;
    unsigned count;
    const struct export *exports = inode_exports(fs->inodes, &count);
    for (unsigned i = 0; i < count; i++)
        read_only &= exports[i].read_only;
    return read_only && fs->cache == FS_CACHE_ALWAYS && (offered & NO_OPENS) == NO_OPENS;
}

static uint64_t wanted_flags(const struct fs *fs)
{
    bool acls = false, labels = true;
    unsigned count;
    const struct export *exports = inode_exports(fs->inodes, &count);
    for (unsigned i = 0; i < count; i++) {
        acls |= exports[i].idmap.kind != FS_IDMAP_SQUASH;
        labels &= exports[i].idmap.kind == FS_IDMAP_IDENTITY;
    }
    uint64_t flags = FUSE_ASYNC_READ | FUSE_EXPORT_SUPPORT | FUSE_BIG_WRITES | FUSE_DONT_MASK |
                     FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES |
                     FUSE_SUBMOUNTS | FUSE_INIT_EXT | FUSE_CREATE_SUPP_GROUP;
    if (!fs->without_opens)
        flags |= FUSE_ATOMIC_O_TRUNC | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
    if (!fs->no_xattr)
        flags |= FUSE_SETXATTR_EXT | (acls ? FUSE_POSIX_ACL : 0) | (labels ? FUSE_SECURITY_CTX : 0);
    if (fs->writeback)
        flags |= FUSE_WRITEBACK_CACHE;
    if (fs->window_shown)
        flags |= FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX;
    if (fs->cache == FS_CACHE_NONE) /* what READDIRPLUS says of a file would be forgotten at once */
        return flags | FUSE_DIRECT_IO_ALLOW_MMAP;
    if (fs->cache == FS_CACHE_AUTO)
        flags |= FUSE_AUTO_INVAL_DATA;
    return flags | FUSE_CACHE_SYMLINKS | FUSE_DO_READDIRPLUS;
}

static int op_init(struct request *r)
{
    struct fs *fs = r->fs;
    struct fuse_init_in in = {0};
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_MINOR_SPOKEN};
    int rc = request_bytes(r, &in, MIN(request_left(r), sizeof(in)));
    if (rc < 0)
        return rc;
    session_end(fs);
    if (in.major > FUSE_KERNEL_VERSION) /* the guest asks again, with a major number of ours */
        return request_reply(r, &out, sizeof(out));
    if (in.major < FUSE_KERNEL_VERSION || in.minor < FUSE_MINOR_OLDEST) {
        log_limited(fs->log, &fs->refused, LOG_WARN,
                    "a guest speaks FUSE %u.%u; %u.%u is the oldest that is served", in.major, in.minor,
                    FUSE_KERNEL_VERSION, FUSE_MINOR_OLDEST);
        return -EPROTO;
    }

    uint64_t offered = in.flags;
    if (offered & FUSE_INIT_EXT)
        offered |= (uint64_t)in.flags2 << 32;
    fs->without_opens = without_opens(fs, offered);
    fs->flags = offered & wanted_flags(fs);
    fs->started = true;

    out.max_readahead = in.max_readahead;
    out.flags = (uint32_t)fs->flags;
    out.flags2 = (uint32_t)(fs->flags >> 32);
    out.max_background = BACKGROUND_MAX;
    out.congestion_threshold = BACKGROUND_CONGESTED;
    out.max_write = FS_TRANSFER_MAX;
    out.max_pages = FS_TRANSFER_MAX / 4096;
    out.time_gran = 1;
    out.map_alignment = fs->flags & FUSE_MAP_ALIGNMENT ? WINDOW_RANGE_SHIFT : 0;
    return request_reply(r, &out, sizeof(out));
}

static int op_destroy(struct request *r)
{
    session_end(r->fs);
    return 0;
}

/* -- a request's way ----------------------------------------------------------------------------- */

static bool may_change(const struct inode_ref *node)
{
    return node->export && !node->export->read_only;
}

/* Whether both ids are in the map: they lead there and back again. */
static bool owner_has_ids(const struct fs_idmap *map, const struct stat *st)
{
    uint32_t uid = fs_idmap_uid_to_guest(map, st->st_uid), gid = fs_idmap_gid_to_guest(map, st->st_gid);
    uid_t back_uid = (uid_t)-1;
    gid_t back_gid = (gid_t)-1;
    return fs_idmap_uid_to_host(map, uid, &back_uid) && back_uid == st->st_uid &&
           fs_idmap_gid_to_host(map, gid, &back_gid) && back_gid == st->st_gid;
}

int act_on(struct request *r, struct inode_ref *ref)
{
    struct stat st;
    if (ref->export->idmap.kind != FS_IDMAP_MAP)
        return 0;
    if (inode_open(r->fs->inodes, ref) == 0 && fstat(ref->fd, &st) == 0 &&
        owner_has_ids(&ref->export->idmap, &st))
        return 0;
    return fs_thread_act_plain(r->thread, ref->export, r->in.uid, r->in.gid);
}

static int act(struct request *r, const struct row *row)
{
    const struct export *export = r->node.export;
    if (!export || (row->flags & ROW_BY_HANDLE))
        return 0;
    int rc = row->flags & ROW_CREATES ? fs_thread_act(r->thread, export, r->in.uid, r->in.gid)
                                      : fs_thread_act_any(r->thread, export);
    return rc < 0 ? rc : act_on(r, &r->node);
}

static int dispatch(struct request *r, const struct row *row)
{
    if (!(row->flags & ROW_SESSION) && !r->fs->started)
        return -EIO;
    if (request_left(r) < row->in || request_room(r) < row->out)
        return -EINVAL;
    int rc = 0;
    if (row->flags & ROW_NODE) {
        rc = inode_get(r->fs->inodes, r->in.nodeid, &r->node);
        if (rc == 0 && (row->flags & ROW_CHANGES) && !may_change(&r->node))
            rc = -EROFS;
        if (rc == 0)
            rc = act(r, row);
    }
    if (rc == 0)
        rc = row->serve(r);
    inode_put(r->fs->inodes, &r->node);
    return rc;
}

ssize_t fs_serve(struct fs *fs, struct fs_thread *thread, struct fs_request *raw)
{
    struct request r;
    if (request_open(&r, fs, thread, raw) < 0)
        return FS_BROKEN;
    const struct row *row = session_row(r.in.opcode);
    bool no_reply = row && (row->flags & ROW_NO_REPLY);
    if (!no_reply && raw->out_bytes < sizeof(struct fuse_out_header))
        return FS_BROKEN;
    if (raw->at_once && row && (row->flags & ROW_MAY_BLOCK))
        return FS_WAITS;
    atomic_fetch_add_explicit(&fs->requests, 1, memory_order_relaxed);

    raw->unawaited = row && (row->flags & ROW_UNAWAITED);
    int rc = -ENOSYS;
    if (row) {
        if (row->flags & ROW_SESSION)
            pthread_rwlock_wrlock(&fs->session);
        else
            pthread_rwlock_rdlock(&fs->session);
        rc = dispatch(&r, row);
        pthread_rwlock_unlock(&fs->session);
    }
    if (rc == REQUEST_LATER)
        return FS_LATER;
    if (rc == REQUEST_WAITS)
        return FS_WAITS;
    return no_reply ? 0 : request_finish(&r, rc);
}
