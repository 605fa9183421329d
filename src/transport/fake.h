/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSPORT_FAKE_H
#define TRANSPORT_FAKE_H

/*
 * A transport for tests: a driver in the same process reaches the device by plain calls. It keeps the
 * order that real transports keep (status bits, no queue set-up after DRIVER_OK) and hands kicks
 * through an eventfd to the device's loop, as ioeventfd does, and interrupts through one eventfd a
 * queue, as irqfd does. Rings and buffers are the driver's business: virtio/driver.h, which also offers
 * the means to misbehave.
 *
 * Threads: all calls from one thread, the driver's. The device's loop runs in another (loop_start), or
 * in none: then the waits below run it.
 */

#include "virtio/device.h"

struct fake;

struct fake_options {
    struct virtio_device *dev; /* both are borrowed until fake_free */
    const struct memory *mem;
    bool kick_directly; /* in the driver's thread, as a trapped register write is */
    bool show_shared;   /* the driver sees the device's shared memory, if it has some */
};

int fake_new(struct fake **out, const struct fake_options *options);
/* Resets the device and lets go of it. NULL is legal. */
void fake_free(struct fake *fake);

uint64_t fake_offered(const struct fake *fake);

/* ACKNOWLEDGE, DRIVER, features, FEATURES_OK. -EINVAL when refused. */
int fake_negotiate(struct fake *fake, uint64_t features);
uint16_t fake_queue_max(const struct fake *fake, unsigned queue);
/* -EINVAL: no such queue, a bad set-up, before FEATURES_OK or after DRIVER_OK. */
int fake_setup_queue(struct fake *fake, unsigned queue, const struct ring_setup *setup);
void fake_driver_ok(struct fake *fake);
void fake_kick(struct fake *fake, unsigned queue);

/* The device status register, NEEDS_RESET included. */
uint8_t fake_status(struct fake *fake);

/* Wait for an interrupt of a queue, or for a configuration change, and consume it. False after
 * timeout_ms (0: is there one?). */
bool fake_wait_interrupt(struct fake *fake, unsigned queue, int timeout_ms);
bool fake_wait_config(struct fake *fake, int timeout_ms);

void fake_config_read(struct fake *fake, size_t offset, void *buf, size_t len);
void fake_config_write(struct fake *fake, size_t offset, const void *buf, size_t len);

/* Write 0 to the status register. Interrupts not consumed are forgotten. */
void fake_reset(struct fake *fake);

#endif
