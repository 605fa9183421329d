/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/column.h"

#include <math.h>
#include <string.h>

#include "util/testing.h"

static void test_figures(void **state)
{
    static const struct {
        double value;
        const char *figure, *ratio;
    } cases[] = {
        {0, "0.00", "0.000"},
        {0.987, "0.99", "0.987"},
        {1.0149, "1.01", "1.015"},
        {1.9996, "2.00", "2.00"},
        {9.994, "9.99", "9.99"},
        {9.996, "10.0", "10.00"},
        {12.34, "12.3", "12.3"},
        {99.94, "99.9", "99.9"},
        {99.96, "100", "100"},
        {999.7, "1000", "1000"},
        {9999, "9999", "9999"},
        {10000, "10 000", "10 000"},
        {1234567, "1 234 567", "1 234 567"},
        {NAN, "-", "-"},
        {INFINITY, "-", "-"},
        {1e300, "-", "-"},
    };
    char text[BENCH_FIGURE_BYTES];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_string_equal(bench_figure(cases[i].value, text), cases[i].figure);
        if (i != 5) /* between the two forms */
            assert_string_equal(bench_ratio(cases[i].value, text), cases[i].ratio);
    }
}

static void test_lists(void **state)
{
    struct dayfly_err err = {0};
    unsigned got = 0;
    assert_int_equal(bench_choose(NULL, "column", bench_column_name, BENCH_COLUMNS, &got, &err), 0);
    assert_int_equal(got, (1u << BENCH_COLUMNS) - 1);
    assert_int_equal(
        bench_choose("destroy,start", "column", bench_column_name, BENCH_COLUMNS, &got, &err), 0);
    assert_int_equal(got, 1u << BENCH_DESTROY | 1u << BENCH_START);
    static const char *const wrong[] = {"",       "star",       "starts",   "start,",
                                        ",start", "start,,cpu", "start cpu"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_true(bench_choose(wrong[i], "column", bench_column_name, BENCH_COLUMNS, &got, &err) < 0);
    bench_choose("boot", "column", bench_column_name, BENCH_COLUMNS, &got, &err);
    assert_string_equal(err.msg, "there is no column 'boot'; there are start, build, cpu, read, write, "
                                 "memory and destroy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_figures), cmocka_unit_test(test_lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
