/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PVH boot protocol's data (Xen's public/arch-x86/hvm/start_info.h, version 1).
 *
 *     X86_START_INFO   struct start_info
 *                      struct memmap_entry[]
 *                      struct modlist_entry[]   the initrd, if there is one
 *     X86_CMDLINE      the command line, NUL-terminated
 *     X86_RESET_VECTOR not of the protocol: code in place of a BIOS, see layout.h
 *
 * Linux copies all of it before it allocates memory, and takes the first module as its initrd.
 * x86 is little-endian, and so is every host of this architecture: the structs are written as they are.
 */
#include "arch/x86_64/pvh.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "util/arith.h"
#include "util/err.h"

#define START_INFO_MAGIC   0x336ec578
#define START_INFO_VERSION 1

enum memmap_type { MEMMAP_RAM = 1, MEMMAP_RESERVED = 2, MEMMAP_ACPI = 3 };

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t nr_modules;
    uint64_t modlist_gpa;
    uint64_t cmdline_gpa;
    uint64_t rsdp_gpa;
    uint64_t memmap_gpa;
    uint32_t memmap_entries;
    uint32_t reserved;
};

struct modlist_entry {
    uint64_t gpa;
    uint64_t bytes;
    uint64_t cmdline_gpa;
    uint64_t reserved;
};

struct memmap_entry {
    uint64_t gpa;
    uint64_t bytes;
    uint32_t type;
    uint32_t reserved;
};

_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info");
_Static_assert(sizeof(struct modlist_entry) == 32, "hvm_modlist_entry");
_Static_assert(sizeof(struct memmap_entry) == 24, "hvm_memmap_table_entry");

/* The page at X86_START_INFO. */
struct boot_page {
    struct start_info info;
    struct memmap_entry memmap[7];
    struct modlist_entry modules[1];
};

_Static_assert(sizeof(struct boot_page) <= X86_START_INFO_BYTES, "boot data");

/* In real mode. Were nothing there, a guest would run through zeroes for ever. */
static const unsigned char reset_code[] = {
    0xba,
    X86_PORT_RESET & 0xff,
    X86_PORT_RESET >> 8, /* mov dx, X86_PORT_RESET */
    0xb0,
    X86_RESET_VALUE, /* mov al, X86_RESET_VALUE */
    0xee,            /* out dx, al */
    0xf4,            /* hlt */
    0xeb,
    0xfd, /* jmp to the hlt */
};

_Static_assert(X86_RESET_VECTOR + sizeof(reset_code) <= X86_HIGH_START, "reset code");

int pvh_initrd_gpa(const struct x86_memory_map *map, const struct kernel_info *kernel, uint64_t bytes,
                   uint64_t *gpa, struct dayfly_err *err)
{
    uint64_t floor = align_up(kernel->end, X86_PAGE_BYTES);
    uint64_t top = align_down(map->low_bytes, X86_PAGE_BYTES);
    /* The second term keeps align_up from wrapping. */
    if (floor > top || bytes > top - floor || align_up(bytes, X86_PAGE_BYTES) > top - floor)
        return err_set(err, ENOMEM,
                       "the initrd of %" PRIu64 " MiB does not fit between the kernel's end at %" PRIu64
                       " MiB and %" PRIu64 " MiB: give the machine more memory",
                       (bytes >> 20) + 1, (floor >> 20) + 1, top >> 20);
    *gpa = top - align_up(bytes, X86_PAGE_BYTES);
    return 0;
}

static void add_range(struct boot_page *page, uint64_t gpa, uint64_t end, enum memmap_type type)
{
    if (gpa < end)
        page->memmap[page->info.memmap_entries++] =
            (struct memmap_entry){.gpa = gpa, .bytes = end - gpa, .type = type};
}

int pvh_write(const struct kernel_target *target, const struct pvh_config *config,
              struct dayfly_err *err)
{
    const struct x86_memory_map *map = config->map;
    const char *cmdline = config->cmdline ? config->cmdline : "";
    size_t cmdline_bytes = strlen(cmdline) + 1;
    if (cmdline_bytes > X86_CMDLINE_BYTES)
        return err_set(err, E2BIG, "the kernel command line has %zu bytes; Linux takes %" PRIu64,
                       cmdline_bytes - 1, X86_CMDLINE_BYTES - 1);

    struct boot_page page = {
        .info = {.magic = START_INFO_MAGIC,
                 .version = START_INFO_VERSION,
                 .cmdline_gpa = X86_CMDLINE,
                 .rsdp_gpa = config->rsdp_gpa,
                 .memmap_gpa = X86_START_INFO + offsetof(struct boot_page, memmap)},
    };
    add_range(&page, 0, MIN(map->low_bytes, X86_LOW_RAM_END), MEMMAP_RAM);
    add_range(&page, X86_ACPI, X86_ACPI + X86_ACPI_BYTES, MEMMAP_ACPI);
    add_range(&page, X86_RESET_PAGE, X86_HIGH_START, MEMMAP_RESERVED);
    add_range(&page, X86_HIGH_START, map->low_bytes, MEMMAP_RAM);
    /* Linux uses an ECAM only where the memory map reserves it. */
    add_range(&page, X86_ECAM, X86_ECAM + X86_ECAM_BYTES, MEMMAP_RESERVED);
    add_range(&page, X86_KVM_IDENTITY_MAP, X86_KVM_IDENTITY_MAP + X86_KVM_PAGES_BYTES, MEMMAP_RESERVED);
    add_range(&page, X86_GAP_END, X86_GAP_END + map->high_bytes, MEMMAP_RAM);
    if (config->initrd_bytes > 0) {
        page.info.nr_modules = 1;
        page.info.modlist_gpa = X86_START_INFO + offsetof(struct boot_page, modules);
        page.modules[0] =
            (struct modlist_entry){.gpa = config->initrd_gpa, .bytes = config->initrd_bytes};
    }

    void *page_hva = target->span(target->opaque, X86_START_INFO, X86_START_INFO_BYTES);
    void *cmdline_hva = target->span(target->opaque, X86_CMDLINE, X86_CMDLINE_BYTES);
    void *reset_hva = target->span(target->opaque, X86_RESET_VECTOR, sizeof(reset_code));
    if (!page_hva || !cmdline_hva || !reset_hva)
        return err_set(err, ENOMEM, "the machine has no memory for its boot data below 1 MiB");
    memcpy(page_hva, &page, sizeof(page));
    memcpy(cmdline_hva, cmdline, cmdline_bytes);
    memcpy(reset_hva, reset_code, sizeof(reset_code));
    return 0;
}
