/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_POWER_H
#define AGENT_POWER_H

#include <stdbool.h>

/* A descriptor that becomes readable when the machine's power button is pressed (the kernel's
 * "acpi_event" generic netlink group); -errno where the kernel has none. */
int power_open(void);

/* Take what is there to read: whether a press was among it. */
bool power_pressed(int fd);

#endif
