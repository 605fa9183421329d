/* SPDX-License-Identifier: Apache-2.0 */
/* What is left behind on purpose is found and named, and nothing else is. */
#include "job/audit.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/uids.h"
#include "util/nameless.h"
#include "util/testing.h"

#define JOB_UID 2000054321u

static const char *const ours[] = {"/nowhere/of-ours", NULL};
static const struct audit_options options = {.ours = ours, .uid = JOB_UID};

static struct audit *begin(void)
{
    struct audit *audit;
    struct dayfly_err err;
    assert_int_equal(audit_begin(&audit, &options, &err), 0);
    return audit;
}

/* "kind name\n" of each that is left. Other programs of the host are in no way kept still. */
static char *end(struct audit *audit, bool *clean)
{
    json_t *report = audit_end(audit, 0), *thing;
    char *text = NULL;
    size_t bytes, i;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(report);
    json_array_foreach (json_object_get(report, "left"), i, thing)
        fprintf(out, "%s %s\n", json_string_value(json_object_get(thing, "kind")),
                json_string_value(json_object_get(thing, "name")));
    fclose(out);
    *clean = json_is_true(json_object_get(report, "clean"));
    json_decref(report);
    audit_free(audit);
    return text;
}

static void expect(struct audit *audit, const char *fragment)
{
    bool clean;
    char *text = end(audit, &clean);
    assert_false(clean);
    if (!strstr(text, fragment))
        fail_msg("\"%s\" is not in:\n%s", fragment, text);
    free(text);
}

static void nothing_is_nothing(void **state)
{
    bool clean;
    char *text = end(begin(), &clean);
    assert_string_equal(text, "");
    assert_true(clean);
    free(text);
}

static void a_daemon(void **state)
{
    /* Its parent is gone: it is found because this process is the reaper. */
    struct audit *audit = begin();
    int pipe_fds[2];
    pid_t grandchild;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        grandchild = fork();
        if (grandchild == 0) {
            prctl(PR_SET_NAME, "left-behind");
            if (write(pipe_fds[1], &(pid_t){getpid()}, sizeof(pid_t)) < 0)
                _exit(1);
            pause();
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(read(pipe_fds[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    char text[64];
    snprintf(text, sizeof(text), "process %d left-behind\n", (int)grandchild);
    expect(audit, text);
    kill(grandchild, SIGKILL);
    assert_int_equal(waitpid(grandchild, NULL, 0), grandchild);
}

static void *wait_for_byte(void *arg)
{
    char byte;
    return read(*(int *)arg, &byte, 1) == 1 ? arg : NULL;
}

static void a_thread_and_a_descriptor(void **state)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    struct audit *audit = begin();
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_byte, &fds[0]), 0);
    expect(audit, "thread ");
    assert_int_equal(write(fds[1], "x", 1), 1);
    pthread_join(thread, NULL);
    audit = begin();
    int fd = memfd_create("forgotten", MFD_CLOEXEC);
    expect(audit, "/memfd:forgotten");
    close(fd);
    close(fds[0]);
    close(fds[1]);
}

static void a_file_a_socket_and_a_lock(void **state)
{
    char path[] = "/tmp/dayfly-audit-XXXXXX";
    struct audit *audit = begin();
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    expect(audit, path);
    audit = begin();
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(fd, F_SETLK, &lock), 0);
    expect(audit, "lock POSIX ");
    close(fd);
    unlink(path);
    audit = begin();
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0dayfly-audit-test"};
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t) + 18), 0);
    expect(audit, "socket @dayfly-audit-test");
    close(fd);
}

