/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTRACT_CONTRACT_H
#define CONTRACT_CONTRACT_H

/*
 * The device contract suite: the same cases for every device, over every transport.
 *
 *   a bus    (struct contract_bus_ops: fake, pci, vhost_user) lets a driver reach a device through one
 *            transport: registers, messages, or plain calls;
 *   a kind   (struct contract_kind: block, entropy ...) makes a device, says how one valid request of
 * it looks, and brings cases of its own; suite.c  holds the cases that every kind passes over every
 * bus.
 *
 * To add a bus: write its ops in tests/contract/NAME_test.c with a main of `return
 * contract_run(&ops);`, and add the program to tests/contract/meson.build. To add a kind: a file here,
 * and a row in kinds.c.
 *
 * Threads: the device's loop runs in a thread of its own, which the suite or the device made; the
 * suite, hence every op of a bus, is in the test's thread. Nothing sleeps: waits are for events, and a
 * timeout only ever ends a failing test.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/loop.h"
#include "machine/memory.h"
#include "virtio/device.h"
#include "virtio/driver.h"

/* How long a wait for something that must come may take before the test fails. */
#define CONTRACT_TIMEOUT_MS 20000

/* -- the driver's way to a device: what a transport's author implements -------------------------------
 */

struct contract_bus; /* the bus's own; it embeds or allocates what it likes */

struct contract_bus_ops {
    const char *name;

    /*
     * Carry `dev` (virtio_carry and what belongs to it). Its loop does not run yet, unless it is one of
     * its own. `mem` is the guest's RAM, made by memory_create (so its regions have descriptors that
     * can be sent); both sides use it. Both are borrowed until close. Returns 0 or -errno.
     */
    int (*open)(struct contract_bus **out, struct virtio_device *dev, const struct memory *mem);
    /* The device's loop runs now: talk to the other side if that is needed. NULL: nothing to do. */
    int (*begin)(struct contract_bus *bus);
    /* The loop has stopped, unless it is the device's own; the device lives on and is freed next. */
    void (*close)(struct contract_bus *bus);

    /* Every device feature bit that the transport lets the driver see, without the transport's own. */
    uint64_t (*offered)(struct contract_bus *bus);

    /* From reset to FEATURES_OK (3.1.1, steps 2 to 6). Returns 0, or -EINVAL when the device (or its
     * transport) refuses these features. */
    int (*negotiate)(struct contract_bus *bus, uint64_t features);

    /* The largest size of a queue, 0 when the device has no such queue. */
    uint16_t (*queue_max)(struct contract_bus *bus, unsigned queue);

    /* Program and enable one queue, its interrupt included. Returns 0, or -EINVAL when the driver can
     * tell that it was refused. */
    int (*setup_queue)(struct contract_bus *bus, unsigned queue, const struct ring_setup *setup);

    void (*driver_ok)(struct contract_bus *bus);
    void (*kick)(struct contract_bus *bus, unsigned queue);

    /* Wait for a used buffer notification of this queue and consume it. False after timeout_ms; 0 asks
     * whether there is one now. */
    bool (*wait_interrupt)(struct contract_bus *bus, unsigned queue, int timeout_ms);

    /* Wait until the driver learns that the device needs a reset. False after timeout_ms. */
    bool (*wait_needs_reset)(struct contract_bus *bus, int timeout_ms);

    void (*config_read)(struct contract_bus *bus, size_t offset, void *buf, size_t len);
    void (*config_write)(struct contract_bus *bus, size_t offset, const void *buf, size_t len);

    /* Reset the device and return when it is done. Interrupts not yet consumed are forgotten; negotiate
     * may follow. */
    void (*reset)(struct contract_bus *bus);
};

/* Run every case of every kind over this bus. The result is for main to return. */
int contract_run(const struct contract_bus_ops *bus);

/* -- what a case sees ---------------------------------------------------------------------------------
 */

#define CONTRACT_QUEUES   8
#define CONTRACT_RING     16 /* entries of the rings that contract_start makes */
#define CONTRACT_RAM_GPA  UINT64_C(0x100000)
#define CONTRACT_RAM_SIZE UINT64_C(0x800000)

struct contract_kind;

struct contract_env {
    const struct contract_bus_ops *ops;
    struct contract_bus *bus;
    const struct contract_kind *kind;
    struct virtio_device *dev;
    void *made;        /* the kind's own */
    struct loop *loop; /* for devices without one of their own */
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring rings[CONTRACT_QUEUES];
    unsigned queues; /* how many of them are set up */
};

struct contract_case {
    const char *name;
    void (*run)(struct contract_env *env);
};

struct contract_kind {
    const char *name;
    /* Make the device: set env->dev and env->made. The loop exists and does not run. 0 or -errno. */
    int (*make)(struct contract_env *env);
    void (*unmake)(struct contract_env *env);

    unsigned queue;    /* which queue takes the request below */
    unsigned queues;   /* how many queues the device has */
    uint64_t features; /* device bits that must be offered */

    /* Write one valid request into guest memory and describe it. Returns the number of buffers, at most
     * max. */
    unsigned (*request)(struct contract_env *env, struct driver_buf *bufs, unsigned max);
    /* It came back with `written` bytes: assert that it was served. */
    void (*served)(struct contract_env *env, const struct driver_buf *bufs, unsigned count,
                   uint32_t written);

    const struct contract_case *cases; /* of this kind alone; the last has no name */
};

/* Negotiate everything offered (less `without`), set up every queue with fresh rings, DRIVER_OK. */
void contract_start(struct contract_env *env, uint64_t without);

/* Queue one chain, publish it, kick if the device wants it. Returns the head. */
int contract_send(struct contract_env *env, unsigned queue, const struct driver_buf *bufs,
                  unsigned count);

/* Wait, by interrupts, for the next used chain of a queue. Fails the test when none comes. */
void contract_wait_used(struct contract_env *env, unsigned queue, uint16_t *head, uint32_t *written);

/* send and wait_used; asserts that the same chain came back. Returns the bytes written. */
uint32_t contract_roundtrip(struct contract_env *env, unsigned queue, const struct driver_buf *bufs,
                            unsigned count);

/* One valid request of the kind, sent and served. */
void contract_assert_serves(struct contract_env *env);

/* Returns when the loop has handled all that the driver did before: what has not come by then will not.
 */
void contract_settle(struct contract_env *env);

uint64_t contract_alloc(struct contract_env *env, uint64_t bytes);
void *contract_hva(struct contract_env *env, uint64_t gpa, uint64_t len);

#endif
