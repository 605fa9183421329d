/* SPDX-License-Identifier: Apache-2.0 */
#include "util/mac.h"

#include "util/arith.h"
#include "util/testing.h"

static void reads_addresses(void **state)
{
    const uint8_t wanted[MAC_BYTES] = {0x02, 0xab, 0xCD, 0x00, 0x7f, 0xff};
    uint8_t mac[MAC_BYTES];
    assert_true(mac_parse("02:ab:CD:00:7f:ff", mac));
    assert_memory_equal(mac, wanted, sizeof(mac));
}

static void refuses_what_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "0",
        "02",
        "02:",
        "02:00:00:00:00",
        "02:00:00:00:00:",
        "02:00:00:00:00:0",
        "02:00:00:00:00:0g",
        "02:00:00:00:00:00:",
        "02:00:00:00:00:001",
        "02-00-00-00-00-00",
        " 02:00:00:00:00:00",
        "2:0:0:0:0:0",
        "+2:00:00:00:00:00",
    };
    uint8_t mac[MAC_BYTES];
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(mac_parse(bad[i], mac));
}

static void makes_and_knows_those_of_one(void **state)
{
    uint8_t mac[MAC_BYTES], zero[MAC_BYTES] = {0}, group[MAC_BYTES] = {0x33, 0x33};
    for (int i = 0; i < 50; i++) {
        assert_int_equal(mac_random(mac), 0);
        assert_int_equal(mac[0] & 3, 2);
        assert_true(mac_is_one(mac));
    }
    assert_false(mac_is_one(zero));
    assert_false(mac_is_one(group));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_addresses),
        cmocka_unit_test(refuses_what_is_none),
        cmocka_unit_test(makes_and_knows_those_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
