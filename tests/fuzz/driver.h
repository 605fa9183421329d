/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_DRIVER_H
#define TESTS_FUZZ_DRIVER_H

/*
 * What fuzz targets of devices share: a driver over `fake` that the input programs. It negotiates what
 * the input says, queues chains of any shape with payloads that the target makes, breaks rings, stops
 * and resets, and reads and writes the configuration space. Of everything that comes back it checks
 * that it was queued, and that no more was written than there was room for.
 *
 * The device's loop runs in this thread, unless it has one of its own.
 */

#include "machine/loop.h"
#include "machine/memory.h"
#include "program.h"
#include "transport/fake.h"
#include "virtio/driver.h"

#define FUZZ_RINGS     8
#define FUZZ_RING_SIZE 32
#define FUZZ_SLOT      2048 /* bytes of guest memory for each descriptor: half to read, half to write */

struct fuzz_driver {
    struct input in;
    struct loop *loop; /* for devices without one of their own */
    struct memory mem;
    struct driver_arena arena;
    struct virtio_device *dev;
    struct fake *fake;
    struct driver_ring rings[FUZZ_RINGS];
    uint64_t slots[FUZZ_RINGS];
    uint32_t room[FUZZ_RINGS][FUZZ_RING_SIZE]; /* writable bytes of the chain that begins there */
    bool honest;                               /* since the start no ring was broken */
    /* Something came back; data is what the device wrote, as one piece. May be NULL. */
    void (*used)(struct fuzz_driver *d, unsigned queue, const uint8_t *data, uint32_t written);
};

/* Memory and the loop. The target then makes the device and has it carried. */
void fuzz_driver_init(struct fuzz_driver *d, const uint8_t *data, size_t size);
void fuzz_driver_carry(struct fuzz_driver *d, struct virtio_device *dev);
/* After the device was freed, which fuzz_driver_release comes before. */
void fuzz_driver_release(struct fuzz_driver *d);
void fuzz_driver_finish(struct fuzz_driver *d);

/* Features as the input says, all queues, DRIVER_OK. */
void fuzz_driver_start(struct fuzz_driver *d);

/* Queue `bytes` of payload (at most half a slot) cut as the input says, and room for an answer. */
void fuzz_driver_send(struct fuzz_driver *d, unsigned queue, const void *payload, uint32_t bytes);

/* One step that every device has, by the input: rings, configuration, resets; and what is ready in the
 * loop. */
void fuzz_driver_step(struct fuzz_driver *d);

#endif
