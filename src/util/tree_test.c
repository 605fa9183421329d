/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/testing.h"

static char top[] = "/tmp/unit-tree-XXXXXX";
static int top_fd;

static int setup(void **state)
{
    assert_non_null(mkdtemp(top));
    top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return top_fd < 0;
}

static int teardown(void **state)
{
    close(top_fd);
    return rmdir(top);
}

static void touch(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void everything_below_goes(void **state)
{
    assert_int_equal(mkdirat(top_fd, "t", 0700), 0);
    assert_int_equal(mkdirat(top_fd, "t/shut", 0700), 0);
    touch(top_fd, "t/a");
    touch(top_fd, "t/shut/b");
    assert_int_equal(fchmodat(top_fd, "t/shut", 0, 0), 0);
    assert_int_equal(mkfifoat(top_fd, "t/fifo", 0600), 0);
    assert_int_equal(tree_remove(top_fd, "t"), 0);
    assert_int_equal(faccessat(top_fd, "t", F_OK, 0), -1);
}

static void directories_may_be_read_only(void **state)
{
    bool root = geteuid() == 0;
    if (root) {
        assert_int_equal(fchown(top_fd, 65534, 65534), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    assert_int_equal(mkdirat(top_fd, "t", 0700), 0);
    assert_int_equal(mkdirat(top_fd, "t/read", 0700), 0);
    assert_int_equal(mkdirat(top_fd, "t/read/only", 0700), 0);
    touch(top_fd, "t/read/file");
    touch(top_fd, "t/read/only/file");
    assert_int_equal(fchmodat(top_fd, "t/read/only", 0555, 0), 0);
    assert_int_equal(fchmodat(top_fd, "t/read", 0555, 0), 0);
    assert_int_equal(fchmodat(top_fd, "t", 0555, 0), 0);
    int r = tree_remove(top_fd, "t");
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(r, 0);
    assert_int_equal(faccessat(top_fd, "t", F_OK, 0), -1);
}

static void links_are_not_followed(void **state)
{
    touch(top_fd, "kept");
    assert_int_equal(mkdirat(top_fd, "t", 0700), 0);
    assert_int_equal(symlinkat(top, top_fd, "t/out"), 0);
    assert_int_equal(symlinkat("../kept", top_fd, "t/file"), 0);
    assert_int_equal(tree_remove(top_fd, "t"), 0);
    assert_int_equal(symlinkat(top, top_fd, "link"), 0);
    assert_int_equal(tree_remove(top_fd, "link"), 0);
    assert_int_equal(tree_remove(top_fd, "kept"), 0);
    assert_int_equal(tree_remove(top_fd, "kept"), -ENOENT);
}

/* Deeper than the descriptors that a process may have, and than a path may be long. */
static void depth_costs_no_descriptors(void **state)
{
    assert_int_equal(mkdirat(top_fd, "t", 0700), 0);
    int fd = openat(top_fd, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(mkdirat(fd, "a directory with a long name", 0700), 0);
        int below = openat(fd, "a directory with a long name", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        touch(fd, "file");
        close(fd);
        fd = below;
    }
    close(fd);
    assert_int_equal(tree_remove(top_fd, "t"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_below_goes),
        cmocka_unit_test(directories_may_be_read_only),
        cmocka_unit_test(links_are_not_followed),
        cmocka_unit_test(depth_costs_no_descriptors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
