/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract suite over virtio-pci, without KVM: the driver reads configuration space through the
 * ECAM, finds the structures by their capabilities, and accesses BAR 0 through the MMIO bus. The
 * hypervisor is a dozen lines: an MSI ends in an eventfd, a doorbell is remembered and rung by the
 * write that a guest would make.
 *
 * Every device is opened at the place that it got at first and then moved, so that whatever follows the
 * BAR is tested at its second place.
 */
#include "contract.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hw/pci_host.h"
#include "machine/bus.h"
#include "transport/pci.h"
#include "util/clock.h"

#define WINDOW_BASE UINT64_C(0xd0000000)
#define WINDOW_SIZE UINT64_C(0x100000)
#define MOVED_TO    UINT64_C(0xd0040000)
#define MSI_ADDRESS UINT64_C(0xfee00000)
#define DEVICE      (UINT64_C(1) << 15) /* device 1, function 0 in the ECAM */
#define BELLS_MAX   VIRTIO_QUEUES_MAX

/* Offsets in the common structure, from the specification (4.1.4.3). */
enum {
    DEVICE_FEATURE_SELECT = 0,
    DEVICE_FEATURE = 4,
    DRIVER_FEATURE_SELECT = 8,
    DRIVER_FEATURE = 12,
    CONFIG_VECTOR = 16,
    STATUS = 20,
    QUEUE_SELECT = 22,
    QUEUE_SIZE = 24,
    QUEUE_VECTOR = 26,
    QUEUE_ENABLE = 28,
    QUEUE_NOTIFY_OFF = 30,
    QUEUE_DESC = 32,
};

struct contract_bus {
    struct bus mmio;
    struct pci_host host;
    struct virtio_pci pci;
    struct hypervisor hv;

    struct {
        uint64_t gpa;
        int fd;
    } bells[BELLS_MAX];
    int vectors[VIRTIO_QUEUES_MAX + 1]; /* eventfds: 0 is the configuration's, 1 + n queue n's */
    unsigned vector_count;

    /* What the capabilities say. */
    uint64_t common, notify, device;
    uint32_t notify_step;
    unsigned msix;
};

/* -- the hypervisor ---------------------------------------------------------------------------------
 */

static int signal_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct contract_bus *bus = opaque;
    assert(address == MSI_ADDRESS && data < bus->vector_count);
    uint64_t one = 1;
    return write(bus->vectors[data], &one, sizeof(one)) == sizeof(one) ? 0 : -EIO;
}

static int doorbell(void *opaque, uint64_t gpa, int fd, bool on)
{
    struct contract_bus *bus = opaque;
    for (unsigned i = 0; i < BELLS_MAX; i++) {
        if (on ? bus->bells[i].gpa == 0 : bus->bells[i].gpa == gpa && bus->bells[i].fd == fd) {
            bus->bells[i].gpa = on ? gpa : 0;
            bus->bells[i].fd = fd;
            return 0;
        }
    }
    assert(on); /* what is taken away was there */
    return -ENOSPC;
}

static const struct hypervisor_ops hv_ops = {.signal_msi = signal_msi, .doorbell = doorbell};

/* -- the driver's accesses --------------------------------------------------------------------------
 */

static uint32_t config_get(struct contract_bus *bus, unsigned reg, unsigned len)
{
    uint32_t v = UINT32_MAX;
    pci_host_ecam_ops.read(&bus->host, DEVICE + reg, &v, len);
    return len == 4 ? v : v & ((1u << 8 * len) - 1);
}

static void config_put(struct contract_bus *bus, unsigned reg, unsigned len, uint32_t v)
{
    pci_host_ecam_ops.write(&bus->host, DEVICE + reg, &v, len);
}

static uint64_t get(struct contract_bus *bus, uint64_t at, unsigned len)
{
    uint64_t v = 0;
    bool answered = bus_read(&bus->mmio, at, &v, len);
    assert(answered);
    (void)answered;
    return v;
}

static void put(struct contract_bus *bus, uint64_t at, unsigned len, uint64_t v)
{
    for (unsigned i = 0; i < BELLS_MAX; i++) {
        if (bus->bells[i].gpa == at) {
            uint64_t one = 1;
            (void)!write(bus->bells[i].fd, &one, sizeof(one));
            return;
        }
    }
    bool answered = bus_write(&bus->mmio, at, &v, len);
    assert(answered);
    (void)answered;
}

