/* SPDX-License-Identifier: Apache-2.0 */
/* Copy on write, and what becomes of the difference: on the mount itself, no guest is needed. */
#include "fs/cow.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/changes.h"
#include "sandbox/idmap.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/testing_files.h"
#include "util/tree.h"

struct place {
    char base[64], changes[64], other[64];
    int base_fd;
    struct cow cow;
};

/* base/: file, gone, kept, dir/{inner,gone}, hidden/{below}, link -> file */
static int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    if (!p)
        return -1;
    *state = p;
    p->cow = (struct cow)COW_INIT;
    strcpy(p->base, "/var/tmp/unit-cow-base.XXXXXX");
    strcpy(p->changes, "/var/tmp/unit-cow-changes.XXXXXX");
    strcpy(p->other, "/dev/shm/unit-cow-changes.XXXXXX");
    assert_non_null(mkdtemp(p->base));
    assert_non_null(mkdtemp(p->changes));
    assert_non_null(mkdtemp(p->other));
    p->base_fd = open(p->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put(p->base_fd, "file", "base");
    put(p->base_fd, "gone", "base");
    put(p->base_fd, "kept", "base");
    assert_int_equal(mkdirat(p->base_fd, "dir", 0755), 0);
    put(p->base_fd, "dir/inner", "base");
    put(p->base_fd, "dir/gone", "base");
    assert_int_equal(mkdirat(p->base_fd, "hidden", 0755), 0);
    put(p->base_fd, "hidden/below", "base");
    assert_int_equal(symlinkat("file", p->base_fd, "link"), 0);
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    cow_close(&p->cow);
    close_fd(&p->base_fd);
    tree_remove(AT_FDCWD, p->base);
    tree_remove(AT_FDCWD, p->changes);
    tree_remove(AT_FDCWD, p->other);
    free(p);
    return 0;
}

static void open_cow(struct place *p, const char *changes)
{
    struct dayfly_err err = {0};
    const struct cow_options options = {.dir = p->base, .changes = changes};
    int r = cow_open(&p->cow, &options, &err);
    if (r == -EPERM || r == -ENOSPC) {
        print_message("%s\n", err.msg);
        skip();
    }
    if (r < 0)
        fail_msg("%s", err.msg);
}

