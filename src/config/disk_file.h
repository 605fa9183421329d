/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_DISK_FILE_H
#define CONFIG_DISK_FILE_H

/*
 * What the host can be asked of a disk's file besides its lock (disk_lock.h). The file is opened once
 * more, through /proc/self/fd, so that the descriptor at hand stays as it is; who may not open the file
 * by its rights gets -EACCES, whatever the descriptor allows.
 */

#include <stdbool.h>
#include <stdint.h>

/*
 * Claim the block device `fd` for one writer. Locks are those of a device node, and a device can have
 * several; this claim is the device's own, the one that mounts, swap and software RAID take as well. A
 * second claim is refused, and so are they, until the descriptor that is returned is closed. Returns
 * it, -EBUSY or -errno.
 *
 * While a claim stands, only its descriptor can discard or zero parts of the device: the kernel claims
 * the device for that where the caller's own does not.
 */
int disk_claim(int fd);

/* The file once more, by a description of its own. Returns a descriptor or -errno. */
int disk_reopen(int fd, bool read_only);

/* What direct I/O asks of a request. Both are powers of two. */
struct disk_direct {
    uint32_t memory_bytes; /* the address of each segment is a multiple of it */
    uint32_t file_bytes;   /* so are the offset and the length of each segment of this */
};

/* Open the file for direct I/O. Returns the descriptor; -EOPNOTSUPP when the file system has none; or
 * -errno. */
int disk_direct_open(int fd, bool read_only, struct disk_direct *out);

#endif
