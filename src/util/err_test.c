/* SPDX-License-Identifier: Apache-2.0 */
#include "util/err.h"

#include <errno.h>
#include <string.h>

#include "util/testing.h"

static void test_set_returns_the_negative_code(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    assert_int_equal(err_set(&err, EINVAL, "memory of %d bytes", 3), -EINVAL);
    assert_int_equal(err.code, EINVAL);
    assert_string_equal(err.msg, "memory of 3 bytes");
    assert_int_equal(err_set(NULL, ENOENT, "nobody listens"), -ENOENT);
}

static void test_errno_appends_the_reason(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    assert_int_equal(err_errno(&err, ENOENT, "open %s", "/x"), -ENOENT);
    assert_string_equal(err.msg, "open /x: No such file or directory");
}

static void test_wrap_puts_context_in_front(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    err_set(&err, EIO, "short read");
    assert_int_equal(err_wrap(&err, "kernel %s", "vmlinux"), -EIO);
    assert_string_equal(err.msg, "kernel vmlinux: short read");
}

static void test_a_long_message_is_cut_not_overrun(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    char long_name[2 * DAYFLY_ERR_MSG_BYTES];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    err_errno(&err, ENOENT, "%s", long_name);
    assert_int_equal(strlen(err.msg), DAYFLY_ERR_MSG_BYTES - 1);
    err_wrap(&err, "%s", long_name);
    assert_int_equal(strlen(err.msg), DAYFLY_ERR_MSG_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_returns_the_negative_code),
        cmocka_unit_test(test_errno_appends_the_reason),
        cmocka_unit_test(test_wrap_puts_context_in_front),
        cmocka_unit_test(test_a_long_message_is_cut_not_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
