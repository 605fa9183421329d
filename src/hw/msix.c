/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/msix.h"

#include <string.h>

#include "machine/bus.h"
#include "util/arith.h"

#define VECTOR_MASKED 1u

void msix_init(struct msix *msix, const struct hypervisor *hv, unsigned count)
{
    memset(msix, 0, sizeof(*msix));
    pthread_mutex_init(&msix->lock, NULL);
    msix->hv = hv;
    msix->count = MIN(count, (unsigned)MSIX_VECTORS_MAX);
    for (unsigned i = 0; i < msix->count; i++)
        msix->vector[i].control = VECTOR_MASKED;
}

void msix_finish(struct msix *msix)
{
    pthread_mutex_destroy(&msix->lock);
}

/* With the lock held: send what is pending and no longer masked. */
static void deliver(struct msix *msix)
{
    if (!msix->enabled || msix->mask_all)
        return;
    for (unsigned word = 0; word < ARRAY_SIZE(msix->pending); word++) {
        for (uint64_t left = msix->pending[word]; left; left &= left - 1) {
            unsigned i = word * 64 + (unsigned)__builtin_ctzll(left);
            if (msix->vector[i].control & VECTOR_MASKED)
                continue;
            msix->pending[word] &= ~(UINT64_C(1) << (i % 64));
            hypervisor_signal_msi(msix->hv, msix->vector[i].address, msix->vector[i].data);
        }
    }
}

void msix_control(struct msix *msix, uint16_t control)
{
    pthread_mutex_lock(&msix->lock);
    msix->enabled = control & MSIX_CTRL_ENABLE;
    msix->mask_all = control & MSIX_CTRL_MASKALL;
    deliver(msix);
    pthread_mutex_unlock(&msix->lock);
}

bool msix_enabled(struct msix *msix)
{
    pthread_mutex_lock(&msix->lock);
    bool enabled = msix->enabled;
    pthread_mutex_unlock(&msix->lock);
    return enabled;
}

static bool wide_enough(uint64_t offset, unsigned len)
{
    return (len == 4 || len == 8) && is_aligned(offset, len);
}

static uint32_t table_word(const struct msix *msix, uint64_t offset)
{
    uint64_t i = offset / MSIX_ENTRY_BYTES;
    if (i >= msix->count)
        return UINT32_MAX;
    switch (offset % MSIX_ENTRY_BYTES) {
    case 0:
        return (uint32_t)msix->vector[i].address;
    case 4:
        return (uint32_t)(msix->vector[i].address >> 32);
    case 8:
        return msix->vector[i].data;
    default:
        return msix->vector[i].control;
    }
}

static void set_table_word(struct msix *msix, uint64_t offset, uint32_t value)
{
    uint64_t i = offset / MSIX_ENTRY_BYTES;
    if (i >= msix->count)
        return;
    switch (offset % MSIX_ENTRY_BYTES) {
    case 0: /* the two lowest bits are reserved */
        msix->vector[i].address = (msix->vector[i].address & ~UINT64_C(0xffffffff)) | (value & ~3u);
        break;
    case 4:
        msix->vector[i].address = (uint32_t)msix->vector[i].address | (uint64_t)value << 32;
        break;
    case 8:
        msix->vector[i].data = value;
        break;
    default:
        msix->vector[i].control = value & VECTOR_MASKED;
        break;
    }
}

void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned len)
{
    if (!wide_enough(offset, len)) {
        memset(data, 0xff, len);
        return;
    }
    pthread_mutex_lock(&msix->lock);
    uint64_t value = table_word(msix, offset);
    if (len == 8)
        value |= (uint64_t)table_word(msix, offset + 4) << 32;
    pthread_mutex_unlock(&msix->lock);
    bus_put(data, len, value);
}

void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned len)
{
    if (!wide_enough(offset, len))
        return;
    uint64_t value = bus_get(data, len);
    pthread_mutex_lock(&msix->lock);
    set_table_word(msix, offset, (uint32_t)value);
    if (len == 8)
        set_table_word(msix, offset + 4, (uint32_t)(value >> 32));
    deliver(msix);
    pthread_mutex_unlock(&msix->lock);
}

void msix_pending_read(struct msix *msix, uint64_t offset, void *data, unsigned len)
{
    uint64_t value = UINT64_MAX;
    if (wide_enough(offset, len)) {
        pthread_mutex_lock(&msix->lock);
        uint64_t word = offset / 8;
        value = word < ARRAY_SIZE(msix->pending) ? msix->pending[word] >> (offset % 8 * 8) : 0;
        pthread_mutex_unlock(&msix->lock);
    }
    bus_put(data, len, value);
}

void msix_signal(struct msix *msix, unsigned vector)
{
    pthread_mutex_lock(&msix->lock);
    if (vector < msix->count && msix->enabled) {
        if (msix->mask_all || (msix->vector[vector].control & VECTOR_MASKED))
            msix->pending[vector / 64] |= UINT64_C(1) << (vector % 64);
        else
            hypervisor_signal_msi(msix->hv, msix->vector[vector].address, msix->vector[vector].data);
    }
    pthread_mutex_unlock(&msix->lock);
}
