/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library's side of the helper. A fork of this process would do for a program with one thread; a
 * library does not know its threads, and a copy of this memory, with keys and secrets in it, is the
 * last thing to put behind a guest's packets. So the child does nothing but async-signal-safe calls and
 * becomes another program, which the library carries along. It needs no file, no path and no /proc.
 */
#include "net/nat.h"

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

#include "net/nat_wire.h"
#include "net/resolv_conf.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/program.h"
#include "util/text.h"

#define START_LIMIT_MS 20000
#define SOCKET_BYTES   (2 * 1024 * 1024)

/* The program: blob.sh puts it there. */
extern const uint8_t nat_helper_start[], nat_helper_end[];

struct nat {
    pid_t pid;
    int pidfd; /* a number may be somebody else's by now, if the program reaped our child */
    int control;
    struct nat_shared *shared;
    struct nat_addresses addresses;
    const struct log *log;
};

static int make_pair(int fds[2], int flags, struct dayfly_err *err)
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

/* Newer than Debian 12's headers: for hosts where memory is not to be executed unless one says so. */
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

static int make_program(void)
{
    static const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    _cleanup_close_ int fd = memfd_create("dayfly-nat", flags | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("dayfly-nat", flags);
    if (fd < 0 ||
        io_write_full(fd, nat_helper_start, (size_t)(nat_helper_end - nat_helper_start)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -1;
    return steal_fd(&fd);
}

/* The memory that the helper reports in, which cannot be made shorter under us. */
static int make_shared(struct nat *nat)
{
    _cleanup_close_ int fd = memfd_create("dayfly-nat report", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, sizeof(*nat->shared)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -1;
    void *p = mmap(NULL, sizeof(*nat->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -1;
    nat->shared = p;
    return steal_fd(&fd);
}

static int write_setup(struct nat *nat, const struct nat_options *options, struct dayfly_err *err)
{
    struct nat_setup *setup = &nat->shared->setup;
    if (options->rule_count > NAT_RULES_MAX)
        return err_set(err, E2BIG, "more than %d rules for the network", NAT_RULES_MAX);
    if (options->publish_count > NAT_PUBLISH_MAX)
        return err_set(err, E2BIG, "more than %d ports to publish", NAT_PUBLISH_MAX);
    nat_addresses_default(&nat->addresses);
    nat->addresses.ipv6 = !options->no_ipv6;
    if (options->mtu)
        nat->addresses.mtu = options->mtu;
    if (nat->addresses.mtu < NAT_MTU_MIN || nat->addresses.mtu > NAT_MTU_MAX)
        return err_set(err, EINVAL, "the network's MTU is %d to %d", NAT_MTU_MIN, NAT_MTU_MAX);
    *setup = (struct nat_setup){.bytes = sizeof(struct nat_shared),
                                .parent = getpid(),
                                .addresses = nat->addresses,
                                .ttl_min_s = options->ttl_min_s,
                                .rule_count = (uint32_t)options->rule_count,
                                .publish_count = (uint32_t)options->publish_count};
    setup->resolver_count =
        resolv_conf_read(options->resolv_conf ? options->resolv_conf : "/etc/resolv.conf",
                         setup->resolvers, NAT_RESOLVERS_MAX);
    for (size_t i = 0; i < options->rule_count; i++)
        setup->rules[i] = options->rules[i];
    for (size_t i = 0; i < options->publish_count; i++)
        setup->publish[i] = options->publish[i];
    return 0;
}

/* In the child, with all signals blocked, which they stay. Its descriptors are first moved out of the
 * way of where they go. */
static void become_helper(int program, int control, int frames, int shared)
{
    static const char *const argv[] = {"dayfly-nat", NULL}, *const env[] = {NULL};
    const int from[] = {control, frames, shared};
    int moved[ARRAY_SIZE(from)];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    program = fcntl(program, F_DUPFD_CLOEXEC, 10);
    for (size_t i = 0; i < ARRAY_SIZE(from); i++)
        moved[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 10);
    for (size_t i = 0; i < ARRAY_SIZE(from); i++)
        if (moved[i] < 0 || dup2(moved[i], NAT_FD_CONTROL + (int)i) < 0)
            _exit(127);
    dup2(null, 0);
    dup2(null, 1);
    if (program < 0)
        _exit(127);
    /* What somebody opened without close-on-exec is none of its business. */
    close_range(NAT_FD_SHARED + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    syscall(SYS_execveat, program, "", argv, env, AT_EMPTY_PATH);
    _exit(127);
}

static int start_helper(struct nat *nat, int frames, int shared, struct dayfly_err *err)
{
    int control[2];
    _cleanup_close_ int program = make_program();
    if (program < 0)
        return err_errno(err, errno, "keep the network's helper in memory");
    int r = make_pair(control, 0, err);
    if (r < 0)
        return r;
    sigset_t all, before; /* no handler of the program's may run in the child */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    nat->pid = fork();
    int code = errno;
    if (nat->pid == 0)
        become_helper(program, control[1], frames, shared);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(control[1]);
    nat->control = control[0];
    if (nat->pid < 0)
        return err_errno(err, code, "start the network's helper");
    nat->pidfd = pidfd_open(nat->pid, 0);
    return nat->pidfd < 0 ? err_errno(err, errno, "watch the network's helper") : 0;
}

/* One message, with a NUL behind it. Its length, 0 at the end, or -errno. */
static ssize_t receive(const struct nat *nat, char message[static NAT_MESSAGE_BYTES + 1])
{
    ssize_t n;
    do
        n = recv(nat->control, message, NAT_MESSAGE_BYTES, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    message[n] = '\0';
    text_make_printable(message);
    return n;
}

static void log_message(const struct nat *nat, const char *message)
{
    int level = message[1] - 'a';
    if (message[0] == NAT_LOG && level >= LOG_ERROR && level <= LOG_DEBUG)
        log_line(nat->log, (enum log_level)level, "%s", message + 2);
}

static int wait_until_ready(struct nat *nat, struct dayfly_err *err)
{
    struct pollfd fd = {nat->control, POLLIN, 0};
    char message[NAT_MESSAGE_BYTES + 1];
    int n;
    do
        n = poll(&fd, 1, START_LIMIT_MS);
    while (n < 0 && errno == EINTR);
    ssize_t len = n == 1 ? receive(nat, message) : -ETIMEDOUT;
    if (len > 0 && message[0] == NAT_READY) {
        nat->addresses.ipv6 = nat->addresses.ipv6 && nat->shared->ipv6 != 0;
        return 0;
    }
    int code = nat->shared->code;
    if (len > 0 && message[0] == NAT_FAILED)
        return err_set(err, code > 0 && code < 4096 ? code : EIO, "%s", message + 1);
    return err_set(err, EIO, "the network's helper does not start%s",
                   len == -ETIMEDOUT ? " in time" : "; is libslirp installed?");
}

static int start(struct nat *nat, const struct nat_options *options, int *frame_fd,
                 struct dayfly_err *err)
{
    int frames[2];
    _cleanup_close_ int shared = make_shared(nat);
    if (shared < 0)
        return err_errno(err, errno, "share memory with the network's helper");
    int r = write_setup(nat, options, err);
    if (r == 0)
        r = make_pair(frames, SOCK_NONBLOCK, err);
    if (r < 0)
        return r;
    r = start_helper(nat, frames[1], shared, err);
    close(frames[1]);
    if (r == 0)
        r = wait_until_ready(nat, err);
    if (r == 0)
        *frame_fd = frames[0];
    else
        close(frames[0]);
    return r;
}

int nat_start(struct nat **out, const struct nat_options *options, int *frame_fd,
              struct dayfly_err *err)
{
    struct nat *nat = calloc(1, sizeof(*nat));
    if (!nat)
        return err_set(err, ENOMEM, "no memory");
    nat->pid = nat->pidfd = nat->control = -1;
    nat->log = options->log;
    int r = start(nat, options, frame_fd, err);
    if (r < 0) {
        nat_stop(nat);
        return r;
    }
    *out = nat;
    return 0;
}

void nat_stop(struct nat *nat)
{
    if (!nat)
        return;
    close_fd(&nat->control); /* which ends it as well */
    if (nat->pid > 0) {
        int status;
        if (nat->pidfd >= 0) /* it has nothing to finish: what it took, the kernel sends */
            pidfd_send_signal(nat->pidfd, SIGKILL, NULL, 0);
        program_wait(nat->pid, &status);
    }
    close_fd(&nat->pidfd);
    if (nat->shared)
        munmap(nat->shared, sizeof(*nat->shared));
    free(nat);
}

const struct nat_addresses *nat_addresses(const struct nat *nat)
{
    return &nat->addresses;
}

int nat_events_fd(const struct nat *nat)
{
    return nat->control;
}

int nat_handle_events(struct nat *nat)
{
    char message[NAT_MESSAGE_BYTES + 1];
    for (int i = 0; i < 16; i++) {
        ssize_t n = receive(nat, message);
        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return -EPIPE;
        log_message(nat, message);
    }
    return 0;
}

void nat_read_report(const struct nat *nat, struct nat_report *out)
{
    const struct nat_report *from = &nat->shared->report;
    uint32_t names = __atomic_load_n(&from->name_count, __ATOMIC_ACQUIRE);
    uint32_t addrs = __atomic_load_n(&from->addr_count, __ATOMIC_ACQUIRE);
    uint32_t refusals = __atomic_load_n(&from->refusal_count, __ATOMIC_ACQUIRE);
    *out = *from;
    out->name_count = MIN(names, (uint32_t)NAT_NAMES_LISTED);
    out->addr_count = MIN(addrs, (uint32_t)NAT_ADDRS_LISTED);
    out->refusal_count = MIN(refusals, (uint32_t)NAT_REFUSALS_LISTED);
    for (uint32_t i = 0; i < out->name_count; i++) {
        out->names[i].name[NET_NAME_BYTES - 1] = '\0';
        text_make_printable(out->names[i].name);
    }
    for (uint32_t i = 0; i < out->addr_count; i++) {
        out->addrs[i].name = MIN(out->addrs[i].name, (uint32_t)NAT_NAMES_LISTED);
        out->addrs[i].open = out->addrs[i].open != 0;
    }
}
