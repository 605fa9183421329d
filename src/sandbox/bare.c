/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/bare.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/initramfs.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define BARE_FAILED 125

int bare_agent(struct dayfly_err *err)
{
    const void *program;
    size_t len;
    _cleanup_close_ int fd = memfd_create("dayfly-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    initramfs_agent(&program, &len);
    int r = fd < 0 ? -errno : io_write_full(fd, program, len);
    if (r < 0)
        return err_errno(err, -r, "keep the agent in memory");
    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return steal_fd(&fd);
}

static void __attribute__((noreturn)) become(int agent_fd, int link_fd)
{
    char link[24];
    snprintf(link, sizeof(link), "link=%d", link_fd);
    const char *const argv[] = {"dayfly-agent", "bare", link, NULL};
    const char *const env[] = {NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0 && dup2(null, 2) >= 0 &&
        syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) == 0 && fcntl(link_fd, F_SETFD, 0) == 0)
        syscall(SYS_execveat, agent_fd, "", argv, env, AT_EMPTY_PATH);
    _exit(BARE_FAILED);
}

pid_t bare_start(int *link_fd, struct dayfly_err *err)
{
    _cleanup_close_ int agent = bare_agent(err);
    int pair[2];
    if (agent < 0)
        return agent;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, errno, "a socket to the agent");
    pid_t pid = fork();
    if (pid == 0)
        become(agent, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return err_errno(err, errno, "start the agent");
    }
    *link_fd = pair[0];
    return pid;
}
