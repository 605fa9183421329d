/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving threads: each case runs in a thread of its own, which enters and ends. What they become must
 * not become of the process: the main thread looks at itself after each.
 */
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

#define CHECK(cond)                                                                                    \
    do {                                                                                               \
        if (!(cond)) {                                                                                 \
            snprintf(c->failure, sizeof(c->failure), "line %d: %s (%s)", __LINE__, #cond,              \
                     strerror(errno));                                                                 \
            return;                                                                                    \
        }                                                                                              \
    } while (0)

struct context {
    char path[64];
    int dir;
    struct fs_thread thread;
    void (*run)(struct context *c);
    char failure[256]; /* cmocka's assertions belong to the main thread */
};

static const struct export as_1000 = {
    .idmap = {.kind = FS_IDMAP_SQUASH, .host_uid = 1000, .host_gid = 1001}};
static const struct export as_2000 = {
    .idmap = {.kind = FS_IDMAP_SQUASH, .host_uid = 2000, .host_gid = 2001}};
static const struct export as_root = {.idmap = {.kind = FS_IDMAP_SQUASH}};
static const struct export identity = {.idmap = {.kind = FS_IDMAP_IDENTITY}};
static const struct export mapped = {
    .idmap = {.kind = FS_IDMAP_MAP, .uids = {{{0, 100000, 10}}, 1}, .gids = {{{0, 200000, 10}}, 1}}};

static void *thread_main(void *arg)
{
    struct context *c = arg;
    struct fs fs = {.fds_fd = -1};
    struct dayfly_err err;
    if (fs_thread_enter(&fs, &c->thread, &err) < 0)
        snprintf(c->failure, sizeof(c->failure), "%s", err.msg);
    else
        c->run(c);
    fs_thread_leave(&c->thread);
    return NULL;
}

static void assert_unchanged(void)
{
    char cwd[256];
    mode_t mask = umask(022);
    assert_int_equal(mask, 022);
    assert_int_equal(syscall(SYS_setfsuid, -1), geteuid());
    assert_int_equal(syscall(SYS_setfsgid, -1), getegid());
    assert_non_null(getcwd(cwd, sizeof(cwd)));
    assert_null(strstr(cwd, "/proc"));
    if (geteuid() == 0) {
        gid_t groups[4];
        assert_int_equal(getgroups(4, groups), 2);
        assert_int_equal(access("/proc/1/environ", R_OK), 0);
    }
}

