/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from the back end, written by the kernel where the driver wants them.
 *
 * How long a frame is shows when it has come, so the room for it must be there before: receive buffers
 * are popped ahead and kept in stock. Where each of them has room for any frame, as for frames of an
 * Ethernet's size, a batch of frames is received with one call, a buffer each. Else (large segments in
 * small buffers, which the driver has agreed to see merged) one frame at a time gets all buffers in
 * stock, and behind them the pair's spill, which takes what exceeds them until the driver has given
 * more. A driver that gives few buffers so gets small frames as it should, and a large one is copied in
 * part, or dropped when all buffers that there can be do not hold it.
 *
 * Invariants
 *   - The stock is what was popped last: so it can be un-popped, when a queue stops.
 *   - stock_bytes and segment_count are the sums over the stock.
 *   - While a frame is pending nothing of the stock is used for another.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "util/iov.h"
#include "virtio/net_private.h"

/* Frames in a row before others of the loop get their turn. */
#define TURN_MAX 256

static struct ring *ring_of(struct virtio_net_pair *p)
{
    return &p->owner->dev.queues[virtio_net_rx(p)].ring;
}

/* -- the stock --------------------------------------------------------------------------------- */

static bool stock_full(const struct virtio_net_pair *p)
{
    return p->stock_count == NET_BATCH || p->segment_count + NET_SEGMENTS_MAX > NET_STOCK_SEGMENTS;
}

/* One buffer more. False: there is none, or no place for it. */
static bool stock_up(struct virtio_net_pair *p)
{
    struct virtio_device *dev = &p->owner->dev;
    struct ring_chain chain;
    if (stock_full(p) ||
        !virtio_pop(dev, virtio_net_rx(p), &chain, p->segments + p->segment_count, NET_SEGMENTS_MAX))
        return false;
    if (chain.readable > 0 || chain.writable_bytes < NET_HEADER_BYTES) {
        virtio_violation(dev, "receive buffer of %llu bytes", (unsigned long long)chain.writable_bytes);
        ring_push(ring_of(p), chain.head, 0);
        return false;
    }
    p->stock[p->stock_count++] = (struct virtio_net_buffer){
        .head = chain.head, .count = (uint16_t)chain.writable, .bytes = chain.writable_bytes};
    p->stock_bytes += chain.writable_bytes;
    p->segment_count += chain.writable;
    return true;
}

/* The first `count` buffers have been pushed. */
static void stock_drop(struct virtio_net_pair *p, unsigned count)
{
    unsigned segments = 0;
    for (unsigned i = 0; i < count; i++) {
        segments += p->stock[i].count;
        p->stock_bytes -= p->stock[i].bytes;
    }
    p->stock_count -= count;
    p->segment_count -= segments;
    memmove(p->stock, p->stock + count, p->stock_count * sizeof(*p->stock));
    memmove(p->segments, p->segments + segments, p->segment_count * sizeof(*p->segments));
}

void virtio_net_unstock(struct virtio_net_pair *p)
{
    for (unsigned i = 0; i < p->stock_count; i++)
        ring_unpop(ring_of(p));
    p->stock_count = p->segment_count = 0;
    p->stock_bytes = p->pending_bytes = 0;
}

/* -- one frame --------------------------------------------------------------------------------- */

/* With its header in front, which the kernel leaves out where the back end has none. */
static bool is_frame(uint64_t bytes)
{
    return bytes >= NET_HEADER_BYTES + NET_FRAME_MIN && bytes <= NET_HEADER_BYTES + NET_FRAME_MAX;
}

