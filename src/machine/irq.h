/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_IRQ_H
#define MACHINE_IRQ_H

/*
 * An interrupt line: an edge on a pin of the I/O APIC for each irq_line_raise. The eventfd behind it is
 * tied to the pin inside the kernel (irqfd), so that raising costs one write and needs no knowledge of
 * KVM.
 *
 * Message-signalled interrupts have no object of their own: hw/msix.h holds address and data and hands
 * them to hypervisor_signal_msi. That keeps the kernel's routing table as it is for the life of the
 * machine; with an irqfd for each vector it would have to be replaced, at the price of a grace period
 * each time, whenever a driver unmasks one.
 */

#include <stdint.h>

#include "dayfly/error.h"
#include "machine/hypervisor.h"

struct irq_line {
    const struct hypervisor *hv;
    uint32_t gsi;
    int fd;
};

int irq_line_init(struct irq_line *line, const struct hypervisor *hv, uint32_t gsi,
                  struct dayfly_err *err);
void irq_line_finish(struct irq_line *line); /* safe on {.fd = -1}, and twice */

/* Any thread; never blocks. */
void irq_line_raise(const struct irq_line *line);

#endif
