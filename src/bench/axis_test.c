/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/axis.h"

#include <math.h>

#include "util/testing.h"

static void assert_sane(const struct axis *axis, double least, double most)
{
    assert_true(axis->from < axis->to);
    assert_true(axis->from <= least && axis->to >= most * (1 - 1e-9));
    assert_in_range(axis->tick_count, 2, AXIS_MAX_TICKS);
    for (size_t i = 0; i < axis->tick_count; i++) {
        double place = axis_place(axis, axis->ticks[i]);
        assert_true(place >= 0 && place <= 1);
        assert_true(i == 0 || axis->ticks[i] > axis->ticks[i - 1]);
    }
    assert_true(axis_place(axis, least) <= axis_place(axis, most));
}

static void test_one_order_is_linear_from_zero(void **state)
{
    struct axis axis;
    axis_make(&axis, 10, 47);
    assert_false(axis.logarithmic);
    assert_true(axis.from == 0);
    assert_sane(&axis, 10, 47);
    assert_true(fabs(axis_place(&axis, axis.to / 2) - 0.5) < 1e-9);
}

static void test_many_orders_are_logarithmic(void **state)
{
    struct axis axis;
    axis_make(&axis, 9, 4300);
    assert_true(axis.logarithmic);
    assert_sane(&axis, 9, 4300);
    assert_true(axis.from == 5 && axis.to == 5000);
    assert_true(fabs(axis_place(&axis, 50) - 1.0 / 3) < 1e-9);
}

static void test_any_values(void **state)
{
    struct axis axis;
    double values[] = {0, 1e-9, 0.004, 0.9999, 1, 1.0001, 3, 999.9, 1000, 123456, 9e11, 1e15};
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
        for (size_t k = i; k < sizeof(values) / sizeof(*values); k++) {
            axis_make(&axis, values[i], values[k]);
            assert_sane(&axis, values[i], values[k]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_order_is_linear_from_zero),
        cmocka_unit_test(test_many_orders_are_logarithmic),
        cmocka_unit_test(test_any_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
