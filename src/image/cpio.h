/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_CPIO_H
#define IMAGE_CPIO_H

/*
 * A cpio archive ("newc", as the kernel unpacks it;
 * Documentation/driver-api/early-userspace/buffer-format.rst) written into memory. The same calls make
 * the same bytes: times are 0, owners root, inode numbers count from 1.
 *
 * Paths are relative, without a leading '/'; a directory goes in before what it holds.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"

struct cpio {
    int fd; /* a memfd */
    uint64_t len;
    uint32_t ino;
};

/* 0 or -errno. */
int cpio_init(struct cpio *c, struct dayfly_err *err);

/* mode: the permission bits. */
int cpio_add_dir(struct cpio *c, const char *path, mode_t mode, struct dayfly_err *err);
int cpio_add_file(struct cpio *c, const char *path, mode_t mode, const void *data, size_t len,
                  struct dayfly_err *err);

/* mode with its type: S_IFCHR or S_IFBLK. */
int cpio_add_node(struct cpio *c, const char *path, mode_t mode, uint32_t major, uint32_t minor,
                  struct dayfly_err *err);

/* End the archive and hand its memfd over, sealed against any change. c is then as after cpio_abandon.
 */
int cpio_finish(struct cpio *c, int *memfd, struct dayfly_err *err);

/* Give up. Safe at any time after cpio_init, and twice. */
void cpio_abandon(struct cpio *c);

#endif
