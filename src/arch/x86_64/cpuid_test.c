/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/cpuid.h"

#include <errno.h>
#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define ALL     UINT32_MAX

static const struct kvm_cpuid_entry2 intel[] = {
    {.function = 0, .eax = 0x1f, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e},
    {.function = 1, .eax = 0x806f8, .ebx = 0x12345678, .ecx = ALL, .edx = ALL},
    {.function = 4, .index = 0, .flags = INDEXED, .eax = 0xffffff21},
    {.function = 4, .index = 3, .flags = INDEXED, .eax = 0x00000163},
    {.function = 4, .index = 4, .flags = INDEXED, .eax = 0},
    {.function = 6, .eax = ALL, .ebx = ALL, .ecx = ALL},
    {.function = 7, .index = 0, .flags = INDEXED, .eax = 1, .ebx = ALL, .ecx = ALL, .edx = ALL},
    {.function = 7, .index = 1, .flags = INDEXED, .ebx = ALL, .ecx = ALL},
    {.function = 0xa, .eax = 0},
    {.function = 0xb, .index = 0, .flags = INDEXED, .eax = 7, .ebx = 7, .ecx = 7, .edx = 7},
    {.function = 0xd, .index = 0, .flags = INDEXED, .eax = 7, .ebx = 0x340, .ecx = 0x340},
    {.function = 0x12, .index = 0, .flags = INDEXED, .eax = ALL},
    {.function = 0x1f, .index = 0, .flags = INDEXED, .edx = 9},
    {.function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d},
    {.function = 0x40000001, .eax = 0x01007afb},
    {.function = 0x80000001, .ecx = 0x121, .edx = 0x2c100800},
    {.function = 0x80000002, .eax = 0x65746e49},
    {.function = 0x80000008, .eax = 0x3028},
};

static const struct kvm_cpuid_entry2 amd[] = {
    {.function = 0, .eax = 0x10, .ebx = 0x68747541, .edx = 0x69746e65, .ecx = 0x444d4163},
    {.function = 1, .ecx = 0, .edx = 0},
    {.function = 4, .index = 0, .flags = INDEXED},
    {.function = 0x80000001, .ecx = ALL},
    {.function = 0x80000008, .eax = 0x3030, .ecx = 0x0001f07f},
    {.function = 0x8000000a, .eax = 1, .ebx = 8, .edx = ALL},
    {.function = 0x8000001d, .index = 0, .flags = INDEXED, .eax = 0x03ffc121},
    {.function = 0x8000001d, .index = 3, .flags = INDEXED, .eax = 0x00000163},
    {.function = 0x8000001d, .index = 4, .flags = INDEXED},
    {.function = 0x8000001e, .eax = 77, .ebx = 0x177, .ecx = 0x700},
    {.function = 0x8000001f, .eax = 0xf, .ebx = 51},
};

static struct kvm_cpuid_entry2 out[64];
static int count;

static void build(const struct kvm_cpuid_entry2 *supported, size_t n, const struct cpuid_config *config)
{
    count = cpuid_build(config, supported, n, out, n + CPUID_EXTRA_ENTRIES);
    assert_true(count > 0);
}

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
    const struct kvm_cpuid_entry2 *found = NULL;
    for (int i = 0; i < count; i++) {
        if (out[i].function == function && out[i].index == index) {
            assert_null(found); /* no leaf twice */
            found = &out[i];
        }
    }
    return found;
}

static void test_leaf_1_says_who_it_is(void **state)
{
    (void)state;
    build(intel, ARRAY_SIZE(intel),
          &(struct cpuid_config){.cpu_index = 2, .cpu_count = 3, .tsc_deadline = true});
    const struct kvm_cpuid_entry2 *e = leaf(1, 0);
    assert_int_equal(e->eax, 0x806f8);
    assert_int_equal(e->ebx, 0x02045678); /* APIC id 2; 3 cores take 4 ids */
    assert_true(e->ecx & 1u << 31);       /* HYPERVISOR */
    assert_true(e->ecx & 1u << 24);       /* TSC_DEADLINE */
    assert_false(e->ecx & 1u << 27);      /* OSXSAVE comes with CR4 */
    assert_false(e->ecx & 1u << 5);       /* VMX */
    assert_true(e->edx & 1u << 28);       /* HTT */

    build(intel, ARRAY_SIZE(intel), &(struct cpuid_config){.cpu_count = 1, .nested = true});
    e = leaf(1, 0);
    assert_int_equal(e->ebx, 0x00015678);
    assert_false(e->ecx & 1u << 24);
    assert_true(e->ecx & 1u << 5);
    assert_false(e->edx & 1u << 28);

    build(intel, ARRAY_SIZE(intel), &(struct cpuid_config){.cpu_index = 299, .cpu_count = 300});
    assert_int_equal(leaf(1, 0)->ebx, 0x2bff5678);
}

static void test_the_topology_is_one_package(void **state)
{
    (void)state;
    static const struct {
        uint32_t cpus, bits;
    } cases[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {64, 6}, {65, 7}, {300, 9}, {1024, 10}};
    static const uint32_t leaves[] = {0xb, 0x1f};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const uint32_t cpus = cases[i].cpus;
        build(intel, ARRAY_SIZE(intel),
              &(struct cpuid_config){.cpu_index = cpus - 1, .cpu_count = cpus});
        for (size_t l = 0; l < ARRAY_SIZE(leaves); l++) {
            const struct kvm_cpuid_entry2 *smt = leaf(leaves[l], 0), *core = leaf(leaves[l], 1),
                                          *end = leaf(leaves[l], 2);
            assert_int_equal(smt->eax, 0);
            assert_int_equal(smt->ebx, 1);
            assert_int_equal(smt->ecx, 0x100);
            assert_int_equal(core->eax, cases[i].bits);
            assert_int_equal(core->ebx, cpus);
            assert_int_equal(core->ecx, 0x201);
            assert_int_equal(end->ebx, 0);
            assert_int_equal(end->ecx, 2);
            assert_int_equal(smt->edx, cpus - 1);
            assert_int_equal(core->edx, cpus - 1);
            assert_int_equal(end->edx, cpus - 1);
            assert_true(core->flags & INDEXED);
        }
    }
}

