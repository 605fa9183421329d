/* SPDX-License-Identifier: Apache-2.0 */

/* Locks: record locks by locks.h, flock by the handle's own descriptor. Nothing waits here: who would
 * have to is answered REQUEST_LATER, and asks again after an unlock. */

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "fs/server.h"

/* The protocol's ranges end with their last byte. */
static int range_to_host(const struct fuse_file_lock *wire, struct flock *lk)
{
    if (wire->type != F_RDLCK && wire->type != F_WRLCK && wire->type != F_UNLCK)
        return -EINVAL;
    if (wire->start > INT64_MAX || wire->end < wire->start)
        return -EINVAL;
    *lk = (struct flock){
        .l_type = (short)wire->type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)wire->start,
        .l_len = wire->end >= INT64_MAX ? 0 : (off_t)(wire->end - wire->start + 1),
    };
    return 0;
}

static int begin(struct request *r, struct fuse_lk_in *in, struct flock *lk, struct open_file **file)
{
    int rc = request_args(r, in);
    if (rc == 0 && r->fs->no_locks)
        rc = -ENOSYS;
    if (rc == 0)
        rc = range_to_host(&in->lk, lk);
    if (rc == 0)
        rc = request_file(r, in->fh, file);
    return rc;
}

int op_getlk(struct request *r)
{
    struct fuse_lk_in in;
    struct open_file *file = NULL;
    struct flock lk;
    int rc = begin(r, &in, &lk, &file);
    if (rc < 0)
        return rc;
    rc = file->dir || lk.l_type == F_UNLCK ? -EINVAL : lock_get(&r->fs->locks, file, in.owner, &lk);
    open_put(file);
    if (rc < 0)
        return rc;
    struct fuse_lk_out out = {.lk = {.type = (uint32_t)lk.l_type}};
    if (lk.l_type != F_UNLCK) {
        out.lk.start = (uint64_t)lk.l_start;
        out.lk.end = lk.l_len == 0 ? INT64_MAX : (uint64_t)(lk.l_start + lk.l_len - 1);
    }
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

static int set(struct request *r, bool wait)
{
    struct fuse_lk_in in;
    struct open_file *file = NULL;
    struct flock lk;
    int rc = begin(r, &in, &lk, &file);
    if (rc < 0)
        return rc;
    if (in.lk_flags & FUSE_LK_FLOCK)
        rc = set_flock(file, lk.l_type);
    else
        rc = file->dir ? -EBADF
                       : lock_set(&r->fs->locks, file, r->node.export->read_only, in.owner, &lk);
    open_put(file);
    /* A lock for writing that became one for reading lets others in too. */
    if (rc == 0 && lk.l_type != F_WRLCK)
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
