/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_FS_H
#define VIRTIO_FS_H

/*
 * The file system device (virtio 1.2, section 5.11) in front of a file server (fs/fs.h).
 *
 * It has a loop and threads of its own, so that a slow disk of the host never holds up another device:
 * see device.h for what that asks of a transport.
 */

#include "dayfly/error.h"
#include "fs/fs.h"
#include "virtio/device.h"

#define VIRTIO_FS_TAG_BYTES   36 /* without a NUL where the tag fills it */
#define VIRTIO_FS_QUEUES_MAX  16
#define VIRTIO_FS_WORKERS_MAX 16

struct virtio_fs_options {
    const char *tag;      /* 1 to VIRTIO_FS_TAG_BYTES bytes; what the guest mounts by */
    unsigned queues;      /* request queues, 1 to VIRTIO_FS_QUEUES_MAX; 0 is 1 */
    unsigned workers_max; /* threads besides the loop's, 1 to VIRTIO_FS_WORKERS_MAX; 0 is 4 */
    const struct isolate_calls *carrier_calls; /* the system calls that its transport makes in the
                                                  device's threads; NULL: none of its own */
    struct jail *jail; /* of its threads; borrowed. NULL: namespaces of their own */
};

/*
 * Make the device and start its loop. Takes fs, even on failure. log is borrowed, may be NULL. Its
 * threads begin here or later; they inherit what the calling thread is confined to, and are locked up
 * (fs_lock_up) before they see a request. Returns 0 or -errno.
 */
int virtio_fs_new(struct virtio_device **out, struct fs *fs, const struct virtio_fs_options *options,
                  const struct log *log, struct dayfly_err *err);

/* Waits for requests in flight, ends the threads and frees the server. After the transport let go; in
 * any thread but the device's own. NULL is legal. */
void virtio_fs_free(struct virtio_device *dev);

#endif
