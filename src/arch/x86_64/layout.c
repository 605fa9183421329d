/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/layout.h"

#include "util/arith.h"

_Static_assert(X86_ECAM + X86_ECAM_BYTES <= X86_MMIO32, "ECAM runs into the PCI window");
_Static_assert(X86_MMIO32 + X86_MMIO32_BYTES <= X86_IOAPIC, "PCI window runs into the I/O APIC");
_Static_assert(X86_KVM_TSS + 3 * X86_PAGE_BYTES == X86_KVM_IDENTITY_MAP + X86_KVM_PAGES_BYTES,
               "KVM's pages are not together");
_Static_assert(X86_START_INFO + X86_START_INFO_BYTES <= X86_CMDLINE, "boot data overlaps");
_Static_assert(X86_ACPI + X86_ACPI_BYTES <= X86_RESET_PAGE, "ACPI tables reach the reset vector");
_Static_assert(X86_RESET_PAGE + X86_PAGE_BYTES == X86_HIGH_START, "the reset page ends the first MiB");

struct x86_memory_map x86_memory_map(uint64_t ram_bytes)
{
    struct x86_memory_map map = {.low_bytes = MIN(ram_bytes, X86_GAP_START)};
    map.high_bytes = ram_bytes - map.low_bytes;
    map.mmio64 = align_up(X86_GAP_END + map.high_bytes, X86_MMIO64_ALIGN);
    map.mmio64_bytes = X86_MMIO64_BYTES;
    return map;
}

void x86_memory_map_limit(struct x86_memory_map *map, unsigned phys_bits)
{
    uint64_t limit = phys_bits < 64 ? UINT64_C(1) << phys_bits : UINT64_MAX;
    if (map->mmio64 >= limit)
        map->mmio64_bytes = 0;
    else
        map->mmio64_bytes = MIN(map->mmio64_bytes, align_down(limit - map->mmio64, X86_MMIO64_ALIGN));
}
