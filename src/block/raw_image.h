/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_RAW_IMAGE_H
#define BLOCK_RAW_IMAGE_H

/*
 * The file or device of a raw image: what it is, whether it is fit for what is asked of it, and the
 * hold on it. An image is locked by the rule of config/disk_lock.h, so that two machines, in one
 * process or in two, cannot write the same disk. Who writes to a device claims it as well
 * (config/disk_file.h).
 *
 * The lock is of a description that io_uring never sees: when a process is killed, its ring lives on
 * for a moment and holds the files that it knows, and a machine that is started again at once would
 * find the disk in use.
 */

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "config/disk_file.h"

#define RAW_IMAGE_NAME_BYTES 160

struct raw_image {
    int fd;       /* for the transfers */
    int lock_fd;  /* has the lock; -1: fd has it */
    int claim_fd; /* of a device that is written; else -1 */
    bool locked;
    bool is_device;
    bool copies_writes; /* a write is a copy into the page cache of this host, and mostly no more */
    uint64_t size_bytes;
    uint32_t sector_bytes;           /* 512 for a file, which has none of its own */
    char name[RAW_IMAGE_NAME_BYTES]; /* for messages */
};
#define RAW_IMAGE_INIT                                                                                 \
    {                                                                                                  \
        .fd = -1, .lock_fd = -1, .claim_fd = -1                                                        \
    }

/* Takes options->fd, even on failure. With options->direct, *direct is what direct I/O asks for.
 * Returns 0 or -errno; raw_image_close either way. */
int raw_image_open(struct raw_image *image, const struct block_raw_options *options,
                   struct disk_direct *direct, struct dayfly_err *err);

/* Others may have it from now on. Closing alone might not do that: io_uring, or who gave it to us, can
 * hold the description. Safe to call twice. */
void raw_image_unlock(struct raw_image *image);

/* Safe on RAW_IMAGE_INIT and safe to call twice. */
void raw_image_close(struct raw_image *image);

#endif
