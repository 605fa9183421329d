/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_BUS_H
#define MACHINE_BUS_H

/*
 * Who answers at which address: one bus for port I/O, one for memory-mapped I/O.
 *
 * Threads: everything here is for any thread. bus_read and bus_write run on vCPU threads, at once on
 * many. bus_add and bus_remove may be called from within a handler (a BAR moves while the guest writes
 * its configuration space). A handler may still run, on another thread, when bus_remove has returned:
 * an owner lives until the processors stand still, and has a lock of its own.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BUS_RANGES_MAX 128

struct bus_ops {
    /* `offset` and `offset + len` lie within the range; len is 1 to 8. Bytes are in the guest's order
     * (little-endian). `data` of a read holds all-ones on entry. NULL: reads as all-ones, swallows
     * writes. */
    void (*read)(void *opaque, uint64_t offset, void *data, unsigned len);
    void (*write)(void *opaque, uint64_t offset, const void *data, unsigned len);
};

struct bus_range {
    uint64_t base;
    uint64_t size;
    const struct bus_ops *ops;
    void *opaque;
};

struct bus {
    pthread_rwlock_t lock;
    struct bus_range ranges[BUS_RANGES_MAX]; /* ascending, without overlap */
    unsigned count;
    atomic_uint_fast64_t unclaimed; /* accesses that nobody answered */
};

void bus_init(struct bus *bus);
void bus_finish(struct bus *bus);

/* -EEXIST: overlaps another range. -EINVAL: empty, or wraps. -ENOSPC: the table is full. */
int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *opaque);

/* The range that begins at `base`; -ENOENT if there is none. */
int bus_remove(struct bus *bus, uint64_t base);

/* Where nobody answers, or the access crosses the end of a range: all-ones, and false. */
bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len);
bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len);

/* Little-endian registers of 1 to 8 bytes out of and into an access's buffer. */
uint64_t bus_get(const void *data, unsigned len);
void bus_put(void *data, unsigned len, uint64_t value);

#endif
