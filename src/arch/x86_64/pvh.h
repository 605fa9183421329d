/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_PVH_H
#define ARCH_X86_64_PVH_H

/* Writes what a kernel finds at its PVH entry: start info, memory map, command line, initrd. */

#include <stdint.h>

#include "arch/x86_64/kernel_load.h"
#include "arch/x86_64/layout.h"
#include "dayfly/error.h"

struct pvh_config {
    const struct x86_memory_map *map;
    const char *cmdline;   /* NULL is "" */
    uint64_t initrd_gpa;   /* from pvh_initrd_gpa() */
    uint64_t initrd_bytes; /* 0: no initrd */
    uint64_t rsdp_gpa;     /* X86_ACPI; 0: no ACPI */
};

/*
 * Where an initrd of `bytes` (> 0) goes: the highest page-aligned address at which it fits below the
 * gap, above the kernel. The caller copies it there. Returns 0, or -ENOMEM with a message that names
 * the sizes.
 */
int pvh_initrd_gpa(const struct x86_memory_map *map, const struct kernel_info *kernel, uint64_t bytes,
                   uint64_t *gpa, struct dayfly_err *err);

/*
 * Write hvm_start_info at X86_START_INFO, the command line at X86_CMDLINE, and the code at
 * X86_RESET_VECTOR. %ebx of the boot vCPU
 * is then X86_START_INFO. Returns 0, -E2BIG for a command line over X86_CMDLINE_BYTES - 1 bytes, or
 * -ENOMEM when the target has no memory there.
 */
int pvh_write(const struct kernel_target *target, const struct pvh_config *config,
              struct dayfly_err *err);

#endif
