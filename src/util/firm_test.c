/* SPDX-License-Identifier: Apache-2.0 */
#include "util/firm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/testing_files.h"
#include "util/tree.h"

/* Settle `path`, have `change` happen, and open: whether that leads to what is `where` by then. */
static int opened(const char *path, void (*change)(void), const char *where)
{
    _cleanup_free_ char *firm = NULL;
    struct dayfly_err err = {0};
    struct stat st, want;
    if (firm_path(path, &firm, &err) < 0)
        fail_msg("%s", err.msg);
    if (change)
        change();
    _cleanup_close_ int fd = firm_open(firm, 0755, &err);
    if (fd < 0)
        return fd;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(stat(where, &want), 0);
    assert_int_equal(st.st_ino, want.st_ino);
    return 0;
}

static void what_is_missing_is_made(void **state)
{
    char path[64];
    assert_int_equal(opened(".", NULL, "."), 0);
    assert_int_equal(opened("a", NULL, "a"), 0);
    assert_int_equal(opened("a/./b//c/", NULL, "a/b/c"), 0);
    assert_int_equal(opened("a/../a/d", NULL, "a/d"), 0);
    snprintf(path, sizeof(path), "%s/e/f", (const char *)*state);
    assert_int_equal(opened(path, NULL, "e/f"), 0);
    assert_int_equal(opened("/", NULL, "/"), 0);
}

static void links_that_are_there_are_followed(void **state)
{
    assert_int_equal(mkdir("real", 0755), 0);
    assert_int_equal(symlink("real", "link"), 0);
    assert_int_equal(opened("link", NULL, "real"), 0);
    assert_int_equal(opened("link/new", NULL, "real/new"), 0);
}

static void put_a_link(void)
{
    rmdir("out");
    assert_int_equal(symlink("/etc", "out"), 0);
}

static void put_a_directory(void)
{
    assert_int_equal(rmdir("out"), 0);
    assert_int_equal(mkdir("out", 0755), 0);
}

static void others_are_not(void **state)
{
    assert_int_equal(opened("out", put_a_link, "/"), -ENOTDIR);
    assert_int_equal(unlink("out"), 0);
    assert_int_equal(opened("out/cron.d", put_a_link, "/"), -ENOTDIR);
    assert_int_equal(unlink("out"), 0);
    assert_int_equal(mkdir("out", 0755), 0);
    assert_int_equal(opened("out", put_a_link, "/"), -ENOTDIR);
    assert_int_equal(unlink("out"), 0);
    /* It is the path that is firm, not the directory: builds make theirs anew. */
    assert_int_equal(mkdir("out", 0755), 0);
    assert_int_equal(opened("out", put_a_directory, "out"), 0);
}

static void what_is_refused(void **state)
{
    char *firm = NULL;
    _cleanup_close_ int file = open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_true(file >= 0);
    assert_int_equal(firm_path("new/../../etc", &firm, NULL), -EINVAL);
    assert_int_equal(firm_path("file/x", &firm, NULL), -ENOTDIR);
    assert_int_equal(opened("file", NULL, "."), -ENOTDIR);
    assert_null(firm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_missing_is_made, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(links_that_are_there_are_followed, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(others_are_not, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(what_is_refused, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