static void test_caches_are_shared_at_the_last_level(void **state)
{
    (void)state;
    build(intel, ARRAY_SIZE(intel), &(struct cpuid_config){.cpu_count = 6});
    assert_int_equal(leaf(4, 0)->eax >> 14 & 0xfff, 0);
    assert_int_equal(leaf(4, 0)->eax >> 26, 7);
    assert_int_equal(leaf(4, 0)->eax & 0xff, 0x21);
    assert_int_equal(leaf(4, 3)->eax >> 14 & 0xfff, 7);
    assert_int_equal(leaf(4, 4)->eax, 0);
    build(intel, ARRAY_SIZE(intel), &(struct cpuid_config){.cpu_count = 1024});
    assert_int_equal(leaf(4, 3)->eax >> 14 & 0xfff, 1023);
    assert_int_equal(leaf(4, 3)->eax >> 26, 63);

    build(amd, ARRAY_SIZE(amd), &(struct cpuid_config){.cpu_count = 6});
    assert_int_equal(leaf(4, 0)->eax, 0);
    assert_int_equal(leaf(0x8000001d, 0)->eax, 0x121);
    assert_int_equal(leaf(0x8000001d, 3)->eax, 0x163 | 7 << 14);
    assert_int_equal(leaf(0x8000001d, 4)->eax, 0);
}

static void test_what_nobody_set_up_is_gone(void **state)
{
    (void)state;
    build(intel, ARRAY_SIZE(intel), &(struct cpuid_config){.cpu_count = 1});
    assert_int_equal(leaf(6, 0)->eax, 4); /* ARAT */
    assert_int_equal(leaf(6, 0)->ecx, 0);
    assert_int_equal(leaf(7, 0)->ebx, ALL & ~(1u << 2));
    assert_int_equal(leaf(7, 0)->ecx, ALL & ~(1u << 30 | 1u << 4));
    assert_int_equal(leaf(7, 1)->ebx, ALL);
    assert_int_equal(leaf(0x12, 0)->eax, 0);
}

static void test_the_rest_is_what_kvm_says(void **state)
{
    (void)state;
    static const uint32_t leaves[] = {0xa,        0xd,        0x40000000, 0x40000001,
                                      0x80000001, 0x80000002, 0x80000008};
    build(intel, ARRAY_SIZE(intel), &(struct cpuid_config){.cpu_index = 1, .cpu_count = 2});
    for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
        for (size_t j = 0; j < ARRAY_SIZE(intel); j++)
            if (intel[j].function == leaves[i])
                assert_memory_equal(leaf(leaves[i], 0), &intel[j], sizeof(intel[j]));
}

static void test_amd_speaks_its_own_leaves(void **state)
{
    (void)state;
    build(amd, ARRAY_SIZE(amd), &(struct cpuid_config){.cpu_index = 4, .cpu_count = 5});
    assert_int_equal(leaf(0, 0)->eax, 0x10);
    assert_int_equal(leaf(0x80000001, 0)->ecx, ALL & ~(1u << 2)); /* no SVM, CMP_LEGACY */
    assert_int_equal(leaf(0x80000008, 0)->ecx, 0x00010000 | 3 << 12 | 4);
    assert_int_equal(leaf(0x8000000a, 0)->eax, 0);
    assert_int_equal(leaf(0x8000000a, 0)->edx, 0);
    assert_int_equal(leaf(0x8000001e, 0)->eax, 4);
    assert_int_equal(leaf(0x8000001e, 0)->ebx, 4);
    assert_int_equal(leaf(0x8000001e, 0)->ecx, 0);
    assert_int_equal(leaf(0x8000001f, 0)->eax, 0);
    assert_int_equal(leaf(0xb, 1)->eax, 3);
    assert_null(leaf(0x1f, 0));
    assert_int_equal(leaf(6, 0)->eax, 4);

    build(amd, ARRAY_SIZE(amd), &(struct cpuid_config){.cpu_count = 1, .nested = true});
    assert_int_equal(leaf(0x80000001, 0)->ecx, ALL & ~(1u << 1));
    assert_int_equal(leaf(0x8000000a, 0)->eax, 1);
}

static void test_it_holds_its_bounds(void **state)
{
    (void)state;
    const struct cpuid_config config = {.cpu_count = 1};
    build(amd, ARRAY_SIZE(amd), &config);
    for (int cap = 0; cap < count; cap++) {
        memset(out, 0xee, sizeof(out));
        assert_int_equal(cpuid_build(&config, amd, ARRAY_SIZE(amd), out, (size_t)cap), -ENOSPC);
        assert_int_equal(out[cap].function, 0xeeeeeeee);
    }
    /* An empty answer of a KVM that knows nothing. */
    assert_int_equal(cpuid_build(&config, amd, 0, out, CPUID_EXTRA_ENTRIES), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaf_1_says_who_it_is),
        cmocka_unit_test(test_the_topology_is_one_package),
        cmocka_unit_test(test_caches_are_shared_at_the_last_level),
        cmocka_unit_test(test_what_nobody_set_up_is_gone),
        cmocka_unit_test(test_the_rest_is_what_kvm_says),
        cmocka_unit_test(test_amd_speaks_its_own_leaves),
        cmocka_unit_test(test_it_holds_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
