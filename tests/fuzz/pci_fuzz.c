/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz virtio over PCI: the host bridge's configuration space, BARs that move, MSI-X, the common
 * structure and the doorbells. Two functions with an entropy device each stand on one bus, so that BARs
 * meet. The input is a program of a guest: accesses of any width at any offset of the configuration
 * space, of the BARs and beside them, mostly of registers that exist with values near what is sensible;
 * whole steps of a driver (a queue set up and used), so that programs get past them; and writes to
 * memory. The hypervisor is one that writes down what it was asked.
 *
 * Checked besides the sanitizers' findings: BARs stay in their windows and do not overlap; a doorbell
 * that is taken away was there; an interrupt is one that the guest's table names.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "hw/pci_host.h"
#include "machine/bus.h"
#include "program.h"
#include "transport/pci.h"
#include "util/arith.h"
#include "virtio/driver.h"
#include "virtio/entropy.h"

#define OPS_MAX     400
#define FUNCTIONS   2
#define WINDOW_BASE UINT64_C(0xd0000000)
#define WINDOW_SIZE UINT64_C(0x100000)
#define HIGH_BASE   UINT64_C(0x1000000000)
#define RAM_GPA     UINT64_C(0x10000)
#define RAM_BYTES   UINT64_C(0x20000)
#define BELLS_MAX   8

/* Offsets in the common structure (4.1.4.3). */
enum {
    SELECT = 0x08,
    FEATURE = 0x0c,
    STATUS = 0x14,
    QUEUE = 0x16,
    SIZE = 0x18,
    ENABLE = 0x1c,
    DESC = 0x20
};

struct run {
    struct input in;
    struct loop *loop;
    struct memory mem;
    struct driver_arena arena;
    struct bus mmio;
    struct pci_host host;
    struct hypervisor hv;
    struct virtio_device *devs[FUNCTIONS];
    struct virtio_pci pci[FUNCTIONS];
    struct driver_ring rings[FUNCTIONS];
    bool honest; /* so far the devices know the rings as driver.c does, and nobody else wrote there */
    struct {
        uint64_t gpa;
        int fd;
    } bells[BELLS_MAX];
};

/* -- the hypervisor ---------------------------------------------------------------------------- */

static bool has_vector(struct virtio_pci *pci, uint64_t address, uint32_t data)
{
    for (unsigned i = 0; i < pci->msix.count; i++)
        if (pci->msix.vector[i].address == address && pci->msix.vector[i].data == data)
            return true;
    return false;
}

static int signal_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct run *r = opaque;
    check(has_vector(&r->pci[0], address, data) || has_vector(&r->pci[1], address, data));
    return 0;
}

static int doorbell(void *opaque, uint64_t gpa, int fd, bool on)
{
    struct run *r = opaque;
    for (unsigned i = 0; i < BELLS_MAX; i++) {
        if (on ? r->bells[i].gpa == 0 : r->bells[i].gpa == gpa && r->bells[i].fd == fd) {
            r->bells[i].gpa = on ? gpa : 0;
            r->bells[i].fd = fd;
            return 0;
        }
    }
    check(on);
    return -ENOSPC;
}

static const struct hypervisor_ops hv_ops = {.signal_msi = signal_msi, .doorbell = doorbell};

/* -- the guest --------------------------------------------------------------------------------- */

static uint64_t bar_of(const struct run *r, unsigned n)
{
    return r->pci[n].fn.bars[0].mapped;
}

static void put(struct run *r, uint64_t gpa, unsigned len, uint64_t value)
{
    for (unsigned i = 0; i < BELLS_MAX; i++) {
        if (r->bells[i].gpa && r->bells[i].gpa == gpa) {
            eventfd_write(r->bells[i].fd, 1);
            return;
        }
    }
    bus_write(&r->mmio, gpa, &value, len);
}

/* A width: mostly one that processors have. */
static unsigned width(struct run *r)
{
    uint8_t kind = u8(&r->in);
    return kind & 0xf0 ? 1u << (kind & 3) : 1 + (kind & 7);
}

static uint64_t value(struct run *r)
{
    uint8_t kind = u8(&r->in);
    switch (kind & 7) {
    case 0:
        return u64(&r->in);
    case 1:
        return UINT64_MAX;
    case 2:
        return 0;
    case 3:
        return WINDOW_BASE + (uint64_t)u8(&r->in) * 0x4000; /* where a BAR may go */
    case 4:
        return HIGH_BASE + (uint64_t)u8(&r->in) * 0x4000;
    case 5:
        return 1u << (kind >> 3);
    default:
        return u8(&r->in);
    }
}

