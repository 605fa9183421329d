/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HW_POWER_H
#define HW_POWER_H

/*
 * The registers of hardware-reduced ACPI that end a machine (ACPI 6.4, 4.8.3.6 and 4.8.3.7): sleep
 * control, sleep status, reset. Three ports; the tables in arch/x86_64/acpi.c point at them. The power
 * button needs no register, only its interrupt line.
 *
 * Threads: any vCPU thread; there is no state.
 */

#include "machine/bus.h"

struct power {
    void (*off)(void *opaque);   /* the guest wants S5; on the vCPU's thread, must not wait */
    void (*reset)(void *opaque); /* the guest wants to start anew */
    void *opaque;
};

/* For bus_add of X86_PORT_POWER_LEN ports; opaque is the struct power. */
extern const struct bus_ops power_bus_ops;

#endif
