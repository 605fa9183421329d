/* SPDX-License-Identifier: Apache-2.0 */
#include "user.h"

#include <errno.h>
#include <string.h>

#include "util/testing.h"

static const char PASSWD[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "garbage\n"
                             "toobig:x:99999999999:0::/:/bin/sh\n"
                             "builder:x:1000:1000:,,,:/home/builder:/bin/bash\n"
                             "1234:x:7:8::/seven:/bin/sh\n"
                             "homeless:x:1001:1001:::";
static const char GROUP[] = "root:x:0:\nadm:x:4:builder,syslog\nbuilder:x:1000:\n"
                            "build:x:50:other,builder\nbuil:x:51:build,builders\nbad:x:zz:builder\n";

static void test_names_and_numbers(void **state)
{
    (void)state;
    struct user u;
    assert_int_equal(user_resolve("", PASSWD, GROUP, &u), 0);
    assert_int_equal(u.uid, 0);
    assert_string_equal(u.home, "/root");
    assert_int_equal(user_resolve("builder", PASSWD, GROUP, &u), 0);
    assert_int_equal(u.uid, 1000);
    assert_int_equal(u.gid, 1000);
    assert_int_equal(u.group_count, 3);
    assert_int_equal(u.groups[0], 4);
    assert_int_equal(u.groups[1], 50);
    assert_int_equal(u.groups[2], 1000);
    assert_int_equal(user_resolve("1000", PASSWD, GROUP, &u), 0);
    assert_string_equal(u.name, "builder");
    assert_int_equal(user_resolve("1234", PASSWD, GROUP, &u), 0); /* a name first */
    assert_int_equal(u.uid, 7);
    assert_int_equal(user_resolve("4242", PASSWD, GROUP, &u), 0);
    assert_int_equal(u.uid, 4242);
    assert_int_equal(u.gid, 0);
    assert_string_equal(u.name, "4242");
    assert_string_equal(u.home, "/");
    assert_int_equal(user_resolve("homeless", PASSWD, GROUP, &u), 0);
    assert_string_equal(u.home, "/");
}

static void test_explicit_groups(void **state)
{
    (void)state;
    struct user u;
    assert_int_equal(user_resolve("builder:adm", PASSWD, GROUP, &u), 0);
    assert_int_equal(u.gid, 4);
    assert_int_equal(u.group_count, 1);
    assert_int_equal(user_resolve("12:34", PASSWD, GROUP, &u), 0);
    assert_int_equal(u.uid, 12);
    assert_int_equal(u.gid, 34);
    assert_int_equal(user_resolve(":50", PASSWD, GROUP, &u), 0);
    assert_int_equal(u.uid, 0);
    assert_int_equal(u.gid, 50);
}

static void test_who_is_not_there(void **state)
{
    (void)state;
    struct user u;
    assert_int_equal(user_resolve("nobody", PASSWD, GROUP, &u), -ENOENT);
    assert_int_equal(user_resolve("build", PASSWD, GROUP, &u), -ENOENT);
    assert_int_equal(user_resolve("builder:nogroup", PASSWD, GROUP, &u), -ESRCH);
    assert_int_equal(user_resolve("4294967295", PASSWD, GROUP, &u), -ENOENT);
    assert_int_equal(user_resolve("toobig", PASSWD, GROUP, &u), -ENOENT);
    assert_int_equal(user_resolve("-1", PASSWD, GROUP, &u), -ENOENT);
    assert_int_equal(user_resolve("root", "", "", &u), -ENOENT);
    assert_int_equal(user_resolve("0", "", "", &u), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_numbers),
        cmocka_unit_test(test_explicit_groups),
        cmocka_unit_test(test_who_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
