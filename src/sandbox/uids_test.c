/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/uids.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/testing.h"

static void ranges_that_are_some(void **state)
{
    uid_t first, last;
    assert_int_equal(uids_parse_range("70000-70009", &first, &last, NULL), 0);
    assert_int_equal(first, 70000);
    assert_int_equal(last, 70009);
    assert_int_equal(uids_parse_range("65536-65536", &first, &last, NULL), 0);
}

static void ranges_that_are_none(void **state)
{
    static const char *const bad[] = {"",
                                      "7",
                                      "70000",
                                      "70009-70000",
                                      "a-b",
                                      "0-10",
                                      "65535-70000",
                                      "70000-70009x",
                                      "-1-5",
                                      "70000-4294967295",
                                      "70000-99999999999"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct dayfly_err err = {0};
        uid_t first, last;
        assert_int_equal(uids_parse_range(bad[i], &first, &last, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "DAYFLY_USER_RANGE"));
    }
}

static void what_is_somebodys(void **state)
{
    char name[64];
    const char *passwd = "root:x:0:0::/:/bin/sh\n\n#\nbroken\nann:x:70005:70005::/:\n";
    assert_true(uids_in_passwd(passwd, 70000, 70009, name));
    assert_string_equal(name, "ann");
    assert_false(uids_in_passwd(passwd, 70006, 70009, name));
    assert_false(uids_in_passwd("", 0, 70009, name));
    const char *subids = "bob:100000:65536\n:1:\nann:70000:5";
    assert_true(uids_in_subids(subids, 165535, 165536, name));
    assert_string_equal(name, "bob");
    assert_true(uids_in_subids(subids, 60000, 100000, name));
    assert_true(uids_in_subids(subids, 70004, 70009, name));
    assert_string_equal(name, "ann");
    assert_false(uids_in_subids(subids, 70005, 99999, name));
    assert_false(uids_in_subids(subids, 165536, 165540, name));
}

struct fixture {
    char dir[40];
    struct uids uids;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    strcpy(x->dir, "/tmp/uids-test.XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    setenv("DAYFLY_USER_RANGE", "1900000000-1900000002", 1);
    assert_int_equal(uids_open(&x->uids, x->dir, NULL), 0);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    char path[64];
    uids_close(&x->uids);
    snprintf(path, sizeof(path), "%s/uids", x->dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(x->dir), 0);
    unsetenv("DAYFLY_USER_RANGE");
    free(x);
    return 0;
}

static void a_lease_is_one_holders(void **state)
{
    struct fixture *x = *state;
    struct uids other;
    uid_t a, b, c, d;
    /* As another run would: by a file of its own. */
    assert_int_equal(uids_open(&other, x->dir, NULL), 0);
    int la = uids_take(&x->uids, &a, NULL), lb = uids_take(&other, &b, NULL);
    int lc = uids_take(&x->uids, &c, NULL);
    assert_true(la >= 0 && lb >= 0 && lc >= 0);
    assert_true(a != b && b != c && a != c);
    assert_int_equal(uids_take(&other, &d, NULL), -EBUSY);
    assert_int_equal(uids_take_this(&other, a), -EBUSY);
    /* A copy of the descriptor, as the sandbox's init has one, holds it as well. */
    int copy = dup(lb);
    close(lb);
    assert_int_equal(uids_take(&other, &d, NULL), -EBUSY);
    close(copy);
    lb = uids_take(&x->uids, &d, NULL);
    assert_true(lb >= 0);
    assert_int_equal(d, b);
    close(la);
    close(lb);
    close(lc);
    uids_close(&other);
}

static void ids_come_in_turn(void **state)
{
    struct fixture *x = *state;
    uid_t uid;
    for (uid_t i = 0; i < 7; i++) {
        int lease = uids_take(&x->uids, &uid, NULL);
        assert_true(lease >= 0);
        assert_int_equal(uid, 1900000000 + i % 3);
        close(lease);
    }
}

static void what_stands_in_the_file_is_not_believed(void **state)
{
    static const char *const texts[] = {"", "x", "-5", "1899999999", "1900000003", "99999999999999"};
    struct fixture *x = *state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        uid_t uid;
        assert_int_equal(ftruncate(x->uids.fd, 0), 0);
        assert_int_equal(pwrite(x->uids.fd, texts[i], strlen(texts[i]), 0), (ssize_t)strlen(texts[i]));
        int lease = uids_take(&x->uids, &uid, NULL);
        assert_true(lease >= 0);
        assert_int_equal(uid, 1900000000);
        close(lease);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_that_are_some),
        cmocka_unit_test(ranges_that_are_none),
        cmocka_unit_test(what_is_somebodys),
        cmocka_unit_test_setup_teardown(a_lease_is_one_holders, setup, teardown),
        cmocka_unit_test_setup_teardown(ids_come_in_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(what_stands_in_the_file_is_not_believed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
