/* SPDX-License-Identifier: Apache-2.0 */
#include "util/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/testing.h"

static int run(const char *script, int out, struct dayfly_err *err)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    const struct program p = {
        .argv = argv, .package = "dash", .stdin_fd = -1, .stdout_fd = out, .stderr_fd = -1};
    return program_run(&p, err);
}

static void test_path_is_searched_in_its_order(void **state)
{
    (void)state;
    char base[] = "/tmp/unit-program-test.XXXXXX";
    char path[PATH_MAX], folder[64], plain[64], good[64];
    assert_non_null(mkdtemp(base));
    snprintf(folder, sizeof(folder), "%s/a", base);
    snprintf(good, sizeof(good), "%s/b", base);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(mkdir(good, 0700), 0);
    /* In a: a folder of that name, and a file that is no program. In b: the program. */
    snprintf(plain, sizeof(plain), "%s/a/prog", base);
    assert_int_equal(mkdir(plain, 0700), 0);
    snprintf(path, sizeof(path), "%s/b/prog", base);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    close(fd);
    char folders[256];
    snprintf(folders, sizeof(folders), "/nowhere:%s:%s", folder, good);
    setenv("PATH", folders, 1);
    _cleanup_free_ char *found = program_find("prog");
    assert_string_equal(found, path);
    unlink(path);
    errno = 0;
    assert_null(program_find("prog"));
    assert_int_equal(errno, ENOENT);
    rmdir(plain);
    rmdir(folder);
    rmdir(good);
    rmdir(base);
}

static void test_an_empty_folder_is_not_the_working_directory(void **state)
{
    (void)state;
    char base[] = "/tmp/unit-program-test.XXXXXX";
    assert_non_null(mkdtemp(base));
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(chdir(base), 0);
    int fd = open("dayfly-here", O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    close(fd);
    setenv("PATH", ":/nowhere::", 1);
    assert_null(program_find("dayfly-here"));
    unlink("dayfly-here");
    assert_int_equal(fchdir(here), 0);
    close(here);
    rmdir(base);
}

static void test_the_administrators_folders_come_last(void **state)
{
    (void)state;
    if (access("/usr/sbin/mke2fs", X_OK) < 0)
        skip();
    setenv("PATH", "/nowhere", 1);
    _cleanup_free_ char *found = program_find("mke2fs");
    assert_string_equal(found, "/usr/sbin/mke2fs");
}

static void test_a_path_is_its_own_answer(void **state)
{
    (void)state;
    _cleanup_free_ char *found = program_find("./not/there");
    assert_string_equal(found, "./not/there");
}

static void test_a_probe_says_how_to_install(void **state)
{
    (void)state;
    struct dayfly_err why = {0};
    setenv("PATH", "/usr/bin:/bin", 1);
    assert_int_equal(program_probe("sh", "dash", &why), 0);
    assert_int_equal(program_probe("dayfly-no-such-program", "dayfly-extra", &why), -ENOENT);
    assert_string_equal(why.msg,
                        "dayfly-no-such-program is not installed: apt-get install dayfly-extra");
}

static void test_a_missing_program_names_its_package(void **state)
{
    (void)state;
    const char *const names[] = {"dayfly-no-such-program", "/nowhere/prog"};
    for (int i = 0; i < 2; i++) {
        struct dayfly_err err = {0};
        const char *const argv[] = {names[i], NULL};
        const struct program p = {
            .argv = argv, .package = "dayfly-extra", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
        assert_int_equal(program_run(&p, &err), -ENOENT);
        assert_non_null(strstr(err.msg, names[i]));
        assert_non_null(strstr(err.msg, "dayfly-extra"));
    }
}

static void test_output_goes_where_it_is_sent(void **state)
{
    (void)state;
    char text[16] = "";
    setenv("PATH", "/usr/bin:/bin", 1);
    _cleanup_close_ int out = memfd_create("out", MFD_CLOEXEC);
    assert_int_equal(run("read x || printf '%s' nothing", out, NULL), 0); /* stdin is /dev/null */
    assert_int_equal(pread(out, text, sizeof(text) - 1, 0), 7);
    assert_string_equal(text, "nothing");
}

static void test_the_environment_is_whole(void **state)
{
    (void)state;
    setenv("PATH", "/usr/bin:/bin", 1);
    setenv("DAYFLY_LEAK", "1", 1);
    const char *const argv[] = {"sh", "-c", "test \"$A\" = b && test -z \"$DAYFLY_LEAK\"", NULL};
    const char *const env[] = {"A=b", NULL};
    const struct program p = {
        .argv = argv, .env = env, .package = "dash", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    assert_int_equal(program_run(&p, NULL), 0);
}

static void test_a_failure_quotes_its_last_line(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    setenv("PATH", "/usr/bin:/bin", 1);
    assert_int_equal(run("echo first >&2; echo 'the cause' >&2; echo >&2; exit 3", -1, &err), -EIO);
    assert_string_equal(err.msg, "sh failed with status 3: the cause");
    assert_int_equal(run("exit 4", -1, &err), -EIO);
    assert_string_equal(err.msg, "sh failed with status 4");
    assert_int_equal(run("echo 'write: No space left on device' >&2; exit 1", -1, &err), -ENOSPC);
    assert_int_equal(run("kill -9 $$", -1, &err), -EIO);
    assert_string_equal(err.msg, "sh was killed by signal 9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_is_searched_in_its_order),
        cmocka_unit_test(test_an_empty_folder_is_not_the_working_directory),
        cmocka_unit_test(test_the_administrators_folders_come_last),
        cmocka_unit_test(test_a_path_is_its_own_answer),
        cmocka_unit_test(test_a_probe_says_how_to_install),
        cmocka_unit_test(test_a_missing_program_names_its_package),
        cmocka_unit_test(test_output_goes_where_it_is_sent),
        cmocka_unit_test(test_the_environment_is_whole),
        cmocka_unit_test(test_a_failure_quotes_its_last_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