static void touch_config(struct run *r)
{
    uint8_t how = u8(&r->in);
    /* The bridge, the functions, one that is not there, and beyond. */
    uint64_t offset = ((uint64_t)(how & 3) << 15) + (how & 4 ? u16(&r->in) : u8(&r->in));
    unsigned len = width(r);
    uint64_t v = value(r);
    if (how & 8)
        offset = ((uint64_t)(1 + (how & 1)) << 15) + (how & 16 ? PCI_COMMAND : PCI_BAR(how >> 5 & 1));
    if (how & 16)
        pci_host_ecam_ops.read(&r->host, offset, &v, len);
    else
        pci_host_ecam_ops.write(&r->host, offset, &v, len);
}

/* The window of the configuration access capability, and MSI-X's control word. */
static void touch_capability(struct run *r)
{
    uint8_t how = u8(&r->in);
    const struct virtio_pci *pci = &r->pci[how & 1];
    uint64_t base = (uint64_t)pci->fn.device << 15;
    unsigned at = how & 2 ? pci->msix_cap + 2 : pci->cfg_access + (how >> 2 & 3) * 4 + 4;
    unsigned len = how & 2 ? 2 : 4;
    uint64_t v = how & 2 ? (uint64_t)u8(&r->in) << 8 : value(r);
    if (how & 16 && !(how & 2))
        pci_host_ecam_ops.read(&r->host, base + pci->cfg_access + 16, &v, width(r));
    else
        pci_host_ecam_ops.write(&r->host, base + at, &v, len);
}

static void touch_bar(struct run *r)
{
    static const uint16_t structures[] = {VIRTIO_PCI_COMMON, VIRTIO_PCI_COMMON,     VIRTIO_PCI_ISR,
                                          VIRTIO_PCI_DEVICE, VIRTIO_PCI_MSIX_TABLE, VIRTIO_PCI_MSIX_PBA,
                                          VIRTIO_PCI_NOTIFY, VIRTIO_PCI_NOTIFY};
    uint8_t how = u8(&r->in);
    uint64_t gpa = bar_of(r, how & 1) + structures[how >> 1 & 7] + u8(&r->in) % 0x48;
    unsigned len = width(r);
    uint64_t v = value(r);
    if (how & 16)
        gpa = bar_of(r, how & 1) + u16(&r->in);
    if (how & 32)
        bus_read(&r->mmio, gpa, &v, len);
    else
        put(r, gpa, len, v);
}

