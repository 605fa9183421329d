/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

/*
 * The contract between a virtio device and whatever carries it (virtio 1.2, section 2).
 *
 *   a device     fills in a struct virtio_ops (facts as data, a NULL op is the sane default) and embeds
 *                a struct virtio_device; it knows rings and its own back end, and no transport.
 *   a transport  (pci, vhost_user, fake) embeds nothing: it drives the device through the functions
 *                below and is told of interrupts through struct virtio_carrier; it knows no device.
 *
 * Life: virtio_init → (driver: features, queue set-up, virtio_activate → kicks ... → virtio_reset)* →
 * virtio_finish. A queue's registers belong to the transport and cannot change a live queue: the set-up
 * is copied by virtio_queue_start.
 *
 * Threads and the lock: the thread of dev->loop serves queues and back ends; a vCPU thread (pci) or
 * that loop (vhost_user) makes register accesses. Every op, and every callback of a back end that
 * touches the device, runs with `lock` held. The virtio_* functions below take it; those that say
 * "locked" expect it. An op must not block on the guest, and never waits for another device.
 *
 * The loop is the machine's, or one of the device's own where its work could hold up others: then the
 * device starts it in its `new` and ends it in its `free`, and it runs already when a transport comes.
 * So a transport adds and removes its sources through loop_call. A thread with a loop of the device's
 * never waits for another loop, since others wait for it.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/loop.h"
#include "machine/memory.h"
#include "util/log.h"
#include "virtio/ring.h"

#define VIRTIO_QUEUES_MAX 64

/* Device ids (section 5). */
enum virtio_id {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_ENTROPY = 4,
    VIRTIO_ID_BALLOON = 5,
    VIRTIO_ID_GPU = 16,
    VIRTIO_ID_INPUT = 18,
    VIRTIO_ID_VSOCK = 19,
    VIRTIO_ID_FS = 26,
};

/* Device status bits (2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER      2u
#define VIRTIO_STATUS_DRIVER_OK   4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED      128u

struct virtio_device;

struct virtio_ops {
    const char *name; /* "block" */
    enum virtio_id id;

    /* The system calls that its ops make, and what it has in the loop, up to a NULL, beside those that
     * every thread and every loop makes. For whatever thread serves it. NULL: none. */
    const struct isolate_calls *const *calls;

    /* Over vhost-user the front end fills in the configuration space by itself, from what its own user
     * said, and does not ask for this one. */
    bool front_end_config;

    /* The driver is ready: negotiated features stand in dev->features, all enabled queues run. */
    void (*activate)(struct virtio_device *dev);

    /*
     * Forget the driver. On return no request is in flight and nothing touches guest memory: the op
     * waits for, or cancels, what its back end still does. Called also on a device that was never
     * activated. May let go of the lock while it waits, as may drain.
     */
    void (*reset)(struct virtio_device *dev);

    /*
     * Wait for what is in flight of one queue and push it; the queue stops next, the device lives on.
     * NULL for a device that holds no chain from one op to the next; where one does hold some, its
     * reset is called instead.
     */
    void (*drain)(struct virtio_device *dev, unsigned queue);

    /* The driver kicked `queue`, which runs. Drain it. */
    void (*kick)(struct virtio_device *dev, unsigned queue);

    /* The driver wrote the configuration space; the bytes stand in dev->config already. NULL: the space
     * is read-only and the write is ignored. `offset` and `len` lie within config_bytes. */
    void (*config_written)(struct virtio_device *dev, size_t offset, size_t len);

    /* The guest touched what is not there in the shared memory. True when that was mended, and may be
     * tried again. NULL: there is nothing to mend. */
    bool (*mend)(struct virtio_device *dev);
};

/*
 * Memory of the host that the driver may see in its address space (2.10). The device maps things into
 * it and takes them out at any time; neither it nor a transport ever touches the bytes themselves,
 * which may be gone (a file that became shorter).
 */
struct virtio_shared_memory {
    uint8_t id;     /* means something to the driver, by the kind of device */
    uint64_t bytes; /* a power of two, in whole pages; 0: there is none */
    void *hva;      /* the device's; stays until its free */
};

/* How a device reaches its driver; the transport's half of the contract. Both may be called from the
 * loop's thread or a vCPU thread, with the device's lock held, and must not block. */
struct virtio_carrier {
    void (*interrupt)(void *opaque, unsigned queue); /* used buffer notification */
    void (*config_changed)(void *opaque);            /* configuration change notification;
                                                        also when NEEDS_RESET was set */
};

struct virtio_queue {
    struct ring ring;
    uint16_t size_max; /* a power of two, at most RING_SIZE_MAX */
};

