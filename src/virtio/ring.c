/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of split virtqueues (virtio 1.2, section 2.7).
 *
 * A ring is three tables in guest memory, all little-endian:
 *
 *     descriptors   size × { le64 addr; le32 len; le16 flags; le16 next }
 *     available     le16 flags; le16 idx; le16 ring[size]; le16 used_event
 *     used          le16 flags; le16 idx; { le32 id; le32 len } ring[size]; le16 avail_event
 *
 * The driver writes the first two, the device the third. Indexes count for ever and wrap at 65536; an
 * entry's place is its index modulo size.
 *
 * Invariants
 *   - The three tables were checked to lie wholly in RAM when the ring started, each within one region,
 *     and their place cannot change while it runs.
 *   - Whatever is read from guest memory is read once into a local and checked there.
 *   - in_flight + (avail_seen - next_avail) <= size: the driver cannot have more chains outstanding
 *     than the ring has entries, so a device's request pool of that size suffices.
 *   - A pop walks at most RING_SIZE_MAX descriptors, whatever the driver wrote.
 *
 * Limits: no packed rings; no access platform (IOMMU): addresses are guest-physical.
 */
#include "virtio/ring.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "util/arith.h"

#define DESC_F_NEXT     1u
#define DESC_F_WRITE    2u
#define DESC_F_INDIRECT 4u

#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY     1u

#define DESC_BYTES      16u
#define USED_ELEM_BYTES 8u

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

static_assert(sizeof(struct descriptor) == DESC_BYTES, "as in the specification");

/* -- shared words ------------------------------------------------------------------------------------
 */

static uint16_t load16(const void *base, size_t offset, int order)
{
    const uint16_t *p = (const void *)((const uint8_t *)base + offset);
    return le16toh(order == __ATOMIC_ACQUIRE ? __atomic_load_n(p, __ATOMIC_ACQUIRE)
                                             : __atomic_load_n(p, __ATOMIC_RELAXED));
}

