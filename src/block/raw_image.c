/* SPDX-License-Identifier: Apache-2.0 */
#include "block/raw_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "config/disk_lock.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define SECTOR_BYTES     512
#define SECTOR_BYTES_MAX 4096

/* An fd has no name of its own. */
static void find_name(struct raw_image *image)
{
    char link[32];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", image->fd);
    ssize_t n = readlink(link, image->name, sizeof(image->name) - 1);
    if (n < 0)
        n = snprintf(image->name, sizeof(image->name), "fd %d", image->fd);
    image->name[MIN((size_t)n, sizeof(image->name) - 1)] = '\0';
}

static int check_flags(const struct raw_image *image, bool read_only, struct dayfly_err *err)
{
    int flags = fcntl(image->fd, F_GETFL);
    if (flags < 0)
        return err_errno(err, errno, "disk %s", image->name);
    int mode = flags & O_ACCMODE;
    if ((flags & O_PATH) || mode == O_WRONLY || (!read_only && mode != O_RDWR))
        return err_set(err, EBADF, "disk %s is not open for %s", image->name,
                       read_only ? "reading" : "reading and writing");
    if (flags & O_APPEND)
        return err_set(err, EINVAL, "disk %s is open for appending, which moves every write",
                       image->name);
    /* io_uring would answer EAGAIN where it had to wait. */
    if ((flags & O_NONBLOCK) && fcntl(image->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return err_errno(err, errno, "disk %s", image->name);
    return 0;
}

static int read_size(struct raw_image *image, const struct stat *st, bool read_only,
                     struct dayfly_err *err)
{
    uint64_t size = (uint64_t)st->st_size;
    int sector = SECTOR_BYTES;
    if (image->is_device) {
        int device_read_only = 0;
        if (ioctl(image->fd, BLKGETSIZE64, &size) < 0 || ioctl(image->fd, BLKSSZGET, &sector) < 0 ||
            ioctl(image->fd, BLKROGET, &device_read_only) < 0)
            return err_errno(err, errno, "disk %s", image->name);
        if (device_read_only && !read_only)
            return err_set(err, EROFS, "disk %s is a read-only device", image->name);
        if (sector < SECTOR_BYTES || sector > SECTOR_BYTES_MAX || (sector & (sector - 1)) != 0)
            return err_set(err, EINVAL, "disk %s has sectors of %d bytes", image->name, sector);
    }
    if (size == 0 || size % SECTOR_BYTES != 0)
        return err_set(err, EINVAL,
                       "disk %s has %llu bytes; a raw image is a multiple of 512 and not empty",
                       image->name, (unsigned long long)size);
    image->size_bytes = size;
    image->sector_bytes = (uint32_t)sector;
    return 0;
}

/* Go on with the file opened for direct I/O. */
static int make_direct(struct raw_image *image, bool read_only, struct disk_direct *direct,
                       struct dayfly_err *err)
{
    int fd = disk_direct_open(image->fd, read_only, direct);
    if (fd == -EOPNOTSUPP)
        return err_set(err, EOPNOTSUPP,
                       "disk %s is on a file system without direct I/O; use the page cache "
                       "(`cache: cached`), or keep it on ext4, xfs or btrfs",
                       image->name);
    if (fd < 0)
        return err_errno(err, -fd, "open disk %s for direct I/O", image->name);
    close_fd(&image->fd);
    image->fd = fd;
    if (!is_aligned(image->size_bytes, direct->file_bytes))
        return err_set(err, EINVAL,
                       "disk %s has %llu bytes; direct I/O there takes a multiple of %u, "
                       "`cache: cached` any of 512",
                       image->name, (unsigned long long)image->size_bytes, direct->file_bytes);
    return 0;
}

/* On a network's file system a write may be more than a copy. */
static bool copies_writes(const struct raw_image *image)
{
    static const uint64_t local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,  BTRFS_SUPER_MAGIC,
                                     TMPFS_MAGIC,      F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC};
    struct statfs st;
    if (image->is_device || fstatfs(image->fd, &st) < 0)
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(local); i++)
        if ((uint64_t)st.f_type == local[i])
            return true;
    return false;
}

/* Who may not open the file once more has to do with what was given. */
static int lock_fd(const struct raw_image *image)
{
    return image->lock_fd < 0 ? image->fd : image->lock_fd;
}

/* Keep others from the disk. */
static int take_hold(struct raw_image *image, bool read_only, struct dayfly_err *err)
{
    image->lock_fd = disk_reopen(image->fd, read_only);
    int rc = disk_lock(lock_fd(image), read_only, image->name, err);
    if (rc < 0)
        return rc;
    image->locked = true;
    if (!image->is_device || read_only)
        return 0;
    image->claim_fd = disk_claim(image->fd);
    if (image->claim_fd == -EBUSY)
        return err_set(err, EBUSY, "disk %s is mounted, or held by another program; end that first",
                       image->name);
    return image->claim_fd < 0 ? err_errno(err, -image->claim_fd, "claim disk %s", image->name) : 0;
}

int raw_image_open(struct raw_image *image, const struct block_raw_options *options,
                   struct disk_direct *direct, struct dayfly_err *err)
{
    struct stat st;
    *image = (struct raw_image)RAW_IMAGE_INIT;
    image->fd = options->fd;
    find_name(image);
    if (fstat(image->fd, &st) < 0)
        return err_errno(err, errno, "disk %s", image->name);
    image->is_device = S_ISBLK(st.st_mode);
    if (!image->is_device && !S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "disk %s is neither a file nor a block device", image->name);
    int rc = check_flags(image, options->read_only, err);
    if (rc == 0)
        rc = read_size(image, &st, options->read_only, err);
    if (rc == 0 && options->direct)
        rc = make_direct(image, options->read_only, direct, err);
    if (rc == 0)
        rc = take_hold(image, options->read_only, err);
    image->copies_writes = !options->direct && copies_writes(image);
    return rc;
}

void raw_image_unlock(struct raw_image *image)
{
    if (image->locked)
        disk_unlock(lock_fd(image));
    image->locked = false;
}

void raw_image_close(struct raw_image *image)
{
    close_fd(&image->claim_fd);
    close_fd(&image->lock_fd);
    close_fd(&image->fd);
}
