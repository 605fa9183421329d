/* SPDX-License-Identifier: Apache-2.0 */
/* The state a kernel is entered with: memory map, boot data, registers. */
#include "arch/x86_64/pvh.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/msr.h"
#include "arch/x86_64/regs.h"
#include "util/arith.h"
#include "util/testing.h"

#define MIB UINT64_C(0x100000)
#define GIB (1024 * MIB)

static unsigned char memory[1024 * 1024];

static void *span(void *opaque, uint64_t gpa, uint64_t len)
{
    uint64_t *limit = opaque;
    return range_within(gpa, len, MIN(*limit, sizeof(memory))) ? memory + gpa : NULL;
}

static uint64_t le(uint64_t gpa, size_t bytes)
{
    uint64_t v = 0;
    assert_true(range_within(gpa, bytes, sizeof(memory)));
    memcpy(&v, memory + gpa, bytes);
    return v;
}

static int write_boot_data(uint64_t ram, uint64_t limit, const char *cmdline, uint64_t initrd)
{
    struct x86_memory_map map = x86_memory_map(ram);
    const struct kernel_target target = {.opaque = &limit, .span = span};
    memset(memory, 0xee, sizeof(memory));
    return pvh_write(&target,
                     &(struct pvh_config){.map = &map,
                                          .cmdline = cmdline,
                                          .initrd_gpa = 0x8000000,
                                          .initrd_bytes = initrd,
                                          .rsdp_gpa = X86_ACPI},
                     NULL);
}

static void test_ram_is_split_at_the_gap(void **state)
{
    (void)state;
    static const struct {
        uint64_t ram, low, high, mmio64;
    } cases[] = {
        {16 * MIB, 16 * MIB, 0, 4 * GIB},
        {3 * GIB, 3 * GIB, 0, 4 * GIB},
        {3 * GIB + MIB, 3 * GIB, MIB, 5 * GIB},
        {8 * GIB, 3 * GIB, 5 * GIB, 9 * GIB},
        {1024 * GIB, 3 * GIB, 1021 * GIB, 1025 * GIB},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct x86_memory_map map = x86_memory_map(cases[i].ram);
        assert_int_equal(map.low_bytes, cases[i].low);
        assert_int_equal(map.high_bytes, cases[i].high);
        assert_int_equal(map.mmio64, cases[i].mmio64);
        assert_int_equal(map.mmio64_bytes, 32 * GIB);
        x86_memory_map_limit(&map, 46);
        assert_int_equal(map.mmio64_bytes, 32 * GIB);
        x86_memory_map_limit(&map, 64);
        assert_int_equal(map.mmio64_bytes, 32 * GIB);
    }
    struct x86_memory_map map = x86_memory_map(8 * GIB);
    x86_memory_map_limit(&map, 34); /* 16 GiB */
    assert_int_equal(map.mmio64_bytes, 7 * GIB);
    x86_memory_map_limit(&map, 33);
    assert_int_equal(map.mmio64_bytes, 0);
}

static void test_start_info(void **state)
{
    (void)state;
    assert_int_equal(write_boot_data(GIB, GIB, "console=ttyS0", 4711), 0);
    assert_int_equal(le(0x1000, 4), 0x336ec578);
    assert_int_equal(le(0x1004, 4), 1);
    assert_int_equal(le(0x1008, 4), 0);
    assert_int_equal(le(0x100c, 4), 1);
    assert_int_equal(le(0x1020, 8), X86_ACPI);
    assert_string_equal((char *)memory + le(0x1018, 8), "console=ttyS0");
    uint64_t module = le(0x1010, 8);
    assert_int_equal(le(module, 8), 0x8000000);
    assert_int_equal(le(module + 8, 8), 4711);
    assert_int_equal(le(module + 16, 8), 0);

    assert_int_equal(write_boot_data(GIB, GIB, NULL, 0), 0);
    assert_int_equal(le(0x100c, 4), 0);
    assert_int_equal(le(0x1010, 8), 0);
    assert_string_equal((char *)memory + le(0x1018, 8), "");
}

/* Does the map say that all of [start, end) is of this type? */
static void assert_mapped(uint64_t start, uint64_t end, uint32_t type)
{
    uint64_t table = le(0x1028, 8);
    unsigned hits = 0;
    for (uint64_t i = 0; i < le(0x1030, 4); i++) {
        uint64_t gpa = le(table + 24 * i, 8), bytes = le(table + 24 * i + 8, 8);
        assert_true(bytes > 0);
        if (gpa < end && start < gpa + bytes) {
            assert_int_equal(gpa, start);
            assert_int_equal(gpa + bytes, end);
            assert_int_equal(le(table + 24 * i + 16, 4), type);
            assert_int_equal(le(table + 24 * i + 20, 4), 0);
            hits++;
        }
    }
    assert_int_equal(hits, type ? 1 : 0);
}

static void test_the_memory_map(void **state)
{
    (void)state;
    assert_int_equal(write_boot_data(8 * GIB, GIB, "", 0), 0);
    assert_mapped(0, 0xa0000, 1);
    assert_mapped(0xa0000, 0xe0000, 0);
    assert_mapped(0xe0000, 0xff000, 3);
    assert_mapped(0xff000, 0x100000, 2);
    assert_mapped(0x100000, 3 * GIB, 1);
    assert_mapped(X86_ECAM, X86_ECAM + MIB, 2);
    assert_mapped(X86_MMIO32, X86_MMIO32 + X86_MMIO32_BYTES, 0);
    assert_mapped(4 * GIB, 9 * GIB, 1);
    assert_mapped(9 * GIB, 100 * GIB, 0);

    assert_int_equal(write_boot_data(256 * MIB, GIB, "", 0), 0);
    assert_mapped(0x100000, 256 * MIB, 1);
    assert_mapped(4 * GIB, 9 * GIB, 0);
}

