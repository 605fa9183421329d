/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/filter_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/program.h"
#include "util/testing.h"

/* Arguments with which an allowed call fails harmlessly, with another error. */
struct
try {
    long number, a, b, c, d, e;
    int code;  /* of the refusal; 0: it is not refused */
    bool i386; /* by that processor's way in, with its numbers */
};

static void load(const struct filter_options *options)
{
    static struct sock_filter program[BPF_MAXINSNS];
    int fd = filter_make(options, NULL);
    ssize_t n = fd < 0 ? -1 : pread(fd, program, sizeof(program), 0);
    if (n <= 0 || n % (ssize_t)sizeof(*program))
        _exit(98);
    const struct sock_fprog filter = {(unsigned short)((size_t)n / sizeof(*program)), program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0)
        _exit(97);
}

#ifdef __x86_64__
static long call_i386(const struct try *t)
{
    long r;
    __asm__ volatile("int $0x80"
                     : "=a"(r)
                     : "a"(t->number), "b"(t->a), "c"(t->b), "d"(t->c), "S"(t->d), "D"(t->e)
                     : "memory", "r8", "r9", "r10", "r11");
    r = (int)r;
    errno = r < 0 ? (int)-r : 0;
    return r < 0 ? -1 : r;
}
#else
static long call_i386(const struct try *t)
{
    errno = t->code;
    return t->code ? -1 : 0;
}
#endif

static bool has_i386(void)
{
    const struct try getpid = {20};
    return call_i386(&getpid) >= 0;
}

