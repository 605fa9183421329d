/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_KERNEL_IMAGE_H
#define ARCH_X86_64_KERNEL_IMAGE_H

/*
 * From what a distribution ships to what the machine boots: an uncompressed ELF file with a PVH entry.
 * Done once for a kernel, when it comes into the store; a machine's start then reads that file alone.
 */

#include <stdint.h>

#include "dayfly/error.h"

/* No larger kernel is accepted, and none is written. A Debian kernel is some 55 MiB. */
#define KERNEL_IMAGE_MAX_BYTES (UINT64_C(1) << 30)

/*
 * Write the bootable ELF file of in_fd to out_fd.
 *
 *   in_fd   an ELF vmlinux, or a bzImage (x86 boot protocol 2.08 or later; payload gzip, bzip2, lzma,
 *           xz, LZ4 or zstd). Read with pread from offset 0: its file offset neither matters nor
 *           changes. Hostile.
 *   out_fd  an empty regular file (or memfd), open for reading and writing. Blocks of zeroes become
 *           holes, which kernel_load() skips. After a failure its content is unspecified.
 *
 * Returns 0 or -errno: -ENOEXEC for what is no kernel or has no PVH entry, -EBADMSG for a damaged
 * one, -EFBIG over KERNEL_IMAGE_MAX_BYTES, else what the system said. The message says "the kernel ..."
 * without a name: the caller, who knows it, puts it in front with err_wrap. Both fds stay the caller's.
 */
int kernel_image_unpack(int in_fd, int out_fd, struct dayfly_err *err);

#endif