static void test_boot_data_has_its_bounds(void **state)
{
    (void)state;
    char cmdline[2100];
    memset(cmdline, 'x', sizeof(cmdline));
    cmdline[2047] = '\0';
    assert_int_equal(write_boot_data(GIB, GIB, cmdline, 0), 0);
    assert_int_equal(memory[0x2000 + 2047], 0);
    assert_int_equal(memory[0x2000 + 2048], 0xee);
    cmdline[2047] = 'x';
    cmdline[2048] = '\0';
    assert_int_equal(write_boot_data(GIB, GIB, cmdline, 0), -E2BIG);
    assert_int_equal(write_boot_data(GIB, 0xfffff, "", 0), 0);
    assert_int_equal(write_boot_data(GIB, 0xffff0, "", 0), -ENOMEM);
    assert_int_equal(write_boot_data(GIB, 0x2000, "", 0), -ENOMEM);
    assert_int_equal(write_boot_data(GIB, 0x1000, "", 0), -ENOMEM);
}

static void test_the_reset_vector_has_code(void **state)
{
    (void)state;
    static const unsigned char code[] = {0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd};
    assert_int_equal(write_boot_data(GIB, GIB, "", 0), 0);
    assert_memory_equal(memory + 0xffff0, code, sizeof(code));
}

static void test_the_initrd_goes_to_the_top(void **state)
{
    (void)state;
    const struct kernel_info kernel = {.start = 16 * MIB, .end = 66 * MIB + 1};
    struct x86_memory_map map = x86_memory_map(128 * MIB);
    struct dayfly_err err = {0};
    uint64_t gpa;
    assert_int_equal(pvh_initrd_gpa(&map, &kernel, 1, &gpa, &err), 0);
    assert_int_equal(gpa, 128 * MIB - 4096);
    assert_int_equal(pvh_initrd_gpa(&map, &kernel, 4097, &gpa, &err), 0);
    assert_int_equal(gpa, 128 * MIB - 8192);
    assert_int_equal(pvh_initrd_gpa(&map, &kernel, 62 * MIB - 4096, &gpa, &err), 0);
    assert_int_equal(gpa, 66 * MIB + 4096);

    assert_int_equal(pvh_initrd_gpa(&map, &kernel, 62 * MIB - 4095, &gpa, &err), -ENOMEM);
    assert_non_null(strstr(err.msg, "more memory"));
    assert_int_equal(pvh_initrd_gpa(&map, &kernel, UINT64_MAX, &gpa, &err), -ENOMEM);
    map = x86_memory_map(32 * MIB);
    assert_int_equal(pvh_initrd_gpa(&map, &kernel, 1, &gpa, &err), -ENOMEM);
    map = x86_memory_map(16 * GIB);
    assert_int_equal(pvh_initrd_gpa(&map, &kernel, 4096, &gpa, &err), 0);
    assert_int_equal(gpa, 3 * GIB - 4096);
}

static void test_the_entry_state(void **state)
{
    (void)state;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    memset(&regs, 0xee, sizeof(regs));
    memset(&sregs, 0xee, sizeof(sregs));
    regs_pvh(&regs, &sregs, 0x1000850, X86_START_INFO);
    assert_int_equal(regs.rip, 0x1000850);
    assert_int_equal(regs.rbx, X86_START_INFO);
    assert_int_equal(regs.rflags, 2);
    assert_int_equal(regs.rax, 0);
    assert_int_equal(sregs.cr0 & 0x80000001, 1);
    assert_int_equal(sregs.cr4, 0);
    assert_int_equal(sregs.efer, 0);
    assert_int_equal(sregs.cs.type, 0xb);
    assert_int_equal(sregs.cs.limit, 0xffffffff);
    assert_int_equal(sregs.cs.base, 0);
    assert_int_equal(sregs.cs.db, 1);
    assert_int_equal(sregs.cs.l, 0);
    assert_int_equal(sregs.ss.type, 3);
    assert_memory_equal(&sregs.ds, &sregs.es, sizeof(sregs.ds));
    assert_int_equal(sregs.tr.type, 0xb);
    assert_int_equal(sregs.tr.s, 0);
    assert_int_equal(sregs.tr.limit, 0x67);
    /* What is not of the mode stays. */
    assert_int_equal(sregs.apic_base, UINT64_C(0xeeeeeeeeeeeeeeee));
}

static void test_boot_msrs(void **state)
{
    (void)state;
    struct kvm_msr_entry msrs[MSR_BOOT_COUNT];
    memset(msrs, 0xee, sizeof(msrs));
    msr_boot(msrs);
    for (size_t i = 0; i < MSR_BOOT_COUNT; i++)
        assert_int_equal(msrs[i].reserved, 0);
    assert_int_equal(msrs[1].index, 0x2ff);
    assert_int_equal(msrs[1].data, 0x806);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ram_is_split_at_the_gap),
        cmocka_unit_test(test_start_info),
        cmocka_unit_test(test_the_memory_map),
        cmocka_unit_test(test_boot_data_has_its_bounds),
        cmocka_unit_test(test_the_reset_vector_has_code),
        cmocka_unit_test(test_the_initrd_goes_to_the_top),
        cmocka_unit_test(test_the_entry_state),
        cmocka_unit_test(test_boot_msrs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
