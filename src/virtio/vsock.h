/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

/*
 * virtio-vsock (virtio 1.2, section 5.10): stream connections between programs in the guest and the
 * host.
 *
 * On the host a connection is an ordinary Unix stream socket; half close, end of file and backpressure
 * go through in both directions. It comes about in one of four ways:
 *
 *   the guest connects to CID 2 : port    virtio_vsock_listen on that port: the callback gets a socket;
 *                                         else, with a path, whoever listens on the Unix socket
 *                                         "<path>_<port>"; else the guest is refused.
 *   the host connects to the guest        virtio_vsock_connect;
 *                                         or, with a path, a client of the Unix socket "<path>" that
 *                                         writes "CONNECT <port>\n" and reads "OK <host port>\n" when
 *                                         the guest has accepted; end of file when it has not.
 *
 * What the guest had sent before its connection (or the guest itself) went away is still delivered.
 *
 * Bounds: VSOCK_CONNECTIONS_MAX connections, of each at most VSOCK_BUFFER_BYTES that the host program
 * has not read yet; a guest that sends more than its credit is reset. Each costs a descriptor, of which
 * the process, with all its machines, has perhaps 1024.
 */

#include "dayfly/error.h"
#include "virtio/device.h"

#define VSOCK_HOST_CID        2u
#define VSOCK_CONNECTIONS_MAX 256u
#define VSOCK_BUFFER_BYTES    (256u * 1024)

struct virtio_vsock_options {
    uint32_t guest_cid; /* 3 or more */
    const char *path;   /* copied; NULL: no Unix sockets. A stale socket file there is replaced. */
};

int virtio_vsock_new(struct virtio_device **out, const struct virtio_vsock_options *options,
                     struct loop *loop, const struct log *log, struct dayfly_err *err);

/* Any thread, without the device's lock. Closes every connection and removes the Unix socket. NULL is
 * legal. */
void virtio_vsock_free(struct virtio_device *dev);

/* `accepted` is called in the loop's thread, without the device's lock, and owns fd. */
typedef void virtio_vsock_accepted(void *opaque, int fd, uint32_t guest_port);

/* Accept the guest's connections to `port`. NULL for `accepted` ends that. Any thread.
 * Returns 0, -EADDRINUSE or -ENOMEM. */
int virtio_vsock_listen(struct virtio_device *dev, uint32_t port, virtio_vsock_accepted *accepted,
                        void *opaque);

/*
 * Connect to a port of the guest. Returns a socket at once, close-on-exec and the caller's, or -errno
 * (-ENOTCONN while no driver runs). It can be written to already; when the guest refuses, or does not
 * answer within ten seconds, it reads as end of file and writing fails. Any thread, without the
 * device's lock.
 */
int virtio_vsock_connect(struct virtio_device *dev, uint32_t port);

/*
 * Have the loop's thread keep what the Unix sockets take when it is locked up with these options: some
 * calls, and their directory for its own. The caller then does lock it up so, before the guest runs.
 * False: there is no room for the calls.
 */
bool virtio_vsock_isolate(struct virtio_device *dev, struct isolate_options *options);

#endif
