/* SPDX-License-Identifier: Apache-2.0 */

/* Locks: record locks by locks.h, flock by the handle's own descriptor. Nothing waits here: who would
 * have to is answered REQUEST_LATER, and asks again after an unlock. */

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "fs/server.h"
#include "util/arith.h"

static int begin(struct request *r, struct fuse_lk_in *in, struct lock_range *range,
                 struct open_file **file)
{
    int rc = request_args(r, in);
    if (rc < 0)
        return rc;
    if (in->lk.type != F_RDLCK && in->lk.type != F_WRLCK && in->lk.type != F_UNLCK)
        return -EINVAL;
    if (in->lk.start > INT64_MAX || in->lk.end < in->lk.start)
        return -EINVAL;
    *range = (struct lock_range){
        .start = in->lk.start,
        .end = MIN(in->lk.end, INT64_MAX),
        .pid = in->lk.pid,
        .type = (short)in->lk.type,
    };
    return request_file(r, in->fh, file);
}

int op_getlk(struct request *r)
{
    struct fuse_lk_in in;
    struct open_file *file = NULL;
    struct lock_range range;
    int rc = begin(r, &in, &range, &file);
    if (rc < 0)
        return rc;
    rc = file->dir || range.type == F_UNLCK ? -EINVAL : lock_get(&r->fs->locks, file, in.owner, &range);
    open_put(file);
    if (rc < 0)
        return rc;
    struct fuse_lk_out out = {.lk = {.type = F_UNLCK}};
    if (range.type != F_UNLCK)
        out.lk = (struct fuse_file_lock){range.start, range.end, (uint32_t)range.type, range.pid};
    return request_reply(r, &out, sizeof(out));
}

static int set_flock(struct open_file *file, short type)
{
    int op = type == F_UNLCK ? LOCK_UN : type == F_RDLCK ? LOCK_SH : LOCK_EX;
    if (file->fd < 0)
        return -EINVAL;
    if (flock(file->fd, op | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    atomic_store(&file->has_locks, true);
    return 0;
}

static int set_record_lock(struct request *r, struct open_file *file, uint64_t owner,
                           const struct lock_range *range)
{
    atomic_store(&r->fs->record_locks, true);
    return lock_set(&r->fs->locks, file, r->node.export->read_only, owner, range);
}

static int set(struct request *r, bool wait)
{
    struct fuse_lk_in in;
    struct open_file *file = NULL;
    struct lock_range range;
    int rc = begin(r, &in, &range, &file);
    if (rc < 0)
        return rc;
    if (in.lk_flags & FUSE_LK_FLOCK)
        rc = set_flock(file, range.type);
    else if (file->dir)
        rc = -EBADF;
    else
        rc = set_record_lock(r, file, in.owner, &range);
    open_put(file);
    /* A lock for writing that became one for reading lets others in too. */
    if (rc == 0 && range.type != F_WRLCK)
        atomic_fetch_add(&r->fs->unlocked, 1);
    return rc == -EAGAIN && wait ? REQUEST_LATER : rc;
}

int op_setlk(struct request *r)
{
    return set(r, false);
}

int op_setlkw(struct request *r)
{
    return set(r, true);
}
