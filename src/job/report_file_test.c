/* SPDX-License-Identifier: Apache-2.0 */
#include "job/report_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/testing_files.h"
#include "util/tree.h"

/* Find it, let a job have its way, and write it. */
static int written(const char *path, void (*job)(void), struct dayfly_err *err)
{
    struct report_file file;
    json_t *report = json_pack("{s:s}", "image", "host");
    int r = report_file_find(&file, path, err);
    if (r == 0 && job)
        job();
    if (r == 0)
        r = report_file_write(&file, report, err);
    report_file_finish(&file);
    json_decref(report);
    return r;
}

static void assert_report(const char *path)
{
    json_t *back = json_load_file(path, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(back, "image")), "host");
    json_decref(back);
}

static void it_is_whole_or_not_there(void **state)
{
    struct dayfly_err err;
    assert_int_equal(mkdir("folder", 0755), 0);
    assert_int_equal(written("folder/r.json", NULL, &err), 0);
    assert_int_equal(written("folder/r.json", NULL, &err), 0); /* over the old one */
    assert_report("folder/r.json");
    assert_int_equal(unlink("folder/r.json"), 0);
    assert_int_equal(rmdir("folder"), 0); /* nothing else was in it */
    assert_int_equal(written("r.json", NULL, &err), 0);
    assert_report("r.json");
    assert_int_equal(written("new/below/r.json", NULL, &err), 0);
    assert_report("new/below/r.json");
    assert_int_equal(written("/proc/nonexistent/r.json", NULL, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/proc/nonexistent"));
}

static void must_not_run(void)
{
    fail_msg("it runs");
}

static void what_cannot_be_written_is_found_before(void **state)
{
    struct dayfly_err err;
    assert_int_equal(mkdir("folder", 0755), 0);
    assert_int_equal(close(open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)), 0);
    assert_int_equal(written("folder", must_not_run, &err), -EISDIR);
    assert_int_equal(written("file/r.json", must_not_run, &err), -ENOTDIR);
    assert_int_equal(written("file/below/r.json", must_not_run, &err), -ENOTDIR);
    assert_non_null(strstr(err.msg, "the report file/below/r.json"));
    assert_int_equal(access("file", F_OK), 0);
}

static void look_that_it_is_gone(void)
{
    assert_int_equal(faccessat(AT_FDCWD, "r.json", F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void an_older_one_is_gone_before(void **state)
{
    struct stat st;
    assert_int_equal(written("r.json", NULL, NULL), 0);
    assert_int_equal(written("r.json", look_that_it_is_gone, NULL), 0);
    assert_report("r.json");
    /* Of a link it is the link. */
    assert_int_equal(rename("r.json", "mine"), 0);
    assert_int_equal(symlink("mine", "r.json"), 0);
    assert_int_equal(written("r.json", look_that_it_is_gone, NULL), 0);
    assert_report("mine");
    assert_int_equal(lstat("r.json", &st), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void what_is_no_file_is_written_to(void **state)
{
    struct stat st;
    assert_int_equal(written("/dev/null", NULL, NULL), 0);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode)); /* and not replaced by a file */
}

static void a_stream_that_is_a_file_is_written_to(void **state)
{
    struct stat st;
    char text[64] = "";
    int kept = dup(STDERR_FILENO);
    int out = open("out", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    assert_int_equal(write(out, "said\n", 5), 5);
    assert_int_equal(symlink("/proc/self/fd/2", "stream"), 0);
    dup2(out, STDERR_FILENO);
    int r = written("stream", NULL, NULL);
    dup2(kept, STDERR_FILENO);
    close(kept);
    assert_int_equal(r, 0);
    assert_int_equal(lstat("stream", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_true(pread(out, text, sizeof(text) - 1, 0) > 0);
    close(out);
    assert_string_equal(text, "said\n{\n  \"image\": \"host\"\n}\n");
}

static void put_links(void)
{
    unlink("file");
    assert_int_equal(symlink("victim", "file"), 0);
    assert_int_equal(symlink("/dev/null", "special"), 0);
    assert_int_equal(rename("folder", "was-folder"), 0);
    assert_int_equal(symlink("outside", "folder"), 0);
}

/* What a job could do in a folder that is shared with it. */
static void links_that_came_since_lead_nowhere(void **state)
{
    static const char *const paths[] = {"file", "special", "folder/r.json"};
    for (size_t i = 0; i < 3; i++) {
        struct stat st;
        tree_remove(AT_FDCWD, "folder");
        tree_remove(AT_FDCWD, "was-folder");
        tree_remove(AT_FDCWD, "special");
        mkdir("outside", 0755);
        assert_int_equal(mkdir("folder", 0755), 0);
        assert_true(close(open("victim", O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644)) == 0);
        int r = written(paths[i], put_links, &(struct dayfly_err){0});
        assert_int_equal(stat("victim", &st), 0);
        assert_int_equal(st.st_size, 0);
        assert_int_equal(rmdir("outside"), 0); /* it is empty */
        if (i == 2) {
            assert_int_equal(r, -ENOTDIR);
        } else {
            assert_int_equal(r, 0);
            assert_int_equal(lstat(paths[i], &st), 0);
            assert_true(S_ISREG(st.st_mode));
            assert_report(paths[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_whole_or_not_there, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(what_cannot_be_written_is_found_before, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(an_older_one_is_gone_before, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_written_to, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(a_stream_that_is_a_file_is_written_to, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(links_that_came_since_lead_nowhere, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
