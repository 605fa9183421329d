/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device does alike: the order of negotiation, queue set-up and reset, and the lock
 * around a device's ops. Contract in device.h; virtio 1.2, sections 2.1 to 2.5 and 3.1.
 */
#include "virtio/device.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "util/arith.h"

void virtio_init(struct virtio_device *dev, const struct virtio_init *init)
{
    assert(init->queue_count <= VIRTIO_QUEUES_MAX && init->queue_size <= RING_SIZE_MAX);
    memset(dev, 0, sizeof(*dev));
    dev->ops = init->ops;
    dev->offered =
        init->features | VIRTIO_F_VERSION_1 | VIRTIO_RING_F_INDIRECT_DESC | VIRTIO_RING_F_EVENT_IDX;
    dev->config = init->config;
    dev->config_bytes = init->config_bytes;
    dev->shared = init->shared;
    dev->queue_count = init->queue_count;
    for (unsigned i = 0; i < init->queue_count; i++)
        dev->queues[i].size_max = init->queue_size;
    dev->loop = init->loop;
    dev->log = init->log;
    pthread_mutex_init(&dev->lock, NULL);
}

void virtio_finish(struct virtio_device *dev)
{
    pthread_mutex_destroy(&dev->lock);
}

/* -- for devices -------------------------------------------------------------------------------------
 */

void virtio_interrupt(struct virtio_device *dev, unsigned queue)
{
    /* The ring is asked in any case: it keeps account of what was signalled. */
    if (ring_should_interrupt(&dev->queues[queue].ring) && dev->active && dev->carrier)
        dev->carrier->interrupt(dev->carrier_opaque, queue);
}

void virtio_config_changed(struct virtio_device *dev)
{
    if (dev->active && dev->carrier)
        dev->carrier->config_changed(dev->carrier_opaque);
}

void virtio_violation(struct virtio_device *dev, const char *fmt, ...)
{
    char what[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    log_limited(dev->log, &dev->limit, LOG_WARN, "%s: the driver broke a rule: %s", dev->ops->name,
                what);
    if (dev->needs_reset)
        return;
    dev->needs_reset = true;
    virtio_config_changed(dev);
}

bool virtio_pop(struct virtio_device *dev, unsigned queue, struct ring_chain *chain, struct iovec *iov,
                unsigned max)
{
    if (!dev->active || dev->needs_reset)
        return false;
    struct ring *ring = &dev->queues[queue].ring;
    int rc = ring_pop(ring, chain, iov, max);
    if (rc < 0)
        virtio_violation(dev, "queue %u: %s", queue, ring->fault);
    return rc > 0;
}

bool virtio_kicks_on(struct virtio_device *dev, unsigned queue)
{
    return ring_kicks_on(&dev->queues[queue].ring) && dev->active && !dev->needs_reset;
}

/* -- for transports ----------------------------------------------------------------------------------
 */

void virtio_carry(struct virtio_device *dev, const struct virtio_carrier *carrier, void *opaque)
{
    pthread_mutex_lock(&dev->lock);
    dev->carrier = carrier;
    dev->carrier_opaque = opaque;
    pthread_mutex_unlock(&dev->lock);
}

void virtio_show_shared(struct virtio_device *dev, bool shown)
{
    pthread_mutex_lock(&dev->lock);
    dev->shared_shown = shown && dev->shared.bytes > 0;
    pthread_mutex_unlock(&dev->lock);
}

bool virtio_mend(struct virtio_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    bool mended = dev->ops->mend && dev->ops->mend(dev);
    pthread_mutex_unlock(&dev->lock);
    return mended;
}

bool virtio_set_features(struct virtio_device *dev, uint64_t features)
{
    pthread_mutex_lock(&dev->lock);
    bool fine = (features & ~dev->offered) == 0 && (features & VIRTIO_F_VERSION_1) &&
                (!dev->active || features == dev->features);
    if (fine)
        dev->features = features;
    pthread_mutex_unlock(&dev->lock);
    return fine;
}

/* Locked. */
static void serve(struct virtio_device *dev, unsigned queue)
{
    if (dev->active && !dev->needs_reset && dev->ops->kick && ring_running(&dev->queues[queue].ring))
        dev->ops->kick(dev, queue);
}

int virtio_queue_start(struct virtio_device *dev, unsigned queue, const struct memory *mem,
                       const struct ring_setup *setup)
{
    if (queue >= dev->queue_count)
        return -EINVAL;
    pthread_mutex_lock(&dev->lock);
    struct virtio_queue *q = &dev->queues[queue];
    int rc = -EINVAL;
    if (dev->features && !q->ring.mem && setup->size <= q->size_max)
        rc = ring_start(&q->ring, mem, setup, dev->features);
    if (rc == 0)
        serve(dev, queue);
    pthread_mutex_unlock(&dev->lock);
    return rc;
}

uint16_t virtio_queue_stop(struct virtio_device *dev, unsigned queue)
{
    if (queue >= dev->queue_count)
        return 0;
    pthread_mutex_lock(&dev->lock);
    struct ring *ring = &dev->queues[queue].ring;
    if (ring->in_flight > 0) {
        if (dev->ops->drain)
            dev->ops->drain(dev, queue);
        else if (dev->ops->reset)
            dev->ops->reset(dev);
    }
    uint16_t next = ring_stop(ring);
    pthread_mutex_unlock(&dev->lock);
    return next;
}

void virtio_activate(struct virtio_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    if (!dev->active && dev->features) {
        dev->active = true;
        if (dev->ops->activate)
            dev->ops->activate(dev);
        for (unsigned i = 0; i < dev->queue_count; i++)
            serve(dev, i);
    }
    pthread_mutex_unlock(&dev->lock);
}

void virtio_reset(struct virtio_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    dev->active = false; /* first: completions that the op drains interrupt nobody */
    if (dev->ops->reset)
        dev->ops->reset(dev);
    for (unsigned i = 0; i < dev->queue_count; i++) {
        ring_stop(&dev->queues[i].ring);
        dev->queues[i].ring = (struct ring){0};
    }
    dev->features = 0;
    dev->needs_reset = false;
    pthread_mutex_unlock(&dev->lock);
}

void virtio_kick(struct virtio_device *dev, unsigned queue)
{
    if (queue >= dev->queue_count)
        return;
    pthread_mutex_lock(&dev->lock);
    serve(dev, queue);
    pthread_mutex_unlock(&dev->lock);
}

bool virtio_needs_reset(struct virtio_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    bool needs = dev->needs_reset;
    pthread_mutex_unlock(&dev->lock);
    return needs;
}

/* How much of [offset, offset + len) lies within the configuration space. */
static size_t config_part(const struct virtio_device *dev, size_t offset, size_t len)
{
    return offset < dev->config_bytes ? MIN(len, dev->config_bytes - offset) : 0;
}

void virtio_config_read(struct virtio_device *dev, size_t offset, void *buf, size_t len)
{
    pthread_mutex_lock(&dev->lock);
    size_t part = config_part(dev, offset, len);
    memset(buf, 0, len);
    if (part > 0)
        memcpy(buf, dev->config + offset, part);
    pthread_mutex_unlock(&dev->lock);
}

void virtio_config_write(struct virtio_device *dev, size_t offset, const void *buf, size_t len)
{
    pthread_mutex_lock(&dev->lock);
    size_t part = config_part(dev, offset, len);
    if (part > 0 && dev->ops->config_written) {
        memcpy(dev->config + offset, buf, part);
        dev->ops->config_written(dev, offset, part);
    }
    pthread_mutex_unlock(&dev->lock);
}