static void store16(void *base, size_t offset, uint16_t v, int order)
{
    uint16_t *p = (void *)((uint8_t *)base + offset);
    if (order == __ATOMIC_RELEASE)
        __atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
    else
        __atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

static void store32(void *base, size_t offset, uint32_t v)
{
    uint32_t *p = (void *)((uint8_t *)base + offset);
    __atomic_store_n(p, htole32(v), __ATOMIC_RELAXED);
}

/*
 * A full barrier between what we wrote and what we read next. Both sides of a ring "publish, then look
 * whether the other wants to be told"; without it store and load could pass each other on both sides
 * and each would go to sleep on the other.
 */
static void full_barrier(void)
{
#if defined(__SANITIZE_THREAD__)
    /* TSan does not model fences; a read-modify-write on a word of our own orders just as well. */
    int word = 0;
    __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* avail: flags, idx, ring[size], used_event */
#define AVAIL_FLAGS 0
#define AVAIL_IDX   2
static size_t avail_entry(const struct ring *ring, uint16_t index)
{
    return 4 + 2 * (size_t)(index & (ring->setup.size - 1));
}
static size_t avail_used_event(const struct ring *ring)
{
    return 4 + 2 * (size_t)ring->setup.size;
}

/* used: flags, idx, ring[size], avail_event */
#define USED_FLAGS 0
#define USED_IDX   2
static size_t used_entry(const struct ring *ring, uint16_t index)
{
    return 4 + USED_ELEM_BYTES * (size_t)(index & (ring->setup.size - 1));
}
static size_t used_avail_event(const struct ring *ring)
{
    return 4 + USED_ELEM_BYTES * (size_t)ring->setup.size;
}

/* -- start and stop ----------------------------------------------------------------------------------
 */

static void *table(const struct memory *mem, uint64_t gpa, uint64_t align, uint64_t len)
{
    void *hva = is_aligned(gpa, align) ? memory_span(mem, gpa, len) : NULL;
    /* A region that a peer placed askew in its file would make our loads unaligned, hence not atomic.
     */
    return is_aligned((uintptr_t)hva, align) ? hva : NULL;
}

int ring_start(struct ring *ring, const struct memory *mem, const struct ring_setup *setup,
               uint64_t features)
{
    uint64_t size = setup->size;
    if (size == 0 || size > RING_SIZE_MAX || (size & (size - 1)) != 0)
        return -EINVAL;

    /* The event words are part of the tables only when they are used (2.7.6, 2.7.8). */
    bool event_idx = (features & VIRTIO_RING_F_EVENT_IDX) != 0;
    uint64_t event_bytes = event_idx ? 2 : 0;
    const void *desc = table(mem, setup->desc_gpa, 16, DESC_BYTES * size);
    const void *avail = table(mem, setup->avail_gpa, 2, 4 + 2 * size + event_bytes);
    void *used = table(mem, setup->used_gpa, 4, 4 + USED_ELEM_BYTES * size + event_bytes);
    if (!desc || !avail || !used)
        return -EINVAL;

    *ring = (struct ring){
        .mem = mem,
        .setup = *setup,
        .next_avail = setup->next_avail,
        .avail_seen = setup->next_avail,
        .indirect = (features & VIRTIO_RING_F_INDIRECT_DESC) != 0,
        .event_idx = event_idx,
        .desc = desc,
        .avail = avail,
        .used = used,
    };
    /* A fresh driver has zeroed it; one that resumes (vhost-user) goes on from there. Any value is
     * safe for us: it only counts. */
    ring->next_used = load16(used, USED_IDX, __ATOMIC_RELAXED);
    ring->signalled = ring->next_used;
    store16(used, USED_FLAGS, 0, __ATOMIC_RELAXED);
    return 0;
}

uint16_t ring_stop(struct ring *ring)
{
    uint16_t next = ring->next_avail;
    *ring = (struct ring){.next_avail = next};
    return next;
}

bool ring_running(const struct ring *ring)
{
    return ring->mem && !ring->broken;
}

/* -- taking chains -----------------------------------------------------------------------------------
 */

static int break_ring(struct ring *ring, const char *fault)
{
    ring->broken = true;
    ring->fault = fault;
    return -EPROTO;
}

/* Something to take? 1, 0 or -EPROTO. */
static int available(struct ring *ring)
{
    if (ring->next_avail != ring->avail_seen)
        return 1;
    /* Acquire: the entry and the descriptors it leads to are read after the index that announced them;
     * pairs with the barrier the driver has before it writes idx (2.7.13.3). */
    uint16_t idx = load16(ring->avail, AVAIL_IDX, __ATOMIC_ACQUIRE);
    uint16_t ahead = (uint16_t)(idx - ring->next_avail);
    if (ahead > ring->setup.size || ahead + ring->in_flight > ring->setup.size)
        return break_ring(ring, "available index runs ahead of the ring");
    ring->avail_seen = idx;
    return ahead != 0;
}

/* Where the descriptors of a chain are read from: the ring's table or an indirect one. */
struct desc_table {
    const uint8_t *hva; /* NULL: it crosses memory regions, read it by address */
    uint64_t gpa;
    uint32_t count;
};

static int read_descriptor(const struct ring *ring, const struct desc_table *from, uint32_t index,
                           struct descriptor *out)
{
    size_t offset = (size_t)index * DESC_BYTES;
    if (from->hva)
        memcpy(out, from->hva + offset, sizeof(*out));
    else if (memory_read(ring->mem, from->gpa + offset, out, sizeof(*out)) < 0)
        return -EFAULT;
    /* The copy is what counts: the compiler must not go back to guest memory for a second look. */
    __asm__ volatile("" : : : "memory");
    out->addr = le64toh(out->addr);
    out->len = le32toh(out->len);
    out->flags = le16toh(out->flags);
    out->next = le16toh(out->next);
    return 0;
}

/* Append one descriptor's bytes to the chain. NULL or what is wrong with it. */
static const char *append(const struct ring *ring, struct ring_chain *chain, unsigned max,
                          const struct descriptor *d)
{
    bool writable = (d->flags & DESC_F_WRITE) != 0;
    if (!writable && chain->writable > 0)
        return "readable buffer after a writable one";
    uint64_t addr = d->addr, left = d->len, end;
    if (add_overflows(addr, left, &end))
        return "buffer wraps around the address space";
    if (chain->readable_bytes + chain->writable_bytes + left > UINT32_MAX)
        return "chain of 4 GiB or more";
    while (left > 0) {
        uint8_t *hva;
        uint64_t piece = MIN(memory_contiguous(ring->mem, addr, &hva), left);
        if (piece == 0)
            return "buffer outside RAM";
        unsigned at = chain->readable + chain->writable;
        if (at == max)
            return "chain with too many segments";
        chain->iov[at] = (struct iovec){.iov_base = hva, .iov_len = piece};
        if (writable)
            chain->writable++;
        else
            chain->readable++;
        addr += piece;
        left -= piece;
    }
    if (writable)
        chain->writable_bytes += d->len;
    else
        chain->readable_bytes += d->len;
    return NULL;
}

/* Enter the indirect table that `d` names. NULL or what is wrong with it. */
static const char *enter_indirect(const struct ring *ring, const struct descriptor *d,
                                  struct desc_table *from)
{
    uint64_t end;
    if (!ring->indirect)
        return "indirect descriptor, which was not negotiated";
    if (d->flags & DESC_F_NEXT)
        return "indirect descriptor with a next one";
    if (d->len == 0 || d->len % DESC_BYTES != 0)
        return "indirect table of a length that is no multiple of 16";
    if (add_overflows(d->addr, d->len, &end))
        return "indirect table wraps around the address space";
    from->hva = memory_span(ring->mem, d->addr, d->len);
    from->gpa = d->addr;
    from->count = d->len / DESC_BYTES;
    return NULL;
}

/* Walk the chain that begins at chain->head. NULL or what is wrong with it. */
static const char *walk(const struct ring *ring, struct ring_chain *chain, unsigned max)
{
    struct desc_table from = {
        .hva = ring->desc, .gpa = ring->setup.desc_gpa, .count = ring->setup.size};
    bool indirect = false;
    uint32_t index = chain->head, walked = 0, steps_left = from.count;

    for (;;) {
        struct descriptor d;
        const char *fault;
        if (index >= from.count)
            return "descriptor index beyond its table";
        /* A chain without a loop visits each entry of its table at most once. */
        if (steps_left-- == 0 || walked++ == RING_SIZE_MAX)
            return "chain longer than its table (a loop?)";
        if (read_descriptor(ring, &from, index, &d) < 0)
            return "indirect table outside RAM";

        if (d.flags & DESC_F_INDIRECT) {
            if (indirect)
                return "indirect table within an indirect one";
            fault = enter_indirect(ring, &d, &from);
            if (fault)
                return fault;
            indirect = true;
            index = 0;
            steps_left = from.count;
            continue;
        }
        fault = append(ring, chain, max, &d);
        if (fault)
            return fault;
        if (!(d.flags & DESC_F_NEXT))
            return NULL;
        index = d.next;
    }
}

int ring_pop(struct ring *ring, struct ring_chain *chain, struct iovec *iov, unsigned max)
{
    if (!ring->mem)
        return 0;
    if (ring->broken)
        return -EPROTO;
    int rc = available(ring);
    if (rc <= 0)
        return rc;

    *chain = (struct ring_chain){.iov = iov};
    chain->head = load16(ring->avail, avail_entry(ring, ring->next_avail), __ATOMIC_RELAXED);
    const char *fault = walk(ring, chain, max);
    if (fault)
        return break_ring(ring, fault);
    ring->next_avail++;
    ring->in_flight++;
    return 1;
}

void ring_unpop(struct ring *ring)
{
    if (!ring->mem || ring->in_flight == 0)
        return;
    ring->next_avail--;
    ring->in_flight--;
}

/* -- giving them back --------------------------------------------------------------------------------
 */

void ring_push(struct ring *ring, uint16_t head, uint32_t written)
{
    if (!ring->mem || ring->in_flight == 0)
        return;
    size_t entry = used_entry(ring, ring->next_used);
    store32(ring->used, entry, head);
    store32(ring->used, entry + 4, written);
    ring->next_used++;
    ring->in_flight--;
    /* Release: the data in the buffers and the entry are visible before the index that announces them
     * (2.7.8.2). */
    store16(ring->used, USED_IDX, ring->next_used, __ATOMIC_RELEASE);
}

bool ring_should_interrupt(struct ring *ring)
{
    if (!ring->mem || ring->signalled == ring->next_used)
        return false;
    full_barrier();
    if (!ring->event_idx) {
        ring->signalled = ring->next_used;
        return !(load16(ring->avail, AVAIL_FLAGS, __ATOMIC_RELAXED) & AVAIL_F_NO_INTERRUPT);
    }
    uint16_t event = load16(ring->avail, avail_used_event(ring), __ATOMIC_RELAXED);
    uint16_t since = (uint16_t)(ring->next_used - ring->signalled);
    bool wanted = (uint16_t)(ring->next_used - event - 1) < since;
    /* Of a driver that was running before we started nothing is known: rather once too often. */
    if (!ring->signalled_valid)
        wanted = true;
    ring->signalled = ring->next_used;
    ring->signalled_valid = true;
    return wanted;
}

/* -- kicks -------------------------------------------------------------------------------------------
 */

void ring_kicks_off(struct ring *ring)
{
    /* With event idx there is nothing to do: an avail_event that stays behind asks for no kick. */
    if (ring_running(ring) && !ring->event_idx)
        store16(ring->used, USED_FLAGS, USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

bool ring_kicks_on(struct ring *ring)
{
    if (!ring_running(ring))
        return false;
    if (ring->event_idx)
        store16(ring->used, used_avail_event(ring), ring->next_avail, __ATOMIC_RELAXED);
    else
        store16(ring->used, USED_FLAGS, 0, __ATOMIC_RELAXED);
    full_barrier();
    return load16(ring->avail, AVAIL_IDX, __ATOMIC_RELAXED) != ring->next_avail;
}
