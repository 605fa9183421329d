/* SPDX-License-Identifier: Apache-2.0 */
/* The contract suite over the in-process transport. */
#include "contract.h"

#include "transport/fake.h"

static struct fake *fake_of(struct contract_bus *bus)
{
    return (struct fake *)(void *)bus;
}

static int bus_open(struct contract_bus **out, struct virtio_device *dev, const struct memory *mem)
{
    struct fake *fake = NULL;
    int rc = fake_new(&fake, &(struct fake_options){.dev = dev, .mem = mem});
    *out = (struct contract_bus *)(void *)fake;
    return rc;
}

static void bus_close(struct contract_bus *bus)
{
    fake_free(fake_of(bus));
}

static uint64_t bus_offered(struct contract_bus *bus)
{
    return fake_offered(fake_of(bus));
}

static int bus_negotiate(struct contract_bus *bus, uint64_t features)
{
    return fake_negotiate(fake_of(bus), features);
}

static uint16_t bus_queue_max(struct contract_bus *bus, unsigned queue)
{
    return fake_queue_max(fake_of(bus), queue);
}

static int bus_setup_queue(struct contract_bus *bus, unsigned queue, const struct ring_setup *setup)
{
    return fake_setup_queue(fake_of(bus), queue, setup);
}

static void bus_driver_ok(struct contract_bus *bus)
{
    fake_driver_ok(fake_of(bus));
}

static void bus_kick(struct contract_bus *bus, unsigned queue)
{
    fake_kick(fake_of(bus), queue);
}

static bool bus_wait_interrupt(struct contract_bus *bus, unsigned queue, int timeout_ms)
{
    return fake_wait_interrupt(fake_of(bus), queue, timeout_ms);
}

static bool bus_wait_needs_reset(struct contract_bus *bus, int timeout_ms)
{
    struct fake *fake = fake_of(bus);
    while (!(fake_status(fake) & VIRTIO_STATUS_NEEDS_RESET))
        if (!fake_wait_config(fake, timeout_ms))
            return false;
    return true;
}

static void bus_config_read(struct contract_bus *bus, size_t offset, void *buf, size_t len)
{
    fake_config_read(fake_of(bus), offset, buf, len);
}

static void bus_config_write(struct contract_bus *bus, size_t offset, const void *buf, size_t len)
{
    fake_config_write(fake_of(bus), offset, buf, len);
}

static void bus_reset(struct contract_bus *bus)
{
    fake_reset(fake_of(bus));
}

static const struct contract_bus_ops ops = {
    .name = "fake",
    .open = bus_open,
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
