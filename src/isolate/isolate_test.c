/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a locked-up thread can and cannot do. Isolation is for ever, so each case runs in a child: in a
 * thread of it, while the child's first thread stays free.
 */
#include "isolate/isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/testing.h"
#include "util/tree.h"

/* In the child a failed check ends it; the parent tells from its output which. */
#define CHECK(condition)                                                                               \
    do {                                                                                               \
        if (!(condition)) {                                                                            \
            dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);       \
            _exit(1);                                                                                  \
        }                                                                                              \
    } while (0)

#define REFUSED(call) CHECK((errno = 0, (long)(call)) == -1 && (errno == EPERM || errno == EACCES))

struct place {
    char dir[64];
    int rw, ro; /* dir/rw, dir/ro */
    unsigned applied;
    uint64_t keep;
};

static const struct isolate_call file_calls[] = {
    ISOLATE_CALL(openat),   ISOLATE_CALL(mkdirat),    ISOLATE_CALL(renameat),
    ISOLATE_CALL(unlinkat), ISOLATE_CALL(readlinkat), ISOLATE_CALL(getdents64),
};

static void lock_up(struct place *p)
{
    struct dayfly_err err = {0};
    const struct isolate_dir dirs[] = {{p->rw, false}, {p->ro, true}};
    const struct isolate_options options = {
        .calls = {isolate_base_calls, isolate_thread_calls, ISOLATE_CALLS(file_calls)},
        .dirs = dirs,
        .dir_count = 2,
        .capabilities = p->keep,
    };
    if (isolate_thread(&options, &p->applied, &err) < 0) {
        dprintf(2, "%s\n", err.msg);
        _exit(1);
    }
    CHECK(p->applied & ISOLATE_CAPABILITIES);
    CHECK(p->applied & ISOLATE_SECCOMP);
}

static void *does_its_work(void *opaque)
{
    struct place *p = opaque;
    char buffer[8];
    lock_up(p);
    int fd = openat(p->rw, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "text", 4) == 4);
    CHECK(mkdirat(p->rw, "below", 0700) == 0);
    CHECK(renameat(p->rw, "file", p->rw, "below/file") == 0);
    CHECK(unlinkat(p->rw, "below/file", 0) == 0);
    int kept = openat(p->ro, "kept", O_RDONLY | O_CLOEXEC);
    CHECK(kept >= 0 && read(kept, buffer, sizeof(buffer)) == 4);
    return NULL;
}