static void run_in_thread(void (*run)(struct context *c))
{
    struct context c = {.dir = -1, .run = run};
    pthread_t thread;
    strcpy(c.path, "/var/tmp/unit-XXXXXX");
    assert_non_null(mkdtemp(c.path));
    assert_int_equal(chmod(c.path, 0777), 0);
    c.dir = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    umask(022);
    if (geteuid() == 0)
        assert_int_equal(setgroups(2, (gid_t[]){5, 6}), 0);
    assert_int_equal(pthread_create(&thread, NULL, thread_main, &c), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close_fd(&c.dir);
    char command[96];
    snprintf(command, sizeof(command), "rm -rf %s", c.path);
    assert_int_equal(system(command), 0);
    if (c.failure[0])
        fail_msg("%s", c.failure);
    assert_unchanged();
}

static void run_as_root(void (*run)(struct context *c))
{
    if (geteuid() != 0)
        skip();
    run_in_thread(run);
}

/* A new file's owner, group and mode. */
static struct stat made(struct context *c, const char *name, mode_t mode)
{
    struct stat st = {.st_uid = UINT32_MAX};
    int fd = openat(c->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd >= 0 && fstat(fd, &st) < 0)
        st.st_uid = UINT32_MAX;
    close_fd(&fd);
    return st;
}

static bool owned(struct stat st, uid_t uid, gid_t gid)
{
    return st.st_uid == uid && st.st_gid == gid;
}

/* -- who makes files ---------------------------------------------------------------------------------
 */

static void make_as_many(struct context *c)
{
    struct fs_thread *t = &c->thread;
    CHECK(t->privileged);
    for (int round = 0; round < 3; round++) {
        char name[32];
        int n = 0;
#define NEW (snprintf(name, sizeof(name), "%d-%d", round, n++), name)
        CHECK(fs_thread_act(t, &as_1000, 0, 0) == 0);
        CHECK(owned(made(c, NEW, 0644), 1000, 1001));
        CHECK(fs_thread_act(t, &as_2000, 7, 7) == 0);
        CHECK(owned(made(c, NEW, 0644), 2000, 2001));
        CHECK(fs_thread_act(t, &identity, 7, 8) == 0);
        CHECK(owned(made(c, NEW, 0644), 7, 8));
        CHECK(fs_thread_act(t, &identity, 0, 0) == 0);
        CHECK(owned(made(c, NEW, 0644), 0, 0));
        CHECK(fs_thread_act(t, &mapped, 3, 4) == 0);
        CHECK(owned(made(c, NEW, 0644), 100003, 200004));
        CHECK(fs_thread_act_any(t, &identity) == 0);
        CHECK(t->fsuid == 100003); /* it serves */
        CHECK(fs_thread_act_any(t, &as_1000) == 0);
        CHECK(owned(made(c, NEW, 0644), 1000, 1001));
    }
}

static void refuse_strangers(struct context *c)
{
    struct fs_thread *t = &c->thread;
    CHECK(fs_thread_act(t, &mapped, 10, 0) == -EPERM);
    CHECK(fs_thread_act(t, &mapped, 0, 10) == -EPERM);
    CHECK(fs_thread_act(t, &identity, UINT32_MAX, 0) == -EPERM);
    CHECK(fs_thread_act(t, &identity, 0, UINT32_MAX) == -EPERM);
    CHECK(fs_thread_supplementary(t, &mapped, 10) == -EPERM);
    CHECK(fs_thread_act(t, &as_1000, UINT32_MAX, UINT32_MAX) == 0);
}

static void test_files_belong_to_the_mapped_user(void **state)
{
    run_as_root(make_as_many);
}

static void test_strangers_make_nothing(void **state)
{
    run_as_root(refuse_strangers);
}

/* -- rights ------------------------------------------------------------------------------------------
 */

static uint64_t effective(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    syscall(SYS_capget, &header, data);
    return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static bool may_read(struct context *c, const char *name)
{
    int fd = openat(c->dir, name, O_RDONLY | O_CLOEXEC);
    bool may = fd >= 0;
    close_fd(&fd);
    return may;
}

static void use_rights(struct context *c)
{
    struct fs_thread *t = &c->thread;
    CHECK(effective() == 0);
    CHECK(fs_thread_act(t, &identity, 0, 0) == 0);
    CHECK(owned(made(c, "root's", 0600), 0, 0));
    /* The guest's kernel has checked already. */
    CHECK(fs_thread_act(t, &identity, 1000, 1000) == 0);
    CHECK(may_read(c, "root's"));
    CHECK(fchownat(c->dir, "root's", 5, 5, 0) == 0);
    CHECK(fchownat(c->dir, "root's", 0, 0, 0) == 0);
    /* But nothing beyond files. */
    CHECK(effective() == t->effective);
    CHECK(!(t->permitted & (UINT64_C(1) << CAP_SYS_ADMIN | UINT64_C(1) << CAP_SYS_PTRACE)));
    CHECK(!(effective() & (UINT64_C(1) << CAP_FSETID | UINT64_C(1) << CAP_SETUID)));

    CHECK(fs_thread_act(t, &as_1000, 0, 0) == 0);
    CHECK(effective() == 0);
    CHECK(!may_read(c, "root's") && errno == EACCES);
    CHECK(fchownat(c->dir, "root's", 1000, 1000, 0) < 0 && errno == EPERM);
    /* Nor has squashing to root its capabilities. */
    CHECK(owned(made(c, "1000's", 0600), 1000, 1001));
    CHECK(fs_thread_act(t, &as_root, 0, 0) == 0);
    CHECK(effective() == 0);
    CHECK(may_read(c, "root's"));
    CHECK(!may_read(c, "1000's"));
    CHECK(fs_thread_act_any(t, &identity) == 0);
    CHECK(may_read(c, "1000's"));
}

/* CVE-2022-0358: a file of a set-group-id directory that a stranger makes. */
static void make_in_setgid_directory(struct context *c)
{
    struct fs_thread *t = &c->thread;
    CHECK(fs_thread_act(t, &identity, 0, 0) == 0);
    CHECK(fchown(c->dir, 0, 50) == 0 && fchmod(c->dir, 0777) == 0);
    CHECK(fs_thread_keep_setid(t, &identity, true) == 0);
    CHECK(fchmod(c->dir, 02777) == 0);

    CHECK(fs_thread_act(t, &identity, 1000, 1000) == 0);
    struct stat st = made(c, "stranger's", 02755);
    CHECK(owned(st, 1000, 50) && !(st.st_mode & S_ISGID));
    CHECK(fs_thread_supplementary(t, &identity, 50) == 0);
    st = made(c, "member's", 02755);
    CHECK(owned(st, 1000, 50) && (st.st_mode & S_ISGID));
    CHECK(fs_thread_supplementary(t, &identity, UINT32_MAX) == 0);
    CHECK(!(made(c, "stranger's again", 02755).st_mode & S_ISGID));
    CHECK(fs_thread_supplementary(t, &identity, 50) == 0);
    CHECK(fs_thread_act(t, &identity, 1000, 1000) == 0); /* ends it as well */
    CHECK(!(made(c, "stranger's at last", 02755).st_mode & S_ISGID));
    CHECK(fs_thread_supplementary(t, &as_1000, 50) == 0); /* all groups are one */
}

static mode_t mode_after_write(struct context *c, const char *name)
{
    struct stat st = {0};
    int fd = openat(c->dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "x", 1) != 1 || fstat(fd, &st) < 0)
        return 0;
    close(fd);
    return st.st_mode & 07777;
}

static void write_to_setuid_file(struct context *c)
{
    struct fs_thread *t = &c->thread;
    CHECK(fs_thread_act(t, &identity, 0, 0) == 0);
    CHECK((made(c, "tool", 04755).st_mode & 07777) == 04755);
    CHECK(fs_thread_keep_setid(t, &identity, true) == 0);
    CHECK(mode_after_write(c, "tool") == 04755);
    CHECK(fs_thread_act_any(t, &identity) == 0);
    CHECK(mode_after_write(c, "tool") == 04755);
    CHECK(fs_thread_keep_setid(t, &identity, false) == 0);
    CHECK(mode_after_write(c, "tool") == 0755);
    CHECK(fs_thread_keep_setid(t, &as_1000, true) == 0);
}

static void test_rights(void **state)
{
    run_as_root(use_rights);
}

static void test_a_setgid_directory(void **state)
{
    run_as_root(make_in_setgid_directory);
}

static void test_setid_bits_and_writes(void **state)
{
    run_as_root(write_to_setuid_file);
}

/* -- what is the thread's own ------------------------------------------------------------------------
 */

static const struct export *own_export(void)
{
    static struct export export;
    export.idmap =
        (struct fs_idmap){.kind = FS_IDMAP_SQUASH, .host_uid = geteuid(), .host_gid = getegid()};
    return &export;
}

static void use_umask_and_paths(struct context *c)
{
    struct fs_thread *t = &c->thread;
    char name[FS_FD_PATH_BYTES];
    CHECK(fs_thread_act(t, own_export(), 0, 0) == 0);
    CHECK((made(c, "a", 0666).st_mode & 0777) == 0666);
    fs_thread_umask(t, 077);
    CHECK((made(c, "b", 0666).st_mode & 0777) == 0600);
    fs_thread_umask(t, 0);
    CHECK((made(c, "c", 0666).st_mode & 0777) == 0666);

    int path_fd = openat(c->dir, "a", O_PATH | O_CLOEXEC);
    CHECK(path_fd >= 0);
    int fd = open(fs_fd_path(path_fd, name), O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    struct stat a, b;
    CHECK(fstat(path_fd, &a) == 0 && fstat(fd, &b) == 0 && a.st_ino == b.st_ino);
    CHECK(chmod(fs_fd_path(path_fd, name), 0600) == 0);
    close(fd);
    close(path_fd);
}

static void begin_as_oneself(struct context *c)
{
    CHECK(c->thread.privileged);
    CHECK(syscall(SYS_setfsuid, -1) == 0 && syscall(SYS_setfsgid, -1) == 0);
    CHECK(effective() == 0);
    CHECK(fs_thread_act(&c->thread, &identity, 7, 8) == 0);
    CHECK(owned(made(c, "others", 0644), 7, 8));
}

/* Workers are made by a thread that serves already. */
static void make_another_thread(struct context *c)
{
    struct context other = {.dir = c->dir, .run = begin_as_oneself};
    pthread_t thread;
    CHECK(fs_thread_act(&c->thread, &as_1000, 0, 0) == 0);
    CHECK(pthread_create(&thread, NULL, thread_main, &other) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    memcpy(c->failure, other.failure, sizeof(c->failure));
    CHECK(c->failure[0] || owned(made(c, "ours", 0644), 1000, 1001));
}

static void test_a_serving_thread_makes_others(void **state)
{
    run_as_root(make_another_thread);
}

static void test_umask_and_paths(void **state)
{
    run_in_thread(use_umask_and_paths);
}

static void test_fd_paths(void **state)
{
    char buf[FS_FD_PATH_BYTES];
    assert_string_equal(fs_fd_path(0, buf), "0");
    assert_string_equal(fs_fd_path(9, buf), "9");
    assert_string_equal(fs_fd_path(10, buf), "10");
    assert_string_equal(fs_fd_path(INT32_MAX, buf), "2147483647");
}

/* -- without root ------------------------------------------------------------------------------------
 */

static void serve_oneself(struct context *c)
{
    struct fs_thread *t = &c->thread;
    CHECK(!t->privileged);
    CHECK(fs_thread_act(t, own_export(), 0, 0) == 0);
    CHECK(owned(made(c, "mine", 0644), geteuid(), getegid()));
    CHECK(fs_thread_act_any(t, own_export()) == 0);
    CHECK(fs_thread_act(t, &as_2000, 0, 0) == -EPERM);
    CHECK(fs_thread_act_any(t, &as_2000) == -EPERM);
    CHECK(fs_thread_act(t, &identity, geteuid(), getegid()) == -EPERM);
    CHECK(fs_thread_act_any(t, &identity) == -EPERM);
    CHECK(fs_thread_keep_setid(t, &identity, true) == -EPERM);
    CHECK(fs_thread_supplementary(t, &identity, 0) == -EPERM);
}

static int check_unprivileged(void)
{
    struct dayfly_err err;
    struct context c = {.run = serve_oneself};
    pthread_t thread;
    if (fs_thread_check_idmap(&own_export()->idmap, &err) != 0)
        return 1;
    if (fs_thread_check_idmap(&as_2000.idmap, &err) != -EPERM)
        return 2;
    if (fs_thread_check_idmap(&identity.idmap, &err) != -EPERM)
        return 3;
    if (fs_thread_check_idmap(&mapped.idmap, NULL) != -EPERM)
        return 4;
    strcpy(c.path, "/var/tmp/unit-XXXXXX");
    if (!mkdtemp(c.path))
        return 5;
    c.dir = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* That is found before anything is served. */
    struct fs_directory directory = {.fd = c.dir, .idmap = identity.idmap};
    const struct fs_options options = {.directories = &directory, .directory_count = 1};
    struct fs *fs;
    if (fs_new(&fs, &options, &err) != -EPERM || !strstr(err.msg, "only root"))
        return 8;
    directory.idmap = own_export()->idmap;
    if (fs_new(&fs, &options, &err) != 0)
        return 9;
    fs_free(fs);
    if (pthread_create(&thread, NULL, thread_main, &c) != 0 || pthread_join(thread, NULL) != 0)
        return 6;
    unlinkat(c.dir, "mine", 0);
    rmdir(c.path);
    if (c.failure[0])
        fprintf(stderr, "%s\n", c.failure);
    return c.failure[0] ? 7 : 0;
}

/* In a child, which root can make an ordinary user. */
static void test_an_ordinary_user(void **state)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(1234, 1234, 1234) < 0 ||
                               setresuid(1234, 1234, 1234) < 0))
            _exit(100);
        _exit(check_unprivileged());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_root_may_be_anybody(void **state)
{
    if (geteuid() != 0)
        skip();
    assert_int_equal(fs_thread_check_idmap(&as_2000.idmap, NULL), 0);
    assert_int_equal(fs_thread_check_idmap(&identity.idmap, NULL), 0);
    assert_int_equal(fs_thread_check_idmap(&mapped.idmap, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_belong_to_the_mapped_user),
        cmocka_unit_test(test_strangers_make_nothing),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_a_setgid_directory),
        cmocka_unit_test(test_setid_bits_and_writes),
        cmocka_unit_test(test_umask_and_paths),
        cmocka_unit_test(test_fd_paths),
        cmocka_unit_test(test_a_serving_thread_makes_others),
        cmocka_unit_test(test_an_ordinary_user),
        cmocka_unit_test(test_root_may_be_anybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
