/* SPDX-License-Identifier: Apache-2.0 */
#include "util/text.h"

#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

static void test_what_is_kept_and_what_is_not(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"", ""},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xe2\x82\xac \xf0\x9f\x90\x9b", "\xe2\x82\xac \xf0\x9f\x90\x9b"},
        {"a\033[31mb\n\tc\177", "a?[31mb??c?"},
        {"c1 \xc2\x9b here", "c1 ?? here"},
        {"\xff\xfe", "??"},
        {"cut \xe2\x82", "cut ??"},
        {"lone \x80", "lone ?"},
        {"overlong \xc0\xaf", "overlong ??"},
        {"surrogate \xed\xa0\x80", "surrogate ???"},
        {"beyond \xf4\x90\x80\x80", "beyond ????"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[64];
        strcpy(text, cases[i][0]);
        text_make_printable(text);
        assert_string_equal(text, cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_kept_and_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
