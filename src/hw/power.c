/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/power.h"

#include <string.h>

#include "arch/x86_64/layout.h"

enum {
    SLEEP_CONTROL = 0,
    RESET = X86_PORT_RESET - X86_PORT_SLEEP_CONTROL,
};

static void power_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    memset(data, 0, len); /* the status never says "woken": a machine that sleeps is gone */
}

static void power_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    const struct power *power = opaque;
    uint8_t value = *(const uint8_t *)data; /* the registers are a byte wide each */
    if (offset == SLEEP_CONTROL && (value & ~0x03u) == X86_SLEEP_OFF)
        power->off(power->opaque);
    else if (offset == RESET && value == X86_RESET_VALUE)
        power->reset(power->opaque);
}

const struct bus_ops power_bus_ops = {.read = power_read, .write = power_write};
