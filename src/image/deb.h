/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_DEB_H
#define IMAGE_DEB_H

/*
 * Reading the files of a Debian package (deb(5)): an ar archive whose member data.tar[.xz|.zst|.gz] is
 * the tree. The package is hostile; entries, bytes and name lengths are bounded, and nothing is written
 * anywhere: what to do with a file is the visitor's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dayfly/error.h"

#define DEB_MAX_ENTRIES 200000u
#define DEB_MAX_BYTES   (UINT64_C(8) << 30) /* of all files together */

struct deb_file {
    const char *path; /* "boot/vmlinuz-6.12", without a leading "./" or "/" */
    uint64_t size;
    void *archive; /* the reader's own */
};

/* The next bytes of the file under visit: how many, 0 at its end, -errno and *err. */
ssize_t deb_file_read(struct deb_file *file, void *buf, size_t len, struct dayfly_err *err);

/* Called for each regular file, in the package's order. What it does not read is skipped. A return
 * other than 0 ends the reading. */
typedef int deb_visit_fn(void *opaque, struct deb_file *file, struct dayfly_err *err);

/* Read the package in fd from its current position. Returns 0, -errno, or what the visitor returned. */
int deb_read(int fd, deb_visit_fn *visit, void *opaque, struct dayfly_err *err);

/* Decompress a whole buffer (xz, zstd, gzip, or none of them: then a copy). -EFBIG when the result is
 * over `max`. The caller frees *out. */
int deb_decompress(const void *data, size_t len, size_t max, void **out, size_t *out_len,
                   struct dayfly_err *err);

#endif
