/* SPDX-License-Identifier: Apache-2.0 */
#include "config/disk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

/* For a file system that does direct I/O and does not say what it asks. Nothing in use asks for more.
 */
#define CAUTIOUS_BYTES 4096u

static int reopen(int fd, int flags)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = open(path, flags | O_CLOEXEC | O_NOCTTY);
    return again < 0 ? -errno : again;
}

int disk_claim(int fd)
{
    return reopen(fd, O_RDWR | O_EXCL);
}

int disk_reopen(int fd, bool read_only)
{
    return reopen(fd, read_only ? O_RDONLY : O_RDWR);
}

static bool is_power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* statx knows since Linux 6.1, and of devices since 6.11. */
static int ask(int fd, struct disk_direct *out)
{
    struct statx stx = {0};
    *out = (struct disk_direct){CAUTIOUS_BYTES, CAUTIOUS_BYTES};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_DIOALIGN, &stx) < 0)
        return -errno;
    if (stx.stx_mask & STATX_DIOALIGN) {
        if (stx.stx_dio_offset_align == 0)
            return -EOPNOTSUPP; /* not for this file: encrypted, compressed, ... */
        if (is_power_of_two(stx.stx_dio_mem_align) && is_power_of_two(stx.stx_dio_offset_align))
            *out = (struct disk_direct){stx.stx_dio_mem_align, stx.stx_dio_offset_align};
        return 0;
    }
    int sector;
    if (S_ISBLK(stx.stx_mode) && ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0 &&
        is_power_of_two((uint32_t)sector))
        *out = (struct disk_direct){(uint32_t)sector, (uint32_t)sector};
    return 0;
}

int disk_direct_open(int fd, bool read_only, struct disk_direct *out)
{
    _cleanup_close_ int direct = reopen(fd, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT);
    if (direct < 0)
        return direct == -EINVAL ? -EOPNOTSUPP : direct;
    int rc = ask(direct, out);
    return rc < 0 ? rc : steal_fd(&direct);
}
