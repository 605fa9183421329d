/* SPDX-License-Identifier: Apache-2.0 */
#include "util/nearest.h"

#include <limits.h>
#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

static const char *pick(const char *word)
{
    static const char *const known[] = {"cpus",     "memory", "linux",  "disks",
                                        "consoles", "vsock",  "entropy"};
    struct nearest near = nearest_to(word);
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        nearest_offer(&near, known[i]);
    return near.best;
}

static void test_distance(void **state)
{
    (void)state;
    assert_int_equal(nearest_distance("", ""), 0);
    assert_int_equal(nearest_distance("", "abc"), 3);
    assert_int_equal(nearest_distance("kitten", "sitting"), 3);
    assert_int_equal(nearest_distance("memroy", "memory"), 1);
    assert_int_equal(nearest_distance("ab", "ba"), 1);
    char word[NEAREST_MAX_LEN + 2];
    memset(word, 'a', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    assert_int_equal(nearest_distance(word, "a"), UINT_MAX);
    word[NEAREST_MAX_LEN] = '\0';
    assert_int_equal(nearest_distance(word, "a"), NEAREST_MAX_LEN - 1);
}

static void test_the_nearest_is_picked_and_noise_is_not(void **state)
{
    (void)state;
    assert_string_equal(pick("memroy"), "memory");
    assert_string_equal(pick("cpu"), "cpus");
    assert_string_equal(pick("disk"), "disks");
    assert_string_equal(pick("entropi"), "entropy");
    assert_null(pick("network"));
    assert_null(pick("x"));
    assert_null(pick(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_the_nearest_is_picked_and_noise_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
