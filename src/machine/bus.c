/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See bus.h. A sorted table, searched by halves: with the forty ranges of a large machine that is five
 * comparisons. The entry is copied out under the read lock and the lock is dropped before the handler
 * runs, so that a handler may change the table; an object is never freed while a processor runs, which
 * makes the copy safe to use.
 */
#include "machine/bus.h"

#include <errno.h>
#include <string.h>

void bus_init(struct bus *bus)
{
    memset(bus, 0, sizeof(*bus));
    pthread_rwlock_init(&bus->lock, NULL);
}

void bus_finish(struct bus *bus)
{
    pthread_rwlock_destroy(&bus->lock);
}

/* Index of the first range whose end lies above addr; count if there is none. */
static unsigned search(const struct bus *bus, uint64_t addr)
{
    unsigned low = 0, high = bus->count;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        if (bus->ranges[mid].base + (bus->ranges[mid].size - 1) < addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops, void *opaque)
{
    if (size == 0 || base + (size - 1) < base)
        return -EINVAL;
    int rc = 0;
    pthread_rwlock_wrlock(&bus->lock);
    unsigned at = search(bus, base);
    if (at < bus->count && bus->ranges[at].base <= base + (size - 1)) {
        rc = -EEXIST;
    } else if (bus->count == BUS_RANGES_MAX) {
        rc = -ENOSPC;
    } else {
        memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(bus->ranges[0]));
        bus->ranges[at] = (struct bus_range){.base = base, .size = size, .ops = ops, .opaque = opaque};
        bus->count++;
    }
    pthread_rwlock_unlock(&bus->lock);
    return rc;
}

int bus_remove(struct bus *bus, uint64_t base)
{
    int rc = -ENOENT;
    pthread_rwlock_wrlock(&bus->lock);
    unsigned at = search(bus, base);
    if (at < bus->count && bus->ranges[at].base == base) {
        bus->count--;
        memmove(&bus->ranges[at], &bus->ranges[at + 1], (bus->count - at) * sizeof(bus->ranges[0]));
        rc = 0;
    }
    pthread_rwlock_unlock(&bus->lock);
    return rc;
}

static bool find(struct bus *bus, uint64_t addr, unsigned len, struct bus_range *out)
{
    pthread_rwlock_rdlock(&bus->lock);
    unsigned at = search(bus, addr);
    bool found = false;
    if (at < bus->count) {
        const struct bus_range *r = &bus->ranges[at];
        found = r->base <= addr && addr - r->base <= r->size - 1 && len <= r->size - (addr - r->base);
        if (found)
            *out = *r;
    }
    pthread_rwlock_unlock(&bus->lock);
    if (!found)
        atomic_fetch_add_explicit(&bus->unclaimed, 1, memory_order_relaxed);
    return found;
}

bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len)
{
    struct bus_range r;
    memset(data, 0xff, len);
    if (!find(bus, addr, len, &r))
        return false;
    if (r.ops->read)
        r.ops->read(r.opaque, addr - r.base, data, len);
    return true;
}

bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len)
{
    struct bus_range r;
    if (!find(bus, addr, len, &r))
        return false;
    if (r.ops->write)
        r.ops->write(r.opaque, addr - r.base, data, len);
    return true;
}

uint64_t bus_get(const void *data, unsigned len)
{
    uint64_t value = 0;
    memcpy(&value, data, len <= sizeof(value) ? len : sizeof(value));
    return value;
}

void bus_put(void *data, unsigned len, uint64_t value)
{
    memcpy(data, &value, len <= sizeof(value) ? len : sizeof(value));
}
