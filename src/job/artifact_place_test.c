/* SPDX-License-Identifier: Apache-2.0 */
#include "job/artifact_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/testing_files.h"
#include "util/tree.h"

static void write_at(int dir, const char *path, const char *text)
{
    _cleanup_close_ int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

static void assert_file(const char *path, const char *want)
{
    _cleanup_free_ char *text = NULL;
    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
        fail_msg("%s is not there", path);
    assert_string_equal(text, want);
}

static struct artifact_place open_place(const char *path)
{
    struct artifact_place place;
    struct dayfly_err err = {0};
    if (artifact_place_open(&place, path, &err) < 0)
        fail_msg("%s", err.msg);
    return place;
}

static void make_tree(struct artifact_place *place)
{
    assert_int_equal(mkdirat(place->stage_fd, PLACE_NEW, 0755), 0);
    assert_int_equal(mkdirat(place->stage_fd, PLACE_NEW "/sub", 0755), 0);
    write_at(place->stage_fd, PLACE_NEW "/a", "new a");
    write_at(place->stage_fd, PLACE_NEW "/sub/b", "new b");
}

static void test_a_file_takes_the_place_of_one(void **state)
{
    struct artifact_place place = open_place("made/on/the/way");
    write_at(AT_FDCWD, "made/on/the/way/out", "old");
    write_at(place.stage_fd, PLACE_NEW, "new");
    assert_file("made/on/the/way/out", "old");
    assert_int_equal(artifact_place_publish(&place, "out", NULL), 0);
    assert_file("made/on/the/way/out", "new");
    artifact_place_close(&place);
    assert_int_equal(rmdir("made/on/the/way"), -1); /* of what is left there is only: */
    assert_int_equal(unlink("made/on/the/way/out"), 0);
    assert_int_equal(rmdir("made/on/the/way"), 0);
}

static void test_a_directory_is_added_to(void **state)
{
    struct artifact_place place = open_place(".");
    make_tree(&place);
    assert_int_equal(artifact_place_publish(&place, "dist", NULL), 0);
    write_at(AT_FDCWD, "dist/mine", "mine");
    write_at(AT_FDCWD, "dist/sub/b", "old b");
    write_at(AT_FDCWD, "dist/sub/c", "c");
    make_tree(&place);
    assert_int_equal(artifact_place_publish(&place, "dist", NULL), 0);
    assert_file("dist/mine", "mine");
    assert_file("dist/a", "new a");
    assert_file("dist/sub/b", "new b");
    assert_file("dist/sub/c", "c");
    artifact_place_close(&place);
}

static void test_kinds_do_not_replace_each_other(void **state)
{
    struct artifact_place place = open_place(".");
    struct dayfly_err err;
    assert_int_equal(mkdir("out", 0755), 0);
    write_at(place.stage_fd, PLACE_NEW, "new");
    assert_int_equal(artifact_place_publish(&place, "out", &err), -EISDIR);
    tree_remove(place.stage_fd, PLACE_NEW);
    write_at(AT_FDCWD, "file", "old");
    make_tree(&place);
    assert_int_equal(artifact_place_publish(&place, "file", &err), -ENOTDIR);
    assert_file("file", "old");
    tree_remove(place.stage_fd, PLACE_NEW);
    /* Nor within a directory that is added to. */
    assert_int_equal(mkdir("dist", 0755), 0);
    write_at(AT_FDCWD, "dist/sub", "a file");
    make_tree(&place);
    assert_int_equal(artifact_place_publish(&place, "dist", &err), -ENOTDIR);
    assert_non_null(strstr(err.msg, "sub"));
    assert_file("dist/sub", "a file");
    artifact_place_close(&place);
}

/* A link that an earlier artifact brought, or the user's own, leads nothing astray. */
static void test_links_are_not_followed(void **state)
{
    struct artifact_place place = open_place(".");
    assert_int_equal(mkdir("elsewhere", 0755), 0);
    assert_int_equal(mkdir("dist", 0755), 0);
    assert_int_equal(symlink("../elsewhere", "dist/sub"), 0);
    make_tree(&place);
    assert_int_equal(artifact_place_publish(&place, "dist", NULL), -ENOTDIR);
    assert_int_equal(access("elsewhere/b", F_OK), -1);
    tree_remove(place.stage_fd, PLACE_NEW);

    write_at(AT_FDCWD, "target", "safe");
    assert_int_equal(symlink("target", "link"), 0);
    write_at(place.stage_fd, PLACE_NEW, "new");
    assert_int_equal(artifact_place_publish(&place, "link", NULL), 0);
    assert_file("target", "safe");
    assert_file("link", "new");
    artifact_place_close(&place);
}

static void test_what_a_killed_runner_left_goes(void **state)
{
    struct artifact_place live = open_place("."), next;
    write_at(live.stage_fd, PLACE_NEW, "whole soon");
    assert_int_equal(mkdir(".dayfly-artifact-000000000000", 0700), 0);
    write_at(AT_FDCWD, ".dayfly-artifact-000000000000/new", "half");
    next = open_place(".");
    assert_int_equal(access(".dayfly-artifact-000000000000", F_OK), -1);
    /* One that is in use stays. */
    assert_int_equal(artifact_place_publish(&live, "out", NULL), 0);
    assert_file("out", "whole soon");
    artifact_place_close(&live);
    artifact_place_close(&next);
    artifact_place_close(&next);
    assert_int_equal(unlink("out"), 0);
    assert_int_equal(rmdir(*state), 0);
    assert_int_equal(mkdir(*state, 0700), 0);
}

static void count(void *opaque, const char *kind, const char *name, int error)
{
    assert_string_equal(kind, "artifact");
    assert_string_equal(name, "./.dayfly-artifact-000000000000");
    assert_int_equal(error, 0);
    ++*(int *)opaque;
}

static void test_a_sweep_says_what_goes(void **state)
{
    int told = 0;
    struct sweep sweep = {.dry_run = true, .tell = count, .opaque = &told};
    struct artifact_place live = open_place(".");
    assert_int_equal(mkdir(".dayfly-artifact-000000000000", 0700), 0);
    write_at(AT_FDCWD, ".dayfly-artifact-000000000000/new", "half");
    assert_int_equal(artifact_place_sweep(".", &sweep, NULL), 0);
    assert_int_equal(told, 1);
    assert_file(".dayfly-artifact-000000000000/new", "half");
    sweep.dry_run = false;
    assert_int_equal(artifact_place_sweep(".", &sweep, NULL), 0);
    assert_int_equal(told, 2);
    assert_int_equal(access(".dayfly-artifact-000000000000", F_OK), -1);
    assert_int_equal(access(live.stage, F_OK), 0);
    artifact_place_close(&live);
    assert_int_equal(artifact_place_sweep("gone", &sweep, NULL), -ENOENT);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_a_file_takes_the_place_of_one),   IN_DIRECTORY(test_a_directory_is_added_to),
        IN_DIRECTORY(test_kinds_do_not_replace_each_other), IN_DIRECTORY(test_links_are_not_followed),
        IN_DIRECTORY(test_what_a_killed_runner_left_goes),  IN_DIRECTORY(test_a_sweep_says_what_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