static void find_structures(struct contract_bus *bus, uint64_t bar)
{
    for (unsigned at = config_get(bus, 0x34, 1); at; at = config_get(bus, at + 1, 1)) {
        uint64_t where = bar + config_get(bus, at + 8, 4);
        switch (config_get(bus, at, 1)) {
        case 0x11:
            bus->msix = at;
            break;
        case 0x09:
            switch (config_get(bus, at + 3, 1)) {
            case 1:
                bus->common = where;
                break;
            case 2:
                bus->notify = where;
                bus->notify_step = config_get(bus, at + 16, 4);
                break;
            case 4:
                bus->device = where;
                break;
            default:
                break;
            }
            break;
        default:
            break;
        }
    }
}

/* -- the bus ----------------------------------------------------------------------------------------
 */

static int open_bus(struct contract_bus **out, struct virtio_device *dev, const struct memory *mem)
{
    struct contract_bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        return -ENOMEM;
    bus->vector_count = dev->queue_count + 1;
    for (unsigned i = 0; i < bus->vector_count; i++)
        bus->vectors[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bus->hv = (struct hypervisor){.ops = &hv_ops, .opaque = bus};
    bus_init(&bus->mmio);
    const struct pci_window windows[2] = {{.base = WINDOW_BASE, .size = WINDOW_SIZE}};
    pci_host_init(&bus->host, &bus->mmio, windows, NULL);
    int rc = virtio_pci_init(&bus->pci, dev, mem, &bus->hv, NULL);
    if (rc == 0)
        rc = pci_host_add(&bus->host, &bus->pci.fn, NULL);
    if (rc < 0)
        return rc;

    /* Size BAR 0 as a kernel does, switch it on, move it. */
    config_put(bus, 0x10, 4, UINT32_MAX);
    assert((config_get(bus, 0x10, 4) & ~0xfu) == (uint32_t) ~(VIRTIO_PCI_BAR_BYTES - 1));
    config_put(bus, 0x10, 4, (uint32_t)WINDOW_BASE);
    config_put(bus, 0x04, 2, 6);
    config_put(bus, 0x10, 4, (uint32_t)MOVED_TO);
    find_structures(bus, MOVED_TO);

    uint64_t table = MOVED_TO + (config_get(bus, bus->msix + 4, 4) & ~7u);
    for (unsigned i = 0; i < bus->vector_count; i++) {
        put(bus, table + 16 * i, 4, MSI_ADDRESS);
        put(bus, table + 16 * i + 8, 4, i);
        put(bus, table + 16 * i + 12, 4, 0);
    }
    config_put(bus, bus->msix + 2, 2, 0x8000);
    *out = bus;
    return 0;
}

static void close_bus(struct contract_bus *bus)
{
    pci_host_finish(&bus->host);
    virtio_pci_finish(&bus->pci);
    for (unsigned i = 0; i < BELLS_MAX; i++)
        assert(bus->bells[i].gpa == 0);
    for (unsigned i = 0; i < bus->vector_count; i++)
        close(bus->vectors[i]);
    bus_finish(&bus->mmio);
    free(bus);
}

static uint64_t offered(struct contract_bus *bus)
{
    uint64_t features = 0;
    for (unsigned i = 0; i < 2; i++) {
        put(bus, bus->common + DEVICE_FEATURE_SELECT, 4, i);
        features |= get(bus, bus->common + DEVICE_FEATURE, 4) << (32 * i);
    }
    return features;
}

static int negotiate(struct contract_bus *bus, uint64_t features)
{
    put(bus, bus->common + STATUS, 1, VIRTIO_STATUS_ACKNOWLEDGE);
    put(bus, bus->common + STATUS, 1, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        put(bus, bus->common + DRIVER_FEATURE_SELECT, 4, i);
        put(bus, bus->common + DRIVER_FEATURE, 4, (uint32_t)(features >> (32 * i)));
    }
    put(bus, bus->common + STATUS, 1,
        VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK);
    put(bus, bus->common + CONFIG_VECTOR, 2, 0);
    assert(get(bus, bus->common + CONFIG_VECTOR, 2) == 0);
    return get(bus, bus->common + STATUS, 1) & VIRTIO_STATUS_FEATURES_OK ? 0 : -EINVAL;
}

static uint16_t queue_max(struct contract_bus *bus, unsigned queue)
{
    put(bus, bus->common + QUEUE_SELECT, 2, queue);
    return (uint16_t)get(bus, bus->common + QUEUE_SIZE, 2);
}

static void put_halves(struct contract_bus *bus, uint64_t at, uint64_t v)
{
    put(bus, at, 4, (uint32_t)v);
    put(bus, at + 4, 4, v >> 32);
}

static int setup_queue(struct contract_bus *bus, unsigned queue, const struct ring_setup *setup)
{
    put(bus, bus->common + QUEUE_SELECT, 2, queue);
    if (get(bus, bus->common + QUEUE_SIZE, 2) == 0)
        return -EINVAL;
    bool live = get(bus, bus->common + QUEUE_ENABLE, 2);
    put(bus, bus->common + QUEUE_SIZE, 2, setup->size);
    put_halves(bus, bus->common + QUEUE_DESC, setup->desc_gpa);
    put_halves(bus, bus->common + QUEUE_DESC + 8, setup->avail_gpa);
    put(bus, bus->common + QUEUE_DESC + 16, 8, setup->used_gpa);
    if (live)
        return get(bus, bus->common + QUEUE_DESC, 8) == setup->desc_gpa ? 0 : -EINVAL;
    assert(get(bus, bus->common + QUEUE_DESC, 8) == setup->desc_gpa);
    put(bus, bus->common + QUEUE_VECTOR, 2, 1 + queue);
    put(bus, bus->common + QUEUE_ENABLE, 2, 1);
    if (get(bus, bus->common + QUEUE_ENABLE, 2) == 0)
        return -EINVAL;

    /* A live queue's registers are closed (CVE-2026-5747's class). */
    put_halves(bus, bus->common + QUEUE_DESC, UINT64_C(0xdeadbeef000));
    put(bus, bus->common + QUEUE_SIZE, 2, 1);
    assert(get(bus, bus->common + QUEUE_DESC, 8) == setup->desc_gpa);
    assert(get(bus, bus->common + QUEUE_SIZE, 2) == setup->size);
    return get(bus, bus->common + STATUS, 1) & VIRTIO_STATUS_NEEDS_RESET ? -EINVAL : 0;
}

static void driver_ok(struct contract_bus *bus)
{
    put(bus, bus->common + STATUS, 1, get(bus, bus->common + STATUS, 1) | VIRTIO_STATUS_DRIVER_OK);
}

static void kick(struct contract_bus *bus, unsigned queue)
{
    put(bus, bus->common + QUEUE_SELECT, 2, queue);
    uint64_t off = get(bus, bus->common + QUEUE_NOTIFY_OFF, 2);
    put(bus, bus->notify + off * bus->notify_step, 2, queue);
}

static bool wait_vector(struct contract_bus *bus, unsigned vector, int timeout_ms)
{
    struct pollfd p = {.fd = bus->vectors[vector], .events = POLLIN};
    uint64_t count;
    return poll(&p, 1, timeout_ms) == 1 && read(p.fd, &count, sizeof(count)) == sizeof(count);
}

static bool wait_interrupt(struct contract_bus *bus, unsigned queue, int timeout_ms)
{
    return wait_vector(bus, 1 + queue, timeout_ms);
}

static bool wait_needs_reset(struct contract_bus *bus, int timeout_ms)
{
    uint64_t deadline = clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    while (!(get(bus, bus->common + STATUS, 1) & VIRTIO_STATUS_NEEDS_RESET)) {
        uint64_t now = clock_ns();
        if (now >= deadline || !wait_vector(bus, 0, (int)((deadline - now) / NS_PER_MS) + 1))
            return get(bus, bus->common + STATUS, 1) & VIRTIO_STATUS_NEEDS_RESET;
    }
    return true;
}

static void device_read(struct contract_bus *bus, size_t offset, void *buf, size_t len)
{
    uint8_t *bytes = buf;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)get(bus, MOVED_TO + VIRTIO_PCI_DEVICE + offset + i, 1);
}

