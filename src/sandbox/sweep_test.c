/* SPDX-License-Identifier: Apache-2.0 */
/* What a dead id has goes, and what a living one has stays. Root's alone. */
#include "sandbox/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/cgroup.h"
#include "sandbox/uids.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/home.h"
#include "util/testing.h"

/* The same test may run twice on a host, as another build's: each process has a range of its own. */
#define FIRST (1950000000u + (uid_t)getpid() % 1000000u * 10u)
#define DEAD  (FIRST + 3)
#define ALIVE (FIRST + 4)
#define ALIEN (FIRST + 10)
#define LAST  (FIRST + 9)

struct fixture {
    struct uids uids;
    int lease; /* ALIVE's */
};

static int set_up(void **state)
{
    static struct fixture f;
    char dir[4096], range[48];
    if (geteuid() != 0)
        return 0;
    *state = &f;
    snprintf(range, sizeof(range), "%u-%u", FIRST, LAST);
    setenv("DAYFLY_USER_RANGE", range, 1);
    if (home_run_dir(dir, sizeof(dir), NULL) < 0 || uids_open(&f.uids, dir, NULL) < 0)
        return -1;
    f.lease = uids_take_this(&f.uids, ALIVE);
    return f.lease < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f) {
        close_fd(&f->lease);
        uids_close(&f->uids);
    }
    return 0;
}

static struct fixture *need_root(void **state)
{
    if (!*state)
        skip();
    return *state;
}

/* "kind name\n" of each, which were all removed. */
struct told {
    char text[4096];
};

static void tell(void *opaque, const char *kind, const char *name, int error)
{
    struct told *told = opaque;
    size_t len = strlen(told->text);
    assert_int_equal(error, 0);
    snprintf(told->text + len, sizeof(told->text) - len, "%s %s\n", kind, name);
}

static void expect_sweep(bool dry_run, const char *text)
{
    struct told told = {""};
    const struct sweep sweep = {.dry_run = dry_run, .tell = tell, .opaque = &told};
    struct dayfly_err err;
    assert_int_equal(sandbox_sweep(&sweep, &err), 0);
    assert_string_equal(told.text, text);
}

/* Both: the first says it, and the second does it. */
static void expect_found(const char *text)
{
    expect_sweep(true, text);
    expect_sweep(false, text);
    expect_sweep(false, "");
}

/* A process of that id, in which `fn` has worked. */
static pid_t start(uid_t uid, bool (*fn)(void))
{
    int fds[2];
    char byte = 0;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool works = setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0 &&
                     prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && (!fn || fn());
        if (works && write(fds[1], "x", 1) == 1)
            pause();
        _exit(0);
    }
    close(fds[1]);
    bool works = read(fds[0], &byte, 1) == 1;
    close(fds[0]);
    if (works)
        return pid;
    waitpid(pid, NULL, 0);
    return -1;
}

static void processes(void **state)
{
    char text[64];
    int status;
    need_root(state);
    pid_t dead = start(DEAD, NULL), alive = start(ALIVE, NULL), other = start(ALIEN, NULL);
    snprintf(text, sizeof(text), "process %d test-sandbox-sw\n", (int)dead);
    expect_found(text);
    assert_int_equal(waitpid(dead, &status, 0), dead);
    assert_true(WIFSIGNALED(status));
    const pid_t rest[] = {alive, other};
    for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
        assert_int_equal(waitpid(rest[i], NULL, WNOHANG), 0);
        kill(rest[i], SIGKILL);
        assert_int_equal(waitpid(rest[i], NULL, 0), rest[i]);
    }
}

static int give_shm(uid_t uid)
{
    struct shmid_ds ds;
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    assert_int_equal(shmctl(id, IPC_STAT, &ds), 0);
    ds.shm_perm.uid = uid;
    assert_int_equal(shmctl(id, IPC_SET, &ds), 0);
    return id;
}

static int give_sem(uid_t uid)
{
    struct semid_ds ds;
    int id = semget(IPC_PRIVATE, 1, 0600);
    assert_int_equal(semctl(id, 0, IPC_STAT, &ds), 0);
    ds.sem_perm.uid = uid;
    assert_int_equal(semctl(id, 0, IPC_SET, &ds), 0);
    return id;
}

static int give_msg(uid_t uid)
{
    struct msqid_ds ds;
    int id = msgget(IPC_PRIVATE, 0600);
    assert_int_equal(msgctl(id, IPC_STAT, &ds), 0);
    ds.msg_perm.uid = uid;
    assert_int_equal(msgctl(id, IPC_SET, &ds), 0);
    return id;
}

