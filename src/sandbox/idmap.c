/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/program.h"

static int write_to(pid_t pid, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
}

int idmap_write(pid_t pid, const char *file, uid_t inside, uid_t outside)
{
    char text[48];
    snprintf(text, sizeof(text), "%u %u 1", inside, outside);
    /* Who is not root has to give up setgroups before its group is mapped. */
    if (strcmp(file, "gid_map") == 0 && geteuid() != 0)
        write_to(pid, "setgroups", "deny");
    return write_to(pid, file, text);
}

int idmap_make(uid_t uid, gid_t gid, uid_t shown_uid, gid_t shown_gid, struct dayfly_err *err)
{
    /* A namespace begins with a process, which has nothing else to do than to be there. */
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    pid_t runner = getpid(), pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == runner) /* who may have gone before that was said */
            pause();
        _exit(1);
    }
    if (pid < 0)
        return err_errno(err, errno, "make a user namespace");
    char path[64];
    int r = idmap_write(pid, "uid_map", uid, shown_uid), fd = -1, status;
    if (r == 0)
        r = idmap_write(pid, "gid_map", gid, shown_gid);
    snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
    if (r == 0 && (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        r = -errno;
    kill(pid, SIGKILL);
    program_wait(pid, &status);
    return r < 0 ? err_errno(err, -r, "map the owner of a share") : fd;
}
