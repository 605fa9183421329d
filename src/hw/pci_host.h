/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HW_PCI_HOST_H
#define HW_PCI_HOST_H

/*
 * The host bridge and its one PCI Express bus: configuration space by ECAM, and BARs that the guest
 * sizes, moves and switches. Device 0 is the bridge; functions are added as devices 1 to 31, function 0
 * each. There are no bridges below it, no hot plug, no I/O BARs and no interrupt pins: a function
 * interrupts by MSI-X.
 *
 * A function embeds a struct pci_function and fills it in before pci_host_add: its header fields
 * through pci_function_init, capabilities, BARs. Registers are bytes in `config`; the guest may change
 * the bits set in `writable`. Firmware's work is done here: every BAR has an address before the guest
 * starts.
 *
 * Threads: pci_host_add before the guest runs. The ECAM handlers run on vCPU threads; the hooks of a
 * function are called with the host's lock held, and the order of locks is: host, then whatever the
 * function has. A BAR's handlers run without the host's lock.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "machine/bus.h"
#include "util/log.h"

#define PCI_CONFIG_BYTES 256
#define PCI_DEVICES_MAX  32
#define PCI_BARS         6

/* Registers of the type 0 header. */
#define PCI_COMMAND     0x04
#define PCI_COMMAND_MEM 0x02
#define PCI_BAR(n)      (0x10 + 4 * (n))
#define PCI_FIRST_CAP   0x40 /* where capabilities begin */

struct pci_function;

struct pci_function_ops {
    /* The guest is about to read, or has written, [offset, offset + len) of config. May be NULL. */
    void (*config_read)(struct pci_function *fn, unsigned offset, unsigned len);
    void (*config_written)(struct pci_function *fn, unsigned offset, unsigned len);
    /* The BAR answers at gpa now; 0: nowhere. May be NULL. */
    void (*bar_moved)(struct pci_function *fn, unsigned bar, uint64_t gpa);
};

struct pci_bar {
    uint64_t size;  /* a power of two, at least 4096; 0: not there */
    bool is_64;     /* takes the next BAR as well */
    bool is_memory; /* and is prefetchable: bar_moved shows the guest what is there */
    const struct bus_ops *ops;
    void *opaque;
    uint64_t mapped; /* where it answers, 0: nowhere */
    bool refused;    /* its place was taken, or lies outside the windows; said once */
};

struct pci_function {
    const struct pci_function_ops *ops; /* may be NULL */
    uint8_t config[PCI_CONFIG_BYTES];
    uint8_t writable[PCI_CONFIG_BYTES];
    struct pci_bar bars[PCI_BARS];
    unsigned cap_last, cap_end; /* the list so far */
    unsigned device;            /* set by pci_host_add */
};

struct pci_ids {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; /* 24 bits */
    uint8_t revision;
};

struct pci_window {
    uint64_t base, size;
};

struct pci_host {
    pthread_mutex_t lock;
    struct bus *mmio;
    const struct log *log;
    struct log_limit limit;
    struct pci_window windows[2]; /* below and above 4 GiB; size 0: none */
    uint64_t next[2];             /* addresses for the next BAR */
    struct pci_function bridge;
    struct pci_function *functions[PCI_DEVICES_MAX]; /* borrowed */
    unsigned count;
};

void pci_function_init(struct pci_function *fn, const struct pci_ids *ids,
                       const struct pci_function_ops *ops);

/* Append a capability: `body` is what follows the id and next bytes. Returns its offset in config, or
 * -ENOSPC. */
int pci_add_capability(struct pci_function *fn, uint8_t id, const void *body, unsigned body_len);

void pci_add_bar(struct pci_function *fn, unsigned bar, uint64_t size, bool is_64,
                 const struct bus_ops *ops, void *opaque);

/*
 * A 64-bit BAR of plain memory, which has no handlers: what bar_moved does (hypervisor.h, show_memory)
 * makes it answer. It is placed above 4 GiB, where there is room for its size; ask pci_host_has_room
 * first.
 */
void pci_add_memory_bar(struct pci_function *fn, unsigned bar, uint64_t size);

void pci_host_init(struct pci_host *host, struct bus *mmio, const struct pci_window windows[2],
                   const struct log *log);
void pci_host_finish(struct pci_host *host); /* unmaps all BARs */

/* Whether a memory BAR of this size, of the function that is added next, finds a place. */
bool pci_host_has_room(const struct pci_host *host, uint64_t size);

/* The next device; borrowed until pci_host_finish. -ENOSPC when the bus or a window is full. */
int pci_host_add(struct pci_host *host, struct pci_function *fn, struct dayfly_err *err);

/* The configuration space of bus 0, for bus_add of 1 MiB; opaque is the host. */
extern const struct bus_ops pci_host_ecam_ops;

/* Little-endian fields of a configuration space. */
static inline uint16_t pci_get16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t pci_get32(const uint8_t *at)
{
    return pci_get16(at) | (uint32_t)pci_get16(at + 2) << 16;
}

static inline void pci_put16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}

static inline void pci_put32(uint8_t *at, uint32_t v)
{
    pci_put16(at, (uint16_t)v);
    pci_put16(at + 2, (uint16_t)(v >> 16));
}

#endif
