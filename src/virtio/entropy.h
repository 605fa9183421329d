/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_ENTROPY_H
#define VIRTIO_ENTROPY_H

/* The entropy device (virtio 1.2, section 5.4): the host kernel's random bytes for the guest. */

#include "virtio/device.h"

/* Make one; it registers with the loop. loop and log are borrowed. Returns 0 or -errno. */
int virtio_entropy_new(struct virtio_device **out, struct loop *loop, const struct log *log,
                       struct dayfly_err *err);

/* In the loop's thread, or while it does not run; after the transport let go. NULL is legal. */
void virtio_entropy_free(struct virtio_device *dev);

#endif
