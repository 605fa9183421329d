/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI 6.4 tables. In memory, each on a 16-byte boundary:
 *
 *     RSDP -> XSDT -> FADT -> DSDT
 *                  -> MADT
 *                  -> MCFG
 *
 * What a Linux guest takes from them, and what follows from leaving things out:
 *  - HW_REDUCED_ACPI: no PIT, PIC, SCI or PM timer is looked for. Linux then needs to know the TSC's
 *    frequency (kvmclock tells) and a local APIC timer that needs no calibration (TSC deadline).
 *  - The FADT's boot flags say: no VGA, no CMOS clock, no 8042; so nobody waits for them to time out.
 *  - Power off: sleep control register with the type in \_S5. Reset: the reset register; Linux prefers
 *    EFI to it on such machines, and then the BIOS, unless it is told reboot=a.
 *  - PCI: MCFG and \_SB.PCI0. Linux uses an ECAM only if a motherboard resource (\_SB.MRES) or the
 *    memory map reserves it; ours do both. There is no _PRT: interrupts are MSI or MSI-X. There is no
 *    _OSC: the guest then leaves hot plug, AER and ASPM alone, none of which exists.
 *  - The power button is a control-method button; an edge on its GSI runs \_SB.GED._EVT.
 *
 * Offsets are written out instead of structs: the tables are unaligned, and the specification's
 * numbers can be checked against these lines.
 */
#include "arch/x86_64/acpi.h"

#include <errno.h>
#include <string.h>

#include "arch/x86_64/aml.h"
#include "util/arith.h"
#include "util/err.h"

#define TABLE_ALIGN  16
#define HEADER_BYTES 36

/* Offsets in a table's header. */
#define HEADER_LENGTH   4
#define HEADER_REVISION 8
#define HEADER_CHECKSUM 9

#define RSDP_BYTES             36
#define RSDP_CHECKSUM          8
#define RSDP_V1_BYTES          20
#define RSDP_EXTENDED_CHECKSUM 32

#define FADT_BYTES         276
#define FADT_BOOT_ARCH     109
#define FADT_FLAGS         112
#define FADT_RESET_REG     116
#define FADT_RESET_VALUE   128
#define FADT_MINOR         131
#define FADT_X_DSDT        140
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS  256
#define FADT_HYPERVISOR    268

#define FADT_REVISION      6
#define FADT_MINOR_VERSION 4

#define BOOT_ARCH_VGA_NOT_PRESENT (1u << 2)
#define BOOT_ARCH_NO_CMOS_RTC     (1u << 5)

#define FLAG_WBINVD          (1u << 0)
#define FLAG_PROC_C1         (1u << 2)
#define FLAG_NO_PWR_BUTTON   (1u << 4) /* none of the fixed hardware kind */
#define FLAG_NO_SLP_BUTTON   (1u << 5)
#define FLAG_RESET_REG       (1u << 10)
#define FLAG_HW_REDUCED_ACPI (1u << 20)

#define MADT_LAPIC   0
#define MADT_IOAPIC  1
#define MADT_X2APIC  9
#define MADT_ENABLED 1

/* APIC ids from here on do not fit a local APIC entry (255 is its broadcast). */
#define FIRST_X2APIC_ID 255

#define GAS_SYSTEM_IO   1
#define GAS_ACCESS_BYTE 1

#define NOTIFY_BUTTON_PRESSED 0x80

/* Where tables are written: zeroed memory of the caller, and its address in the guest. */
struct writer {
    unsigned char *buf;
    size_t cap;
    size_t len;
    uint64_t gpa;
    bool overflow;
};

static void put_le(unsigned char *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static uint8_t checksum(const unsigned char *p, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + p[i]);
    return (uint8_t)-sum;
}

/* Append `len` zero bytes on a table boundary. NULL on overflow. */
static unsigned char *reserve(struct writer *w, size_t len)
{
    size_t start = align_up(w->len, TABLE_ALIGN);
    if (w->overflow || !range_within(start, len, w->cap)) {
        w->overflow = true;
        return NULL;
    }
    memset(w->buf + w->len, 0, start + len - w->len);
    w->len = start + len;
    return w->buf + start;
}

/* A table of len bytes with its header; its checksum is still to come. NULL on overflow. */
static unsigned char *table_begin(struct writer *w, const char *signature, uint8_t revision, size_t len)
{
    unsigned char *t = reserve(w, len);
    if (!t)
        return NULL;
    memcpy(t, signature, 4);
    put_le(t + HEADER_LENGTH, len, 4);
    t[HEADER_REVISION] = revision;
    memcpy(t + 10, "DAYFLY", 6);
    memcpy(t + 16, "MACHINE ", 8);
    put_le(t + 24, 1, 4); /* OEM revision */
    memcpy(t + 28, "DYFL", 4);
    put_le(t + 32, 1, 4); /* creator revision */
    return t;
}

