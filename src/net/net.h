/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NET_H
#define NET_NET_H

/*
 * A network back end: where the frames of a virtio network device go to and come from. A back end is
 * one file and one struct net_ops; the device (virtio/net.c) knows none of them.
 *
 * A frame is an Ethernet frame without its check sequence. A back end with `headers` has a struct
 * net_header in front of each, in both directions, and with it the offloads: frames whose checksum is
 * still to be filled in, and frames of up to NET_FRAME_MAX that somebody else is to cut into segments.
 *
 * No call blocks, and nothing is kept: what cannot be sent now is the caller's to send again, and what
 * the caller does not fetch is the kernel's to hold, or to drop. The segments of a frame may be a
 * guest's memory, read and written in place.
 *
 * Threads: one caller at a time (the device holds its lock). The descriptors are watched by the
 * device's loop, and closed by destroy.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "dayfly/error.h"
#include "isolate/isolate.h"

#define NET_QUEUES_MAX  8     /* of a back end: pairs of one to send and one to receive */
#define NET_FRAME_MIN   14    /* destination, source, type */
#define NET_FRAME_MAX   65550 /* the largest IP packet behind that, rounded up */
#define NET_FRAME_EXTRA 18    /* what a frame has beside its packet: the above, and a VLAN's tag */
#define NET_MTU_MIN     68    /* RFC 791 */
#define NET_MTU_MAX     65535
#define NET_MTU_DEFAULT 1500

/* virtio 1.2, 5.1.6; the kernel's struct virtio_net_hdr_v1. Little-endian. */
struct net_header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t num_buffers; /* the device's: a back end leaves it alone */
};

#define NET_HEADER_NEEDS_CSUM 1u /* flags */
#define NET_HEADER_DATA_VALID 2u

#define NET_HEADER_GSO_NONE   0u /* gso_type */
#define NET_HEADER_GSO_TCPV4  1u
#define NET_HEADER_GSO_TCPV6  4u
#define NET_HEADER_GSO_UDP_L4 5u
#define NET_HEADER_GSO_ECN    0x80u /* besides one of TCP's */

enum net_offload {
    NET_OFFLOAD_CSUM = 1, /* checksums to be filled in; all others need it */
    NET_OFFLOAD_TSO4 = 2,
    NET_OFFLOAD_TSO6 = 4,
    NET_OFFLOAD_ECN = 8,
    NET_OFFLOAD_USO = 16,
};

struct net_frame {
    const struct iovec *iov; /* the header, where there are headers, then the frame */
    unsigned count;          /* at most IOV_MAX */
    size_t bytes;            /* the sum of iov; receive leaves there how many came */
};

struct net;

struct net_ops {
    const char *name;

    /*
     * Take frames off queue `queue`, into at most `max` of `frames`. A frame that does not fit is cut,
     * which its `bytes` may show by being more than there was room for.
     * Returns how many, 0 when there is none now, or -errno when the other end has gone for good.
     */
    int (*receive)(struct net *net, unsigned queue, struct net_frame *frames, unsigned max);

    /*
     * Send `count` frames, at least one. Returns how many of them are off the caller's hands, in
     * order: sent, or dropped since the other end did not want them; 0 when there is no room now (wait
     * until the queue's descriptor is writable); -errno as above.
     */
    int (*send)(struct net *net, unsigned queue, const struct net_frame *frames, unsigned count);

    /* What the driver is ready to receive, a mask of enum net_offload; none at first. NULL: nothing
     * ever. */
    void (*set_offloads)(struct net *net, unsigned offloads);

    /* Use the first `queues` of them; one at first. The descriptors of the others are not to be
     * watched. NULL: there is only one. */
    void (*set_queues)(struct net *net, unsigned queues);

    void (*destroy)(struct net *net);

    /* The system calls that the above make, but for destroy and what every thread may call. */
    struct isolate_calls calls;
};

struct net {
    const struct net_ops *ops;
    unsigned queues; /* 1 to NET_QUEUES_MAX */
    int fds[NET_QUEUES_MAX];
    bool headers;
    unsigned offloads; /* a mask of enum net_offload: what it carries; 0 without headers */
    uint16_t mtu;      /* what the guest is told */
};

/* NULL is legal. */
void net_destroy(struct net *net);

/* -- socket.c ---------------------------------------------------------------------------------- */

struct net_socket_options {
    int fd;       /* AF_UNIX, SOCK_SEQPACKET or connected SOCK_DGRAM; taken, even on failure */
    uint16_t mtu; /* 0: NET_MTU_DEFAULT */
};

/*
 * A frame is a message, without a header. One queue. The other end is gone when a SOCK_SEQPACKET says
 * so; a datagram that nobody is there for is dropped. The socket's flags are left as they are.
 */
int net_socket_open(struct net **out, const struct net_socket_options *options, struct dayfly_err *err);

/* -- tap.c ------------------------------------------------------------------------------------- */

struct net_tap_options {
    const char *interface;
    unsigned queues; /* as many as that, where the interface has several; at least 1 */
    uint16_t mtu;    /* 0: the interface's */
};

/*
 * The host's end of a cable whose other end is the guest's device. The interface has to be there (`ip
 * tuntap add dev NAME mode tap user USER multi_queue`), and free; it is left as it was, and with what
 * it is connected is its owner's business. With headers and all offloads that the host's kernel knows.
 */
int net_tap_open(struct net **out, const struct net_tap_options *options, struct dayfly_err *err);

#endif