/* Make the header at the front of `iov` complete. */
static void finish_header(struct virtio_net *n, const struct iovec *iov, unsigned count,
                          uint16_t buffers)
{
    const uint8_t no_flags = 0;
    struct net_header header = {.num_buffers = htole16(buffers)};
    if (!n->net->headers) {
        iov_copy_in(iov, count, 0, &header, sizeof(header));
        return;
    }
    iov_copy_in(iov, count, offsetof(struct net_header, num_buffers), &header.num_buffers,
                sizeof(header.num_buffers));
    if (!(n->dev.features & VIRTIO_NET_F_GUEST_CSUM))
        iov_copy_in(iov, count, offsetof(struct net_header, flags), &no_flags, sizeof(no_flags));
}

/* The pending frame, all of which is in the first `buffers` of the stock now. */
static void deliver_pending(struct virtio_net_pair *p, unsigned buffers)
{
    finish_header(p->owner, p->segments, p->segment_count, (uint16_t)buffers);
    uint64_t left = p->pending_bytes;
    for (unsigned i = 0; i < buffers; i++) {
        uint64_t part = MIN(left, p->stock[i].bytes);
        ring_push(ring_of(p), p->stock[i].head, (uint32_t)part);
        left -= part;
    }
    stock_drop(p, buffers);
    p->pending_bytes = 0;
    p->owner->counters.to_driver++;
}

static void drop_pending(struct virtio_net_pair *p)
{
    p->pending_bytes = 0;
    p->owner->counters.to_driver_dropped++;
}

/* Deliver or drop the pending frame. False: it needs buffers that the driver has not given yet. */
static bool settle_pending(struct virtio_net_pair *p)
{
    bool merges = p->owner->dev.features & VIRTIO_NET_F_MRG_RXBUF;
    if (!merges && p->pending_bytes > p->stock[0].bytes) {
        drop_pending(p);
        return true;
    }
    while (p->pending_bytes > p->stock_bytes)
        if (!stock_up(p)) {
            bool never = stock_full(p) || ring_of(p)->in_flight == ring_of(p)->setup.size;
            if (never)
                drop_pending(p);
            return never;
        }
    if (p->pending_bytes > p->pending_placed)
        iov_copy_in(p->segments, p->segment_count, p->pending_placed, p->spill,
                    p->pending_bytes - p->pending_placed);
    unsigned buffers = 0;
    for (uint64_t room = 0; room < p->pending_bytes; buffers++)
        room += p->stock[buffers].bytes;
    deliver_pending(p, buffers);
    return true;
}

/* -- from the back end ------------------------------------------------------------------------- */

/* Room for any frame as things stand: its headers included. */
static uint64_t room_for_any(const struct virtio_net *n)
{
    const unsigned large = NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_USO;
    uint64_t frame = n->offloads & large ? NET_FRAME_MAX : (uint64_t)n->net->mtu + NET_FRAME_EXTRA;
    return NET_HEADER_BYTES + MIN(frame, (uint64_t)NET_FRAME_MAX);
}

/* What the back end fills of a buffer's segments: it may have no header. */
static struct net_frame frame_in(struct virtio_net *n, const struct iovec *iov, unsigned count,
                                 uint64_t bytes, unsigned *viewed)
{
    if (n->net->headers)
        return (struct net_frame){.iov = iov, .count = count, .bytes = bytes};
    struct iovec *view = n->view + *viewed;
    bytes -= NET_HEADER_BYTES;
    unsigned slices = iov_slice(iov, count, NET_HEADER_BYTES, bytes, view);
    *viewed += slices;
    return (struct net_frame){.iov = view, .count = slices, .bytes = bytes};
}

static uint64_t with_header(const struct virtio_net *n, uint64_t bytes)
{
    return n->net->headers ? bytes : bytes + NET_HEADER_BYTES;
}

