/* SPDX-License-Identifier: Apache-2.0 */
#include "image/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/meminfo.h"
#include "util/program.h"

/* Below this a tree in memory is not worth a try. */
#define MEMORY_MIN   (UINT64_C(128) << 20)
#define CHILD_FAILED 125

/* What the child sends when it is done; less than PIPE_BUF, so it comes whole or not at all. */
struct report {
    int rc;
    struct dayfly_err err;
    uint8_t result[SCRATCH_RESULT_BYTES];
};

/* ---- user namespaces ---- */

static bool write_file(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* The first range of subordinate ids in `path` that is the caller's. */
static bool subordinate_ids(const char *path, unsigned *start, unsigned *count)
{
    char line[256], uid[16];
    struct passwd entry, *user = NULL;
    char strings[1024];
    getpwuid_r(getuid(), &entry, strings, sizeof(strings), &user);
    FILE *f = fopen(path, "re");
    bool found = false;
    snprintf(uid, sizeof(uid), "%u", getuid());
    while (f && !found && fgets(line, sizeof(line), f)) {
        char *colon = strchr(line, ':');
        if (!colon)
            continue;
        *colon = '\0';
        found = (!strcmp(line, uid) || (user && !strcmp(line, user->pw_name))) &&
                sscanf(colon + 1, "%u:%u", start, count) == 2 && *count > 0;
    }
    if (f)
        fclose(f);
    return found;
}

static bool map_subordinates(const char *program, const char *path, pid_t pid, unsigned own)
{
    char words[7][16];
    unsigned start, count;
    if (!subordinate_ids(path, &start, &count))
        return false;
    const unsigned numbers[7] = {(unsigned)pid, 0, own, 1, 1, start, MIN(count, 65535u)};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        snprintf(words[i], sizeof(words[i]), "%u", numbers[i]);
    const char *const argv[] = {program,  words[0], words[1], words[2], words[3],
                                words[4], words[5], words[6], NULL};
    const struct program p = {
        .argv = argv, .package = "uidmap", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    return program_run(&p, NULL) == 0;
}

int scratch_probe_ids(struct dayfly_err *why)
{
    static const char *const files[] = {"/etc/subuid", "/etc/subgid"};
    unsigned start, count;
    if (geteuid() == 0)
        return 0;
    int r = program_probe("newuidmap", "uidmap", why);
    if (r == 0)
        r = program_probe("newgidmap", "uidmap", why);
    for (size_t i = 0; i < ARRAY_SIZE(files) && r == 0; i++)
        if (!subordinate_ids(files[i], &start, &count))
            r = err_set(why, ENOENT,
                        "%s has no ids for this user: as root, usermod --add-subuids 100000-165535 "
                        "--add-subgids 100000-165535 NAME",
                        files[i]);
    return r;
}

/* Map ids for the child, which waits in its new user namespace: all of them with subordinate ids, else
 * root alone (files of other owners then cannot be made, and that is an error, not a silent change). */
static int map_ids(pid_t pid, struct dayfly_err *err)
{
    char path[64], line[64];
    if (!map_subordinates("newuidmap", "/etc/subuid", pid, getuid())) {
        snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
        snprintf(line, sizeof(line), "0 %u 1", getuid());
        if (!write_file(path, line))
            return err_errno(err, errno, "cannot map user ids");
    }
    if (!map_subordinates("newgidmap", "/etc/subgid", pid, getgid())) {
        snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
        write_file(path, "deny");
        snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
        snprintf(line, sizeof(line), "0 %u 1", getgid());
        if (!write_file(path, line))
            return err_errno(err, errno, "cannot map group ids");
    }
    return 0;
}

/* ---- the child ---- */

struct child {
    const struct scratch_options *options;
    scratch_fn *fn;
    void *opaque;
    int report_fd;
    int go_fd;    /* a byte comes when the ids are mapped */
    int ready_fd; /* a byte goes when there is something to map */
    bool user_namespace;
};

static bool can_make_devices(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/.device", dir);
    if (mknod(path, S_IFCHR | 0600, makedev(1, 3)) < 0)
        return false;
    unlink(path);
    return true;
}

static bool mount_memory(const char *dir)
{
    char options[80];
    uint64_t budget = meminfo_budget();
    if (budget < MEMORY_MIN)
        return false;
    snprintf(options, sizeof(options), "mode=0755,size=%llu", (unsigned long long)budget);
    return mount("dayfly", dir, "tmpfs", MS_NOSUID, options) == 0;
}

/* Send the outcome and end. */
static void __attribute__((noreturn)) finish(const struct child *child, struct report *report)
{
    io_write_full(child->report_fd, report, sizeof(*report));
    _exit(report->rc ? CHILD_FAILED : 0);
}

static void __attribute__((noreturn)) work(const struct child *child, bool in_memory)
{
    struct report report = {0};
    struct scratch_place place = {.dir = child->options->dir, .in_memory = in_memory};
    place.whole = can_make_devices(place.dir);
    report.rc = child->fn(child->opaque, &place, report.result, &report.err);
    finish(child, &report);
}

static void __attribute__((noreturn)) child_main(const struct child *child, pid_t parent)
{
    struct report report = {0};
    char byte = 0;
    bool in_memory = false;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the prctl */
        _exit(CHILD_FAILED);
    if (child->user_namespace) {
        if (unshare(CLONE_NEWUSER) < 0) {
            report.rc = err_errno(&report.err, errno,
                                  "cannot make a user namespace, without which only "
                                  "root can make an image");
            finish(child, &report);
        }
        if (io_write_full(child->ready_fd, &byte, 1) || io_read_full(child->go_fd, &byte, 1) != 1)
            _exit(CHILD_FAILED);
        if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
            report.rc = err_errno(&report.err, errno, "cannot become root in a user namespace");
            finish(child, &report);
        }
        /* Changing ids cleared it. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    if (!child->options->own_ids || geteuid() == 0) {
        bool private = unshare(CLONE_NEWNS | CLONE_NEWPID) == 0 &&
                       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
        in_memory = private && !child->options->on_disk && mount_memory(child->options->dir);
    }
    /* A process of its own: the PID namespace begins with the next one. */
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(child, in_memory);
    }
    int status = 0;
    if (pid < 0 || program_wait(pid, &status) < 0 || !WIFEXITED(status))
        _exit(CHILD_FAILED);
    _exit(WEXITSTATUS(status));
}

int scratch_start(struct scratch *scratch, const struct scratch_options *options, scratch_fn *fn,
                  void *opaque, struct dayfly_err *err)
{
    int report[2] = {-1, -1}, go[2] = {-1, -1}, ready[2] = {-1, -1};
    int rc = 0;
    pid_t pid = -1;
    *scratch = (struct scratch){.report_fd = -1};
    if (pipe2(report, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0 || pipe2(ready, O_CLOEXEC) < 0) {
        rc = err_errno(err, errno, "pipe");
        goto out;
    }
    struct child child = {.options = options,
                          .fn = fn,
                          .opaque = opaque,
                          .report_fd = report[1],
                          .go_fd = go[0],
                          .ready_fd = ready[1],
                          .user_namespace = geteuid() != 0 && !options->own_ids};
    fflush(NULL);
    pid_t parent = getpid();
    pid = fork();
    if (pid == 0) {
        close(report[0]);
        close(go[1]);
        close(ready[0]);
        child_main(&child, parent);
    }
    if (pid < 0) {
        rc = err_errno(err, errno, "fork");
        goto out;
    }
    close_fd(&ready[1]);
    char byte;
    if (child.user_namespace && io_read_full(ready[0], &byte, 1) == 1) {
        rc = map_ids(pid, err);
        if (!rc)
            io_write_full(go[1], "", 1);
    }
    if (!rc) {
        scratch->pid = pid;
        scratch->report_fd = steal_fd(&report[0]);
    }
out:
    for (int i = 0; i < 2; i++) {
        close_fd(&report[i]);
        close_fd(&go[i]);
        close_fd(&ready[i]);
    }
    /* With its pipes closed the child that was waiting for its ids ends. */
    int status;
    if (rc && pid > 0)
        program_wait(pid, &status);
    return rc;
}

int scratch_wait(struct scratch *scratch, void *result, struct dayfly_err *err)
{
    struct report report;
    int status = 0;
    ssize_t n = io_read_full(scratch->report_fd, &report, sizeof(report));
    close_fd(&scratch->report_fd);
    program_wait(scratch->pid, &status);
    if (n != sizeof(report))
        return err_set(err, ECHILD, "the helper process was killed; is memory short?");
    if (result)
        memcpy(result, report.result, sizeof(report.result));
    if (report.rc && err)
        *err = report.err;
    return report.rc;
}
