/* SPDX-License-Identifier: Apache-2.0 */
/* The next generation of a base and an upper directory, made by hand in overlayfs's form: also such
 * that no job could leave. What needs whiteouts or devices is root's. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/testing_files.h"
#include "util/tree.h"

struct place {
    char path[64];
    int fd, base, upper, next;
};

static struct stat look(int dir_fd, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st;
}

static int make_dir(int at, const char *name)
{
    assert_int_equal(mkdirat(at, name, 0755), 0);
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void make_place(struct place *p, const char *parent)
{
    snprintf(p->path, sizeof(p->path), "%s/dayfly-merge.XXXXXX", parent);
    assert_non_null(mkdtemp(p->path));
    p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    p->base = make_dir(p->fd, "base");
    p->upper = make_dir(p->fd, "upper");
    p->next = make_dir(p->fd, "next");
}

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    if (!p)
        return -1;
    make_place(p, "/var/tmp");
    *state = p;
    return 0;
}

static void close_place(struct place *p)
{
    close_fd(&p->base);
    close_fd(&p->upper);
    close_fd(&p->next);
    close_fd(&p->fd);
    assert_int_equal(tree_remove(AT_FDCWD, p->path), 0);
}

static int teardown(void **state)
{
    struct place *p = *state;
    close_place(p);
    free(p);
    return 0;
}

static uint64_t merge(struct place *p)
{
    struct merge_result result = {0};
    struct dayfly_err err = {0};
    if (merge_trees(p->upper, p->base, p->next, &result, &err) < 0)
        fail_msg("%s", err.msg);
    return result.left_out;
}

static void need_root(void)
{
    if (geteuid() != 0) {
        print_message("root alone makes whiteouts and devices\n");
        skip();
    }
}

static void whiteout(int dir_fd, const char *name)
{
    assert_int_equal(mknodat(dir_fd, name, S_IFCHR | 0600, makedev(0, 0)), 0);
}

/* ---- what is kept ---- */

static void what_is_unchanged_is_linked(void **state)
{
    struct place *p = *state;
    put(p->base, "kept", "base");
    put(p->base, "changed", "base");
    close(make_dir(p->base, "dir"));
    put(p->base, "dir/kept", "base");
    assert_int_equal(fchmodat(p->base, "dir", 0751, 0), 0);
    assert_int_equal(symlinkat("../../outside", p->base, "link"), 0);
    put(p->upper, "changed", "upper");
    put(p->upper, "new", "upper");
    assert_int_equal(merge(p), 0);
    assert_text(p->next, "changed", "upper");
    assert_text(p->next, "new", "upper");
    assert_int_equal(look(p->next, "kept").st_ino, look(p->base, "kept").st_ino);
    assert_int_equal(look(p->next, "dir/kept").st_ino, look(p->base, "dir/kept").st_ino);
    assert_int_equal(look(p->next, "link").st_ino, look(p->base, "link").st_ino);
    assert_int_equal(look(p->next, "dir").st_mode & 07777, 0751);
    /* And the base is what it was. */
    assert_text(p->base, "changed", "base");
    assert_none(p->base, "new");
}

static void directories_are_merged_and_replaced(void **state)
{
    struct place *p = *state;
    need_root();
    static const char *const dirs[] = {"merged", "opaque", "gone", "to-file"};
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        _cleanup_close_ int fd = make_dir(p->base, dirs[i]);
        put(fd, "below", "base");
        put(fd, "deleted", "base");
    }
    put(p->base, "to-dir", "base");
    _cleanup_close_ int merged = make_dir(p->upper, "merged"), opaque = make_dir(p->upper, "opaque"),
                        to_dir = make_dir(p->upper, "to-dir");
    put(merged, "above", "upper");
    whiteout(merged, "deleted");
    whiteout(merged, "never was");
    put(opaque, "above", "upper");
    whiteout(opaque, "below");
    if (fsetxattr(opaque, "trusted.overlay.opaque", "y", 1, 0) < 0)
        skip();
    whiteout(p->upper, "gone");
    put(p->upper, "to-file", "upper");
    put(to_dir, "above", "upper");
    assert_int_equal(merge(p), 0);
    assert_text(p->next, "merged/below", "base");
    assert_text(p->next, "merged/above", "upper");
    assert_none(p->next, "merged/deleted");
    assert_none(p->next, "merged/never was");
    assert_text(p->next, "opaque/above", "upper");
    assert_none(p->next, "opaque/below");
    assert_none(p->next, "gone");
    assert_text(p->next, "to-file", "upper");
    assert_text(p->next, "to-dir/above", "upper");
}

static void hard_links_stay_links(void **state)
{
    struct place *p = *state;
    put(p->upper, "one", "upper");
    close(make_dir(p->upper, "dir"));
    assert_int_equal(linkat(p->upper, "one", p->upper, "dir/two", 0), 0);
    assert_int_equal(merge(p), 0);
    assert_int_equal(look(p->next, "one").st_ino, look(p->next, "dir/two").st_ino);
    assert_int_equal(look(p->next, "one").st_nlink, 2);
}

