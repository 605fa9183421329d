/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/io.h"

/* sys/mount.h and linux/mount.h do not go together. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
#define NO_EXEC_DEV_SUID (2ul | 4ul | 8ul)

#define RESERVE_BYTES (UINT64_C(16) << 20)
#define RESERVE_PIDS  128

#define KILL_DEADLINE_NS (5 * NS_PER_S)

static int put(int dir, const char *name, const char *text)
{
    _cleanup_close_ int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
}

static uint64_t get(int dir, const char *name)
{
    char text[32];
    _cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    return strtoull(text, NULL, 10);
}

/* The cgroup tree, mounted nowhere. */
static int open_tree_of_groups(struct proto_fail *why)
{
    _cleanup_close_ int fs = (int)syscall(SYS_fsopen, "cgroup2", FSOPEN_CLOEXEC);
    if (fs < 0)
        return fail(why, errno, "cgroup v2");
    /* nsdelegate: a namespace's root belongs, with its limits, to those outside. */
    syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "nsdelegate", NULL, 0);
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return fail(why, errno, "cgroup v2");
    int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    return fd < 0 ? fail(why, errno, "cgroup v2") : fd;
}

/*
 * What could be had now, in bytes. The kernel keeps a share of the machine for itself, so the limit is
 * taken from this and not from the whole: a job has to meet it before the machine is short of memory.
 */
static uint64_t memory_available(const struct machine *m)
{
    static const char KEY[] = "MemAvailable:";
    char text[1024];
    _cleanup_close_ int fd = openat(m->proc_fd, "meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, KEY);
    return at ? strtoull(at + sizeof(KEY) - 1, NULL, 10) * 1024 : 0;
}

static void set_limits(const struct machine *m)
{
    struct sysinfo info;
    char text[32];
    if (sysinfo(&info) < 0)
        return;
    uint64_t total = memory_available(m);
    uint64_t reserve = MAX(RESERVE_BYTES, total * 3 / 100);
    snprintf(text, sizeof(text), "%llu",
             (unsigned long long)(total > 2 * reserve ? total - reserve : total / 2));
    if (total)
        put(m->jobs_fd, "memory.max", text);

    /* Kernel threads have numbers, too: those that run already, and some that will. */
    uint64_t threads = get(m->proc_fd, "sys/kernel/threads-max");
    uint64_t pids = get(m->proc_fd, "sys/kernel/pid_max");
    uint64_t most = MIN(threads, pids), kept = RESERVE_PIDS + info.procs;
    snprintf(text, sizeof(text), "%llu",
             (unsigned long long)(most > 2 * kept ? most - kept : most / 2));
    put(m->jobs_fd, "pids.max", text);
}

/*
 * Make the namespace from within the jobs' cgroup, and mount what it sees for all. A child does it, as
 * the agent itself stays outside; the namespace lives on in the descriptor.
 */
static int make_namespace(struct machine *m, struct proto_fail *why)
{
    int ready[2], go[2], status;
    char path[32], byte;
    if (pipe2(ready, O_CLOEXEC) < 0)
        return fail(why, errno, "pipe");
    if (pipe2(go, O_CLOEXEC) < 0)
        return fail(why, errno, "pipe");
    pid_t pid = fork();
    if (pid == 0) {
        if (put(m->jobs_fd, "cgroup.procs", "0") < 0)
            _exit(1);
        if (unshare(CLONE_NEWCGROUP) < 0 ||
            mount("cgroup2", "/sys/fs/cgroup", "cgroup2", NO_EXEC_DEV_SUID, "nsdelegate") < 0)
            _exit(2);
        (void)!write(ready[1], "", 1);
        close(go[1]);
        (void)!read(go[0], &byte, 1); /* until the agent has the namespace */
        _exit(0);
    }
    close(ready[1]);
    close(go[0]);
    if (pid > 0 && read(ready[0], &byte, 1) == 1) {
        snprintf(path, sizeof(path), "%d/ns/cgroup", pid);
        m->cgroup_ns_fd = openat(m->proc_fd, path, O_RDONLY | O_CLOEXEC);
    }
    close(ready[0]);
    close(go[1]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return m->cgroup_ns_fd < 0 ? fail(why, EIO, "making the jobs' cgroup namespace") : 0;
}

int guard(struct machine *m, struct proto_fail *why)
{
    /* Pages are locked as they are touched: the buffers of sessions that never come cost nothing. */
    mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    put(m->proc_fd, "self/oom_score_adj", "-1000");

    _cleanup_close_ int top = open_tree_of_groups(why);
    if (top < 0)
        return top;
    static const char *const CONTROLLERS[] = {"+cpu", "+memory", "+pids", "+io", "+cpuset"};
    for (size_t i = 0; i < ARRAY_SIZE(CONTROLLERS); i++)
        put(top, "cgroup.subtree_control", CONTROLLERS[i]);
    if (mkdirat(top, "job", 0755) < 0 && errno != EEXIST)
        return fail(why, errno, "making the jobs' cgroup");
    m->jobs_fd = openat(top, "job", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->jobs_fd < 0)
        return fail(why, errno, "opening the jobs' cgroup");
    set_limits(m);
    return make_namespace(m, why);
}

void guard_kill_all(const struct machine *m)
{
    uint64_t deadline_ns = clock_ns() + KILL_DEADLINE_NS;
    struct timespec pause = {.tv_nsec = 1000 * 1000};
    put(m->jobs_fd, "cgroup.kill", "1");
    kill(-1, SIGKILL);
    while (clock_ns() < deadline_ns) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid < 0)
            return; /* no child is left, and every orphan becomes one */
        if (pid == 0)
            nanosleep(&pause, NULL);
    }
}