static void system_v(void **state)
{
    char text[256];
    need_root(state);
    int shm = give_shm(DEAD), sem = give_sem(DEAD), msg = give_msg(DEAD);
    int living = give_shm(ALIVE), mine = give_shm(0);
    snprintf(text, sizeof(text), "ipc shared memory %d\nipc semaphores %d\nipc message queue %d\n", shm,
             sem, msg);
    expect_found(text);
    assert_int_equal(shmctl(shm, IPC_RMID, NULL), -1);
    assert_int_equal(semctl(sem, 0, IPC_RMID), -1);
    assert_int_equal(msgctl(msg, IPC_RMID, NULL), -1);
    assert_int_equal(shmctl(living, IPC_RMID, NULL), 0);
    assert_int_equal(shmctl(mine, IPC_RMID, NULL), 0);
}

static bool make_key(void)
{
    return syscall(SYS_add_key, "user", "left", "x", 1, KEY_SPEC_USER_KEYRING) >= 0;
}

static bool has_keys(uid_t uid)
{
    char line[256];
    unsigned found;
    _cleanup_fclose_ FILE *file = fopen("/proc/key-users", "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "%u:", &found) == 1 && found == uid)
            return true;
    return false;
}

/* A user's keyring outlives its processes. What ends, the kernel collects in its own time. */
static void keys(void **state)
{
    need_root(state);
    pid_t dead = start(DEAD, make_key);
    if (dead < 0)
        skip();
    assert_true(has_keys(DEAD));
    assert_int_equal(sandbox_sweep(NULL, NULL), 0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    for (int i = 0; i < 500 && has_keys(DEAD); i++)
        usleep(10000);
    assert_false(has_keys(DEAD));
}

static void give_file(uid_t uid, const char *dir, char path[static 64])
{
    char inside[80];
    snprintf(path, 64, "%s/sweep-test-XXXXXX", dir);
    assert_non_null(mkdtemp(path));
    snprintf(inside, sizeof(inside), "%s/file", path);
    close(open(inside, O_WRONLY | O_CREAT | O_CLOEXEC, 0400));
    assert_int_equal(chown(path, uid, uid), 0);
}

static void files(void **state)
{
    char dead[64], living[64], text[80], inside[80];
    need_root(state);
    give_file(DEAD, "/var/tmp", dead);
    give_file(ALIVE, "/var/tmp", living);
    snprintf(text, sizeof(text), "file %s\n", dead);
    expect_found(text);
    assert_int_equal(access(dead, F_OK), -1);
    snprintf(inside, sizeof(inside), "%s/file", living);
    assert_int_equal(unlink(inside), 0);
    assert_int_equal(rmdir(living), 0);
}

static void count_groups(void *opaque, const char *kind, const char *name, int error)
{
    assert_string_equal(kind, "cgroup");
    char group[32];
    snprintf(group, sizeof(group), "/dayfly/job-%u", DEAD);
    assert_non_null(strstr(name, group));
    assert_int_equal(error, 0);
    ++*(unsigned *)opaque;
}

static void groups(void **state)
{
    const struct cgroup_limits limits = {.memory_bytes = 64 << 20, .pids = 16, .cpus = 1};
    const struct cgroup_limits none = {0};
    unsigned said = 0, removed = 0;
    struct sweep sweep = {.dry_run = true, .tell = count_groups, .opaque = &said};
    struct cgroup dead, living, alien;
    need_root(state);
    cgroup_make(&dead, DEAD, &limits);
    cgroup_make(&living, ALIVE, &none);
    cgroup_make(&alien, ALIEN, &none);
    char lacks[80];
    cgroup_lacks(&dead, &limits, lacks, sizeof(lacks));
    assert_int_equal(sandbox_sweep(&sweep, NULL), 0);
    if (said == 0 && *lacks)
        skip(); /* no cgroups for us here */
    sweep.dry_run = false;
    sweep.opaque = &removed;
    assert_int_equal(sandbox_sweep(&sweep, NULL), 0);
    assert_int_equal(removed, said);
    assert_true(living.v2.home_fd < 0 || faccessat(living.v2.home_fd, "cgroup.procs", F_OK, 0) == 0);
    assert_true(alien.v2.home_fd < 0 || faccessat(alien.v2.home_fd, "cgroup.procs", F_OK, 0) == 0);
    assert_int_equal(sandbox_sweep(&sweep, NULL), 0);
    assert_int_equal(removed, said);
    cgroup_remove(&living);
    cgroup_remove(&alien);
    cgroup_remove(&dead);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes), cmocka_unit_test(system_v), cmocka_unit_test(keys),
        cmocka_unit_test(files),     cmocka_unit_test(groups),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