static void *cannot_reach_other_files(void *opaque)
{
    struct place *p = opaque;
    char path[96];
    int outside = open(p->dir, O_PATH | O_CLOEXEC);
    lock_up(p);
    snprintf(path, sizeof(path), "%s/secret", p->dir);
    if (p->applied & ISOLATE_NAMESPACES) {
        CHECK(openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC) == -1 && errno == ENOENT);
        CHECK(openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_CLOEXEC) == -1 && errno == ENOENT);
        CHECK(openat(AT_FDCWD, "/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) == -1);
    }
    if (p->applied & (ISOLATE_NAMESPACES | ISOLATE_LANDLOCK))
        CHECK(openat(p->rw, "link", O_RDONLY | O_CLOEXEC) == -1);
    if (p->applied & ISOLATE_LANDLOCK) {
        /* Also by a descriptor that was open before, and from below. */
        REFUSED(openat(outside, "secret", O_RDONLY | O_CLOEXEC));
        REFUSED(openat(p->rw, "../secret", O_RDONLY | O_CLOEXEC));
        REFUSED(openat(outside, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        REFUSED(openat(p->ro, "kept", O_WRONLY | O_CLOEXEC));
        REFUSED(openat(p->ro, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        REFUSED(unlinkat(p->ro, "kept", 0));
        REFUSED(mkdirat(p->ro, "new", 0700));
    }
    return NULL;
}

static void *cannot_attack(void *opaque)
{
    struct place *p = opaque;
    char name[] = "true", *const argv[] = {name, NULL};
    char buffer[8];
    struct iovec iov = {buffer, sizeof(buffer)};
    pid_t parent = getppid();
    lock_up(p);
    REFUSED(execve("/bin/true", argv, NULL));
    REFUSED(execveat(p->rw, "file", argv, NULL, 0));
    REFUSED(syscall(SYS_fork));
    REFUSED(syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL));
    CHECK(syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS);
    REFUSED(socket(AF_INET, SOCK_STREAM, 0));
    REFUSED(socket(AF_UNIX, SOCK_STREAM, 0));
    REFUSED(socket(AF_NETLINK, SOCK_RAW, 0));
    REFUSED(kill(parent, 0));
    REFUSED(syscall(SYS_tgkill, parent, parent, 0));
    REFUSED(fcntl(p->rw, F_SETOWN, parent)); /* who is signalled, and with what */
    REFUSED(fcntl(p->rw, F_SETSIG, SIGKILL));
    REFUSED(fcntl(p->rw, F_NOTIFY, DN_MODIFY));
    REFUSED(fcntl(p->rw, F_SETLEASE, F_RDLCK));
    CHECK(syscall(SYS_tgkill, getpid(), gettid(), 0) == 0); /* abort() */
    CHECK(fcntl(p->rw, F_GETFD) == FD_CLOEXEC);
    REFUSED(ptrace(PTRACE_ATTACH, parent, NULL, NULL));
    REFUSED(process_vm_readv(parent, &iov, 1, &iov, 1, 0));
    REFUSED(mount("none", "/", "tmpfs", 0, NULL));
    REFUSED(unshare(CLONE_NEWUSER));
    REFUSED(setns(p->rw, 0));
    REFUSED(chroot("."));
    REFUSED(syscall(SYS_io_uring_setup, 1, NULL));
    REFUSED(syscall(SYS_bpf, 0, NULL, 0));
    REFUSED(syscall(SYS_userfaultfd, 0));
    REFUSED(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
    REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    REFUSED(syscall(SYS_open_by_handle_at, p->rw, NULL, O_RDONLY));
    REFUSED(syscall(SYS_memfd_create, "x", 0));
    REFUSED(syscall(SYS_setuid, 0));
    REFUSED(prctl(PR_SET_SECCOMP, 0, 0, 0, 0));
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
          MAP_FAILED);
    CHECK(errno == EPERM);
    REFUSED(mprotect(&buffer, 1, PROT_EXEC));
    return NULL;
}

static void *keeps_no_capabilities(void *opaque)
{
    struct place *p = opaque;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    CHECK(syscall(SYS_capget, &header, data) == 0);
    uint32_t had = data[0].permitted;
    struct dayfly_err err;
    CHECK(isolate_capabilities(p->keep, &err) == 1);
    CHECK(syscall(SYS_capget, &header, data) == 0);
    CHECK(data[0].permitted == (had & (uint32_t)p->keep));
    CHECK(data[0].effective == (had & (uint32_t)p->keep) && data[1].permitted == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    return NULL;
}

static void *ends_at_once(void *opaque)
{
    *(bool *)opaque = true;
    return NULL;
}

/* What a locked-up thread makes is as locked up. */
static void *further_threads_inherit(void *opaque)
{
    struct place *p = opaque;
    pthread_t thread;
    bool ran = false;
    lock_up(p);
    CHECK(pthread_create(&thread, NULL, ends_at_once, &ran) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(ran);
    return NULL;
}

static const struct isolate_call network_calls[] = {
    ISOLATE_CALL_IF(socket, 0, UINT64_MAX, AF_UNIX),
    ISOLATE_CALL_IF(socket, 0, UINT64_MAX, AF_INET),
    ISOLATE_CALL(connect),
    ISOLATE_CALL_IF(prctl, 0, UINT64_MAX, PR_GET_PDEATHSIG),
};

static void lock_up_with_network(bool keep, unsigned *applied)
{
    const struct isolate_options options = {
        .calls = {isolate_base_calls, ISOLATE_CALLS(network_calls)},
        .keep_network = keep,
        .change_user = true,
        .uid = geteuid() ? geteuid() : 65534,
        .gid = geteuid() ? getegid() : 65534,
    };
    int death_signal = 0;
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    CHECK(isolate_thread(&options, applied, NULL) == 0);
    CHECK(prctl(PR_GET_PDEATHSIG, &death_signal) == 0 && death_signal == SIGKILL);
}

/* Whether a socket of the network namespace that there was before can be reached afterwards. */
static bool reaches_its_network(bool keep)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(name);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned applied;
    CHECK(bind(listener, (struct sockaddr *)&name, sizeof(name)) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&name, &len) == 0);
    lock_up_with_network(keep, &applied);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&name, len) == 0 || !(applied & ISOLATE_NAMESPACES);
}

static void *keeps_its_network(void *opaque)
{
    (void)opaque;
    CHECK(reaches_its_network(true));
    return NULL;
}

static void *loses_its_network(void *opaque)
{
    (void)opaque;
    CHECK(geteuid() != 0 || !reaches_its_network(false));
    return NULL;
}

/* With the network come the names of Unix sockets in it that are in no file system. */
static void *reaches_no_unix_sockets(void *opaque)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(name);
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned applied;
    (void)opaque;
    CHECK(bind(listener, (struct sockaddr *)&name, sizeof(name.sun_family)) == 0);
    CHECK(listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&name, &len) == 0);
    lock_up_with_network(true, &applied);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (abi >= 6)
        REFUSED(connect(fd, (struct sockaddr *)&name, len));
    return NULL;
}

