/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_KERNEL_LOAD_H
#define ARCH_X86_64_KERNEL_LOAD_H

/* Loads an ELF kernel (as kernel_image_unpack leaves it) into guest memory. */

#include <stdint.h>

#include "dayfly/error.h"

/*
 * Guest memory as this layer sees it. span() returns where [gpa, gpa + len) is mapped, or NULL when
 * any byte of it is outside RAM or the range is not contiguous in the host; len is never 0. What it
 * returns stays valid for as long as the target does. The memory is fresh: it reads as zero wherever
 * nothing was written through this target.
 */
struct kernel_target {
    void *opaque;
    void *(*span)(void *opaque, uint64_t gpa, uint64_t len);
};

struct kernel_info {
    uint64_t entry; /* PVH entry point: where the boot vCPU starts, in 32-bit protected mode */
    uint64_t start; /* the loaded segments are within [start, end) */
    uint64_t end;
};

/*
 * Copy the PT_LOAD segments of fd to their physical addresses and find the PVH entry.
 * fd is hostile, is read with pread, and stays the caller's. Nothing below 1 MiB is written.
 * Returns 0 or -errno: -ENOEXEC for a file that is not a bootable kernel, -EBADMSG for a damaged one,
 * -ENOMEM for one that guest memory does not hold, else what the system said. After a failure part
 * of the kernel may be in the memory; *out is then unspecified.
 */
int kernel_load(int fd, const struct kernel_target *target, struct kernel_info *out,
                struct dayfly_err *err);

#endif
