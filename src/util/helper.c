/* SPDX-License-Identifier: Apache-2.0 */
#include "util/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/program.h"
#include "util/text.h"

#define START_LIMIT_MS 20000
#define SOCKET_BYTES   (2 * 1024 * 1024)
#define EVENTS_A_TURN  16

/* Newer than Debian 12's headers: for hosts where memory is not to be executed unless one says so. */
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

int helper_pair(int fds[2], int flags, struct dayfly_err *err)
{
    static const int bytes = SOCKET_BYTES;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, fds) < 0)
        return err_errno(err, errno, "make a pair of sockets");
    /* As much as may be: the usual limit holds three large frames. */
    for (int i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
            setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    return 0;
}

int helper_share(struct helper *h, size_t bytes, struct dayfly_err *err)
{
    _cleanup_close_ int fd = memfd_create("dayfly helper", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return err_errno(err, errno, "make memory to share");
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_errno(err, errno, "map memory to share");
    *(struct helper_head *)p = (struct helper_head){(uint32_t)bytes, getpid()};
    h->shared = p;
    h->shared_bytes = bytes;
    h->shared_fd = steal_fd(&fd);
    return 0;
}

static int make_program(const struct helper_program *program)
{
    static const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    _cleanup_close_ int fd = memfd_create(program->name, flags | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create(program->name, flags);
    if (fd < 0 || io_write_full(fd, program->start, (size_t)(program->end - program->start)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -1;
    return steal_fd(&fd);
}

/* In the child, with all signals blocked, which they stay. Its descriptors are first moved out of the
 * way of where they go. */
static void become(const char *name, int program, const int *fds, int count)
{
    const char *const argv[] = {name, NULL}, *const env[] = {NULL};
    int moved[HELPER_FDS_MAX + 2];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    program = fcntl(program, F_DUPFD_CLOEXEC, HELPER_FD_CONTROL + count);
    for (int i = 0; i < count; i++)
        moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, HELPER_FD_CONTROL + count);
    /* Now: what stands at these numbers has been moved, and this one may stand where those go. */
    dup2(null, 0);
    dup2(null, 1);
    for (int i = 0; i < count; i++)
        if (moved[i] < 0 || dup2(moved[i], HELPER_FD_CONTROL + i) < 0)
            _exit(127);
    if (program < 0)
        _exit(127);
    /* What somebody opened without close-on-exec is none of its business. */
    close_range((unsigned)(HELPER_FD_CONTROL + count), ~0u, CLOSE_RANGE_CLOEXEC);
    syscall(SYS_execveat, program, "", argv, env, AT_EMPTY_PATH);
    _exit(127);
}

int helper_start(struct helper *h, const struct helper_program *program, const int *fds, size_t count,
                 struct dayfly_err *err)
{
    int control[2], all_fds[HELPER_FDS_MAX + 2];
    h->program = program;
    if (count > HELPER_FDS_MAX)
        return err_set(err, E2BIG, "too many descriptors for %s", program->what);
    _cleanup_close_ int memory = make_program(program);
    if (memory < 0)
        return err_errno(err, errno, "keep %s in memory", program->what);
    int r = helper_pair(control, 0, err);
    if (r < 0)
        return r;
    all_fds[0] = control[1];
    all_fds[1] = h->shared_fd;
    for (size_t i = 0; i < count; i++)
        all_fds[2 + i] = fds[i];
    sigset_t all, before; /* no handler of the program's may run in the child */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    h->pid = fork();
    int code = errno;
    if (h->pid == 0)
        become(program->name, memory, all_fds, (int)count + 2);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(control[1]);
    close_fd(&h->shared_fd);
    h->control = control[0];
    if (h->pid < 0)
        return err_errno(err, code, "start %s", program->what);
    h->pidfd = pidfd_open(h->pid, 0);
    return h->pidfd < 0 ? err_errno(err, errno, "watch %s", program->what) : 0;
}

/* One message, with a NUL behind it. Its length, 0 at the end, or -errno. A helper that ended without
 * having read what it was sent is told of once by ECONNRESET, in front of its last words. */
static ssize_t receive(const struct helper *h, char message[static HELPER_MESSAGE_BYTES + 1])
{
    ssize_t n;
    do
        n = recv(h->control, message, HELPER_MESSAGE_BYTES, MSG_DONTWAIT);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0)
        return -errno;
    message[n] = '\0';
    text_make_printable(message);
    return n;
}

static void log_message(const struct log *log, const char *message, ssize_t len)
{
    int level = len > 1 ? message[1] - 'a' : -1;
    if (message[0] == HELPER_LOG && level >= LOG_ERROR && level <= LOG_DEBUG)
        log_line(log, (enum log_level)level, "%s", message + 2);
}

static ssize_t wait_for_message(struct helper *h, char message[static HELPER_MESSAGE_BYTES + 1])
{
    struct pollfd fd = {h->control, POLLIN, 0};
    int n;
    do
        n = poll(&fd, 1, START_LIMIT_MS);
    while (n < 0 && errno == EINTR);
    return n == 1 ? receive(h, message) : -ETIMEDOUT;
}

int helper_wait(struct helper *h, const struct log *log, struct dayfly_err *err)
{
    char message[HELPER_MESSAGE_BYTES + 1];
    ssize_t len;
    while ((len = wait_for_message(h, message)) > 0 && message[0] == HELPER_LOG)
        log_message(log, message, len);
    if (len > 0 && message[0] == HELPER_READY)
        return 0;
    if (len > 0 && message[0] == HELPER_FAILED) {
        char *text;
        long code = strtol(message + 1, &text, 10);
        return err_set(err, code > 0 && code < 4096 ? (int)code : EIO, "%s", text + (*text == ' '));
    }
    if (len == -ETIMEDOUT)
        return err_set(err, EIO, "%s does not start in time", h->program->what);
    return err_set(err, EIO, "%s does not start; is %s installed?", h->program->what,
                   h->program->needs);
}

int helper_handle_events(struct helper *h, const struct log *log)
{
    char message[HELPER_MESSAGE_BYTES + 1];
    for (int i = 0; i < EVENTS_A_TURN; i++) {
        ssize_t n = receive(h, message);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return -EPIPE;
        log_message(log, message, n);
    }
    return 0;
}

void helper_stop(struct helper *h)
{
    close_fd(&h->control); /* which ends it as well */
    if (h->pid > 0) {
        int status;
        if (h->pidfd >= 0) /* it has nothing to finish: what it took, the kernel sends */
            pidfd_send_signal(h->pidfd, SIGKILL, NULL, 0);
        program_wait(h->pid, &status);
        h->pid = -1;
    }
    close_fd(&h->pidfd);
    close_fd(&h->shared_fd);
    if (h->shared)
        munmap(h->shared, h->shared_bytes);
    h->shared = NULL;
}
