/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/aml.h"

#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

static unsigned char buf[1 << 21];

static struct aml fresh(void)
{
    struct aml aml;
    memset(buf, 0xee, 256);
    aml_init(&aml, buf, sizeof(buf));
    return aml;
}

#define assert_aml(aml, ...)                                                                           \
    do {                                                                                               \
        const unsigned char expected[] = {__VA_ARGS__};                                                \
        assert_false((aml).overflow);                                                                  \
        assert_int_equal((aml).len, sizeof(expected));                                                 \
        assert_memory_equal((aml).buf, expected, sizeof(expected));                                    \
    } while (0)

static void test_integers_take_the_shortest_form(void **state)
{
    (void)state;
    struct aml aml = fresh();
    aml_integer(&aml, 0);
    aml_integer(&aml, 1);
    aml_integer(&aml, 2);
    aml_integer(&aml, 0xff);
    aml_integer(&aml, 0x100);
    aml_integer(&aml, 0x10000);
    aml_integer(&aml, UINT64_C(0x100000000));
    assert_aml(aml, 0x00, 0x01, 0x0a, 0x02, 0x0a, 0xff, 0x0b, 0x00, 0x01, 0x0c, 0x00, 0x00, 0x01, 0x00,
               0x0e, 0, 0, 0, 0, 1, 0, 0, 0);
}

static void test_names_are_padded_and_prefixed(void **state)
{
    (void)state;
    struct aml aml = fresh();
    aml_name_integer(&aml, "X", 0);
    aml_name_integer(&aml, "\\_SB", 0);
    aml_name_integer(&aml, "\\_SB.PCI0", 0);
    aml_name_integer(&aml, "_SB.PCI0.S08", 0);
    assert_aml(aml, 8, 'X', '_', '_', '_', 0,                            /* */
               8, '\\', '_', 'S', 'B', '_', 0,                           /* */
               8, '\\', 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0', 0, /* */
               8, 0x2f, 3, '_', 'S', 'B', '_', 'P', 'C', 'I', '0', 'S', '0', '8', '_', 0);
}

static void test_values(void **state)
{
    (void)state;
    struct aml aml = fresh();
    aml_eisa_id(&aml, "PNP0A08");
    aml_string(&aml, "hi");
    aml_notify(&aml, "\\X", 0x80);
    assert_aml(aml, 0x0c, 0x41, 0xd0, 0x0a, 0x08, 0x0d, 'h', 'i', 0, 0x86, '\\', 'X', '_', '_', '_',
               0x0a, 0x80);
}

static void test_methods_and_conditions_nest(void **state)
{
    (void)state;
    struct aml aml = fresh();
    size_t method = aml_method_begin(&aml, "_EVT", 1, true);
    size_t branch = aml_if_arg0_is_begin(&aml, 9);
    aml_end(&aml, branch);
    aml_end(&aml, method);
    assert_aml(aml, 0x14, 12, '_', 'E', 'V', 'T', 0x09, 0xa0, 5, 0x93, 0x68, 0x0a, 9);
}

/* A PkgLength has 6, 12, 20 or 28 bits, and counts itself. */
static void test_package_lengths_at_their_borders(void **state)
{
    (void)state;
    static const struct {
        size_t content, bytes;
    } cases[] = {
        {1, 1}, {62, 1}, {63, 2}, {4093, 2}, {4094, 3}, {1048572, 3}, {1048573, 4}, {2000000, 4},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct aml aml = fresh();
        /* A name is four bytes of the content; one byte has no room for one. */
        size_t mark = aml_package_begin(&aml, 0);
        while (aml.len - mark < cases[i].content)
            aml_integer(&aml, 1);
        aml_end(&aml, mark);
        assert_false(aml.overflow);
        assert_int_equal(aml.len, 1 + cases[i].bytes + cases[i].content);
        assert_int_equal(buf[1] >> 6, cases[i].bytes - 1);
        size_t len = cases[i].bytes == 1 ? buf[1] & 0x3f : buf[1] & 0xf;
        for (size_t b = 1; b < cases[i].bytes; b++)
            len |= (size_t)buf[1 + b] << (4 + 8 * (b - 1));
        assert_int_equal(len, cases[i].bytes + cases[i].content);
        assert_int_equal(buf[1 + cases[i].bytes], 0); /* the element count moved up */
    }
}

static void test_a_resource_template_has_size_and_end(void **state)
{
    (void)state;
    struct aml aml = fresh();
    size_t mark = aml_resources_begin(&aml);
    aml_io(&aml, 0x3f8, 8);
    aml_interrupt_edge(&aml, 4);
    aml_resources_end(&aml, mark);
    const size_t content = 8 + 9 + 2;
    assert_int_equal(buf[0], 0x11);
    assert_int_equal(buf[1], 1 + 2 + content);
    assert_int_equal(buf[2], 0x0a);
    assert_int_equal(buf[3], content);
    assert_int_equal(aml.len, 4 + content);
    assert_int_equal(buf[aml.len - 2], 0x79);
    assert_int_equal(buf[aml.len - 1], 0);
}

/* Every length too short for the whole must be seen, and nothing be written behind it. */
static void test_overflow_is_kept_and_writes_nothing(void **state)
{
    (void)state;
    unsigned char small[64];
    for (size_t cap = 0; cap <= sizeof(small); cap++) {
        struct aml aml;
        memset(small, 0xee, sizeof(small));
        aml_init(&aml, small, cap);
        size_t scope = aml_scope_begin(&aml, "\\_SB");
        aml_name(&aml, "_CRS");
        size_t mark = aml_resources_begin(&aml);
        aml_memory32_fixed(&aml, 0xc0000000, 0x100000);
        aml_resources_end(&aml, mark);
        aml_end(&aml, scope);
        assert_int_equal(aml.overflow, cap < 7 + 5 + 4 + 12 + 2);
        for (size_t i = cap; i < sizeof(small); i++)
            assert_int_equal(small[i], 0xee);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers_take_the_shortest_form),
        cmocka_unit_test(test_names_are_padded_and_prefixed),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_methods_and_conditions_nest),
        cmocka_unit_test(test_package_lengths_at_their_borders),
        cmocka_unit_test(test_a_resource_template_has_size_and_end),
        cmocka_unit_test(test_overflow_is_kept_and_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
