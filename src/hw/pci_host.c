/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pci_host.h. BARs need no case of their own when they are sized: the bits below a BAR's size are
 * not writable, so that writing all-ones reads back as the mask that the guest wants to see.
 *
 * After each write that touches a command register or a BAR, `settle` brings the bus in line with what
 * all functions say: first everything that moved away is taken off the bus, then what is new is put on
 * it. Two functions may so swap places. A BAR whose place is taken or lies outside the windows answers
 * nowhere until the guest moves one of the two. What keeps two BARs apart is the bus, on which BARs of
 * plain memory are as well.
 */
#include "hw/pci_host.h"

#include <errno.h>
#include <string.h>

#include "util/arith.h"
#include "util/err.h"

#define PCI_STATUS       0x06
#define PCI_STATUS_CAPS  0x10
#define PCI_REVISION     0x08
#define PCI_CLASS        0x09
#define PCI_CACHE_LINE   0x0c
#define PCI_SUBSYSTEM    0x2c
#define PCI_CAP_POINTER  0x34
#define PCI_INTERRUPT    0x3c
#define PCI_BAR_MEM_64   0x04
#define PCI_BAR_PREFETCH 0x08
#define PCI_COMMAND_BITS 0x0546 /* memory, bus master, parity, SERR, interrupt disable */

#define ECAM_FUNCTION_BYTES 4096
#define ECAM_DEVICE_BYTES   (8 * ECAM_FUNCTION_BYTES)

void pci_function_init(struct pci_function *fn, const struct pci_ids *ids,
                       const struct pci_function_ops *ops)
{
    memset(fn, 0, sizeof(*fn));
    fn->ops = ops;
    pci_put16(fn->config, ids->vendor);
    pci_put16(fn->config + 2, ids->device);
    fn->config[PCI_REVISION] = ids->revision;
    fn->config[PCI_CLASS] = (uint8_t)ids->class_code;
    pci_put16(fn->config + PCI_CLASS + 1, (uint16_t)(ids->class_code >> 8));
    pci_put16(fn->config + PCI_SUBSYSTEM, ids->subsystem_vendor);
    pci_put16(fn->config + PCI_SUBSYSTEM + 2, ids->subsystem);
    pci_put16(fn->writable + PCI_COMMAND, PCI_COMMAND_BITS);
    fn->writable[PCI_CACHE_LINE] = 0xff;
    fn->writable[PCI_INTERRUPT] = 0xff; /* the line: a scratch byte, without a pin */
    fn->cap_end = PCI_FIRST_CAP;
}

int pci_add_capability(struct pci_function *fn, uint8_t id, const void *body, unsigned body_len)
{
    unsigned at = (unsigned)align_up(fn->cap_end, 4);
    if (!range_within(at, 2 + (uint64_t)body_len, PCI_CONFIG_BYTES))
        return -ENOSPC;
    fn->config[at] = id;
    memcpy(fn->config + at + 2, body, body_len);
    fn->config[fn->cap_last ? fn->cap_last + 1 : PCI_CAP_POINTER] = (uint8_t)at;
    fn->config[PCI_STATUS] |= PCI_STATUS_CAPS;
    fn->cap_last = at;
    fn->cap_end = at + 2 + body_len;
    return (int)at;
}

void pci_add_bar(struct pci_function *fn, unsigned bar, uint64_t size, bool is_64,
                 const struct bus_ops *ops, void *opaque)
{
    fn->bars[bar] = (struct pci_bar){.size = size, .is_64 = is_64, .ops = ops, .opaque = opaque};
    fn->config[PCI_BAR(bar)] = is_64 ? PCI_BAR_MEM_64 : 0;
    pci_put32(fn->writable + PCI_BAR(bar), (uint32_t) ~(size - 1));
    if (is_64)
        pci_put32(fn->writable + PCI_BAR(bar + 1), (uint32_t)(~(size - 1) >> 32));
}

