/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/stats.h"

#include <math.h>

#include "util/testing.h"

static void test_median(void **state)
{
    const double odd[] = {9, 1, 5}, even[] = {4, 1, 3, 2}, one[] = {7};
    struct summary s = stats_summarize(odd, 3);
    assert_int_equal(s.count, 3);
    assert_true(s.median == 5 && s.least == 1 && s.most == 9);
    s = stats_summarize(even, 4);
    assert_true(s.median == 2.5 && s.least == 1 && s.most == 4);
    s = stats_summarize(one, 1);
    assert_true(s.median == 7 && s.least == 7 && s.most == 7);
    assert_true(odd[0] == 9); /* not sorted in place */
}

static void test_missing(void **state)
{
    const double some[] = {NAN, 3, INFINITY, 1, NAN}, none[] = {NAN, NAN};
    struct summary s = stats_summarize(some, 5);
    assert_int_equal(s.count, 2);
    assert_true(s.median == 2);
    s = stats_summarize(none, 2);
    assert_int_equal(s.count, 0);
    assert_true(isnan(s.median) && isnan(s.least) && isnan(s.most));
    s = stats_summarize(NULL, 0);
    assert_int_equal(s.count, 0);
}

/* A host that is twice as slow in the last two rounds: the ratio does not see it. */
static void test_ratio_is_of_the_same_moment(void **state)
{
    const double base[] = {10, 10, 20, 20}, twice[] = {20, 20, 40, 40};
    struct summary s = stats_ratio(twice, base, 4);
    assert_int_equal(s.count, 4);
    assert_true(s.median == 2 && s.least == 2 && s.most == 2);
}

static void test_ratio_needs_both(void **state)
{
    const double base[] = {10, NAN, 0, 4}, values[] = {NAN, 5, 5, 6};
    struct summary s = stats_ratio(values, base, 4);
    assert_int_equal(s.count, 1);
    assert_true(s.median == 1.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_ratio_is_of_the_same_moment),
        cmocka_unit_test(test_ratio_needs_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
