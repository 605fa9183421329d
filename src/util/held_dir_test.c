/* SPDX-License-Identifier: Apache-2.0 */
#include "util/held_dir.h"

#include <sys/file.h>

#include "util/testing_files.h"

#define PREFIX "held-"

static int make(char name[HELD_DIR_NAME_BYTES])
{
    int fd = held_dir_make(AT_FDCWD, PREFIX, name);
    assert_true(fd >= 0);
    assert_memory_equal(name, PREFIX, strlen(PREFIX));
    return fd;
}

static void sweep_all(const struct sweep *sweep)
{
    _cleanup_close_ int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    held_dir_sweep(here, "here", PREFIX, "folder", sweep);
}

static void test_it_stays_while_it_is_held(void **state)
{
    char first[HELD_DIR_NAME_BYTES], second[HELD_DIR_NAME_BYTES];
    struct stat st;
    int fd = make(first), other = make(second);
    assert_string_not_equal(first, second);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    put(fd, "file", "text");
    close(other);
    sweep_all(NULL);
    assert_text(fd, "file", "text");
    assert_int_equal(access(first, F_OK), 0);
    assert_none(AT_FDCWD, second);
    close(fd);
    sweep_all(NULL);
    assert_none(AT_FDCWD, first);
}

static void test_nothing_else_is_taken(void **state)
{
    assert_int_equal(mkdir("other-000000000000", 0700), 0);
    assert_int_equal(mkdir("target", 0700), 0);
    put(AT_FDCWD, "target/file", "text");
    put(AT_FDCWD, PREFIX "file", "text");
    assert_int_equal(symlink("target", PREFIX "link"), 0);
    sweep_all(NULL);
    assert_int_equal(access("other-000000000000", F_OK), 0);
    assert_text(AT_FDCWD, "target/file", "text");
    assert_text(AT_FDCWD, PREFIX "file", "text");
    assert_int_equal(access(PREFIX "link", F_OK), 0);
}

static void tell(void *opaque, const char *kind, const char *name, int error)
{
    assert_string_equal(kind, "folder");
    assert_memory_equal(name, "here/" PREFIX, strlen("here/" PREFIX));
    assert_int_equal(error, 0);
    *(unsigned *)opaque += 1;
}

static void test_a_dry_sweep_only_tells(void **state)
{
    unsigned told = 0;
    char name[HELD_DIR_NAME_BYTES];
    struct sweep sweep = {.dry_run = true, .tell = tell, .opaque = &told};
    close(make(name));
    sweep_all(&sweep);
    assert_int_equal(told, 1);
    assert_int_equal(access(name, F_OK), 0);
    sweep.dry_run = false;
    sweep_all(&sweep);
    assert_int_equal(told, 2);
    assert_none(AT_FDCWD, name);
}

static void test_a_prefix_too_long_is_refused(void **state)
{
    char name[HELD_DIR_NAME_BYTES];
    const char prefix[] = "a prefix of more bytes than a name of such a directory has";
    assert_int_equal(held_dir_make(AT_FDCWD, prefix, name), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_stays_while_it_is_held, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_nothing_else_is_taken, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_a_dry_sweep_only_tells, enter_folder, leave_folder),
        cmocka_unit_test(test_a_prefix_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
