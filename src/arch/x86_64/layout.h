/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_LAYOUT_H
#define ARCH_X86_64_LAYOUT_H

/*
 * Where everything is in the guest-physical address space and the I/O port space.
 *
 *   0x00000000  RAM           boot data (start info, command line) in the first 64 KiB, which Linux
 *                             never hands out; the rest is free
 *   0x000a0000  nothing       the ISA hole
 *   0x000e0000  ACPI          all tables, the RSDP first (where a kernel that scans finds it, too)
 *   0x000ff000  reset         what runs at the reset vector: it writes the reset register
 *   0x00100000  RAM           the kernel where its ELF says, the initrd at the top, up to 3 GiB
 *   0xc0000000  ECAM          one PCI bus, 1 MiB
 *   0xd0000000  PCI window    32-bit memory BARs
 *   0xfec00000  I/O APIC      emulated by KVM
 *   0xfee00000  local APICs   emulated by KVM
 *   0xfeffc000  KVM's own     identity map and task-state pages of VMX without unrestricted guest
 *   0x100000000 RAM           what did not fit below 3 GiB
 *   above it    PCI window    64-bit memory BARs, from the next GiB on
 *
 * The numbers are part of a machine's start state and of its snapshots: a change is a new version.
 * src/machine, src/hw and the ACPI tables all take them from here, and nowhere else.
 */

#include <stdint.h>

/* Memory. */
#define X86_PAGE_BYTES    UINT64_C(0x1000)
#define X86_LOW_RAM_END   UINT64_C(0x000a0000)
#define X86_HIGH_START    UINT64_C(0x00100000) /* the kernel loads here or above */
#define X86_GAP_START     UINT64_C(0xc0000000) /* RAM below the gap ends here at the latest */
#define X86_GAP_END       UINT64_C(0x100000000)
#define X86_RAM_MIN_BYTES (UINT64_C(16) << 20)

/* Boot data, all below 64 KiB. */
#define X86_START_INFO       UINT64_C(0x1000) /* hvm_start_info, memory map, module list: one page */
#define X86_START_INFO_BYTES UINT64_C(0x1000)
#define X86_CMDLINE          UINT64_C(0x2000)
#define X86_CMDLINE_BYTES    UINT64_C(2048) /* Linux's COMMAND_LINE_SIZE, its NUL included */

#define X86_ACPI       UINT64_C(0x000e0000)
#define X86_ACPI_BYTES UINT64_C(0x0001f000)

/* A guest that resets itself through the BIOS jumps to ffff:0000. Linux does so on hardware-reduced
 * ACPI, unless its command line says reboot=a (use the reset register). */
#define X86_RESET_PAGE   UINT64_C(0x000ff000)
#define X86_RESET_VECTOR UINT64_C(0x000ffff0)

/* The gap. */
#define X86_ECAM             UINT64_C(0xc0000000)
#define X86_ECAM_BYTES       UINT64_C(0x00100000) /* bus 0 only */
#define X86_MMIO32           UINT64_C(0xd0000000)
#define X86_MMIO32_BYTES     UINT64_C(0x2e000000) /* up to 0xfe000000 */
#define X86_IOAPIC           UINT64_C(0xfec00000)
#define X86_IOAPIC_BYTES     UINT64_C(0x1000)
#define X86_LAPIC            UINT64_C(0xfee00000)
#define X86_LAPIC_BYTES      UINT64_C(0x1000)
#define X86_KVM_IDENTITY_MAP UINT64_C(0xfeffc000) /* KVM_SET_IDENTITY_MAP_ADDR: one page */
#define X86_KVM_TSS          UINT64_C(0xfeffd000) /* KVM_SET_TSS_ADDR: three pages */
#define X86_KVM_PAGES_BYTES  UINT64_C(0x4000)     /* both of them, from X86_KVM_IDENTITY_MAP on */

#define X86_MMIO64_ALIGN (UINT64_C(1) << 30)
#define X86_MMIO64_BYTES (UINT64_C(32) << 30)

/*
 * I/O ports. The power registers are those of hardware-reduced ACPI (ACPI 6.4, 4.8.3.7 and 4.8.3.6):
 *   sleep control  a write of SLP_EN | SLP_TYP << 2 with SLP_TYP 5 powers off: X86_SLEEP_OFF
 *   sleep status   reads as 0; writes are ignored
 *   reset          a write of X86_RESET_VALUE resets the machine
 * Each is one byte wide.
 */
#define X86_PORT_COM1          0x3f8
#define X86_PORT_COM1_LEN      8
#define X86_PORT_SLEEP_CONTROL 0x600
#define X86_PORT_SLEEP_STATUS  0x601
#define X86_PORT_RESET         0x602
#define X86_PORT_POWER_LEN     3 /* from X86_PORT_SLEEP_CONTROL on */

#define X86_SLEEP_TYPE_OFF 5
#define X86_SLEEP_ENABLE   0x20
#define X86_SLEEP_OFF      (X86_SLEEP_ENABLE | X86_SLEEP_TYPE_OFF << 2) /* 0x34 */
#define X86_RESET_VALUE    1

/*
 * Global system interrupts: pins of the one I/O APIC. Both are edge-triggered, active high: raise the
 * line and lower it again, or signal an irqfd once per event. The power button needs no register: its
 * GSI belongs to it alone, so that an edge *is* the press.
 */
#define X86_GSI_COM1         4
#define X86_GSI_POWER_BUTTON 9
#define X86_IOAPIC_PINS      24

#define X86_MAX_CPUS 1024

/* RAM and windows of a machine. A zero size says that there is none. */
struct x86_memory_map {
    uint64_t low_bytes;    /* RAM at [0, low_bytes), the ISA hole within it included */
    uint64_t high_bytes;   /* RAM at [X86_GAP_END, X86_GAP_END + high_bytes) */
    uint64_t mmio64;       /* the 64-bit PCI window */
    uint64_t mmio64_bytes; /* a host with few physical address bits may shrink it or set it to 0 */
};

/*
 * Lay ram_bytes out. Any value works, and none is checked: the caller has bounded it by what the
 * host has, which is below 2^52. The sum of low_bytes and high_bytes is ram_bytes.
 */
struct x86_memory_map x86_memory_map(uint64_t ram_bytes);

/* Shrink the 64-bit window so that it ends below 2^phys_bits, in whole GiB; to nothing if need be. */
void x86_memory_map_limit(struct x86_memory_map *map, unsigned phys_bits);

#endif