struct virtio_device {
    const struct virtio_ops *ops;
    uint64_t offered;  /* feature bits, VERSION_1 and the ring's included (virtio_init adds them) */
    uint64_t features; /* negotiated; 0 until virtio_set_features */
    uint8_t *config;   /* device configuration space, little-endian; owned by the device */
    size_t config_bytes;
    struct virtio_shared_memory shared;
    bool shared_shown; /* by the transport, for all of this driver's time */
    struct virtio_queue queues[VIRTIO_QUEUES_MAX];
    unsigned queue_count;
    bool active;      /* between activate and reset */
    bool needs_reset; /* the driver broke a rule; nothing is served until the reset */

    struct loop *loop;     /* borrowed from the machine, or the device's own */
    const struct log *log; /* borrowed, may be NULL */
    struct log_limit limit;
    const struct virtio_carrier *carrier;
    void *carrier_opaque;
    pthread_mutex_t lock;
};

/* -- for devices ------------------------------------------------------------------------------------
 */

struct virtio_init {
    const struct virtio_ops *ops;
    uint64_t features; /* the device's own bits */
    unsigned queue_count;
    uint16_t queue_size; /* size_max of every queue */
    void *config;
    size_t config_bytes;
    struct virtio_shared_memory shared;
    struct loop *loop;
    const struct log *log;
};

void virtio_init(struct virtio_device *dev, const struct virtio_init *init);
/* After the transport let go of it; a device's free calls virtio_reset first, while its back end lives.
 */
void virtio_finish(struct virtio_device *dev);

/* Locked. Interrupt the driver for `queue` if it wants to be. Call once after a batch of pushes. Silent
 * during a reset. */
void virtio_interrupt(struct virtio_device *dev, unsigned queue);

/* Locked. Tell the driver that dev->config changed. */
void virtio_config_changed(struct virtio_device *dev);

/* Locked. The driver broke a rule: log (limited), set NEEDS_RESET, serve nothing until the reset. */
void virtio_violation(struct virtio_device *dev, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Locked. Take the next request of a queue: ring_pop, with a broken ring turned into a violation.
 * False when there is none.
 */
bool virtio_pop(struct virtio_device *dev, unsigned queue, struct ring_chain *chain, struct iovec *iov,
                unsigned max);

/*
 * Locked. After virtio_pop gave nothing: ring_kicks_on. False on a device that is not active or needs a
 * reset, whatever its ring holds: there is nothing to pop, and a loop that looked again would not end.
 */
bool virtio_kicks_on(struct virtio_device *dev, unsigned queue);

/* -- for transports ---------------------------------------------------------------------------------
 */

/* Before the driver runs. carrier and opaque live as long as the device is carried. */
void virtio_carry(struct virtio_device *dev, const struct virtio_carrier *carrier, void *opaque);

/* Before the driver runs: whether it sees dev->shared. Without a call it does not. */
void virtio_show_shared(struct virtio_device *dev, bool shown);

/* The guest touched what is not there in some shared memory: ops->mend. */
bool virtio_mend(struct virtio_device *dev);

/* False when `features` has a bit that was not offered, lacks VERSION_1, or differs from what an active
 * device runs with: nothing is changed. */
bool virtio_set_features(struct virtio_device *dev, uint64_t features);

/* Start a queue on its set-up. -EINVAL also when it runs already or features are not negotiated. On an
 * active device what already waits in the queue is served at once, as if kicked. */
int virtio_queue_start(struct virtio_device *dev, unsigned queue, const struct memory *mem,
                       const struct ring_setup *setup);

/* Stop one queue (vhost-user GET_VRING_BASE): ops->drain (or ops->reset) when requests are in flight.
 * Returns the available index to go on from. */
uint16_t virtio_queue_stop(struct virtio_device *dev, unsigned queue);

/* DRIVER_OK. Queues that run are then served once, as if kicked: a kick that came too early is not
 * lost. */
void virtio_activate(struct virtio_device *dev);
void virtio_reset(struct virtio_device *dev); /* status 0: ops->reset, rings stopped, features 0 */
void virtio_kick(struct virtio_device *dev, unsigned queue); /* ignored unless active and running */

/* For the status register: the device set NEEDS_RESET. Within a carrier's callback, where the lock is
 * held, read dev->needs_reset. */
bool virtio_needs_reset(struct virtio_device *dev);

/* Configuration space; what lies outside reads as zeroes and swallows writes. */
void virtio_config_read(struct virtio_device *dev, size_t offset, void *buf, size_t len);
void virtio_config_write(struct virtio_device *dev, size_t offset, const void *buf, size_t len);

#endif
