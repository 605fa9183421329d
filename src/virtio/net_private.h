/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_NET_PRIVATE_H
#define VIRTIO_NET_PRIVATE_H

/*
 * Shared by the parts of the network device:
 *   net.c          the device: its making, its thread, what a transport asks for
 *   net_receive.c  frames from the back end into the driver's buffers
 *   net_send.c     frames from the driver to the back end
 *   net_control.c  the control queue
 *
 * Everything here is used with the device's lock held, and what serves queues in the loop's thread.
 */

#include <limits.h>

#include "util/arith.h"
#include "virtio/net.h"

#define NET_QUEUE_SIZE   256
#define NET_HEADER_BYTES sizeof(struct net_header)

/* Of one chain: no longer than the queue (2.7.5.3.1), and cut where regions of memory meet. */
#define NET_SEGMENTS_MAX (NET_QUEUE_SIZE + MEMORY_REGIONS_MAX)
/* Of what is handed to the back end with one call; its last segment is the spill. */
#define NET_STOCK_SEGMENTS (IOV_MAX - 1)
#define NET_BATCH          64

/* A receive buffer of the driver's. Its segments are the next `count` of the pair's. */
struct virtio_net_buffer {
    uint16_t head;
    uint16_t count;
    uint64_t bytes;
};

struct virtio_net_pair {
    struct virtio_net *owner;
    unsigned index;
    struct loop_source source; /* the back end's queue */
    bool starved;              /* the driver has given no buffers: wait for its kick */
    bool blocked;              /* the back end takes no frames: wait until it is writable */

    /* Receive buffers popped and not used yet, oldest first: net_receive.c. */
    struct virtio_net_buffer stock[NET_BATCH];
    unsigned stock_count;
    uint64_t stock_bytes;
    struct iovec segments[NET_STOCK_SEGMENTS];
    unsigned segment_count;
    /* A frame that has come, header included, and for which the stock is too small; 0: none. Its first
     * `pending_placed` bytes are in the stock, the others in the spill. */
    uint64_t pending_bytes, pending_placed;
    uint8_t *spill; /* NET_HEADER_BYTES + NET_FRAME_MAX */
};

struct virtio_net {
    struct virtio_device dev;
    struct net *net;
    struct virtio_net_config config;
    struct loop_source wake; /* an eventfd: something is noted */
    struct loop *own_loop;   /* NULL: a borrowed one */
    uint32_t noted;          /* queues to serve, a bit each */
    unsigned pairs;    /* of the pairs, those that the driver has asked for by its control queue */
    unsigned attached; /* of the back end's queues, those in use and watched */
    unsigned offloads; /* what the driver is ready to receive */
    bool offloads_set; /* the back end knows */
    bool up;           /* the cable is in */
    bool gone;         /* and nobody is at its other end for good */
    struct virtio_net_counters counters;
    struct virtio_net_pair pairs_all[NET_QUEUES_MAX];

    /* For the length of one call of the back end's. */
    struct net_frame frames[NET_BATCH];
    struct iovec view[IOV_MAX];
    struct virtio_net_sent {
        uint16_t head;
        bool fine; /* one of `frames` */
        struct net_header header;
    } sent[NET_BATCH];
};

static inline struct virtio_net *virtio_net_of(struct virtio_device *dev)
{
    return container_of(dev, struct virtio_net, dev);
}

static inline unsigned virtio_net_rx(const struct virtio_net_pair *p)
{
    return 2 * p->index;
}

static inline unsigned virtio_net_tx(const struct virtio_net_pair *p)
{
    return 2 * p->index + 1;
}

/* The control queue is behind all pairs that there can be, and without MQ there is one (5.1.2). */
static inline unsigned virtio_net_control_queue(const struct virtio_net *n)
{
    return n->dev.features & VIRTIO_NET_F_MQ ? 2 * n->net->queues : 2;
}

/* Have the loop serve a queue, in a turn of its own. */
void virtio_net_note(struct virtio_net *n, unsigned queue);

/* The back end has nobody at its other end any more: pull the cable. */
void virtio_net_end(struct virtio_net *n, int error);

/* -- net_receive.c -- */

/* One turn: what the back end has, until there are no buffers or others should have their turn. */
void virtio_net_receive(struct virtio_net_pair *p);

/* Give the buffers in stock back to the ring, as if they had never been taken. */
void virtio_net_unstock(struct virtio_net_pair *p);

/* -- net_send.c -- */

void virtio_net_send(struct virtio_net_pair *p);

/* -- net_control.c -- */

void virtio_net_control(struct virtio_net *n);

/* The offloads (enum net_offload) that feature bits of either direction stand for. */
unsigned virtio_net_guest_offloads(uint64_t features);
unsigned virtio_net_host_offloads(uint64_t features);

#endif