static void a_socket_without_a_name_is_its_makers(void **state)
{
    struct dayfly_err err;
    int door, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char name[40];
    snprintf(name, sizeof(name), NAMELESS_DOOR "%d-", getpid());
    struct audit *audit = begin();
    assert_int_equal(nameless_socket_bind(fd, &door, &err), 0);
    expect(audit, name);
    close(fd);
    close(door);

    /* Another run's: listening, so that it is in the tables for as long as we look. */
    int ready[2], over[2];
    assert_int_equal(pipe2(ready, O_CLOEXEC) | pipe2(over, O_CLOEXEC), 0);
    audit = begin();
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(over[1]);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _exit(nameless_socket_bind(fd, &door, &err) < 0 || write(ready[1], "", 1) != 1 ||
              read(over[0], &byte, 1) != 0);
    }
    char byte;
    bool clean;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    char *text = end(audit, &clean);
    assert_null(strstr(text, NAMELESS_DOOR));
    free(text);
    close(over[0]);
    close(over[1]);
    close(ready[0]);
    close(ready[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void what_has_the_jobs_uid(void **state)
{
    if (geteuid() != 0)
        skip();
    char path[] = "/var/tmp/somebody-XXXXXX";
    struct audit *audit = begin();
    int fd = mkstemp(path);
    assert_int_equal(fchown(fd, JOB_UID, JOB_UID), 0);
    close(fd);
    expect(audit, path);
    unlink(path);
    audit = begin();
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    struct shmid_ds ds;
    assert_int_equal(shmctl(id, IPC_STAT, &ds), 0);
    ds.shm_perm.uid = JOB_UID;
    assert_int_equal(shmctl(id, IPC_SET, &ds), 0);
    expect(audit, "ipc shared memory ");
    shmctl(id, IPC_RMID, NULL);
}

/* A group that is made and removed again, in whatever hierarchy there is. */
static bool make_group(const char *top, unsigned uid, char path[static 128])
{
    int n = snprintf(path, 128, "%s/dayfly", top);
    mkdir(path, 0755);
    snprintf(path + n, 128 - (size_t)n, "/job-%u", uid);
    return mkdir(path, 0755) == 0;
}

static void groups_of_the_job_and_of_others(void **state)
{
    static const char *const tops[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified",
                                       "/sys/fs/cgroup/pids"};
    struct uids uids;
    bool clean, made = false;
    /* Who runs meanwhile removes groups that nobody has a lease for. */
    if (geteuid() != 0 || uids_open(&uids, "/run/dayfly", NULL) < 0)
        skip();
    int leases[] = {uids_take_this(&uids, JOB_UID), uids_take_this(&uids, JOB_UID - 1)};
    for (size_t i = 0; i < 3; i++) {
        char others[128], its[128];
        struct audit *audit = begin();
        if (!make_group(tops[i], JOB_UID - 1, others)) {
            audit_free(audit);
            continue;
        }
        char *left = end(audit, &clean);
        if (!clean)
            fail_msg("left: %s", left);
        free(left);
        audit = begin();
        assert_true(make_group(tops[i], JOB_UID, its));
        expect(audit, its);
        rmdir(its);
        rmdir(others);
        *strrchr(its, '/') = '\0';
        rmdir(its); /* when nobody else uses it */
        made = true;
    }
    close(leases[0]);
    close(leases[1]);
    uids_close(&uids);
    if (!made)
        skip();
}

/* The kernel shows a user's keys to nobody else. */
static void keys_of_the_jobs_uid(void **state)
{
    if (geteuid() != 0)
        skip();
    struct audit *audit = begin();
    int pipe_fds[2];
    char byte = 0;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        if (setresuid(JOB_UID, JOB_UID, JOB_UID) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
            syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0 &&
            syscall(SYS_add_key, "user", "left", "x", 1, KEY_SPEC_SESSION_KEYRING) >= 0)
            byte = 1;
        if (write(pipe_fds[1], &byte, 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    if (byte)
        expect(audit, "key of user 2000054321\n");
    else
        audit_free(audit);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    if (!byte)
        skip(); /* a kernel, or a container, without keys */
}

/* What is left here is not to be found by other audits, of runs that go on at the same time. */
static bool step_aside(void)
{
    return geteuid() != 0 || (unshare(CLONE_NEWNS | CLONE_NEWNET) == 0 &&
                              mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                              mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_nothing),
        cmocka_unit_test(a_daemon),
        cmocka_unit_test(a_thread_and_a_descriptor),
        cmocka_unit_test(a_file_a_socket_and_a_lock),
        cmocka_unit_test(a_socket_without_a_name_is_its_makers),
        cmocka_unit_test(what_has_the_jobs_uid),
        cmocka_unit_test(groups_of_the_job_and_of_others),
        cmocka_unit_test(keys_of_the_jobs_uid),
    };
    if (!step_aside())
        perror("go on in the host's namespaces");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
