/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See sweep.h. A function a kind of thing. Each takes the lease of the id that a thing has before it
 * touches the thing: an id whose lease is somebody's is a living sandbox's, and with the lease in our
 * hands nobody begins to use it.
 */
#include "sandbox/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/pidfd.h>
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
#include "util/io.h"
#include "util/program.h"
#include "util/tree.h"

#define DEATH_MS 2000 /* for a killed process to be gone */

struct sweeping {
    const struct uids *uids;
    const struct sweep *sweep;
};

/* The lease of an id of our range that no sandbox has, or -1. */
static int take_dead(const struct sweeping *s, unsigned long uid)
{
    if (uid < s->uids->first || uid > s->uids->last)
        return -1;
    return uids_take_this(s->uids, (uid_t)uid);
}

/* ---- processes ---- */

/* False when it is gone, or dead and only its parent's to reap. */
static bool read_status(pid_t pid, unsigned long *uid, char name[64])
{
    char path[48], line[256], state = 'Z';
    bool found = false;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    name[0] = '\0';
    while (file && !found && fgets(line, sizeof(line), file)) {
        sscanf(line, "Name: %63[^\n]", name);
        sscanf(line, "State: %c", &state);
        found = sscanf(line, "Uid: %lu", uid) == 1;
    }
    if (file)
        fclose(file);
    return found && state != 'Z';
}

static int kill_and_wait(int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0)
        return errno == ESRCH ? 0 : -errno;
    return poll(&ended, 1, DEATH_MS) == 1 ? 0 : -ETIMEDOUT;
}

static void sweep_process(const struct sweeping *s, pid_t pid)
{
    unsigned long uid;
    char name[64];
    /* Opened before it is looked at: what is killed is what was looked at, not who has its number by
     * then. */
    _cleanup_close_ int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0 || !read_status(pid, &uid, name) || pidfd_send_signal(pidfd, 0, NULL, 0) < 0)
        return;
    _cleanup_close_ int lease = take_dead(s, uid);
    if (lease < 0)
        return;
    int r = sweep_removes(s->sweep) ? kill_and_wait(pidfd) : 0;
    sweep_tell(s->sweep, "process", r, "%d %s", (int)pid, name);
}

static void sweep_processes(const struct sweeping *s)
{
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    while (dir && (entry = readdir(dir))) {
        char *end;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid > 0 && pid <= INT_MAX && *end == '\0')
            sweep_process(s, (pid_t)pid);
    }
    if (dir)
        closedir(dir);
}

/* ---- System V IPC ---- */

static int remove_shm(int id)
{
    return shmctl(id, IPC_RMID, NULL);
}

static int remove_sem(int id)
{
    return semctl(id, 0, IPC_RMID);
}

static int remove_msg(int id)
{
    return msgctl(id, IPC_RMID, NULL);
}

/* In each table the owner and the creator stand with their groups between them, after a number of
 * columns of the table's own. */
static void sweep_ipc(const struct sweeping *s)
{
    static const struct {
        const char *path, *format, *name;
        int (*remove)(int id);
    } tables[] = {
        {"/proc/sysvipc/shm", "%*d %d %*o %*u %*u %*u %*u %lu %*u %lu", "shared memory", remove_shm},
        {"/proc/sysvipc/sem", "%*d %d %*o %*u %lu %*u %lu", "semaphores", remove_sem},
        {"/proc/sysvipc/msg", "%*d %d %*o %*u %*u %*u %*u %lu %*u %lu", "message queue", remove_msg},
    };
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        char line[512];
        FILE *file = fopen(tables[i].path, "re");
        while (file && fgets(line, sizeof(line), file)) {
            int id;
            unsigned long owner, creator;
            if (sscanf(line, tables[i].format, &id, &owner, &creator) != 3)
                continue;
            _cleanup_close_ int lease = take_dead(s, owner), other = take_dead(s, creator);
            if (lease < 0 && other < 0)
                continue;
            int r = sweep_removes(s->sweep) && tables[i].remove(id) < 0 ? -errno : 0;
            sweep_tell(s->sweep, "ipc", r, "%s %d", tables[i].name, id);
        }
        if (file)
            fclose(file);
    }
}

/* ---- files ---- */

static void sweep_folder(const struct sweeping *s, const char *folder)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    while (dir && (entry = readdir(dir))) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        _cleanup_close_ int lease = take_dead(s, st.st_uid);
        if (lease < 0)
            continue;
        int r = sweep_removes(s->sweep) ? tree_remove(dirfd(dir), entry->d_name) : 0;
        sweep_tell(s->sweep, "file", r, "%s/%s", folder, entry->d_name);
    }
    if (dir)
        closedir(dir);
}

static void sweep_files(const struct sweeping *s)
{
    static const char *const folders[] = {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"};
    const char *tmpdir = getenv("TMPDIR");
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        sweep_folder(s, folders[i]);
        if (tmpdir && strcmp(tmpdir, folders[i]) == 0)
            tmpdir = NULL;
    }
    if (tmpdir && *tmpdir == '/')
        sweep_folder(s, tmpdir);
}

/* ---- keys ---- */

/* In a child that has become the id, which alone may touch its keyrings: not even root may. By number:
 * to name them (KEY_SPEC_USER_KEYRING) makes them. What is in them goes with them. */
static void __attribute__((noreturn)) end_own_keyrings(void)
{
    static char text[65536];
    _cleanup_close_ int fd = open("/proc/keys", O_RDONLY | O_CLOEXEC);
    ssize_t n = io_read_full(fd, text, sizeof(text) - 1);
    for (char *rest = text, *line; n > 0 && (line = strtok_r(rest, "\n", &rest));) {
        unsigned long uid;
        unsigned serial;
        if (sscanf(line, "%x %*s %*s %*s %*s %lu", &serial, &uid) == 2 && uid == geteuid())
            syscall(SYS_keyctl, KEYCTL_INVALIDATE, serial);
    }
    _exit(0);
}

static int end_keyrings(uid_t uid)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (syscall(SYS_setresuid, uid, uid, uid) < 0)
            _exit(errno);
        end_own_keyrings();
    }
    if (pid < 0 || program_wait(pid, &status) < 0)
        return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* "1800000005:     1 1/1 1/200 9/20000": how many keys each id has; who has none has no line. */
static void sweep_keys(const struct sweeping *s)
{
    char line[256];
    FILE *file = fopen("/proc/key-users", "re");
    while (file && fgets(line, sizeof(line), file)) {
        unsigned long uid, keys;
        if (sscanf(line, "%lu: %*u %lu/", &uid, &keys) != 2 || keys == 0)
            continue;
        _cleanup_close_ int lease = take_dead(s, uid);
        if (lease < 0)
            continue;
        int r = sweep_removes(s->sweep) ? end_keyrings((uid_t)uid) : 0;
        sweep_tell(s->sweep, "key", r, "%lu of user %lu", keys, uid);
    }
    if (file)
        fclose(file);
}

int sandbox_sweep(const struct sweep *sweep, struct dayfly_err *err)
{
    char dir[PATH_MAX];
    _cleanup_(uids_close) struct uids uids = {.fd = -1};
    if (geteuid() != 0)
        return 0;
    int r = home_run_dir(dir, sizeof(dir), err);
    if (r == 0)
        r = uids_open(&uids, dir, err);
    if (r < 0)
        return r;
    const struct sweeping s = {&uids, sweep};
    sweep_processes(&s);
    cgroup_sweep(&uids, sweep);
    sweep_ipc(&s);
    sweep_files(&s);
    sweep_keys(&s);
    return 0;
}