/* What a guest might do. */
static void change(int fd)
{
    put(fd, "file", "changed");
    put(fd, "new", "new");
    assert_int_equal(unlinkat(fd, "gone", 0), 0);
    assert_int_equal(unlinkat(fd, "dir/gone", 0), 0);
    put(fd, "dir/more", "more");
    assert_int_equal(fchmodat(fd, "dir", 0700, 0), 0);
    /* A directory in the place of another: it hides what was there. */
    assert_int_equal(unlinkat(fd, "hidden/below", 0), 0);
    assert_int_equal(unlinkat(fd, "hidden", AT_REMOVEDIR), 0);
    assert_int_equal(mkdirat(fd, "hidden", 0755), 0);
    put(fd, "hidden/above", "above");
    assert_int_equal(unlinkat(fd, "link", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", fd, "link"), 0);
    assert_int_equal(mkdirat(fd, "tree", 0755), 0);
    assert_int_equal(mkdirat(fd, "tree/deep", 0755), 0);
    put(fd, "tree/deep/leaf", "leaf");
}

static void assert_changed(int fd)
{
    struct stat st;
    char target[32] = "";
    assert_text(fd, "file", "changed");
    assert_text(fd, "kept", "base");
    assert_text(fd, "new", "new");
    assert_none(fd, "gone");
    assert_none(fd, "dir/gone");
    assert_text(fd, "dir/inner", "base");
    assert_text(fd, "dir/more", "more");
    assert_int_equal(fstatat(fd, "dir", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_none(fd, "hidden/below");
    assert_text(fd, "hidden/above", "above");
    assert_int_equal(readlinkat(fd, "link", target, sizeof(target) - 1), 11);
    assert_string_equal(target, "/etc/passwd");
    assert_text(fd, "tree/deep/leaf", "leaf");
}

static void assert_unchanged(int fd)
{
    assert_text(fd, "file", "base");
    assert_text(fd, "gone", "base");
    assert_text(fd, "dir/gone", "base");
    assert_text(fd, "hidden/below", "base");
    assert_text(fd, "link", "base");
    assert_none(fd, "new");
    assert_none(fd, "tree");
}

static void the_base_stays_as_it_is(void **state)
{
    struct place *p = *state;
    open_cow(p, NULL);
    change(p->cow.fd);
    assert_changed(p->cow.fd);
    assert_unchanged(p->base_fd);
    /* In memory, they are gone with the mount. */
    cow_close(&p->cow);
    open_cow(p, NULL);
    assert_unchanged(p->cow.fd);
}

/* The file server tells files by device and number, also across the first change. */
static void numbers_are_of_one_device_and_stay(void **state)
{
    static const char *const names[] = {".", "dir", "file", "dir/inner"};
    struct place *p = *state;
    struct stat root, before, after;
    open_cow(p, NULL);
    assert_int_equal(fstat(p->cow.fd, &root), 0);
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(fstatat(p->cow.fd, names[i], &before, 0), 0);
        assert_int_equal(before.st_dev, root.st_dev);
        assert_int_equal(fchmodat(p->cow.fd, names[i], before.st_mode ^ S_IXOTH, 0), 0);
        assert_int_equal(fstatat(p->cow.fd, names[i], &after, 0), 0);
        assert_int_equal(after.st_dev, root.st_dev);
        assert_int_equal(after.st_ino, before.st_ino);
    }
}

static void changes_outlive_the_mount(void **state)
{
    struct place *p = *state;
    open_cow(p, p->changes);
    change(p->cow.fd);
    cow_close(&p->cow);
    open_cow(p, p->changes);
    assert_changed(p->cow.fd);
    assert_unchanged(p->base_fd);
}

static int collect(void *opaque, enum change_kind kind, const char *path)
{
    char *text = opaque;
    sprintf(text + strlen(text), "%c %s\n", "AMD"[kind], path);
    return 0;
}

static void the_difference_is_listed(void **state)
{
    struct place *p = *state;
    struct changes changes;
    struct dayfly_err err;
    char text[1024] = "";
    open_cow(p, p->changes);
    change(p->cow.fd);
    assert_int_equal(changes_open(&changes, p->changes, &err), -EBUSY);
    cow_close(&p->cow);
    assert_int_equal(changes_open(&changes, p->changes, &err), 0);
    assert_int_equal(changes_list(&changes, collect, text, &err), 0);
    assert_string_equal(text, "M dir\n"
                              "D dir/gone\n"
                              "A dir/more\n"
                              "M file\n"
                              "D gone\n"
                              "M hidden\n"
                              "A hidden/above\n"
                              "M link\n"
                              "A new\n"
                              "A tree\n"
                              "A tree/deep\n"
                              "A tree/deep/leaf\n");
    changes_close(&changes);
}

static void promote(const char *path)
{
    struct changes changes;
    struct dayfly_err err = {0};
    assert_int_equal(changes_open(&changes, path, &err), 0);
    if (changes_promote(&changes, &err) < 0)
        fail_msg("%s", err.msg);
    changes_close(&changes);
    assert_int_equal(changes_open(&changes, path, &err), -ENOENT);
}

static void assert_no_marks(const char *base, const char *name)
{
    char path[128], list[4096];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    ssize_t n = listxattr(path, list, sizeof(list));
    for (const char *mark = list; mark < list + n; mark += strlen(mark) + 1)
        assert_null(strstr(mark, "overlay"));
}

static void promoted_changes_are_the_base(void **state)
{
    struct place *p = *state;
    open_cow(p, p->changes);
    change(p->cow.fd);
    cow_close(&p->cow);
    promote(p->changes);
    assert_changed(p->base_fd);
    assert_no_marks(p->base, "hidden");
    assert_no_marks(p->base, "file");
    assert_no_marks(p->base, "dir");
    assert_no_marks(p->base, ".");
}

static void promotion_crosses_file_systems(void **state)
{
    struct place *p = *state;
    struct stat st;
    open_cow(p, p->other);
    change(p->cow.fd);
    {
        _cleanup_close_ int fd = openat(p->cow.fd, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
        assert_int_equal(io_pwrite_full(fd, "end", 3, 8 << 20), 0);
        const struct timespec times[2] = {{1000, 5}, {2000, 123456789}};
        assert_int_equal(futimens(fd, times), 0);
    }
    cow_close(&p->cow);
    promote(p->other);
    assert_changed(p->base_fd);
    assert_int_equal(fstatat(p->base_fd, "sparse", &st, 0), 0);
    assert_int_equal(st.st_size, (8 << 20) + 3);
    assert_true(st.st_blocks < 1024);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_mtim.tv_nsec, 123456789);
    assert_none(p->base_fd, ".dayfly-promoted");
}

/* Wherever promotion is killed, base and changes show what the guest saw, and it can be finished. */
static void a_killed_promotion_loses_nothing(void **state)
{
    struct place *p = *state;
    char name[32];
    open_cow(p, p->other);
    change(p->cow.fd);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "tree/%d", i);
        put(p->cow.fd, name, "many");
    }
    cow_close(&p->cow);
    for (int round = 1; round <= 20; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct changes changes;
            struct dayfly_err err;
            _exit(changes_open(&changes, p->other, &err) < 0 || changes_promote(&changes, &err) < 0);
        }
        usleep((useconds_t)(round * 100));
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        open_cow(p, p->other);
        assert_changed(p->cow.fd);
        assert_text(p->cow.fd, "tree/199", "many");
        cow_close(&p->cow);
    }
    struct changes changes;
    struct dayfly_err err;
    if (changes_open(&changes, p->other, &err) == 0)
        assert_int_equal(changes_promote(&changes, &err), 0);
    changes_close(&changes);
    assert_changed(p->base_fd);
    assert_text(p->base_fd, "tree/199", "many");
}