/* In a child: 0 when all go as they should, else the number of the first that does not, plus 1. */
static int run(const struct filter_options *options, const struct try *tries, size_t count)
{
    bool i386 = has_i386();
    pid_t pid = fork();
    if (pid == 0) {
        load(options);
        for (size_t i = 0; i < count; i++) {
            const struct try *t = &tries[i];
            if (t->i386 && !i386)
                continue;
            errno = 0;
            long r = t->i386 ? call_i386(t) : syscall(t->number, t->a, t->b, t->c, t->d, t->e);
            bool refused = r < 0 && errno == t->code;
            bool others = errno == EPERM || errno == ENOSYS || errno == EAFNOSUPPORT;
            if (t->code ? !refused : r < 0 && others)
                _exit((int)i + 1);
        }
        _exit(0);
    }
    int status;
    assert_int_equal(program_wait(pid, &status), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static const struct filter_options plain = {0}, writing = {.shared_writes = true},
                                   without_root = {.shared_user = true};

#define NOWHERE ((long)"/nonexistent/file")

static void what_is_refused(void **state)
{
    static const struct try tries[] = {
        {SYS_mount, .code = EPERM},
        {SYS_umount2, .code = EPERM},
        {SYS_open_tree, -1, .code = EPERM},
        {SYS_open_by_handle_at, -1, .code = EPERM},
        {SYS_setns, -1, .code = EPERM},
        {SYS_unshare, CLONE_NEWUSER, .code = EPERM},
        {SYS_unshare, CLONE_FS | CLONE_NEWNET, .code = EPERM},
        {SYS_clone, CLONE_NEWUSER | CLONE_THREAD, .code = EPERM},
        {SYS_clone3, .code = ENOSYS},
        {SYS_bpf, -1, .code = EPERM},
        {SYS_io_uring_setup, .code = EPERM},
        {SYS_userfaultfd, -1, .code = EPERM},
        {SYS_request_key, .code = EPERM},
        {SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, .code = EPERM},
        {SYS_keyctl, KEYCTL_LINK, -1, KEY_SPEC_USER_SESSION_KEYRING, .code = EPERM},
        {SYS_keyctl, KEYCTL_GET_PERSISTENT, .code = EPERM},
        {SYS_add_key, 0, 0, 0, 0, KEY_SPEC_USER_KEYRING, .code = EPERM},
        {SYS_keyctl, KEYCTL_MOVE, -1, -1, KEY_SPEC_USER_KEYRING, .code = EPERM},
        {SYS_keyctl, KEYCTL_SEARCH, -1, 0, 0, KEY_SPEC_USER_SESSION_KEYRING, .code = EPERM},
        {SYS_keyctl, KEYCTL_SETPERM, -1, -1, .code = EPERM},
        {SYS_keyctl, KEYCTL_CHOWN, -1, -1, .code = EPERM},
        {SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, (long)"name", .code = EPERM},
        {467, .code = ENOSYS}, /* open_tree_attr: newer than the lists */
        {100000, .code = ENOSYS},
    };
    assert_int_equal(run(&plain, tries, ARRAY_SIZE(tries)), 0);
}

static void what_is_not(void **state)
{
    static const struct try tries[] = {
        {SYS_getpid},
        {SYS_unshare, CLONE_FS | CLONE_FILES},
        {SYS_ptrace, 16, -1},
        {SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING},
        {SYS_chmod, NOWHERE, 04755},
        {SYS_openat2, AT_FDCWD, NOWHERE},
    };
    assert_int_equal(run(&plain, tries, ARRAY_SIZE(tries)), 0);
}

static void sockets(void **state)
{
    static const struct try tries[] = {
        {SYS_socket, AF_VSOCK, SOCK_STREAM, .code = EAFNOSUPPORT},
        {SYS_socket, AF_VSOCK | 1L << 32, SOCK_STREAM, .code = EAFNOSUPPORT},
        {SYS_socket, AF_ALG, SOCK_SEQPACKET, .code = EAFNOSUPPORT},
        {SYS_socket, AF_PACKET, SOCK_RAW, .code = EAFNOSUPPORT},
        {SYS_socket, AF_KEY, SOCK_RAW, 2, .code = EAFNOSUPPORT},
        {SYS_socket, AF_X25, SOCK_SEQPACKET, .code = EAFNOSUPPORT},
        {SYS_socket, -1, SOCK_STREAM, .code = EAFNOSUPPORT},
        {SYS_socketpair, AF_TIPC, SOCK_STREAM, .code = EAFNOSUPPORT},
        {SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT, .code = EPROTONOSUPPORT},
        {SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, .code = EPROTONOSUPPORT},
        {SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_GENERIC, .code = EPROTONOSUPPORT},
        {SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE},
        {SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG},
        {SYS_socket, AF_UNIX, SOCK_STREAM},
        {SYS_socket, AF_INET, SOCK_STREAM},
        {SYS_socket, AF_INET6, SOCK_DGRAM},
    };
    assert_int_equal(run(&plain, tries, ARRAY_SIZE(tries)), 0);
}

/* The other doors into the same kernel. */
static void other_ways_in(void **state)
{
    static const struct try tries[] = {
        {21, .i386 = true, .code = EPERM},                                /* mount */
        {310, CLONE_NEWUSER, .i386 = true, .code = EPERM},                /* unshare */
        {120, CLONE_NEWUSER | SIGCHLD, .i386 = true, .code = EPERM},      /* clone */
        {435, .i386 = true, .code = ENOSYS},                              /* clone3 */
        {357, -1, .i386 = true, .code = EPERM},                           /* bpf */
        {425, 1, .i386 = true, .code = EPERM},                            /* io_uring_setup */
        {288, KEYCTL_GET_KEYRING_ID, -4, .i386 = true, .code = EPERM},    /* keyctl */
        {359, AF_VSOCK, SOCK_STREAM, .i386 = true, .code = EAFNOSUPPORT}, /* socket */
        {359, AF_INET, SOCK_STREAM, .i386 = true},                        /* the same */
        {102, 1, 8, .i386 = true, .code = EAFNOSUPPORT},                  /* socketcall */
        {15, 0, 04755, .i386 = true, .code = EPERM},                      /* chmod */
        {452, -1, 0, 04755, .i386 = true, .code = EPERM},                 /* fchmodat2 */
        {470, .i386 = true, .code = ENOSYS},
#ifdef __x86_64__
        {0x40000000 | SYS_mount, .code = ENOSYS}, /* x32 */
        {0x40000000 | SYS_getpid, .code = ENOSYS},
#endif
    };
    assert_int_equal(run(&writing, tries, ARRAY_SIZE(tries)), 0);
}

static void others_with_its_id(void **state)
{
    static const struct try tries[] = {
        {SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, .code = ENOSYS},
        {SYS_keyctl, KEYCTL_LINK, 4711, KEY_SPEC_SESSION_KEYRING, .code = ENOSYS},
        {SYS_add_key, .code = ENOSYS},
        {SYS_request_key, .code = ENOSYS},
        {SYS_prlimit64, 1, 0, 8, .code = EPERM},
        {SYS_prlimit64, 0, -1, 8},
    };
    assert_int_equal(run(&without_root, tries, ARRAY_SIZE(tries)), 0);
}

/* Only where the job writes to directories of the host. */
static void modes_of_other_owners(void **state)
{
    static const struct try tries[] = {
        {SYS_chmod, NOWHERE, 04755, .code = EPERM},
        {SYS_fchmod, -1, S_ISGID, .code = EPERM},
        {SYS_fchmodat, AT_FDCWD, NOWHERE, 06755, .code = EPERM},
        {452, AT_FDCWD, NOWHERE, 04755, .code = EPERM},
        {SYS_open, NOWHERE, O_CREAT, 04755, .code = EPERM},
        {SYS_openat, AT_FDCWD, NOWHERE, O_CREAT, 02755, .code = EPERM},
        {SYS_creat, NOWHERE, 04755, .code = EPERM},
        {SYS_openat2, AT_FDCWD, NOWHERE, .code = ENOSYS},
        {SYS_chmod, NOWHERE, 01777},
        {SYS_openat, AT_FDCWD, NOWHERE, O_CREAT, 0666},
    };
    assert_int_equal(run(&writing, tries, ARRAY_SIZE(tries)), 0);
}

/* Each set of options has the program that is compiled for it. */
static void what_was_built_is_what_the_rules_say(void **state)
{
    static unsigned char built[BPF_MAXINSNS * sizeof(struct sock_filter)], fresh[sizeof(built)];
    for (int i = 0; i < FILTER_PROGRAMS; i++) {
        const struct filter_options options = {.shared_writes = i & 1, .shared_user = i & 2};
        int a = filter_make(&options, NULL), b = filter_compile(&options, NULL);
        assert_true(a >= 0 && b >= 0);
        ssize_t n = pread(a, built, sizeof(built), 0);
        assert_true(n > 0);
        assert_int_equal(pread(b, fresh, sizeof(fresh), 0), n);
        assert_memory_equal(built, fresh, (size_t)n);
        close(a);
        close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_built_is_what_the_rules_say),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(what_is_not),
        cmocka_unit_test(sockets),
        cmocka_unit_test(other_ways_in),
        cmocka_unit_test(others_with_its_id),
        cmocka_unit_test(modes_of_other_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