static void device_write(struct contract_bus *bus, size_t offset, const void *buf, size_t len)
{
    const uint8_t *bytes = buf;
    if (len == 2 || len == 4 || len == 8) {
        put(bus, MOVED_TO + VIRTIO_PCI_DEVICE + offset, (unsigned)len, bus_get(buf, (unsigned)len));
        return;
    }
    for (size_t i = 0; i < len; i++)
        put(bus, MOVED_TO + VIRTIO_PCI_DEVICE + offset + i, 1, bytes[i]);
}

static void reset(struct contract_bus *bus)
{
    put(bus, bus->common + STATUS, 1, 0);
    assert(get(bus, bus->common + STATUS, 1) == 0);
    for (unsigned i = 0; i < bus->vector_count; i++)
        wait_vector(bus, i, 0);
}

static const struct contract_bus_ops pci_bus = {
    .name = "pci",
    .open = open_bus,
    .close = close_bus,
    .offered = offered,
    .negotiate = negotiate,
    .queue_max = queue_max,
    .setup_queue = setup_queue,
    .driver_ok = driver_ok,
    .kick = kick,
    .wait_interrupt = wait_interrupt,
    .wait_needs_reset = wait_needs_reset,
    .config_read = device_read,
    .config_write = device_write,
    .reset = reset,
};

int main(void)
{
    return contract_run(&pci_bus);
}
