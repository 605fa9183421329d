/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

/*
 * The network device (virtio 1.2, section 5.1) on any network back end. It has a loop and a thread of
 * its own, which is locked up (isolate.h), unless it is told to use another's.
 *
 * Queues: receive 0 and send 0, receive 1 and send 1 ..., then the control queue. As many pairs as the
 * back end has queues.
 */

#include "net/net.h"
#include "util/mac.h"
#include "virtio/device.h"

/* The device's feature bits (5.1.3). */
#define VIRTIO_NET_F_CSUM                (UINT64_C(1) << 0)
#define VIRTIO_NET_F_GUEST_CSUM          (UINT64_C(1) << 1)
#define VIRTIO_NET_F_CTRL_GUEST_OFFLOADS (UINT64_C(1) << 2)
#define VIRTIO_NET_F_MTU                 (UINT64_C(1) << 3)
#define VIRTIO_NET_F_MAC                 (UINT64_C(1) << 5)
#define VIRTIO_NET_F_GUEST_TSO4          (UINT64_C(1) << 7)
#define VIRTIO_NET_F_GUEST_TSO6          (UINT64_C(1) << 8)
#define VIRTIO_NET_F_GUEST_ECN           (UINT64_C(1) << 9)
#define VIRTIO_NET_F_HOST_TSO4           (UINT64_C(1) << 11)
#define VIRTIO_NET_F_HOST_TSO6           (UINT64_C(1) << 12)
#define VIRTIO_NET_F_HOST_ECN            (UINT64_C(1) << 13)
#define VIRTIO_NET_F_MRG_RXBUF           (UINT64_C(1) << 15)
#define VIRTIO_NET_F_STATUS              (UINT64_C(1) << 16)
#define VIRTIO_NET_F_CTRL_VQ             (UINT64_C(1) << 17)
#define VIRTIO_NET_F_CTRL_RX             (UINT64_C(1) << 18)
#define VIRTIO_NET_F_MQ                  (UINT64_C(1) << 22)
#define VIRTIO_NET_F_CTRL_MAC_ADDR       (UINT64_C(1) << 23)
#define VIRTIO_NET_F_GUEST_USO4          (UINT64_C(1) << 54)
#define VIRTIO_NET_F_GUEST_USO6          (UINT64_C(1) << 55)
#define VIRTIO_NET_F_HOST_USO            (UINT64_C(1) << 56)

/* The configuration space (5.1.4), little-endian. */
struct virtio_net_config {
    uint8_t mac[MAC_BYTES];
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
};

#define VIRTIO_NET_S_LINK_UP 1u /* status */

struct virtio_net_options {
    uint8_t mac[MAC_BYTES];
    struct loop *loop;                         /* borrowed, and not locked up; NULL: one of its own */
    const struct isolate_calls *carrier_calls; /* the transport's, in the device's thread; or NULL */
    struct jail *jail; /* of its own thread; borrowed. NULL: namespaces of its own */
};

/* Since the device was made. */
struct virtio_net_counters {
    uint64_t to_driver, to_driver_dropped;     /* frames */
    uint64_t from_driver, from_driver_dropped; /* the latter: what is no frame, or asks for too much */
};

/* Takes net, even on failure. */
int virtio_net_new(struct virtio_device **out, struct net *net,
                   const struct virtio_net_options *options, const struct log *log,
                   struct dayfly_err *err);
void virtio_net_free(struct virtio_device *dev); /* and the back end */

/* Plug the cable in, or pull it: a driver with VIRTIO_NET_F_STATUS is told, and without a cable frames
 * are dropped. It is in from the start; a back end whose other end goes pulls it. Any thread. So far
 * for tests. */
void virtio_net_set_link(struct virtio_device *dev, bool up);

/* For tests. */
void virtio_net_count(struct virtio_device *dev, struct virtio_net_counters *out);

#endif
