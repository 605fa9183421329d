/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_BLOCK_H
#define VIRTIO_BLOCK_H

/* The block device (virtio 1.2, section 5.2) on any block back end. */

#include "block/block.h"
#include "virtio/device.h"

#define VIRTIO_BLOCK_SERIAL_BYTES 20
#define VIRTIO_BLOCK_QUEUES_MAX   16

/* The device's feature bits (5.2.3). */
#define VIRTIO_BLOCK_F_SIZE_MAX     (UINT64_C(1) << 1)
#define VIRTIO_BLOCK_F_SEG_MAX      (UINT64_C(1) << 2)
#define VIRTIO_BLOCK_F_RO           (UINT64_C(1) << 5)
#define VIRTIO_BLOCK_F_BLK_SIZE     (UINT64_C(1) << 6)
#define VIRTIO_BLOCK_F_FLUSH        (UINT64_C(1) << 9)
#define VIRTIO_BLOCK_F_TOPOLOGY     (UINT64_C(1) << 10)
#define VIRTIO_BLOCK_F_MQ           (UINT64_C(1) << 12)
#define VIRTIO_BLOCK_F_DISCARD      (UINT64_C(1) << 13)
#define VIRTIO_BLOCK_F_WRITE_ZEROES (UINT64_C(1) << 14)

struct virtio_block_options {
    char serial[VIRTIO_BLOCK_SERIAL_BYTES]; /* padded with NULs; what GET_ID answers */
    unsigned queues;                        /* 1 to VIRTIO_BLOCK_QUEUES_MAX; 0 is 1 */
    struct jail *jail; /* of a thread of its own; borrowed. NULL: it is not locked up */
    const struct isolate_calls *carrier_calls; /* the transport's, in that thread; or NULL */
};

/*
 * Make the device. It registers with the loop; without one it has a loop of its own, and a thread: for
 * a disk that is written or encrypted, which is work that could hold up others. Takes block, even on
 * failure. options may be NULL; loop and log are borrowed. Returns 0 or -errno.
 */
int virtio_block_new(struct virtio_device **out, struct block *block,
                     const struct virtio_block_options *options, struct loop *loop,
                     const struct log *log, struct dayfly_err *err);

/* Waits for what is in flight, then destroys the back end too. In the thread of the loop given,
 * or while that does not run; after the transport let go. NULL is legal. */
void virtio_block_free(struct virtio_device *dev);

#endif