static int run_in_child(void *(*body)(void *), struct place *p)
{
    pthread_t thread;
    pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        CHECK(pthread_create(&thread, NULL, body, p) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        /* The rest of the process goes on as it was. */
        int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(fd >= 0);
        _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

static void make_file(int dir_fd, const char *name)
{
    _cleanup_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, "text", 4) == 4);
}

static int setup(void **state)
{
    static const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    struct place *p = calloc(1, sizeof(*p));
    if (!p)
        return -1;
    strcpy(p->dir, "/tmp/unit-isolate.XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    _cleanup_close_ int top = open(p->dir, flags);
    assert_int_equal(mkdirat(top, "rw", 0700), 0);
    assert_int_equal(mkdirat(top, "ro", 0700), 0);
    make_file(top, "secret");
    make_file(top, "ro/kept");
    assert_int_equal(symlinkat("/etc/passwd", top, "rw/link"), 0);
    p->rw = openat(top, "rw", flags);
    p->ro = openat(top, "ro", flags);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    close(p->rw);
    close(p->ro);
    tree_remove(AT_FDCWD, p->dir);
    free(p);
    return 0;
}

#define CASE(name)                                                                                     \
    static void test_##name(void **state)                                                              \
    {                                                                                                  \
        assert_int_equal(run_in_child(name, *state), 0);                                               \
    }

CASE(does_its_work)
CASE(cannot_reach_other_files)
CASE(cannot_attack)
CASE(further_threads_inherit)
CASE(keeps_its_network)
CASE(loses_its_network)
CASE(reaches_no_unix_sockets)

static void test_capabilities_are_dropped(void **state)
{
    struct place *p = *state;
    assert_int_equal(run_in_child(keeps_no_capabilities, p), 0);
    p->keep = 1u << CAP_CHOWN;
    assert_int_equal(run_in_child(keeps_no_capabilities, p), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_does_its_work),           TEST(test_cannot_reach_other_files),
        TEST(test_cannot_attack),           TEST(test_further_threads_inherit),
        TEST(test_keeps_its_network),       TEST(test_loses_its_network),
        TEST(test_reaches_no_unix_sockets), TEST(test_capabilities_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
