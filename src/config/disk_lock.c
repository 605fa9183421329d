/* SPDX-License-Identifier: Apache-2.0 */
#include "config/disk_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/err.h"

static struct flock whole_file(bool read_only)
{
    return (struct flock){.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
}

int disk_lock(int fd, bool read_only, const char *name, struct dayfly_err *err)
{
    struct flock lock = whole_file(read_only);
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return err_set(err, EBUSY, "disk %s is in use%s elsewhere; stop what uses it", name,
                       read_only ? " for writing" : "");
    return err_errno(err, errno, "lock disk %s", name);
}

void disk_unlock(int fd)
{
    fcntl(fd, F_OFD_SETLK, &(struct flock){.l_type = F_UNLCK, .l_whence = SEEK_SET});
}

int disk_lock_probe(int fd, bool read_only)
{
    struct flock lock = whole_file(read_only);
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
        return -errno;
    return lock.l_type == F_UNLCK ? 0 : -EBUSY;
}
