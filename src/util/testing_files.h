/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_TESTING_FILES_H
#define UTIL_TESTING_FILES_H

/* Files for tests: a folder to work in, and what is in a file. Included by *_test.c files only. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/testing.h"
#include "util/tree.h"

/* For cmocka's set-up and tear-down: a folder as the working directory, and it is gone. */
static inline int enter_folder(void **state)
{
    char *dir = strdup("/tmp/folder-test.XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    *state = dir;
    return 0;
}

static inline int leave_folder(void **state)
{
    assert_int_equal(chdir("/"), 0);
    assert_int_equal(tree_remove(AT_FDCWD, *state), 0);
    free(*state);
    return 0;
}

/* Run `work` as a child with a folder on a ramfs, which has no direct I/O: 0 is a pass, 77 a skip, and
 * so is a machine on which nothing can be mounted. */
static inline void with_ramfs(int (*work)(const char *folder))
{
    char folder[] = "/tmp/folder-test.XXXXXX";
    int status;
    assert_non_null(mkdtemp(folder));
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("ramfs", folder, "ramfs", 0, NULL) < 0)
            _exit(77);
        _exit(work(folder));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    rmdir(folder);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static inline void put(int dir_fd, const char *name, const char *text)
{
    _cleanup_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

static inline void assert_text(int dir_fd, const char *name, const char *text)
{
    _cleanup_free_ char *got = NULL;
    size_t len;
    assert_int_equal(io_read_file(dir_fd, name, 4096, &got, &len), 0);
    assert_string_equal(got, text);
}

/* A document is what `print` prints today; `command` is how to make it. */
static inline void assert_document(const char *path, void (*print)(FILE *out), const char *command)
{
    _cleanup_free_ char *printed = NULL, *document = NULL;
    size_t bytes;
    FILE *out = open_memstream(&printed, &bytes);
    assert_non_null(out);
    print(out);
    fclose(out);
    assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 20, &document, NULL), 0);
    if (strcmp(printed, document) != 0)
        fail_msg("%s is out of date: %s", path, command);
}

static inline void assert_none(int dir_fd, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(errno, ENOENT);
}

#endif
