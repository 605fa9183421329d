/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_DRIVER_H
#define VIRTIO_DRIVER_H

/*
 * The driver's side of split virtqueues, for tests only: what a guest kernel would do, written from the
 * specification and sharing no code with ring.c, plus the means to do it wrong.
 *
 * Used by ring_test, by the contract suite over every transport, and by fuzz targets. One thread at a
 * time; the device may be in another.
 */

#include <stdbool.h>
#include <stdint.h>

#include "machine/memory.h"
#include "virtio/ring.h"

/* Hands out guest memory from a range, never takes it back. */
struct driver_arena {
    const struct memory *mem;
    uint64_t next_gpa;
    uint64_t end_gpa;
};

/* Zeroed guest memory; asserts that there is enough (a test knows what it needs). */
uint64_t driver_alloc(struct driver_arena *arena, uint64_t bytes, uint64_t align);

struct driver_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

#define DRIVER_DESC_NEXT     1u
#define DRIVER_DESC_WRITE    2u
#define DRIVER_DESC_INDIRECT 4u

struct driver_buf {
    uint64_t gpa;
    uint32_t len;
    bool write; /* the device writes it */
};

struct driver_ring {
    struct driver_arena *arena;
    struct ring_setup setup; /* what the transport's registers get */
    uint64_t features;
    uint16_t avail_idx; /* ours; published by driver_publish */
    uint16_t published;
    uint16_t last_used;
    uint16_t free_head;
    uint16_t free_count;
    uint16_t lengths[RING_SIZE_MAX]; /* descriptors of the chain that begins here */
};

/* Allocate and zero the three tables. */
void driver_ring_init(struct driver_ring *r, struct driver_arena *arena, uint16_t size,
                      uint64_t features);

/* Queue a chain; visible to the device only after driver_publish. Returns its head, or -1 when the ring
 * has no room. */
int driver_add(struct driver_ring *r, const struct driver_buf *bufs, unsigned count);
/* The same through a fresh indirect table. */
int driver_add_indirect(struct driver_ring *r, const struct driver_buf *bufs, unsigned count);

/* Publish what was queued. True when the device asks for a kick. */
bool driver_publish(struct driver_ring *r);

/* Take a returned chain. False when there is none. */
bool driver_used(struct driver_ring *r, uint16_t *head, uint32_t *written);

/* Ask for an interrupt at the next used chain, or for none. */
void driver_interrupts(struct driver_ring *r, bool on);
/* With event idx: interrupt when the used index passes `event`. */
void driver_used_event(struct driver_ring *r, uint16_t event);

/* -- the means to do it wrong: raw words ------------------------------------------------------ */
void driver_desc_write(struct driver_ring *r, uint16_t index, struct driver_desc d);
void driver_avail_write(struct driver_ring *r, uint16_t index, uint16_t head);
void driver_avail_idx_write(struct driver_ring *r, uint16_t idx);
void driver_avail_flags_write(struct driver_ring *r, uint16_t flags);
uint16_t driver_used_idx(const struct driver_ring *r);
uint16_t driver_used_flags(const struct driver_ring *r);
uint16_t driver_avail_event(const struct driver_ring *r);

/* Guest memory as the driver touches it; asserts that it is RAM. */
void *driver_hva(const struct driver_arena *arena, uint64_t gpa, uint64_t len);

#endif
