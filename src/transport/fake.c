/* SPDX-License-Identifier: Apache-2.0 */
/* The in-process transport of tests. See fake.h. */
#include "transport/fake.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"

struct fake_queue {
    struct fake *fake;
    struct loop_source kick;
    int interrupt;
};

struct fake {
    struct fake_options options;
    uint8_t status; /* without NEEDS_RESET, which is the device's to say */
    int config_changed;
    struct fake_queue queues[VIRTIO_QUEUES_MAX];
};

static void on_interrupt(void *opaque, unsigned queue)
{
    struct fake *fake = opaque;
    eventfd_write(fake->queues[queue].interrupt, 1);
}

static void on_config_changed(void *opaque)
{
    struct fake *fake = opaque;
    eventfd_write(fake->config_changed, 1);
}

static const struct virtio_carrier carrier = {
    .interrupt = on_interrupt,
    .config_changed = on_config_changed,
};

static void on_kick(struct loop_source *source, uint32_t events)
{
    struct fake_queue *q = container_of(source, struct fake_queue, kick);
    eventfd_t count;
    eventfd_read(source->fd, &count);
    virtio_kick(q->fake->options.dev, (unsigned)(q - q->fake->queues));
}

struct kicks {
    struct fake *fake;
    int result;
};

/* In the thread of the device's loop, as the next. */
static void add_kicks(void *arg)
{
    struct kicks *kicks = arg;
    struct virtio_device *dev = kicks->fake->options.dev;
    for (unsigned i = 0; i < dev->queue_count && kicks->result == 0; i++)
        kicks->result = loop_add(dev->loop, &kicks->fake->queues[i].kick);
}

static void remove_kicks(void *arg)
{
    struct fake *fake = arg;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        loop_remove(&fake->queues[i].kick);
}

int fake_new(struct fake **out, const struct fake_options *options)
{
    struct fake *fake = calloc(1, sizeof(*fake));
    if (!fake)
        return -ENOMEM;
    fake->options = *options;
    fake->config_changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        fake->queues[i] = (struct fake_queue){.fake = fake, .interrupt = -1, .kick.fd = -1};
    int rc = fake->config_changed < 0 ? -errno : 0;
    for (unsigned i = 0; i < options->dev->queue_count && rc == 0; i++) {
        struct fake_queue *q = &fake->queues[i];
        q->interrupt = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        q->kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        q->kick.events = EPOLLIN;
        q->kick.ready = on_kick;
        rc = q->interrupt < 0 || q->kick.fd < 0 ? -errno : 0;
    }
    struct kicks kicks = {.fake = fake};
    if (rc == 0) {
        loop_call(options->dev->loop, add_kicks, &kicks);
        rc = kicks.result;
    }
    if (rc < 0) {
        fake_free(fake);
        return rc;
    }
    virtio_carry(options->dev, &carrier, fake);
    virtio_show_shared(options->dev, options->show_shared);
    *out = fake;
    return 0;
}

void fake_free(struct fake *fake)
{
    if (!fake)
        return;
    virtio_reset(fake->options.dev);
    virtio_carry(fake->options.dev, NULL, NULL);
    virtio_show_shared(fake->options.dev, false);
    loop_call(fake->options.dev->loop, remove_kicks, fake);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        close_fd(&fake->queues[i].kick.fd);
        close_fd(&fake->queues[i].interrupt);
    }
    close_fd(&fake->config_changed);
    free(fake);
}

uint64_t fake_offered(const struct fake *fake)
{
    return fake->options.dev->offered;
}

int fake_negotiate(struct fake *fake, uint64_t features)
{
    if (fake->status & VIRTIO_STATUS_FEATURES_OK)
        return -EINVAL;
    fake->status |= VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;
    if (!virtio_set_features(fake->options.dev, features))
        return -EINVAL;
    fake->status |= VIRTIO_STATUS_FEATURES_OK;
    return 0;
}

uint16_t fake_queue_max(const struct fake *fake, unsigned queue)
{
    const struct virtio_device *dev = fake->options.dev;
    return queue < dev->queue_count ? dev->queues[queue].size_max : 0;
}

int fake_setup_queue(struct fake *fake, unsigned queue, const struct ring_setup *setup)
{
    if (!(fake->status & VIRTIO_STATUS_FEATURES_OK) || (fake->status & VIRTIO_STATUS_DRIVER_OK))
        return -EINVAL;
    return virtio_queue_start(fake->options.dev, queue, fake->options.mem, setup);
}

void fake_driver_ok(struct fake *fake)
{
    fake->status |= VIRTIO_STATUS_DRIVER_OK;
    virtio_activate(fake->options.dev);
}

void fake_kick(struct fake *fake, unsigned queue)
{
    if (fake->options.kick_directly)
        virtio_kick(fake->options.dev, queue);
    else if (queue < fake->options.dev->queue_count)
        eventfd_write(fake->queues[queue].kick.fd, 1);
}

uint8_t fake_status(struct fake *fake)
{
    bool needs_reset = virtio_needs_reset(fake->options.dev);
    return fake->status | (needs_reset ? VIRTIO_STATUS_NEEDS_RESET : 0);
}

/* Wait until fd counts something and take it. Where the loop has no thread, it is run here. */
static bool wait_eventfd(struct fake *fake, int fd, int timeout_ms)
{
    uint64_t deadline = clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    eventfd_t count;
    while (eventfd_read(fd, &count) < 0) {
        uint64_t now = clock_ns();
        int left_ms = now < deadline ? (int)((deadline - now) / NS_PER_MS) + 1 : 0;
        if (timeout_ms > 0 && left_ms == 0)
            return false;
        if (loop_is_mine(fake->options.dev->loop)) {
            if (loop_run_once(fake->options.dev->loop, timeout_ms > 0 ? left_ms : 0) == 0 &&
                timeout_ms == 0)
                return eventfd_read(fd, &count) == 0;
        } else if (timeout_ms == 0) {
            return false;
        } else {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            poll(&p, 1, left_ms);
        }
    }
    return true;
}

bool fake_wait_interrupt(struct fake *fake, unsigned queue, int timeout_ms)
{
    return wait_eventfd(fake, fake->queues[queue].interrupt, timeout_ms);
}

bool fake_wait_config(struct fake *fake, int timeout_ms)
{
    return wait_eventfd(fake, fake->config_changed, timeout_ms);
}

void fake_config_read(struct fake *fake, size_t offset, void *buf, size_t len)
{
    virtio_config_read(fake->options.dev, offset, buf, len);
}

void fake_config_write(struct fake *fake, size_t offset, const void *buf, size_t len)
{
    virtio_config_write(fake->options.dev, offset, buf, len);
}

void fake_reset(struct fake *fake)
{
    eventfd_t count;
    virtio_reset(fake->options.dev);
    fake->status = 0;
    for (unsigned i = 0; i < fake->options.dev->queue_count; i++)
        eventfd_read(fake->queues[i].interrupt, &count);
    eventfd_read(fake->config_changed, &count);
}
