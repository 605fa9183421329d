/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSPORT_VHOST_USER_H
#define TRANSPORT_VHOST_USER_H

/*
 * The vhost-user transport, back end's side: carries any struct virtio_device to a front end, such as
 * QEMU or another monitor, over a Unix socket. The front end is trusted no more than a guest is:
 * whatever it sends is checked, and a message that breaks the protocol closes the connection and resets
 * the device.
 *
 * Offered: MQ, REPLY_ACK, BACKEND_REQ (configuration changes), CONFIG (for a device with a
 * configuration space), RESET_DEVICE, STATUS. Not offered: dirty logging, in-flight tracking, postcopy,
 * IOMMU, in-band kicks, memory slots; legacy (pre 1.0) drivers are refused.
 *
 * Guest memory must be a memfd sealed against shrinking (QEMU's memory-backend-memfd is one), not of
 * hugetlb pages, at most 8 regions: of a file that can be cut off under the mapping, or whose pages the
 * host may be out of, no access would be safe.
 *
 * Threads: everything runs in the device's loop. new, listen and free may be called from any thread.
 */

#include "dayfly/error.h"
#include "isolate/isolate.h"
#include "virtio/device.h"

struct vhost_user;

/* The front end left, or was thrown out, for the reason in `why`. The device is reset, guest memory is
 * unmapped. Called once, in the loop's thread; vhost_user_free is legal in it. Not called by free. */
typedef void vhost_user_closed(void *opaque, const struct dayfly_err *why);

/* Serve dev, which is carried by nothing else, to the front end at the other end of the connected
 * socket `fd` (taken, even on failure). dev is borrowed until vhost_user_free. `closed` may be NULL. */
int vhost_user_new(struct vhost_user **out, struct virtio_device *dev, int fd,
                   vhost_user_closed *closed, void *opaque, struct dayfly_err *err);

/* The same, for the first front end that connects to a socket made at `path`, mode 0600. The file is
 * removed when that front end has come, or by vhost_user_free. For tests. */
int vhost_user_listen(struct vhost_user **out, struct virtio_device *dev, const char *path,
                      vhost_user_closed *closed, void *opaque, struct dayfly_err *err);

/* The same, on a socket that listens already, in a thread that may be locked up (taken, even on
 * failure). Its file, if it has one, stays. */
int vhost_user_accept(struct vhost_user **out, struct virtio_device *dev, int fd,
                      vhost_user_closed *closed, void *opaque, struct dayfly_err *err);

/* A socket that listens at `path`, mode 0600, for who accepts by himself and calls vhost_user_new, or
 * for vhost_user_accept; one that somebody left there is replaced. The caller closes it and removes the
 * file. Returns the descriptor or -errno. */
int vhost_user_bind(const char *path, struct dayfly_err *err);

/* The same without a path: for a front end that is given the descriptor *door and connects to
 * /proc/self/fd/N (util/nameless.h). Both are the caller's to close. */
int vhost_user_bind_nameless(int *door, struct dayfly_err *err);

/* Hang up, reset the device, let go of it. NULL is legal. */
void vhost_user_free(struct vhost_user *vu);

/* The system calls of a device's thread that is carried so, for one that is locked up. */
extern const struct isolate_calls vhost_user_calls;

#endif