void pci_add_memory_bar(struct pci_function *fn, unsigned bar, uint64_t size)
{
    /* On the bus all the same, which knows what overlaps. Reads as ones where nothing is shown. */
    static const struct bus_ops nothing = {0};
    pci_add_bar(fn, bar, size, true, &nothing, NULL);
    fn->bars[bar].is_memory = true;
    fn->config[PCI_BAR(bar)] |= PCI_BAR_PREFETCH;
}

void pci_host_init(struct pci_host *host, struct bus *mmio, const struct pci_window windows[2],
                   const struct log *log)
{
    memset(host, 0, sizeof(*host));
    pthread_mutex_init(&host->lock, NULL);
    host->mmio = mmio;
    host->log = log;
    memcpy(host->windows, windows, sizeof(host->windows));
    for (unsigned w = 0; w < ARRAY_SIZE(host->windows); w++)
        host->next[w] = windows[w].base;
    static const struct pci_ids bridge = {
        .vendor = 0x1b36,
        .device = 0x0008,
        .class_code = 0x060000, /* generic PCI Express host bridge */
    };
    pci_function_init(&host->bridge, &bridge, NULL);
    host->functions[host->count++] = &host->bridge;
}

/* Where the next BAR of this size goes in a window; 0: it is full. */
static uint64_t place(const struct pci_host *host, unsigned window, uint64_t size)
{
    const struct pci_window *w = &host->windows[window];
    uint64_t at = align_up(host->next[window], size);
    return at >= w->base && range_within(at - w->base, size, w->size) ? at : 0;
}

bool pci_host_has_room(const struct pci_host *host, uint64_t size)
{
    return place(host, 1, size) != 0;
}

int pci_host_add(struct pci_host *host, struct pci_function *fn, struct dayfly_err *err)
{
    if (host->count == PCI_DEVICES_MAX)
        return err_set(err, ENOSPC, "the PCI bus has room for %d devices", PCI_DEVICES_MAX - 1);
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &fn->bars[i];
        unsigned window = bar->is_memory ? 1 : 0;
        if (bar->size == 0)
            continue;
        uint64_t at = place(host, window, bar->size);
        if (at == 0)
            return err_set(err, ENOSPC, "the PCI memory window is full");
        pci_put32(fn->config + PCI_BAR(i), pci_get32(fn->config + PCI_BAR(i)) | (uint32_t)at);
        if (bar->is_64)
            pci_put32(fn->config + PCI_BAR(i + 1), (uint32_t)(at >> 32));
        host->next[window] = at + bar->size;
    }
    fn->device = host->count;
    host->functions[host->count++] = fn;
    return 0;
}

/* Where the registers want the BAR to answer; 0: nowhere. */
static uint64_t bar_wanted(const struct pci_host *host, const struct pci_function *fn, unsigned i)
{
    const struct pci_bar *bar = &fn->bars[i];
    if (!(fn->config[PCI_COMMAND] & PCI_COMMAND_MEM))
        return 0;
    uint64_t at = pci_get32(fn->config + PCI_BAR(i)) & ~UINT64_C(0xf);
    if (bar->is_64)
        at |= (uint64_t)pci_get32(fn->config + PCI_BAR(i + 1)) << 32;
    for (unsigned w = 0; w < ARRAY_SIZE(host->windows); w++) {
        const struct pci_window *window = &host->windows[w];
        if (at >= window->base && range_within(at - window->base, bar->size, window->size))
            return at;
    }
    return 0;
}

static void bar_moved(struct pci_function *fn, unsigned i, uint64_t gpa)
{
    fn->bars[i].mapped = gpa;
    if (fn->ops && fn->ops->bar_moved)
        fn->ops->bar_moved(fn, i, gpa);
}

