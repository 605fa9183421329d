/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract suite over vhost-user. A back end answers a breach of the protocol by hanging up; the
 * driver learns that as a refusal, and a reset connects anew, as a monitor would.
 */
#include "contract.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transport/vhost_user.h"
#include "transport/testing_front.h"
#include "util/cleanup.h"

struct contract_bus {
    struct virtio_device *dev;
    const struct memory *mem;
    struct vhost_user *back;
    struct vhost_user_front front;
    bool refused; /* a request was, or the back end hung up: nothing more is sent until the reset */
    unsigned resets;
};

static int connect_back_end(struct contract_bus *bus)
{
    int pair[2];
    struct dayfly_err err;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    int r = vhost_user_new(&bus->back, bus->dev, pair[1], NULL, NULL, &err);
    if (r < 0) {
        close(pair[0]);
        return r;
    }
    bus->front.fd = pair[0];
    return 0;
}

/* What a monitor does once: protocol features, memory. */
static int greet(struct contract_bus *bus)
{
    int r = front_connect(&bus->front, bus->front.fd, 0);
    return r < 0 ? r : front_set_memory(&bus->front, bus->mem);
}

static int bus_open(struct contract_bus **out, struct virtio_device *dev, const struct memory *mem)
{
    struct contract_bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        return -ENOMEM;
    bus->dev = dev;
    bus->mem = mem;
    front_init(&bus->front);
    int r = connect_back_end(bus);
    if (r < 0) {
        free(bus);
        return r;
    }
    *out = bus;
    return 0;
}

static int bus_begin(struct contract_bus *bus)
{
    return greet(bus);
}

static void bus_close(struct contract_bus *bus)
{
    front_close(&bus->front);
    vhost_user_free(bus->back);
    free(bus);
}

/* Remember a refusal. */
static int noted(struct contract_bus *bus, int result)
{
    if (result == 0)
        return 0;
    bus->refused = true;
    return -EINVAL;
}

static uint64_t bus_offered(struct contract_bus *bus)
{
    return bus->front.offered & ~VHOST_USER_F_PROTOCOL_FEATURES;
}

static int bus_negotiate(struct contract_bus *bus, uint64_t features)
{
    if (bus->refused)
        return -EINVAL;
    return noted(bus, front_u64(&bus->front, VHOST_USER_SET_FEATURES,
                                features | VHOST_USER_F_PROTOCOL_FEATURES));
}

static uint16_t bus_queue_max(struct contract_bus *bus, unsigned queue)
{
    /* The protocol has no message for it: a front end is told by its user. */
    return queue < bus->front.queue_count ? bus->dev->queues[queue].size_max : 0;
}

static int bus_setup_queue(struct contract_bus *bus, unsigned queue, const struct ring_setup *setup)
{
    return bus->refused ? -EINVAL : noted(bus, front_start_ring(&bus->front, queue, bus->mem, setup));
}

static void bus_driver_ok(struct contract_bus *bus)
{
    for (unsigned i = 0; i < bus->front.queue_count && !bus->refused; i++)
        noted(bus, front_vring(&bus->front, VHOST_USER_SET_VRING_ENABLE, i, 1));
    if (!bus->refused)
        noted(bus, front_u64(&bus->front, VHOST_USER_SET_STATUS,
                             VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                                 VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK));
}

static void bus_kick(struct contract_bus *bus, unsigned queue)
{
    front_kick(&bus->front, queue);
}

static bool bus_wait_interrupt(struct contract_bus *bus, unsigned queue, int timeout_ms)
{
    return front_wait(bus->front.rings[queue].call, timeout_ms);
}

static bool bus_wait_needs_reset(struct contract_bus *bus, int timeout_ms)
{
    uint64_t status;
    /* QEMU learns it from the ring's error descriptor; all rings are told. */
    front_wait(bus->front.rings[0].err, timeout_ms);
    return front_get_u64(&bus->front, VHOST_USER_GET_STATUS, &status) == 0 &&
           (status & VIRTIO_STATUS_NEEDS_RESET);
}

static void bus_config_read(struct contract_bus *bus, size_t offset, void *buf, size_t len)
{
    /* A space that is not there reads as zeroes; so does what the message has no room for. */
    struct vhost_user_config config = {.offset = (uint32_t)offset, .size_bytes = (uint32_t)len};
    struct vhost_user_message reply;
    memset(buf, 0, len);
    if (!(bus->front.protocol_features & VHOST_USER_PROTOCOL_F_CONFIG) ||
        offset + len > VHOST_USER_CONFIG_BYTES_MAX)
        return;
    uint32_t bytes = VHOST_USER_CONFIG_HEADER_BYTES + (uint32_t)len;
    if (noted(bus,
              front_request(&bus->front, VHOST_USER_GET_CONFIG, &config, bytes, NULL, 0, &reply)) == 0)
        memcpy(buf, reply.payload.config.bytes, len);
}

static void bus_config_write(struct contract_bus *bus, size_t offset, const void *buf, size_t len)
{
    struct vhost_user_config config = {.offset = (uint32_t)offset, .size_bytes = (uint32_t)len};
    if (!(bus->front.protocol_features & VHOST_USER_PROTOCOL_F_CONFIG) ||
        offset + len > VHOST_USER_CONFIG_BYTES_MAX)
        return;
    memcpy(config.bytes, buf, len);
    noted(bus, front_request(&bus->front, VHOST_USER_SET_CONFIG, &config,
                             VHOST_USER_CONFIG_HEADER_BYTES + (uint32_t)len, NULL, 0, NULL));
}

/* As QEMU 7.2 stops a device: it takes every ring's base, then sets status 0. */
static int stop_as_qemu(struct contract_bus *bus)
{
    int r = 0;
    for (unsigned i = 0; i < bus->front.queue_count && r == 0; i++) {
        uint16_t base;
        r = front_vring(&bus->front, VHOST_USER_SET_VRING_ENABLE, i, 0);
        if (r == 0)
            r = front_stop_ring(&bus->front, i, &base);
    }
    return r < 0 ? r : front_u64(&bus->front, VHOST_USER_SET_STATUS, 0);
}

static void bus_reset(struct contract_bus *bus)
{
    /* The ways a front end has, in turn. */
    switch (bus->refused ? 2 : bus->resets++ % 3) {
    case 0:
        noted(bus, front_request(&bus->front, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0, NULL));
        break;
    case 1:
        noted(bus, stop_as_qemu(bus));
        break;
    default:
        front_close(&bus->front);
        vhost_user_free(bus->back);
        bus->back = NULL;
        bus->refused = connect_back_end(bus) < 0 || greet(bus) < 0;
        return;
    }
    for (unsigned i = 0; i < bus->front.queue_count; i++) {
        front_wait(bus->front.rings[i].call, 0);
        front_wait(bus->front.rings[i].err, 0);
    }
}

static const struct contract_bus_ops ops = {
    .name = "vhost_user",
    .open = bus_open,
    .begin = bus_begin,
    .close = bus_close,
    .offered = bus_offered,
    .negotiate = bus_negotiate,
    .queue_max = bus_queue_max,
    .setup_queue = bus_setup_queue,
    .driver_ok = bus_driver_ok,
    .kick = bus_kick,
    .wait_interrupt = bus_wait_interrupt,
    .wait_needs_reset = bus_wait_needs_reset,
    .config_read = bus_config_read,
    .config_write = bus_config_write,
    .reset = bus_reset,
};

int main(void)
{
    return contract_run(&ops);
}