/* ---- hostile content ---- */

static void set_id_bits_owners_and_attributes_go(void **state)
{
    struct place *p = *state;
    const bool root = geteuid() == 0;
    put(p->upper, "file", "upper");
    close(make_dir(p->upper, "dir"));
    if (root) {
        assert_int_equal(fchownat(p->upper, "file", 2000000005, 2000000005, 0), 0);
        assert_int_equal(fchownat(p->upper, "dir", 2000000005, 2000000005, 0), 0);
    }
    assert_int_equal(fchmodat(p->upper, "file", 06755, 0), 0);
    assert_int_equal(fchmodat(p->upper, "dir", 07777, 0), 0);
    _cleanup_close_ int file = openat(p->upper, "file", O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int dir = openat(p->upper, "dir", O_RDONLY | O_CLOEXEC);
    if (fsetxattr(file, "user.mine", "x", 1, 0) < 0)
        skip();
    fsetxattr(dir, "user.overlay.opaque", "y", 1, 0);
    if (root) {
        /* cap_net_raw+ep, in the form of VFS_CAP_REVISION_2 */
        static const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20};
        assert_int_equal(fsetxattr(file, "security.capability", capability, sizeof(capability), 0), 0);
        assert_int_equal(fsetxattr(file, "trusted.overlay.origin", "x", 1, 0), 0);
    }
    assert_int_equal(merge(p), 0);
    struct stat st = look(p->next, "file");
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_uid, geteuid());
    assert_int_equal(st.st_gid, getegid());
    st = look(p->next, "dir");
    assert_int_equal(st.st_mode & 07777, 01777);
    assert_int_equal(st.st_uid, geteuid());
    char list[256];
    assert_int_equal(flistxattr(file, list, sizeof(list)), 0);
    _cleanup_close_ int made = openat(p->next, "dir", O_RDONLY | O_CLOEXEC);
    assert_int_equal(flistxattr(made, list, sizeof(list)), 0);
}