/* What drivers do, as far as the input wants it. */
static void drive(struct run *r)
{
    uint8_t how = u8(&r->in), part = u8(&r->in);
    unsigned n = how & 1;
    uint64_t bar = bar_of(r, n);
    struct driver_ring *ring = &r->rings[n];
    if (how & 2)
        put(r, bar + STATUS, 1, 0);
    r->honest = r->honest && bar && (how & 2 || !ring->arena) && !(how & 12);
    put(r, bar + STATUS, 1, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
    for (unsigned half = 0; half < 2; half++) {
        put(r, bar + SELECT, 4, half);
        put(r, bar + FEATURE, 4,
            (uint32_t)(r->devs[n]->offered >> 32 * half) & ~(part == half ? 1u : 0));
    }
    put(r, bar + STATUS, 1, 11);
    r->arena.next_gpa = RAM_GPA + n * RAM_BYTES / 2;
    driver_ring_init(ring, &r->arena, 16, r->devs[n]->offered);
    struct ring_setup setup = ring->setup; /* as the device is told */
    if (how & 4)
        setup.desc_gpa = value(r);
    put(r, bar + QUEUE, 2, part & 0x80 ? part : 0);
    put(r, bar + SIZE, 2, how & 8 ? u16(&r->in) : 16);
    put(r, bar + 0x1a, 2, part & 3); /* its vector */
    put(r, bar + DESC, 8, setup.desc_gpa);
    put(r, bar + DESC + 8, 8, setup.avail_gpa);
    put(r, bar + DESC + 16, 8, setup.used_gpa);
    put(r, bar + ENABLE, 2, 1);
    /* The table's first vectors, open. */
    for (unsigned i = 0; i < 2; i++) {
        put(r, bar + VIRTIO_PCI_MSIX_TABLE + 16 * i, 8, 0xfee00000);
        put(r, bar + VIRTIO_PCI_MSIX_TABLE + 16 * i + 8, 8, i);
    }
    uint16_t enable = MSIX_CTRL_ENABLE;
    pci_host_ecam_ops.write(&r->host, ((uint64_t)r->pci[n].fn.device << 15) + r->pci[n].msix_cap + 2,
                            &enable, 2);
    if (!(how & 16))
        put(r, bar + STATUS, 1, 15);
}

/* One request in the entropy device's queue. */
static void request(struct run *r)
{
    unsigned n = u8(&r->in) & 1;
    struct driver_ring *ring = &r->rings[n];
    uint64_t gpa = RAM_GPA + n * RAM_BYTES / 2 + 0x8000;
    const struct driver_buf buf = {gpa, u8(&r->in) * 4u, true};
    uint16_t head;
    uint32_t written;
    if (!ring->arena || !r->honest) {
        put(r, bar_of(r, n) + VIRTIO_PCI_NOTIFY, 2, 0);
        return;
    }
    while (driver_used(ring, &head, &written))
        check(written <= 255 * 4);
    if (driver_add(ring, &buf, 1) < 0 || !driver_publish(ring))
        return;
    put(r, bar_of(r, n) + VIRTIO_PCI_NOTIFY, 2, 0);
}

static bool apart(const struct run *r, uint64_t a, uint64_t b)
{
    return a + VIRTIO_PCI_BAR_BYTES <= b || b + VIRTIO_PCI_BAR_BYTES <= a;
}

static void check_bars(const struct run *r)
{
    for (unsigned n = 0; n < FUNCTIONS; n++) {
        uint64_t at = bar_of(r, n);
        check(!at || (at >= WINDOW_BASE && at + VIRTIO_PCI_BAR_BYTES <= WINDOW_BASE + WINDOW_SIZE) ||
              (at >= HIGH_BASE && at + VIRTIO_PCI_BAR_BYTES <= HIGH_BASE + WINDOW_SIZE));
    }
    check(!bar_of(r, 0) || !bar_of(r, 1) || apart(r, bar_of(r, 0), bar_of(r, 1)));
}

static void step(struct run *r)
{
    uint8_t op = u8(&r->in);
    if (op < 70) {
        touch_config(r);
        check_bars(r);
    } else if (op < 90) {
        touch_capability(r);
    } else if (op < 150) {
        touch_bar(r);
    } else if (op < 200) {
        request(r);
    } else if (op < 230) {
        drive(r);
    } else {
        uint64_t bytes = u64(&r->in);
        memory_write(&r->mem, RAM_GPA + (uint64_t)u16(&r->in) * 2, &bytes, sizeof(bytes));
        r->honest = false;
    }
    loop_run_once(r->loop, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pci_window windows[2] = {{WINDOW_BASE, WINDOW_SIZE}, {HIGH_BASE, WINDOW_SIZE}};
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    static struct run run; /* too large for a stack */
    struct run *r = &run;
    struct dayfly_err err;
    *r = (struct run){.in = {data, size}, .hv = {&hv_ops, r}, .honest = true};
    check(loop_new(&r->loop) == 0 && memory_create(&r->mem, &layout, 1, &err) == 0);
    r->arena = (struct driver_arena){&r->mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    bus_init(&r->mmio);
    pci_host_init(&r->host, &r->mmio, windows, NULL);
    for (unsigned n = 0; n < FUNCTIONS; n++)
        check(virtio_entropy_new(&r->devs[n], r->loop, NULL, &err) == 0 &&
              virtio_pci_init(&r->pci[n], r->devs[n], &r->mem, &r->hv, &err) == 0 &&
              pci_host_add(&r->host, &r->pci[n].fn, &err) == 0);
    /* As firmware leaves them: BARs have addresses, and the guest switches them on. */
    for (unsigned n = 1; n <= FUNCTIONS; n++) {
        uint16_t command = PCI_COMMAND_MEM;
        pci_host_ecam_ops.write(&r->host, ((uint64_t)n << 15) + PCI_COMMAND, &command, 2);
    }
    for (unsigned i = 0; i < OPS_MAX && r->in.left > 0; i++)
        step(r);
    pci_host_finish(&r->host);
    for (unsigned n = 0; n < FUNCTIONS; n++) {
        virtio_pci_finish(&r->pci[n]);
        virtio_entropy_free(r->devs[n]);
    }
    for (unsigned i = 0; i < BELLS_MAX; i++)
        check(r->bells[i].gpa == 0);
    bus_finish(&r->mmio);
    memory_finish(&r->mem);
    loop_free(r->loop);
    return 0;
}
