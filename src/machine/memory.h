/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_MEMORY_H
#define MACHINE_MEMORY_H

/*
 * Guest-physical memory as devices see it: a short table of regions, each contiguous in guest-physical
 * (gpa) and in host-virtual (hva) addresses. The machine makes it from private memory; a vhost-user
 * back end makes it from the descriptors its front end sent.
 *
 * A table is immutable while any device may use it; whoever replaces one stops its devices first.
 * An address is only ever translated together with its length: what memory_span returns is valid for
 * exactly `len` bytes. The guest may change those bytes at any moment, from any processor: copy a
 * structure once (memory_read), validate the copy, use the copy.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"

#define MEMORY_REGIONS_MAX 16

struct memory_region {
    uint64_t gpa;
    uint64_t size_bytes;
    uint8_t *hva;
    int fd;             /* the descriptor behind it, -1 for none; owned by the table */
    uint64_t fd_offset; /* where in fd the region begins */
    void *map;          /* what to munmap, and how much of it; NULL when the table owns no mapping */
    size_t map_bytes;
};

struct memory {
    struct memory_region regions[MEMORY_REGIONS_MAX];
    unsigned count;
};

/* One piece of RAM for memory_create: where the guest sees it. */
struct memory_layout {
    uint64_t gpa;
    uint64_t size_bytes;
};

/*
 * Fill *mem with RAM at the places of `layout` (ascending, page-aligned, not overlapping), all backed
 * by one sealed-size memfd that is mapped shared, populated lazily and kept out of core dumps and of
 * forked children. Returns 0 or -errno; on failure *mem is empty.
 */
int memory_create(struct memory *mem, const struct memory_layout *layout, unsigned count,
                  struct dayfly_err *err);

/*
 * The same as private memory that no other process can be shown (fd -1), in huge pages where the host
 * has them: each page that a guest touches first costs an exit, and a huge page saves 511 of those.
 */
int memory_create_private(struct memory *mem, const struct memory_layout *layout, unsigned count,
                          struct dayfly_err *err);

/*
 * Add a region that shows `size_bytes` of fd, from fd_offset on, at gpa. The offset need not be a
 * page's. Takes fd, even on failure. Refuses an overlap, an overflow, and a region that a file shorter
 * than itself backs (touching it would be SIGBUS).
 */
int memory_add_fd(struct memory *mem, uint64_t gpa, uint64_t size_bytes, int fd, uint64_t fd_offset,
                  struct dayfly_err *err);

/* Unmap, close, empty. Safe on a zeroed or half-built table and safe to call twice. */
void memory_finish(struct memory *mem);

/* The bytes [gpa, gpa + len) when they lie within one region, else NULL. len 0 gives NULL. */
void *memory_span(const struct memory *mem, uint64_t gpa, uint64_t len);

/* The region that holds gpa and how many bytes of it remain from there (0: none). */
uint64_t memory_contiguous(const struct memory *mem, uint64_t gpa, uint8_t **hva);

/* Copy out of or into guest memory, across adjacent regions. -EFAULT when any byte is not RAM; then
 * nothing was copied. */
int memory_read(const struct memory *mem, uint64_t gpa, void *buf, size_t len);
int memory_write(const struct memory *mem, uint64_t gpa, const void *buf, size_t len);

#endif