/* With the lock held. */
static void settle(struct pci_host *host)
{
    for (unsigned d = 0; d < host->count; d++) {
        struct pci_function *fn = host->functions[d];
        for (unsigned i = 0; i < PCI_BARS; i++) {
            struct pci_bar *bar = &fn->bars[i];
            if (bar->mapped && bar->mapped != bar_wanted(host, fn, i)) {
                bus_remove(host->mmio, bar->mapped);
                bar_moved(fn, i, 0);
            }
        }
    }
    for (unsigned d = 0; d < host->count; d++) {
        struct pci_function *fn = host->functions[d];
        for (unsigned i = 0; i < PCI_BARS; i++) {
            struct pci_bar *bar = &fn->bars[i];
            uint64_t wanted = bar->size ? bar_wanted(host, fn, i) : 0;
            if (!wanted || bar->mapped)
                continue;
            int rc = bus_add(host->mmio, wanted, bar->size, bar->ops, bar->opaque);
            if (rc == 0)
                bar_moved(fn, i, wanted);
            else if (!bar->refused)
                log_limited(host->log, &host->limit, LOG_WARN,
                            "pci 00:%02x.0: BAR %u cannot be at 0x%llx: something else is there", d, i,
                            (unsigned long long)wanted);
            bar->refused = rc != 0;
        }
    }
}

void pci_host_finish(struct pci_host *host)
{
    if (!host->mmio)
        return;
    for (unsigned d = 0; d < host->count; d++)
        host->functions[d]->config[PCI_COMMAND] &= (uint8_t)~PCI_COMMAND_MEM;
    settle(host);
    pthread_mutex_destroy(&host->lock);
    memset(host, 0, sizeof(*host));
}

/* The function an access is for, with what lies behind its 256 bytes cut off; NULL: nobody. */
static struct pci_function *target(struct pci_host *host, uint64_t offset, unsigned len, unsigned *reg)
{
    uint64_t device = offset / ECAM_DEVICE_BYTES;
    uint64_t within = offset % ECAM_DEVICE_BYTES; /* functions 1 to 7 lie behind function 0 */
    if (device >= host->count || !range_within(within, len, ECAM_FUNCTION_BYTES))
        return NULL;
    *reg = (unsigned)within;
    return host->functions[device];
}

static void ecam_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    struct pci_host *host = opaque;
    unsigned reg;
    struct pci_function *fn = target(host, offset, len, &reg);
    if (!fn)
        return; /* all-ones: nobody there */
    if (!range_within(reg, len, PCI_CONFIG_BYTES)) {
        memset(data, 0, len); /* no extended capabilities */
        return;
    }
    pthread_mutex_lock(&host->lock);
    if (fn->ops && fn->ops->config_read)
        fn->ops->config_read(fn, reg, len);
    memcpy(data, fn->config + reg, len);
    pthread_mutex_unlock(&host->lock);
}

static bool touches(unsigned reg, unsigned len, unsigned start, unsigned bytes)
{
    return reg < start + bytes && start < reg + len;
}

static void ecam_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct pci_host *host = opaque;
    const uint8_t *bytes = data;
    unsigned reg;
    struct pci_function *fn = target(host, offset, len, &reg);
    if (!fn || !range_within(reg, len, PCI_CONFIG_BYTES))
        return;
    pthread_mutex_lock(&host->lock);
    for (unsigned i = 0; i < len; i++) {
        uint8_t mask = fn->writable[reg + i];
        fn->config[reg + i] = (uint8_t)((fn->config[reg + i] & ~mask) | (bytes[i] & mask));
    }
    if (touches(reg, len, PCI_COMMAND, 2) || touches(reg, len, PCI_BAR(0), 4 * PCI_BARS))
        settle(host);
    if (fn->ops && fn->ops->config_written)
        fn->ops->config_written(fn, reg, len);
    pthread_mutex_unlock(&host->lock);
}

const struct bus_ops pci_host_ecam_ops = {.read = ecam_read, .write = ecam_write};
