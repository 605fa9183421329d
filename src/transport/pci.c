/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See pci.h. Sections are those of virtio 1.2.
 *
 * The driver's registers are closed step by step: features at FEATURES_OK, a queue at its queue_enable.
 * What comes too late is ignored, so that a live queue never changes under the device
 * (3.1.1, 4.1.4.3.2). The copy that the ring works on is made by virtio_queue_start.
 *
 * A register is accessed with its own width (4.1.3.1), a 64-bit one also by halves. Any other access
 * reads as zero and writes nothing.
 */
#include "transport/pci.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define VENDOR_VIRTIO  0x1af4
#define DEVICE_BASE    0x1040
#define CAP_VENDOR     0x09
#define NOT_A_VECTOR   MSIX_NO_VECTOR
#define ISR_QUEUE      1u
#define ISR_CONFIG     2u
#define MSIX_CTRL_BITS (MSIX_CTRL_ENABLE | MSIX_CTRL_MASKALL)

/* 4.1.4.3 */
enum common {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_MSIX_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_MSIX_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
    COMMON_BYTES = 0x38,
};

/* 4.1.4: cfg_type */
enum {
    CAP_COMMON = 1,
    CAP_NOTIFY = 2,
    CAP_ISR = 3,
    CAP_DEVICE = 4,
    CAP_ACCESS = 5,
    CAP_SHARED = 8,
};

/* Within a virtio capability. */
enum { CAP_BAR = 4, CAP_ID = 5, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_DATA = 16 };

/* -- interrupts: with the device's lock held --------------------------------------------------------
 */

static void interrupt(struct virtio_pci *pci, unsigned vector, unsigned isr)
{
    /* The ISR is for those without MSI-X (4.1.4.5.1). They have no line here, but may poll it. */
    if (!msix_enabled(&pci->msix))
        atomic_fetch_or(&pci->isr, isr);
    else
        msix_signal(&pci->msix, vector);
}

static void queue_interrupt(void *opaque, unsigned queue)
{
    struct virtio_pci *pci = opaque;
    interrupt(pci, atomic_load(&pci->queues[queue].vector), ISR_QUEUE);
}

static void config_interrupt(void *opaque)
{
    struct virtio_pci *pci = opaque;
    atomic_fetch_add(&pci->generation, 1);
    interrupt(pci, atomic_load(&pci->config_vector), ISR_CONFIG);
}

static const struct virtio_carrier carrier = {
    .interrupt = queue_interrupt,
    .config_changed = config_interrupt,
};

/* -- doorbells --------------------------------------------------------------------------------------
 */