/* Returns the table's address in the guest. */
static uint64_t table_end(struct writer *w, unsigned char *t, size_t len)
{
    t[HEADER_CHECKSUM] = checksum(t, len);
    return w->gpa + (uint64_t)(t - w->buf);
}

/* Generic Address Structure of a one-byte I/O port (5.2.3.2). */
static void put_port(unsigned char *at, uint16_t port)
{
    at[0] = GAS_SYSTEM_IO;
    at[1] = 8; /* bits wide */
    at[2] = 0; /* bit offset */
    at[3] = GAS_ACCESS_BYTE;
    put_le(at + 4, port, 8);
}

static void dsdt_pci(struct aml *aml, const struct x86_memory_map *map)
{
    size_t device = aml_device_begin(aml, "PCI0");
    aml_name_eisa_id(aml, "_HID", "PNP0A08");
    aml_name_eisa_id(aml, "_CID", "PNP0A03");
    aml_name_integer(aml, "_SEG", 0);
    aml_name_integer(aml, "_BBN", 0);
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    size_t resources = aml_resources_begin(aml);
    aml_bus_range(aml, 0, 0);
    aml_memory32_window(aml, X86_MMIO32, X86_MMIO32_BYTES);
    if (map->mmio64_bytes > 0)
        aml_memory64_window(aml, map->mmio64, map->mmio64_bytes);
    aml_resources_end(aml, resources);
    aml_end(aml, device);

    device = aml_device_begin(aml, "MRES");
    aml_name_eisa_id(aml, "_HID", "PNP0C02");
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    resources = aml_resources_begin(aml);
    aml_memory32_fixed(aml, X86_ECAM, X86_ECAM_BYTES);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void dsdt_serial(struct aml *aml)
{
    size_t device = aml_device_begin(aml, "COM1");
    aml_name_eisa_id(aml, "_HID", "PNP0501");
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    size_t resources = aml_resources_begin(aml);
    aml_io(aml, X86_PORT_COM1, X86_PORT_COM1_LEN);
    /* Not an ISA interrupt descriptor: of this one Linux takes trigger and polarity as they stand. */
    aml_interrupt_edge(aml, X86_GSI_COM1);
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static void dsdt_power_button(struct aml *aml)
{
    size_t device = aml_device_begin(aml, "PWRB");
    aml_name_eisa_id(aml, "_HID", "PNP0C0C");
    aml_name_integer(aml, "_UID", 0);
    aml_end(aml, device);

    device = aml_device_begin(aml, "GED");
    aml_name_string(aml, "_HID", "ACPI0013");
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    size_t resources = aml_resources_begin(aml);
    aml_interrupt_edge(aml, X86_GSI_POWER_BUTTON);
    aml_resources_end(aml, resources);
    size_t method = aml_method_begin(aml, "_EVT", 1, true);
    size_t branch = aml_if_arg0_is_begin(aml, X86_GSI_POWER_BUTTON);
    aml_notify(aml, "\\_SB.PWRB", NOTIFY_BUTTON_PRESSED);
    aml_end(aml, branch);
    aml_end(aml, method);
    aml_end(aml, device);
}

static uint64_t build_dsdt(struct writer *w, const struct acpi_config *config)
{
    unsigned char *t = table_begin(w, "DSDT", 2, HEADER_BYTES);
    if (!t)
        return 0;
    struct aml aml;
    aml_init(&aml, w->buf + w->len, w->cap - w->len);

    size_t scope = aml_scope_begin(&aml, "\\_SB");
    dsdt_pci(&aml, config->map);
    if (config->serial)
        dsdt_serial(&aml);
    dsdt_power_button(&aml);
    aml_end(&aml, scope);

    aml_name(&aml, "\\_S5");
    size_t package = aml_package_begin(&aml, 4);
    aml_integer(&aml, X86_SLEEP_TYPE_OFF);
    for (int i = 0; i < 3; i++)
        aml_integer(&aml, 0);
    aml_end(&aml, package);

    if (aml.overflow) {
        w->overflow = true;
        return 0;
    }
    w->len += aml.len;
    put_le(t + HEADER_LENGTH, HEADER_BYTES + aml.len, 4);
    return table_end(w, t, HEADER_BYTES + aml.len);
}

static uint64_t build_fadt(struct writer *w, uint64_t dsdt)
{
    unsigned char *t = table_begin(w, "FACP", FADT_REVISION, FADT_BYTES);
    if (!t)
        return 0;
    put_le(t + FADT_BOOT_ARCH, BOOT_ARCH_VGA_NOT_PRESENT | BOOT_ARCH_NO_CMOS_RTC, 2);
    put_le(t + FADT_FLAGS,
           FLAG_WBINVD | FLAG_PROC_C1 | FLAG_NO_PWR_BUTTON | FLAG_NO_SLP_BUTTON | FLAG_RESET_REG |
               FLAG_HW_REDUCED_ACPI,
           4);
    put_port(t + FADT_RESET_REG, X86_PORT_RESET);
    t[FADT_RESET_VALUE] = X86_RESET_VALUE;
    t[FADT_MINOR] = FADT_MINOR_VERSION;
    put_le(t + FADT_X_DSDT, dsdt, 8);
    put_port(t + FADT_SLEEP_CONTROL, X86_PORT_SLEEP_CONTROL);
    put_port(t + FADT_SLEEP_STATUS, X86_PORT_SLEEP_STATUS);
    memcpy(t + FADT_HYPERVISOR, "DAYFLY  ", 8);
    return table_end(w, t, FADT_BYTES);
}

static uint64_t build_madt(struct writer *w, unsigned cpus)
{
    unsigned xapic = MIN(cpus, FIRST_X2APIC_ID), x2apic = cpus - xapic;
    size_t len = HEADER_BYTES + 8 + 8 * xapic + 16 * x2apic + 12;
    unsigned char *t = table_begin(w, "APIC", 5, len);
    if (!t)
        return 0;
    put_le(t + 36, X86_LAPIC, 4);
    put_le(t + 40, 0, 4); /* flags: no dual 8259 */
    unsigned char *p = t + 44;
    for (unsigned id = 0; id < xapic; id++, p += 8) {
        p[0] = MADT_LAPIC;
        p[1] = 8;
        p[2] = (unsigned char)id; /* processor uid */
        p[3] = (unsigned char)id;
        put_le(p + 4, MADT_ENABLED, 4);
    }
    for (unsigned id = xapic; id < cpus; id++, p += 16) {
        p[0] = MADT_X2APIC;
        p[1] = 16;
        put_le(p + 4, id, 4);
        put_le(p + 8, MADT_ENABLED, 4);
        put_le(p + 12, id, 4); /* processor uid */
    }
    p[0] = MADT_IOAPIC;
    p[1] = 12;
    p[2] = 0; /* I/O APIC id, as KVM's register says */
    put_le(p + 4, X86_IOAPIC, 4);
    put_le(p + 8, 0, 4); /* first GSI */
    return table_end(w, t, len);
}

static uint64_t build_mcfg(struct writer *w)
{
    const size_t len = HEADER_BYTES + 8 + 16;
    unsigned char *t = table_begin(w, "MCFG", 1, len);
    if (!t)
        return 0;
    put_le(t + 44, X86_ECAM, 8);
    put_le(t + 52, 0, 2); /* segment */
    t[54] = 0;            /* first bus */
    t[55] = X86_ECAM_BYTES / 0x100000 - 1;
    return table_end(w, t, len);
}

static uint64_t build_xsdt(struct writer *w, const uint64_t *tables, size_t count)
{
    size_t len = HEADER_BYTES + 8 * count;
    unsigned char *t = table_begin(w, "XSDT", 1, len);
    if (!t)
        return 0;
    for (size_t i = 0; i < count; i++)
        put_le(t + HEADER_BYTES + 8 * i, tables[i], 8);
    return table_end(w, t, len);
}

static void fill_rsdp(unsigned char *t, uint64_t xsdt)
{
    memcpy(t, "RSD PTR ", 8);
    memcpy(t + 9, "DAYFLY", 6);
    t[15] = 2; /* revision */
    put_le(t + 20, RSDP_BYTES, 4);
    put_le(t + 24, xsdt, 8);
    t[RSDP_CHECKSUM] = checksum(t, RSDP_V1_BYTES);
    t[RSDP_EXTENDED_CHECKSUM] = checksum(t, RSDP_BYTES);
}

int acpi_build(const struct acpi_config *config, uint64_t gpa, void *buf, size_t cap, size_t *used,
               struct dayfly_err *err)
{
    if (config->cpus == 0 || config->cpus > X86_MAX_CPUS)
        return err_set(err, EINVAL, "%u processors: a machine has 1 to %d", config->cpus, X86_MAX_CPUS);
    struct writer w = {.buf = buf, .cap = cap, .gpa = gpa};
    unsigned char *rsdp = reserve(&w, RSDP_BYTES);
    uint64_t tables[3];
    tables[0] = build_fadt(&w, build_dsdt(&w, config));
    tables[1] = build_madt(&w, config->cpus);
    tables[2] = build_mcfg(&w);
    uint64_t xsdt = build_xsdt(&w, tables, ARRAY_SIZE(tables));
    if (w.overflow)
        return err_set(err, ENOSPC, "the ACPI tables of %u processors do not fit %zu bytes",
                       config->cpus, cap);
    fill_rsdp(rsdp, xsdt);
    if (used)
        *used = w.len;
    return 0;
}