static void devices_sockets_and_pipes_are_left_out(void **state)
{
    struct place *p = *state;
    uint64_t expected = 2;
    put(p->base, "was a file", "base");
    assert_int_equal(mkfifoat(p->upper, "pipe", 0666), 0);
    assert_int_equal(mkfifoat(p->upper, "was a file", 0666), 0);
    if (geteuid() == 0) {
        assert_int_equal(mknodat(p->upper, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
        assert_int_equal(mknodat(p->upper, "disk", S_IFBLK | 0666, makedev(8, 0)), 0);
        assert_int_equal(mknodat(p->upper, "socket", S_IFSOCK | 0666, 0), 0);
        expected += 3;
    }
    put(p->upper, "file", "upper");
    assert_int_equal(merge(p), expected);
    assert_text(p->next, "file", "upper");
    static const char *const names[] = {"pipe", "null", "disk", "socket", "was a file"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_none(p->next, names[i]);
}

static void links_lead_nowhere(void **state)
{
    struct place *p = *state;
    put(p->fd, "outside", "outside");
    assert_int_equal(symlinkat("../outside", p->upper, "file"), 0);
    assert_int_equal(symlinkat("..", p->upper, "dir"), 0);
    assert_int_equal(symlinkat("/proc/self/root/etc", p->upper, "etc"), 0);
    /* The same names as directories below: a link must not be entered in their stead. */
    close(make_dir(p->base, "dir"));
    put(p->base, "dir/inner", "base");
    assert_int_equal(merge(p), 0);
    assert_true(S_ISLNK(look(p->next, "file").st_mode));
    assert_true(S_ISLNK(look(p->next, "dir").st_mode));
    assert_true(S_ISLNK(look(p->next, "etc").st_mode));
    assert_text(p->fd, "outside", "outside");
    assert_text(p->base, "dir/inner", "base");
    assert_int_equal(look(p->fd, "outside").st_uid, geteuid());
}

static void names_are_only_names(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {
        ".wh.file", ".wh..wh..opq", "...",        "\xff\xfe",
        "a\nb",     "-rf",          "tree",       "work",
        "upper",    "next",         ".removed-0", "1-0000000000000000000000000000000f",
        "\x1b[2J"};
    put(p->base, "file", "base");
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        put(p->upper, names[i], "upper");
    assert_int_equal(merge(p), 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_text(p->next, names[i], "upper");
    assert_text(p->next, "file", "base");
}

static void modes_shut_nobody_out(void **state)
{
    struct place *p = *state;
    close(make_dir(p->upper, "shut"));
    close(make_dir(p->upper, "read-only"));
    put(p->upper, "shut/file", "upper");
    put(p->upper, "read-only/file", "upper");
    assert_int_equal(fchmodat(p->upper, "shut/file", 0, 0), 0);
    assert_int_equal(fchmodat(p->upper, "shut", 0, 0), 0);
    assert_int_equal(fchmodat(p->upper, "read-only", 0555, 0), 0);
    assert_int_equal(merge(p), 0);
    assert_int_equal(look(p->next, "shut").st_mode & 07777, 0500);
    assert_int_equal(look(p->next, "shut/file").st_mode & 07777, 0);
    assert_int_equal(look(p->next, "read-only").st_mode & 07777, 0555);
    assert_text(p->next, "read-only/file", "upper");
}

static void make_deep(int at, unsigned depth)
{
    int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned i = 0; i < depth; i++) {
        int below = make_dir(fd, "d");
        close(fd);
        fd = below;
    }
    put(fd, "leaf", "deep");
    close(fd);
}

static void depth_has_a_limit(void **state)
{
    struct place *p = *state;
    struct merge_result result = {0};
    struct dayfly_err err = {0};
    make_deep(p->upper, CACHE_DEPTH_MAX);
    assert_int_equal(merge_differs(p->upper, p->base), 1);
    assert_int_equal(merge(p), 0);
    assert_int_equal(tree_remove(p->next, "d"), 0);
    assert_int_equal(tree_remove(p->upper, "d"), 0);
    make_deep(p->upper, CACHE_DEPTH_MAX + 1);
    assert_int_equal(merge_trees(p->upper, p->base, p->next, &result, &err), -ELOOP);
    assert_string_equal(err.msg, "directories are nested more than 128 deep");
}

static void times_are_kept(void **state)
{
    struct place *p = *state;
    const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    put(p->upper, "file", "upper");
    close(make_dir(p->upper, "dir"));
    put(p->upper, "dir/file", "upper");
    assert_int_equal(utimensat(p->upper, "file", times, 0), 0);
    assert_int_equal(utimensat(p->upper, "dir", times, 0), 0);
    assert_int_equal(merge(p), 0);
    assert_int_equal(look(p->next, "file").st_mtime, 2000);
    assert_int_equal(look(p->next, "dir").st_mtime, 2000);
}

/* ---- is there a difference? ---- */

static void what_only_looks_changed_is_not(void **state)
{
    struct place *p = *state;
    need_root();
    assert_int_equal(merge_differs(p->upper, p->base), 0);
    close(make_dir(p->base, "dir"));
    put(p->base, "dir/file", "base");
    assert_int_equal(merge_differs(p->upper, p->base), 0);
    /* Copied up, for something that is gone. */
    close(make_dir(p->upper, "dir"));
    whiteout(p->upper, "never was");
    assert_int_equal(merge_differs(p->upper, p->base), 0);
    assert_int_equal(fchownat(p->upper, "dir", 2000000005, 2000000005, 0), 0);
    assert_int_equal(merge_differs(p->upper, p->base), 0);
    /* What will not be kept, in the place of nothing. */
    assert_int_equal(mkfifoat(p->upper, "dir/pipe", 0600), 0);
    assert_int_equal(merge_differs(p->upper, p->base), 0);
    assert_int_equal(fchmodat(p->upper, "dir", 0700, 0), 0);
    assert_int_equal(merge_differs(p->upper, p->base), 1);
    assert_int_equal(fchmodat(p->upper, "dir", 0755, 0), 0);
    whiteout(p->upper, "dir/file");
    assert_int_equal(merge_differs(p->upper, p->base), 1);
}

/* ---- a full disk ---- */

/* In a mount namespace of a child's own. */
static int merge_on_full_disk(void)
{
    struct place p;
    struct merge_result result = {0};
    struct dayfly_err err = {0};
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/mnt", "tmpfs", 0, "nr_inodes=40,mode=0755") < 0)
        return 77;
    make_place(&p, "/mnt");
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "file%d", i);
        put(p.base, name, "base");
    }
    /* 26 inodes are taken: not all of the links find room. */
    put(p.upper, "new", "upper");
    int r = merge_trees(p.upper, p.base, p.next, &result, &err);
    if (r != -ENOSPC || !strstr(err.msg, "No space left"))
        return 1;
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof(name), "file%d", i);
        assert_text(p.base, name, "base");
    }
    return 0;
}

static void a_full_disk_is_said(void **state)
{
    int status;
    need_root();
    pid_t pid = fork();
    if (pid == 0)
        _exit(merge_on_full_disk());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_is_unchanged_is_linked),
        TEST(directories_are_merged_and_replaced),
        TEST(hard_links_stay_links),
        TEST(set_id_bits_owners_and_attributes_go),
        TEST(devices_sockets_and_pipes_are_left_out),
        TEST(links_lead_nowhere),
        TEST(names_are_only_names),
        TEST(modes_shut_nobody_out),
        TEST(depth_has_a_limit),
        TEST(times_are_kept),
        TEST(what_only_looks_changed_is_not),
        cmocka_unit_test(a_full_disk_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
