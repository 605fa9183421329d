/* SPDX-License-Identifier: Apache-2.0 */
#include "util/units.h"

#include <errno.h>
#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

struct quantity {
    const char *text;
    int rc;
    uint64_t value;
};

static void test_sizes(void **state)
{
    (void)state;
    static const struct quantity cases[] = {
        {"0", 0, 0},
        {"1024", 0, 1024},
        {"64K", 0, 65536},
        {"64KiB", 0, 65536},
        {"512MiB", 0, UINT64_C(512) << 20},
        {"512M", 0, UINT64_C(512) << 20},
        {"2G", 0, UINT64_C(2) << 30},
        {"2GiB", 0, UINT64_C(2) << 30},
        {"3T", 0, UINT64_C(3) << 40},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"16777216T", -ERANGE, 0},
        {"99999999999999999999999G", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"G", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 G", -EINVAL, 0},
        {"1.5G", -EINVAL, 0},
        {"512MB", -EINVAL, 0},
        {"512mib", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1GiBx", -EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct dayfly_err err = {0};
        uint64_t value = 0;
        int rc = units_parse_size(cases[i].text, &value, &err);
        if (rc != cases[i].rc || value != cases[i].value)
            fail_msg("\"%s\": returned %d, %llu", cases[i].text, rc, (unsigned long long)value);
        if (rc && !strstr(err.msg, cases[i].text))
            fail_msg("\"%s\" is not named in: %s", cases[i].text, err.msg);
    }
}

static void test_durations(void **state)
{
    (void)state;
    static const struct quantity cases[] = {
        {"0s", 0, 0},
        {"500ms", 0, UINT64_C(500000000)},
        {"90s", 0, UINT64_C(90000000000)},
        {"30m", 0, UINT64_C(1800000000000)},
        {"1h30m", 0, UINT64_C(5400000000000)},
        {"1d2h3m4s5ms", 0, UINT64_C(93784005000000)},
        {"90", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"30m1h", -EINVAL, 0},
        {"1s1s", -EINVAL, 0},
        {"1h30", -EINVAL, 0},
        {"1min", -EINVAL, 0},
        {"1 s", -EINVAL, 0},
        {"-1s", -EINVAL, 0},
        {"1.5h", -EINVAL, 0},
        {"999999999999d", -ERANGE, 0},
        {"99999999999999999999ms", -ERANGE, 0},
        {"213503d23h34m40s", -ERANGE, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct dayfly_err err = {0};
        uint64_t value = 0;
        int rc = units_parse_duration(cases[i].text, &value, &err);
        if (rc != cases[i].rc || value != cases[i].value)
            fail_msg("\"%s\": returned %d, %llu", cases[i].text, rc, (unsigned long long)value);
    }
}

static void test_numbers_name_their_bounds(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    uint64_t value = 7;
    assert_int_equal(units_parse_number("4", 1, 8, &value, &err), 0);
    assert_int_equal(value, 4);
    assert_int_equal(units_parse_number("9", 1, 8, &value, &err), -ERANGE);
    assert_string_equal(err.msg, "9 is out of range: it must be from 1 to 8");
    assert_int_equal(units_parse_number("two", 1, 8, &value, &err), -EINVAL);
    assert_string_equal(err.msg, "\"two\" is not a whole number");
    assert_int_equal(value, 4);
}

static void test_a_formatted_size_reads_back(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {
        0, 1, 1023, 1024, 1536, UINT64_C(512) << 20, UINT64_C(5) << 50, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char text[UNITS_FORMAT_BYTES];
        uint64_t back = 1;
        assert_int_equal(units_parse_size(units_format_size(sizes[i], text), &back, NULL), 0);
        assert_true(back == sizes[i]);
    }
    char text[UNITS_FORMAT_BYTES];
    assert_string_equal(units_format_size(UINT64_C(512) << 20, text), "512MiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_numbers_name_their_bounds),
        cmocka_unit_test(test_a_formatted_size_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
