/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of split virtqueues, for tests. See driver.h; virtio 1.2, sections 2.7.13, 2.7.14.
 */
#include "virtio/driver.h"

#include <assert.h>
#include <string.h>

void *driver_hva(const struct driver_arena *arena, uint64_t gpa, uint64_t len)
{
    void *hva = memory_span(arena->mem, gpa, len);
    assert(hva);
    return hva;
}

uint64_t driver_alloc(struct driver_arena *arena, uint64_t bytes, uint64_t align)
{
    uint64_t gpa = (arena->next_gpa + align - 1) / align * align;
    assert(gpa + bytes <= arena->end_gpa);
    arena->next_gpa = gpa + bytes;
    memset(driver_hva(arena, gpa, bytes), 0, bytes);
    return gpa;
}

/* The words that device and driver share; x86 is little-endian, and so is everything here. */
static uint16_t *word(const struct driver_ring *r, uint64_t gpa)
{
    return driver_hva(r->arena, gpa, 2);
}

static uint16_t get(const struct driver_ring *r, uint64_t gpa)
{
    return __atomic_load_n(word(r, gpa), __ATOMIC_ACQUIRE);
}

static void put(struct driver_ring *r, uint64_t gpa, uint16_t v)
{
    __atomic_store_n(word(r, gpa), v, __ATOMIC_SEQ_CST);
}

static uint64_t used_event_gpa(const struct driver_ring *r)
{
    return r->setup.avail_gpa + 4 + 2u * r->setup.size;
}

static uint64_t avail_event_gpa(const struct driver_ring *r)
{
    return r->setup.used_gpa + 4 + 8u * r->setup.size;
}

static struct driver_desc *desc_at(const struct driver_ring *r, uint16_t index)
{
    return driver_hva(r->arena, r->setup.desc_gpa + 16u * (uint64_t)index, 16);
}

void driver_ring_init(struct driver_ring *r, struct driver_arena *arena, uint16_t size,
                      uint64_t features)
{
    memset(r, 0, sizeof(*r));
    r->arena = arena;
    r->features = features;
    r->setup.size = size;
    r->setup.desc_gpa = driver_alloc(arena, 16u * (uint64_t)size, 16);
    r->setup.avail_gpa = driver_alloc(arena, 6 + 2u * (uint64_t)size, 2);
    r->setup.used_gpa = driver_alloc(arena, 6 + 8u * (uint64_t)size, 4);
    r->free_count = size;
    for (uint16_t i = 0; i < size; i++)
        desc_at(r, i)->next = (uint16_t)(i + 1);
}

static void queue_head(struct driver_ring *r, uint16_t head)
{
    driver_avail_write(r, r->avail_idx, head);
    r->avail_idx++;
}

int driver_add(struct driver_ring *r, const struct driver_buf *bufs, unsigned count)
{
    if (count == 0 || count > r->free_count)
        return -1;
    uint16_t head = r->free_head, index = head;
    for (unsigned i = 0; i < count; i++) {
        struct driver_desc *d = desc_at(r, index);
        d->addr = bufs[i].gpa;
        d->len = bufs[i].len;
        d->flags = (uint16_t)((bufs[i].write ? DRIVER_DESC_WRITE : 0) |
                              (i + 1 < count ? DRIVER_DESC_NEXT : 0));
        index = d->next;
    }
    r->free_head = index;
    r->free_count = (uint16_t)(r->free_count - count);
    r->lengths[head] = (uint16_t)count;
    queue_head(r, head);
    return head;
}

int driver_add_indirect(struct driver_ring *r, const struct driver_buf *bufs, unsigned count)
{
    if (count == 0 || r->free_count == 0)
        return -1;
    uint64_t table = driver_alloc(r->arena, 16u * (uint64_t)count, 16);
    struct driver_desc *entries = driver_hva(r->arena, table, 16u * (uint64_t)count);
    for (unsigned i = 0; i < count; i++)
        entries[i] = (struct driver_desc){
            .addr = bufs[i].gpa,
            .len = bufs[i].len,
            .flags = (uint16_t)((bufs[i].write ? DRIVER_DESC_WRITE : 0) |
                                (i + 1 < count ? DRIVER_DESC_NEXT : 0)),
            .next = (uint16_t)(i + 1),
        };
    uint16_t head = r->free_head;
    struct driver_desc *d = desc_at(r, head);
    r->free_head = d->next;
    r->free_count--;
    d->addr = table;
    d->len = 16u * count;
    d->flags = DRIVER_DESC_INDIRECT;
    r->lengths[head] = 1;
    queue_head(r, head);
    return head;
}

bool driver_publish(struct driver_ring *r)
{
    uint16_t before = r->published;
    r->published = r->avail_idx;
    driver_avail_idx_write(r, r->avail_idx);
    if (r->features & VIRTIO_RING_F_EVENT_IDX) {
        uint16_t event = driver_avail_event(r);
        /* The device wants to know when the index passes `event`. */
        return (uint16_t)(r->avail_idx - event - 1) < (uint16_t)(r->avail_idx - before);
    }
    return !(driver_used_flags(r) & 1u);
}

bool driver_used(struct driver_ring *r, uint16_t *head, uint32_t *written)
{
    if (driver_used_idx(r) == r->last_used)
        return false;
    uint64_t entry = r->setup.used_gpa + 4 + 8u * (uint64_t)(r->last_used % r->setup.size);
    uint32_t elem[2];
    memcpy(elem, driver_hva(r->arena, entry, 8), 8);
    r->last_used++;
    *head = (uint16_t)elem[0];
    *written = elem[1];
    assert(elem[0] < r->setup.size && r->lengths[*head] > 0);

    uint16_t tail = *head;
    for (uint16_t i = 1; i < r->lengths[*head]; i++)
        tail = desc_at(r, tail)->next;
    desc_at(r, tail)->next = r->free_head;
    r->free_head = *head;
    r->free_count = (uint16_t)(r->free_count + r->lengths[*head]);
    r->lengths[*head] = 0;
    return true;
}

void driver_interrupts(struct driver_ring *r, bool on)
{
    if (r->features & VIRTIO_RING_F_EVENT_IDX)
        driver_used_event(r, on ? r->last_used : (uint16_t)(r->last_used - 1));
    else
        driver_avail_flags_write(r, on ? 0 : 1);
}

void driver_used_event(struct driver_ring *r, uint16_t event)
{
    put(r, used_event_gpa(r), event);
}

void driver_desc_write(struct driver_ring *r, uint16_t index, struct driver_desc d)
{
    *desc_at(r, index) = d;
}

void driver_avail_write(struct driver_ring *r, uint16_t index, uint16_t head)
{
    put(r, r->setup.avail_gpa + 4 + 2u * (uint64_t)(index % r->setup.size), head);
}

void driver_avail_idx_write(struct driver_ring *r, uint16_t idx)
{
    put(r, r->setup.avail_gpa + 2, idx);
}

void driver_avail_flags_write(struct driver_ring *r, uint16_t flags)
{
    put(r, r->setup.avail_gpa, flags);
}

uint16_t driver_used_idx(const struct driver_ring *r)
{
    return get(r, r->setup.used_gpa + 2);
}

uint16_t driver_used_flags(const struct driver_ring *r)
{
    return get(r, r->setup.used_gpa);
}

uint16_t driver_avail_event(const struct driver_ring *r)
{
    return get(r, avail_event_gpa(r));
}
