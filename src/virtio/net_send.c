/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from the driver, read by the kernel where the driver has them.
 *
 * Chains are popped, looked at, and handed to the back end a batch at a time; what it has no room for
 * is un-popped, and waits in the driver's ring until the back end can be written to. Nothing is kept
 * here.
 *
 * A header is copied once; the copy is checked against what was negotiated and against the frame's
 * length, and the back end gets the copy. What is no frame, or asks for what cannot be done, is dropped
 * and counted: as on a wire, nobody is told.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "util/iov.h"
#include "virtio/net_private.h"

/* Frames in a row before others of the loop get their turn. */
#define TURN_MAX 256

/* -- headers ----------------------------------------------------------------------------------- */

/* The offload that a kind of segmentation is, or 0 for none there is. */
static unsigned offload_of(uint8_t gso_type)
{
    switch (gso_type) {
    case NET_HEADER_GSO_TCPV4:
        return NET_OFFLOAD_TSO4;
    case NET_HEADER_GSO_TCPV6:
        return NET_OFFLOAD_TSO6;
    case NET_HEADER_GSO_TCPV4 | NET_HEADER_GSO_ECN:
        return NET_OFFLOAD_TSO4 | NET_OFFLOAD_ECN;
    case NET_HEADER_GSO_TCPV6 | NET_HEADER_GSO_ECN:
        return NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN;
    case NET_HEADER_GSO_UDP_L4:
        return NET_OFFLOAD_USO;
    default:
        return 0;
    }
}

/* Whether a frame of `bytes` may have this header (5.1.6.2), with the offloads that were negotiated. */
static bool header_is_fine(const struct net_header *header, uint64_t bytes, unsigned offloads)
{
    if (header->flags & NET_HEADER_NEEDS_CSUM) {
        uint64_t start = le16toh(header->csum_start), offset = le16toh(header->csum_offset);
        if (!(offloads & NET_OFFLOAD_CSUM) || start + offset + sizeof(uint16_t) > bytes)
            return false;
    }
    if (header->gso_type == NET_HEADER_GSO_NONE)
        return true;
    unsigned needs = offload_of(header->gso_type);
    return needs && (offloads & needs) == needs && (header->flags & NET_HEADER_NEEDS_CSUM) &&
           header->gso_size != 0 && le16toh(header->hdr_len) <= bytes;
}

static bool length_is_fine(const struct virtio_net *n, const struct net_header *header, uint64_t bytes)
{
    uint64_t max = header->gso_type == NET_HEADER_GSO_NONE
                       ? MIN((uint64_t)n->net->mtu + NET_FRAME_EXTRA, (uint64_t)NET_FRAME_MAX)
                       : NET_FRAME_MAX;
    return bytes >= NET_FRAME_MIN && bytes <= max;
}

/* -- one turn ---------------------------------------------------------------------------------- */

/*
 * Look at a popped chain, in front of whose segments there is room for one more. Fills in frame and
 * sent; sent->fine says whether it is to be sent.
 */
static void take(struct virtio_net *n, const struct ring_chain *chain, struct net_frame *frame,
                 struct virtio_net_sent *sent)
{
    struct net_header *header = &sent->header;
    struct iovec *iov = chain->iov;
    sent->head = chain->head;
    sent->fine = false;
    if (chain->writable > 0 || chain->readable_bytes <= NET_HEADER_BYTES)
        return;
    uint64_t bytes = chain->readable_bytes - NET_HEADER_BYTES;
    iov_copy_out(iov, chain->readable, 0, header, sizeof(*header));
    header->flags &= NET_HEADER_NEEDS_CSUM; /* the only one that is a driver's */
    header->num_buffers = 0;
    sent->fine = header_is_fine(header, bytes, virtio_net_host_offloads(n->dev.features)) &&
                 length_is_fine(n, header, bytes);
    unsigned count = iov_drop_front(&iov, chain->readable, NET_HEADER_BYTES);
    if (n->net->headers) {
        *--iov = (struct iovec){header, sizeof(*header)};
        count++;
        bytes += sizeof(*header);
    }
    *frame = (struct net_frame){.iov = iov, .count = count, .bytes = bytes};
}

/* Push the first `taken` of what was gathered, put the others back. */
static void settle(struct virtio_net_pair *p, unsigned gathered, unsigned taken)
{
    struct virtio_net *n = p->owner;
    struct ring *ring = &n->dev.queues[virtio_net_tx(p)].ring;
    for (unsigned i = 0; i < taken; i++) {
        ring_push(ring, n->sent[i].head, 0);
        n->counters.from_driver += n->sent[i].fine;
        n->counters.from_driver_dropped += !n->sent[i].fine;
    }
    for (unsigned i = taken; i < gathered; i++)
        ring_unpop(ring);
}

/* How many of the gathered chains are done with, when the back end took `sent` of their frames. */
static unsigned chains_of(const struct virtio_net *n, unsigned gathered, unsigned sent)
{
    unsigned chains = 0;
    while (chains < gathered && (!n->sent[chains].fine || sent-- > 0))
        chains++;
    return chains;
}

/* Send up to `max` frames. False when there are none left, or no room for them. */
static bool send_some(struct virtio_net_pair *p, unsigned max, unsigned *done)
{
    struct virtio_net *n = p->owner;
    unsigned gathered = 0, frames = 0, segments = 0;
    /* A segment more for each: its header, once it has been checked. */
    while (gathered < max && segments + 1 + NET_SEGMENTS_MAX <= ARRAY_SIZE(n->view)) {
        struct ring_chain chain;
        struct virtio_net_sent *sent = &n->sent[gathered];
        if (!virtio_pop(&n->dev, virtio_net_tx(p), &chain, n->view + segments + 1, NET_SEGMENTS_MAX))
            break;
        take(n, &chain, &n->frames[frames], sent);
        /* Without a cable all go to nobody. */
        sent->fine = sent->fine && n->up && !n->gone;
        frames += sent->fine;
        segments += 1 + chain.readable + chain.writable;
        gathered++;
    }
    unsigned queue = p->index < n->attached ? p->index : 0;
    int sent = frames > 0 ? n->net->ops->send(n->net, queue, n->frames, frames) : 0;
    if (sent < 0)
        virtio_net_end(n, -sent);
    p->blocked = sent >= 0 && (unsigned)sent < frames;
    *done = chains_of(n, gathered, (unsigned)MAX(sent, 0));
    settle(p, gathered, *done);
    return gathered > 0 && !p->blocked && !n->dev.needs_reset;
}

void virtio_net_send(struct virtio_net_pair *p)
{
    struct virtio_net *n = p->owner;
    unsigned queue = virtio_net_tx(p), budget = TURN_MAX, done;
    struct ring *ring = &n->dev.queues[queue].ring;
    if (p->blocked || !n->dev.active || n->dev.needs_reset || !ring_running(ring))
        return;
    do {
        ring_kicks_off(ring);
        while (budget > 0 && send_some(p, MIN(budget, (unsigned)NET_BATCH), &done))
            budget -= done;
    } while (budget > 0 && !p->blocked && virtio_kicks_on(&n->dev, queue));
    if (budget == 0)
        virtio_net_note(n, queue);
    virtio_interrupt(&n->dev, queue);
}
