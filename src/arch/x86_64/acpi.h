/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_ACPI_H
#define ARCH_X86_64_ACPI_H

/*
 * The machine's ACPI tables: hardware-reduced ACPI 6, as little as a Linux guest needs to find its
 * processors (MADT), its PCI bus (MCFG, \_SB.PCI0), the serial port, the power button, and the
 * registers that power it off and reset it. Ports and GSIs are those of layout.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/x86_64/layout.h"
#include "dayfly/error.h"

struct acpi_config {
    unsigned cpus; /* APIC ids 0 .. cpus - 1; 1 .. X86_MAX_CPUS */
    const struct x86_memory_map *map;
    bool serial; /* COM1 is there */
};

/*
 * Build all tables into buf, which the guest sees at gpa (16-byte aligned, below 4 GiB). The RSDP
 * stands at gpa itself. buf may be guest memory of a machine that does not run yet: it is written,
 * and checksums are taken from it, in this call. *used (may be NULL) tells how much was written.
 * Returns 0, -EINVAL for a config out of range, or -ENOSPC when `cap` is too small; X86_ACPI_BYTES is
 * enough for X86_MAX_CPUS.
 */
int acpi_build(const struct acpi_config *config, uint64_t gpa, void *buf, size_t cap, size_t *used,
               struct dayfly_err *err);

#endif
