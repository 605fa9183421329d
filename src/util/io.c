/* SPDX-License-Identifier: Apache-2.0 */
#include "util/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

/* From `offset` on, or from where the file is when that is negative. */
static ssize_t read_full(int fd, char *buf, size_t len, off_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = offset < 0 ? read(fd, buf + done, len - done)
                               : pread(fd, buf + done, len - done, offset + (off_t)done);
        if (n == 0)
            break;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

ssize_t io_read_full(int fd, void *buf, size_t len)
{
    return read_full(fd, buf, len, -1);
}

ssize_t io_pread_full(int fd, void *buf, size_t len, off_t offset)
{
    return offset < 0 ? -EINVAL : read_full(fd, buf, len, offset);
}

int io_write_full(int fd, const void *buf, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(fd, (const char *)buf + done, len - done);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

int io_pwrite_full(int fd, const void *buf, size_t len, off_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(fd, (const char *)buf + done, len - done, offset + (off_t)done);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

int io_read_file(int dirfd, const char *path, size_t max, char **out, size_t *out_len)
{
    _cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t cap = 4096, len = 0;
    _cleanup_free_ char *buf = NULL;
    for (;;) {
        char *bigger = realloc(buf, cap + 1);
        if (!bigger)
            return -ENOMEM;
        buf = bigger;
        ssize_t n = io_read_full(fd, buf + len, cap - len);
        if (n < 0)
            return (int)n;
        len += (size_t)n;
        if (len > max)
            return -EFBIG;
        if (len < cap)
            break;
        cap *= 2;
    }
    buf[len] = '\0';
    *out = steal_ptr(&buf);
    if (out_len)
        *out_len = len;
    return 0;
}

int io_open_again(int fd, int mode)
{
    struct stat st;
    char path[32];
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
        return -EINVAL;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int again = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return again < 0 ? -errno : again;
}