static void ring_bell(struct virtio_pci *pci, uint64_t queue)
{
    uint64_t one = 1;
    if (queue < pci->dev->queue_count)
        while (write(pci->queues[queue].bell.fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
}

static void bell_rang(struct loop_source *source, uint32_t events)
{
    struct virtio_pci_queue *queue = container_of(source, struct virtio_pci_queue, bell);
    struct virtio_pci *pci = queue->pci;
    uint64_t count;
    while (read(source->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    virtio_kick(pci->dev, (unsigned)(queue - pci->queues));
}

/* BAR 0 answers elsewhere now, or nowhere (gpa 0). With the host's lock held, as the next two. */
static void bells_moved(struct virtio_pci *pci, uint64_t gpa)
{
    const struct hypervisor *hv = pci->hv;
    if (!hv->ops->doorbell)
        return;
    for (unsigned i = 0; i < pci->dev->queue_count; i++) {
        uint64_t offset = VIRTIO_PCI_NOTIFY + i * VIRTIO_PCI_NOTIFY_STEP;
        int fd = pci->queues[i].bell.fd;
        if (pci->bells_at)
            hv->ops->doorbell(hv->opaque, pci->bells_at + offset, fd, false);
        if (gpa) /* refused: the write reaches the BAR's handler, which is slower and as good */
            hv->ops->doorbell(hv->opaque, gpa + offset, fd, true);
    }
    pci->bells_at = gpa;
}

/* Refused: the guest reads ones there, and what it writes is lost. */
static void shared_moved(struct virtio_pci *pci, uint64_t gpa)
{
    const struct hypervisor *hv = pci->hv;
    const struct virtio_shared_memory *shared = &pci->dev->shared;
    if (pci->shared_at)
        hv->ops->show_memory(hv->opaque, pci->shared_at, shared->hva, shared->bytes, false);
    pci->shared_at = 0;
    if (gpa == 0)
        return;
    int rc = hv->ops->show_memory(hv->opaque, gpa, shared->hva, shared->bytes, true);
    if (rc == 0)
        pci->shared_at = gpa;
    else
        log_limited(pci->dev->log, &pci->limit, LOG_WARN, "%s: showing its memory at 0x%llx: %s",
                    pci->dev->ops->name, (unsigned long long)gpa, strerror(-rc));
}

static void bar_moved(struct pci_function *fn, unsigned bar, uint64_t gpa)
{
    struct virtio_pci *pci = container_of(fn, struct virtio_pci, fn);
    if (bar == 0)
        bells_moved(pci, gpa);
    else
        shared_moved(pci, gpa);
}

/* -- the driver's registers: with pci->lock held ----------------------------------------------------
 */

static struct virtio_pci_queue *selected(struct virtio_pci *pci)
{
    return pci->queue_select < pci->dev->queue_count ? &pci->queues[pci->queue_select] : NULL;
}

static void forget_driver(struct virtio_pci *pci)
{
    pci->device_feature_select = pci->driver_feature_select = 0;
    pci->driver_features[0] = pci->driver_features[1] = 0;
    pci->queue_select = 0;
    pci->status = 0;
    atomic_store(&pci->config_vector, NOT_A_VECTOR);
    atomic_store(&pci->isr, 0);
    for (unsigned i = 0; i < pci->dev->queue_count; i++) {
        struct virtio_pci_queue *q = &pci->queues[i];
        q->setup = (struct ring_setup){.size = pci->dev->queues[i].size_max};
        q->enabled = false;
        atomic_store(&q->vector, NOT_A_VECTOR);
    }
}

static uint8_t read_status(struct virtio_pci *pci)
{
    return pci->status | (virtio_needs_reset(pci->dev) ? VIRTIO_STATUS_NEEDS_RESET : 0);
}

static void write_status(struct virtio_pci *pci, uint8_t value)
{
    if (value == 0) {
        virtio_reset(pci->dev);
        forget_driver(pci);
        return;
    }
    uint8_t rising = value & ~pci->status;
    if (rising & VIRTIO_STATUS_FEATURES_OK) {
        uint64_t features = pci->driver_features[0] | (uint64_t)pci->driver_features[1] << 32;
        if (!virtio_set_features(pci->dev, features))
            value &=
                (uint8_t)~VIRTIO_STATUS_FEATURES_OK; /* 2.2.2: refused, which the driver reads back */
    }
    /* Bits are cleared by a reset alone (2.1.1). */
    pci->status |= value & (uint8_t)~VIRTIO_STATUS_NEEDS_RESET;
    if ((rising & VIRTIO_STATUS_DRIVER_OK) && (pci->status & VIRTIO_STATUS_FEATURES_OK))
        virtio_activate(pci->dev);
}

static void enable_queue(struct virtio_pci *pci, struct virtio_pci_queue *q)
{
    if (q->enabled || !(pci->status & VIRTIO_STATUS_FEATURES_OK))
        return;
    q->enabled = true; /* closed, even if what stands in the registers is refused */
    if (virtio_queue_start(pci->dev, (unsigned)(q - pci->queues), pci->mem, &q->setup) < 0) {
        pthread_mutex_lock(&pci->dev->lock);
        virtio_violation(pci->dev, "queue %u does not lie in memory", (unsigned)(q - pci->queues));
        pthread_mutex_unlock(&pci->dev->lock);
    }
}

static unsigned valid_vector(const struct virtio_pci *pci, uint64_t value)
{
    return value < pci->msix.count ? (unsigned)value : NOT_A_VECTOR;
}

/* Which 64-bit queue register `offset` lies in; NULL: in none. */
static uint64_t *queue_address(struct virtio_pci_queue *q, uint64_t offset)
{
    switch (align_down(offset, 8)) {
    case QUEUE_DESC:
        return &q->setup.desc_gpa;
    case QUEUE_DRIVER:
        return &q->setup.avail_gpa;
    case QUEUE_DEVICE:
        return &q->setup.used_gpa;
    default:
        return NULL;
    }
}

static unsigned register_bytes(uint64_t offset)
{
    if (offset < CONFIG_MSIX_VECTOR)
        return 4;
    if (offset == DEVICE_STATUS || offset == CONFIG_GENERATION)
        return 1;
    return 2;
}

static uint64_t common_read(struct virtio_pci *pci, uint64_t offset, unsigned len)
{
    struct virtio_pci_queue *q = selected(pci);
    if (offset >= QUEUE_DESC) {
        uint64_t *address = q ? queue_address(q, offset) : NULL;
        if (!address || (len != 4 && len != 8) || !is_aligned(offset, len))
            return 0;
        return *address >> (offset % 8 * 8);
    }
    if (len != register_bytes(offset))
        return 0;
    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        return pci->device_feature_select;
    case DEVICE_FEATURE:
        return pci->device_feature_select < 2 ? pci->dev->offered >> (32 * pci->device_feature_select)
                                              : 0;
    case DRIVER_FEATURE_SELECT:
        return pci->driver_feature_select;
    case DRIVER_FEATURE:
        return pci->driver_feature_select < 2 ? pci->driver_features[pci->driver_feature_select] : 0;
    case CONFIG_MSIX_VECTOR:
        return atomic_load(&pci->config_vector);
    case NUM_QUEUES:
        return pci->dev->queue_count;
    case DEVICE_STATUS:
        return read_status(pci);
    case CONFIG_GENERATION:
        return atomic_load(&pci->generation);
    case QUEUE_SELECT:
        return pci->queue_select;
    case QUEUE_SIZE: /* 0: there is no such queue */
        return q ? q->setup.size : 0;
    case QUEUE_MSIX_VECTOR:
        return q ? atomic_load(&q->vector) : NOT_A_VECTOR;
    case QUEUE_ENABLE:
        return q ? q->enabled : 0;
    case QUEUE_NOTIFY_OFF:
        return q ? pci->queue_select : 0;
    default:
        return 0;
    }
}

static void common_write(struct virtio_pci *pci, uint64_t offset, unsigned len, uint64_t value)
{
    struct virtio_pci_queue *q = selected(pci);
    bool open = q && !q->enabled;
    if (offset >= QUEUE_DESC) {
        uint64_t *address = open ? queue_address(q, offset) : NULL;
        if (!address || (len != 4 && len != 8) || !is_aligned(offset, len))
            return;
        if (len == 8)
            *address = value;
        else if (offset % 8 == 0)
            *address = (*address & ~UINT64_C(0xffffffff)) | value;
        else
            *address = (uint32_t)*address | value << 32;
        return;
    }
    if (len != register_bytes(offset))
        return;
    switch (offset) {
    case DEVICE_FEATURE_SELECT:
        pci->device_feature_select = (uint32_t)value;
        break;
    case DRIVER_FEATURE_SELECT:
        pci->driver_feature_select = (uint32_t)value;
        break;
    case DRIVER_FEATURE:
        if (pci->driver_feature_select < 2 && !(pci->status & VIRTIO_STATUS_FEATURES_OK))
            pci->driver_features[pci->driver_feature_select] = (uint32_t)value;
        break;
    case CONFIG_MSIX_VECTOR:
        atomic_store(&pci->config_vector, valid_vector(pci, value));
        break;
    case DEVICE_STATUS:
        write_status(pci, (uint8_t)value);
        break;
    case QUEUE_SELECT:
        pci->queue_select = (uint16_t)value;
        break;
    case QUEUE_SIZE:
        if (open)
            q->setup.size = (uint16_t)value; /* checked as a whole by virtio_queue_start */
        break;
    case QUEUE_MSIX_VECTOR:
        if (q)
            atomic_store(&q->vector, valid_vector(pci, value));
        break;
    case QUEUE_ENABLE:
        if (q && value == 1)
            enable_queue(pci, q);
        break;
    default: /* read-only */
        break;
    }
}

/* -- BAR 0 ------------------------------------------------------------------------------------------
 */

static void bar_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    struct virtio_pci *pci = opaque;
    if (offset >= VIRTIO_PCI_NOTIFY) {
        memset(data, 0, len);
    } else if (offset >= VIRTIO_PCI_MSIX_PBA) {
        msix_pending_read(&pci->msix, offset - VIRTIO_PCI_MSIX_PBA, data, len);
    } else if (offset >= VIRTIO_PCI_MSIX_TABLE) {
        msix_table_read(&pci->msix, offset - VIRTIO_PCI_MSIX_TABLE, data, len);
    } else if (offset >= VIRTIO_PCI_DEVICE) {
        virtio_config_read(pci->dev, offset - VIRTIO_PCI_DEVICE, data, len);
    } else if (offset >= VIRTIO_PCI_ISR) {
        bus_put(data, len, offset == VIRTIO_PCI_ISR ? atomic_exchange(&pci->isr, 0) : 0);
    } else {
        pthread_mutex_lock(&pci->lock);
        bus_put(data, len, common_read(pci, offset, len));
        pthread_mutex_unlock(&pci->lock);
    }
}

static void bar_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct virtio_pci *pci = opaque;
    if (offset >= VIRTIO_PCI_NOTIFY) {
        ring_bell(pci, (offset - VIRTIO_PCI_NOTIFY) / VIRTIO_PCI_NOTIFY_STEP);
    } else if (offset >= VIRTIO_PCI_MSIX_PBA) {
        return;
    } else if (offset >= VIRTIO_PCI_MSIX_TABLE) {
        msix_table_write(&pci->msix, offset - VIRTIO_PCI_MSIX_TABLE, data, len);
    } else if (offset >= VIRTIO_PCI_DEVICE) {
        virtio_config_write(pci->dev, offset - VIRTIO_PCI_DEVICE, data, len);
    } else if (offset < VIRTIO_PCI_ISR) {
        pthread_mutex_lock(&pci->lock);
        common_write(pci, offset, len, bus_get(data, len));
        pthread_mutex_unlock(&pci->lock);
    }
}

const struct bus_ops virtio_pci_bar_ops = {.read = bar_read, .write = bar_write};

/* -- configuration space: with the host's lock held -------------------------------------------------
 */

static bool overlaps(unsigned offset, unsigned len, unsigned start, unsigned bytes)
{
    return offset < start + bytes && start < offset + len;
}

/* The window into the BAR for those who cannot map it (4.1.4.9): where it points. False: nowhere. */
static bool access_window(const struct virtio_pci *pci, uint32_t *offset, uint32_t *len)
{
    const uint8_t *cap = pci->fn.config + pci->cfg_access;
    *offset = pci_get32(cap + CAP_OFFSET);
    *len = pci_get32(cap + CAP_LENGTH);
    return cap[CAP_BAR] == 0 && (*len == 1 || *len == 2 || *len == 4) && is_aligned(*offset, *len) &&
           range_within(*offset, *len, VIRTIO_PCI_BAR_BYTES);
}

static void config_read(struct pci_function *fn, unsigned reg, unsigned len)
{
    struct virtio_pci *pci = container_of(fn, struct virtio_pci, fn);
    uint32_t offset, bytes;
    if (overlaps(reg, len, pci->cfg_access + CAP_DATA, 4) && access_window(pci, &offset, &bytes))
        bar_read(pci, offset, fn->config + pci->cfg_access + CAP_DATA, bytes);
}

static void config_written(struct pci_function *fn, unsigned reg, unsigned len)
{
    struct virtio_pci *pci = container_of(fn, struct virtio_pci, fn);
    uint32_t offset, bytes;
    if (overlaps(reg, len, pci->cfg_access + CAP_DATA, 4) && access_window(pci, &offset, &bytes))
        bar_write(pci, offset, fn->config + pci->cfg_access + CAP_DATA, bytes);
    if (overlaps(reg, len, pci->msix_cap + 2, 2))
        msix_control(&pci->msix, pci_get16(fn->config + pci->msix_cap + 2));
}

static const struct pci_function_ops function_ops = {
    .config_read = config_read,
    .config_written = config_written,
    .bar_moved = bar_moved,
};

/* -- set-up -----------------------------------------------------------------------------------------
 */

static unsigned add_virtio_capability(struct virtio_pci *pci, uint8_t type, uint32_t offset,
                                      uint32_t length, unsigned extra)
{
    uint8_t cap[CAP_DATA + 4] = {0};
    unsigned bytes = CAP_DATA + extra;
    cap[2] = (uint8_t)bytes;
    cap[3] = type;
    pci_put32(cap + CAP_OFFSET, offset);
    pci_put32(cap + CAP_LENGTH, length);
    if (type == CAP_NOTIFY)
        pci_put32(cap + CAP_DATA, VIRTIO_PCI_NOTIFY_STEP);
    return (unsigned)pci_add_capability(&pci->fn, CAP_VENDOR, cap + 2, bytes - 2);
}

static void add_capabilities(struct virtio_pci *pci)
{
    struct pci_function *fn = &pci->fn;
    uint32_t notify_bytes = MAX(pci->dev->queue_count, 1u) * VIRTIO_PCI_NOTIFY_STEP;
    add_virtio_capability(pci, CAP_COMMON, VIRTIO_PCI_COMMON, COMMON_BYTES, 0);
    add_virtio_capability(pci, CAP_NOTIFY, VIRTIO_PCI_NOTIFY, notify_bytes, 4);
    add_virtio_capability(pci, CAP_ISR, VIRTIO_PCI_ISR, 1, 0);
    if (pci->dev->config_bytes > 0)
        add_virtio_capability(pci, CAP_DEVICE, VIRTIO_PCI_DEVICE, (uint32_t)pci->dev->config_bytes, 0);
    pci->cfg_access = add_virtio_capability(pci, CAP_ACCESS, 0, 0, 4);
    uint8_t *writable = fn->writable + pci->cfg_access;
    writable[CAP_BAR] = 0xff;
    memset(writable + CAP_OFFSET, 0xff, 12); /* offset, length and data */

    uint8_t body[10];
    pci_put16(body, (uint16_t)(pci->msix.count - 1));
    pci_put32(body + 2, VIRTIO_PCI_MSIX_TABLE); /* in BAR 0 */
    pci_put32(body + 6, VIRTIO_PCI_MSIX_PBA);
    pci->msix_cap = (unsigned)pci_add_capability(fn, MSIX_CAP_ID, body, sizeof(body));
    pci_put16(fn->writable + pci->msix_cap + 2, MSIX_CTRL_BITS);
}

static uint32_t class_of(enum virtio_id id)
{
    switch (id) {
    case VIRTIO_ID_NET:
        return 0x020000;
    case VIRTIO_ID_BLOCK:
    case VIRTIO_ID_FS:
        return 0x018000;
    case VIRTIO_ID_CONSOLE:
        return 0x078000;
    case VIRTIO_ID_GPU:
        return 0x038000;
    case VIRTIO_ID_INPUT:
        return 0x098000;
    default:
        return 0xff0000;
    }
}

struct bells {
    struct virtio_pci *pci;
    int result;
};

/* Outside the device's loop, whose thread may be one that can open nothing more. */
static int make_bells(struct virtio_pci *pci)
{
    for (unsigned i = 0; i < pci->dev->queue_count; i++) {
        struct loop_source *bell = &pci->queues[i].bell;
        bell->events = EPOLLIN;
        bell->ready = bell_rang;
        bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (bell->fd < 0)
            return -errno;
    }
    return 0;
}

/* In the thread of the device's loop, as the next. */
static void add_bells(void *arg)
{
    struct bells *bells = arg;
    struct virtio_device *dev = bells->pci->dev;
    for (unsigned i = 0; i < dev->queue_count && bells->result == 0; i++)
        bells->result = loop_add(dev->loop, &bells->pci->queues[i].bell);
}

static void remove_bells(void *arg)
{
    struct virtio_pci *pci = arg;
    for (unsigned i = 0; i < pci->dev->queue_count; i++) {
        loop_remove(&pci->queues[i].bell);
        close_fd(&pci->queues[i].bell.fd);
    }
}

int virtio_pci_init(struct virtio_pci *pci, struct virtio_device *dev, const struct memory *mem,
                    const struct hypervisor *hv, struct dayfly_err *err)
{
    memset(pci, 0, sizeof(*pci));
    pci->dev = dev;
    pci->mem = mem;
    pci->hv = hv;
    pthread_mutex_init(&pci->lock, NULL);
    const struct pci_ids ids = {
        .vendor = VENDOR_VIRTIO,
        .device = (uint16_t)(DEVICE_BASE + dev->ops->id),
        .subsystem_vendor = VENDOR_VIRTIO,
        .subsystem = (uint16_t)(DEVICE_BASE + dev->ops->id),
        .class_code = class_of(dev->ops->id),
        .revision = 1, /* at least 1: not transitional */
    };
    pci_function_init(&pci->fn, &ids, &function_ops);
    msix_init(&pci->msix, hv, dev->queue_count + 1);
    pci_add_bar(&pci->fn, 0, VIRTIO_PCI_BAR_BYTES, true, &virtio_pci_bar_ops, pci);
    add_capabilities(pci);
    for (unsigned i = 0; i < dev->queue_count; i++)
        pci->queues[i] = (struct virtio_pci_queue){.pci = pci, .bell.fd = -1};
    forget_driver(pci);
    struct bells bells = {.pci = pci, .result = make_bells(pci)};
    if (bells.result == 0)
        loop_call(dev->loop, add_bells, &bells);
    if (bells.result < 0) {
        virtio_pci_finish(pci);
        return err_errno(err, -bells.result, "%s: doorbells", dev->ops->name);
    }
    virtio_carry(dev, &carrier, pci);
    return 0;
}

bool virtio_pci_show_shared(struct virtio_pci *pci)
{
    const struct virtio_shared_memory *shared = &pci->dev->shared;
    if (!pci->hv->ops->show_memory)
        return false;
    /* struct virtio_pci_cap64: the upper halves of offset and length follow. */
    uint8_t cap[CAP_DATA + 8] = {
        [2] = CAP_DATA + 8, [3] = CAP_SHARED, [CAP_BAR] = VIRTIO_PCI_SHARED_BAR, [CAP_ID] = shared->id};
    pci_put32(cap + CAP_LENGTH, (uint32_t)shared->bytes);
    pci_put32(cap + CAP_DATA + 4, (uint32_t)(shared->bytes >> 32));
    if (pci_add_capability(&pci->fn, CAP_VENDOR, cap + 2, sizeof(cap) - 2) < 0)
        return false;
    pci_add_memory_bar(&pci->fn, VIRTIO_PCI_SHARED_BAR, shared->bytes);
    virtio_show_shared(pci->dev, true);
    return true;
}

void virtio_pci_finish(struct virtio_pci *pci)
{
    if (!pci->dev)
        return;
    virtio_reset(pci->dev);
    virtio_carry(pci->dev, NULL, NULL);
    virtio_show_shared(pci->dev, false);
    loop_call(pci->dev->loop, remove_bells, pci);
    msix_finish(&pci->msix);
    pthread_mutex_destroy(&pci->lock);
    pci->dev = NULL;
}
