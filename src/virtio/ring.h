/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_RING_H
#define VIRTIO_RING_H

/*
 * Split virtqueues (virtio 1.2, section 2.7), the device's side. The only code that touches a vring.
 *
 * Everything in guest memory is hostile and may change between two reads: every descriptor is copied
 * once, and the copy is checked: index below the queue's size, chain no longer than the queue (or
 * than the indirect table), no loop, readable before writable, no indirect inside indirect, total
 * length below 4 GiB, every byte in RAM. A violation breaks the ring: ring_pop returns -EPROTO from
 * then on, and the device sets NEEDS_RESET (device.h). It never harms the host. The driver cannot have
 * more than setup.size chains outstanding: a device whose pool of requests is that large never runs
 * dry.
 *
 * Threads: a ring is used under its device's lock.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "machine/memory.h"

#define RING_SIZE_MAX 1024u

/* Feature bits of the ring itself (section 6). */
#define VIRTIO_RING_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_RING_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1          (UINT64_C(1) << 32)

/* What the driver programs; kept by the transport's registers and given to ring_start as a whole. */
struct ring_setup {
    uint16_t size;       /* a power of two, 1 to the device's maximum */
    uint64_t desc_gpa;   /* 16-byte aligned */
    uint64_t avail_gpa;  /* 2 */
    uint64_t used_gpa;   /* 4 */
    uint16_t next_avail; /* where to begin: 0, or what ring_stop gave (vhost-user GET_VRING_BASE) */
};

struct ring {
    const struct memory *mem; /* borrowed, NULL while stopped */
    struct ring_setup setup;
    uint16_t next_avail; /* next entry of the available ring to take */
    uint16_t avail_seen; /* the driver's index when we last looked; checked */
    uint16_t in_flight;  /* popped and not pushed; with what waits never more than setup.size */
    uint16_t next_used;  /* next entry of the used ring to fill */
    uint16_t signalled;  /* next_used when the driver was last interrupted */
    bool signalled_valid;
    bool indirect;  /* VIRTIO_RING_F_INDIRECT_DESC was negotiated */
    bool event_idx; /* VIRTIO_RING_F_EVENT_IDX was negotiated */
    bool broken;
    const char *fault; /* what broke it: a literal, NULL until then */
    const void *desc;
    const void *avail;
    void *used;
};

/* One request: its buffers in order, first those the device reads, then those it writes. */
struct ring_chain {
    uint16_t head;     /* hand it back with ring_push */
    struct iovec *iov; /* the caller's array, filled by ring_pop */
    unsigned readable; /* iov[0 .. readable) */
    unsigned writable; /* iov[readable .. readable + writable) */
    uint64_t readable_bytes;
    uint64_t writable_bytes;
};

/*
 * Begin on the driver's set-up. Every table is checked for alignment and for lying wholly in one region
 * of RAM.
 * Returns 0, or -EINVAL (the ring stays stopped). `features` are the negotiated ones.
 */
int ring_start(struct ring *ring, const struct memory *mem, const struct ring_setup *setup,
               uint64_t features);

/* Forget guest memory. Returns the available index to go on from. Legal on a stopped ring. */
uint16_t ring_stop(struct ring *ring);

/* Started and not broken. */
bool ring_running(const struct ring *ring);

/*
 * Take the next available chain. `iov` has room for `max` segments; a chain with more segments breaks
 * the ring, so a device passes at least what it told the driver (seg_max + its headers), and
 * RING_SIZE_MAX where it told nothing. A segment that spans two memory regions takes two entries.
 * Zero-length descriptors are legal and skipped.
 * Returns 1 (chain filled), 0 (empty or stopped), -EPROTO (broken, now or before).
 */
int ring_pop(struct ring *ring, struct ring_chain *chain, struct iovec *iov, unsigned max);

/* Put the chain popped last back, so that the next ring_pop gives it again. Only before any other pop.
 */
void ring_unpop(struct ring *ring);

/* Return a chain with the number of bytes written into it (clipped by the caller to writable_bytes).
 * Ignored on a stopped ring; legal on a broken one. */
void ring_push(struct ring *ring, uint16_t head, uint32_t written);

/* True when the driver wants an interrupt for what was pushed since the last call (2.7.7, 2.7.10). */
bool ring_should_interrupt(struct ring *ring);

/*
 * Ask not to be, or to be, kicked. A device that drains its queue does
 *     do { ring_kicks_off(r); while (ring_pop(...) > 0) ...; } while (ring_kicks_on(r));
 * ring_kicks_on returns true when something became available in between. A driver on another processor
 * can keep that loop busy: a device that completes at once bounds its work for each kick.
 */
void ring_kicks_off(struct ring *ring);
bool ring_kicks_on(struct ring *ring);

#endif