/* Frames for the first `max` buffers in stock, each of which holds any. As net_ops.receive. */
static int receive_batch(struct virtio_net_pair *p, unsigned max)
{
    struct virtio_net *n = p->owner;
    unsigned at = 0, viewed = 0;
    for (unsigned i = 0; i < max; i++) {
        n->frames[i] = frame_in(n, p->segments + at, p->stock[i].count, p->stock[i].bytes, &viewed);
        at += p->stock[i].count;
    }
    int got = n->net->ops->receive(n->net, p->index, n->frames, max);
    unsigned used = 0;
    at = 0;
    for (int i = 0; i < got; i++) {
        const struct virtio_net_buffer *buffer = &p->stock[i];
        uint64_t bytes = with_header(n, n->frames[i].bytes);
        bool fine = is_frame(bytes) && bytes <= buffer->bytes;
        n->counters.to_driver += fine;
        n->counters.to_driver_dropped += !fine;
        if (fine)
            finish_header(n, p->segments + at, buffer->count, 1);
        /* A buffer between others that were used cannot stay in stock: it goes back empty. */
        if (fine || i + 1 < got) {
            ring_push(ring_of(p), buffer->head, fine ? (uint32_t)bytes : 0);
            used++;
        }
        at += buffer->count;
    }
    stock_drop(p, used);
    return got;
}

/* One frame for all buffers in stock, or the first where they are not merged; it is pending then. */
static int receive_one(struct virtio_net_pair *p)
{
    struct virtio_net *n = p->owner;
    bool merges = n->dev.features & VIRTIO_NET_F_MRG_RXBUF;
    uint64_t placed = merges ? p->stock_bytes : p->stock[0].bytes;
    unsigned count = merges ? p->segment_count : p->stock[0].count;
    unsigned skip = n->net->headers ? 0 : NET_HEADER_BYTES;
    unsigned slices = iov_slice(p->segments, count, skip, placed - skip, n->view);
    n->view[slices++] = (struct iovec){p->spill, NET_HEADER_BYTES + NET_FRAME_MAX};
    n->frames[0] = (struct net_frame){
        .iov = n->view, .count = slices, .bytes = placed - skip + NET_HEADER_BYTES + NET_FRAME_MAX};
    int got = n->net->ops->receive(n->net, p->index, n->frames, 1);
    if (got <= 0)
        return got;
    uint64_t bytes = with_header(n, n->frames[0].bytes);
    p->pending_bytes = bytes;
    p->pending_placed = placed;
    if (!is_frame(bytes))
        drop_pending(p);
    return got;
}

/* Receive what one call can, into what is in stock. */
static int receive_some(struct virtio_net_pair *p, unsigned budget)
{
    uint64_t room = room_for_any(p->owner);
    unsigned holds_any = 0;
    /* A batch: buffers for it are worth having only if each holds any frame. */
    while (holds_any < budget && (holds_any < p->stock_count || stock_up(p)) &&
           p->stock[holds_any].bytes >= room)
        holds_any++;
    if (holds_any > 0)
        return receive_batch(p, holds_any);
    while (p->stock_bytes < room && stock_up(p))
        ;
    return p->owner->dev.needs_reset ? 0 : receive_one(p);
}

/* The turn itself; what it has used is not told yet. */
static void turn(struct virtio_net_pair *p)
{
    struct virtio_net *n = p->owner;
    for (unsigned budget = TURN_MAX; budget > 0;) {
        bool enough = p->pending_bytes ? settle_pending(p) : p->stock_count > 0 || stock_up(p);
        if (!enough) {
            if (virtio_kicks_on(&n->dev, virtio_net_rx(p)))
                continue;
            p->starved = true;
            return;
        }
        if (p->stock_count == 0)
            continue;
        int got = receive_some(p, MIN(budget, (unsigned)NET_BATCH));
        if (got < 0)
            virtio_net_end(n, -got);
        if (got <= 0)
            return;
        budget -= (unsigned)got;
    }
}

void virtio_net_receive(struct virtio_net_pair *p)
{
    struct virtio_net *n = p->owner;
    if (!n->dev.active || n->dev.needs_reset || n->gone || !ring_running(ring_of(p)))
        return;
    p->starved = false;
    ring_kicks_off(ring_of(p));
    turn(p);
    virtio_interrupt(&n->dev, virtio_net_rx(p));
}