/* Killed between the two halves of a drop: what is mounted next has the base's mode again. */
static void an_unfinished_drop_leaves_a_sound_root(void **state)
{
    struct place *p = *state;
    struct stat st;
    assert_int_equal(fchmod(p->base_fd, 0751), 0);
    open_cow(p, p->changes);
    change(p->cow.fd);
    cow_close(&p->cow);
    _cleanup_close_ int fd = open(p->changes, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(renameat(fd, "upper", fd, "dropped"), 0);
    open_cow(p, p->changes);
    assert_unchanged(p->cow.fd);
    assert_int_equal(fstat(p->cow.fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0751);
}

static void dropped_changes_are_gone(void **state)
{
    struct place *p = *state;
    struct changes changes;
    struct dayfly_err err;
    open_cow(p, p->changes);
    change(p->cow.fd);
    cow_close(&p->cow);
    assert_int_equal(changes_open(&changes, p->changes, &err), 0);
    assert_int_equal(changes_drop(&changes, &err), 0);
    changes_close(&changes);
    assert_unchanged(p->base_fd);
    assert_int_equal(rmdir(p->changes), 0);
    assert_int_equal(mkdir(p->changes, 0700), 0);
}

static void what_is_not_a_place_for_changes_is_refused(void **state)
{
    struct place *p = *state;
    struct dayfly_err err;
    struct cow second = COW_INIT;
    const struct cow_options into_base = {.dir = p->other, .changes = p->base};
    assert_int_equal(cow_open(&second, &into_base, &err), -EEXIST);
    assert_unchanged(p->base_fd);

    /* Somebody's own overlay has the same form. */
    int fd = open(p->other, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fd, "upper", 0755), 0);
    assert_int_equal(mkdirat(fd, "work", 0755), 0);
    put(fd, "upper/data", "data");
    const struct cow_options over_data = {.dir = p->base, .changes = p->other};
    assert_int_equal(cow_open(&second, &over_data, &err), -EEXIST);
    assert_text(fd, "upper/data", "data");
    close(fd);

    open_cow(p, p->changes);
    const struct cow_options twice = {.dir = p->base, .changes = p->changes};
    assert_int_equal(cow_open(&second, &twice, &err), -EBUSY);
    cow_close(&p->cow);
    const struct cow_options of_another = {.dir = p->other, .changes = p->changes};
    assert_int_equal(cow_open(&second, &of_another, &err), -EEXIST);
    assert_non_null(strstr(err.msg, p->base));
    const struct cow_options missing = {.dir = "/nonexistent"};
    assert_int_equal(cow_open(&second, &missing, &err), -ENOENT);
}

static void memory_is_bounded(void **state)
{
    struct place *p = *state;
    struct dayfly_err err;
    char block[65536] = {1};
    const struct cow_options options = {.dir = p->base, .memory_bytes = 1 << 20};
    open_cow(p, NULL); /* skips where it cannot be had */
    cow_close(&p->cow);
    assert_int_equal(cow_open(&p->cow, &options, &err), 0);
    _cleanup_close_ int fd = openat(p->cow.fd, "big", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    int r = 0;
    for (int i = 0; i < 32 && r == 0; i++)
        r = io_write_full(fd, block, sizeof(block));
    assert_int_equal(r, -ENOSPC);
}

static void the_base_may_be_shown_with_other_ids(void **state)
{
    struct place *p = *state;
    struct dayfly_err err = {0};
    struct stat st;
    if (geteuid() != 0)
        skip();
    assert_int_equal(fchownat(p->base_fd, "file", 1234, 1235, 0), 0);
    assert_int_equal(fchown(p->base_fd, 1234, 1235), 0);
    _cleanup_close_ int ids = idmap_make(1234, 1235, 2000, 2001, &err);
    assert_true(ids >= 0);
    const struct cow_options options = {.dir = p->base, .changes = p->changes, .idmap_fd = ids};
    int r = cow_open(&p->cow, &options, &err);
    if (r < 0) {
        print_message("%s\n", err.msg);
        skip(); /* the file system, or the kernel's overlay, does not map ids */
    }
    assert_int_equal(fstat(p->cow.fd, &st), 0);
    assert_int_equal(st.st_uid, 2000);
    assert_int_equal(st.st_gid, 2001);
    assert_int_equal(fstatat(p->cow.fd, "file", &st, 0), 0);
    assert_int_equal(st.st_uid, 2000);
    assert_text(p->cow.fd, "file", "base");
    /* What is changed keeps the ids that were shown; the base keeps its own. */
    put(p->cow.fd, "file", "changed");
    _cleanup_close_ int changes = open(p->changes, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fstatat(changes, CHANGES_UPPER "/file", &st, 0), 0);
    assert_int_equal(st.st_uid, 2000);
    assert_text(p->base_fd, "file", "base");
    assert_int_equal(fstatat(p->base_fd, "file", &st, 0), 0);
    assert_int_equal(st.st_uid, 1234);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_base_stays_as_it_is),
        CASE(numbers_are_of_one_device_and_stay),
        CASE(changes_outlive_the_mount),
        CASE(the_difference_is_listed),
        CASE(promoted_changes_are_the_base),
        CASE(promotion_crosses_file_systems),
        CASE(a_killed_promotion_loses_nothing),
        CASE(an_unfinished_drop_leaves_a_sound_root),
        CASE(dropped_changes_are_gone),
        CASE(what_is_not_a_place_for_changes_is_refused),
        CASE(memory_is_bounded),
        CASE(the_base_may_be_shown_with_other_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
