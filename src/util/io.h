/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_IO_H
#define UTIL_IO_H

/* Blocking reads and writes that finish what they began: EINTR and short transfers are looped over. */

#include <sys/types.h>

/* Returns the bytes read (less than len only at end of file) or -errno. */
ssize_t io_read_full(int fd, void *buf, size_t len);
ssize_t io_pread_full(int fd, void *buf, size_t len, off_t offset);

/* Returns 0 or -errno. */
int io_write_full(int fd, const void *buf, size_t len);
int io_pwrite_full(int fd, const void *buf, size_t len, off_t offset);

/* Read a whole file of at most max bytes into a fresh buffer with a NUL behind it (not counted).
 * -EFBIG when it is larger. The caller frees *out. */
int io_read_file(int dirfd, const char *path, size_t max, char **out, size_t *out_len);

/*
 * For what polls and must not wait: a non-blocking open file of our own for the pipe or character
 * device (a terminal) that `fd` stands for. To set O_NONBLOCK on fd itself would change it for
 * everybody who shares its open file, the user's shell among them, and leave it so after a SIGKILL.
 * `mode`: O_RDONLY or O_WRONLY. Returns a descriptor, or -errno: -EINVAL for a file of another kind;
 * EACCES, ENXIO and others for one that cannot be opened again.
 */
int io_open_again(int fd, int mode);

#endif
