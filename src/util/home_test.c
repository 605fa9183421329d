/* SPDX-License-Identifier: Apache-2.0 */
#include "util/home.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/testing.h"

static void test_dayfly_home_comes_first(void **state)
{
    (void)state;
    char path[PATH_MAX];
    setenv("DAYFLY_HOME", "/somewhere/else", 1);
    assert_int_equal(home_data_dir(path, sizeof(path), NULL), 0);
    assert_string_equal(path, "/somewhere/else");
}

static void test_a_relative_home_is_refused(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct dayfly_err err = {0};
    setenv("DAYFLY_HOME", "data", 1);
    assert_int_equal(home_data_dir(path, sizeof(path), &err), -EINVAL);
    assert_non_null(strstr(err.msg, "DAYFLY_HOME"));
}

static void test_an_empty_variable_counts_as_unset(void **state)
{
    (void)state;
    char path[PATH_MAX];
    setenv("DAYFLY_HOME", "", 1);
    setenv("XDG_DATA_HOME", "/xdg", 1);
    assert_int_equal(home_data_dir(path, sizeof(path), NULL), 0);
    assert_string_equal(path, geteuid() == 0 ? "/var/lib/dayfly" : "/xdg/dayfly");
}

static void test_a_short_buffer_is_an_error(void **state)
{
    (void)state;
    char path[8];
    setenv("DAYFLY_HOME", "/longer/than/that", 1);
    assert_int_equal(home_data_dir(path, sizeof(path), NULL), -ENAMETOOLONG);
}

static void test_make_dirs_makes_parents_and_is_idempotent(void **state)
{
    (void)state;
    char base[] = "/tmp/unit-home-test.XXXXXX", path[PATH_MAX];
    assert_non_null(mkdtemp(base));
    snprintf(path, sizeof(path), "%s/a/b/c", base);
    assert_int_equal(home_make_dirs(path, 0700, NULL), 0);
    assert_int_equal(home_make_dirs(path, 0700, NULL), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    for (char *slash; strcmp(path, base) != 0; *slash = '\0') {
        rmdir(path);
        slash = strrchr(path, '/');
    }
    assert_int_equal(rmdir(base), 0);
    struct dayfly_err err = {0};
    assert_int_equal(home_make_dirs("/dev/null/x", 0700, &err), -ENOTDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dayfly_home_comes_first),
        cmocka_unit_test(test_a_relative_home_is_refused),
        cmocka_unit_test(test_an_empty_variable_counts_as_unset),
        cmocka_unit_test(test_a_short_buffer_is_an_error),
        cmocka_unit_test(test_make_dirs_makes_parents_and_is_idempotent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
