/* SPDX-License-Identifier: Apache-2.0 */
/* See payload.h. */
#include "payload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static bool refused(void)
{
    return errno == EPERM || errno == EACCES || errno == ENOSYS;
}

/* Of a call that cannot succeed with what it was given. */
static bool got_through(long result)
{
    return result >= 0 || !refused();
}

static bool opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool makes_socket(int family, int type)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool read_files(void)
{
    return opens("/etc/passwd", O_RDONLY) || opens("/usr/bin/env", O_RDONLY);
}

static bool read_upward(void)
{
    return opens("../../../../../../../../etc/passwd", O_RDONLY) || opens(".", O_RDONLY | O_DIRECTORY);
}

static bool read_memory(void)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)getppid());
    return opens("/proc/self/mem", O_RDWR) || opens(path, O_RDONLY);
}

static bool write_files(void)
{
    char path[48];
    snprintf(path, sizeof(path), "/tmp/dayfly-breach.%d", (int)syscall(SYS_gettid));
    bool made = opens(path, O_WRONLY | O_CREAT);
    if (made)
        unlink(path);
    return made;
}

static bool exec(void)
{
    char *const none[] = {NULL};
    return got_through(execve("/nonexistent/program", none, none));
}

/* 0 in a child, which ends; else whether there is one. */
static bool has_child(long pid)
{
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, __WALL);
    return got_through(pid);
}

static bool make_process(void)
{
    return has_child(syscall(SYS_fork)) || has_child(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

static bool socket_inet(void)
{
    return makes_socket(AF_INET, SOCK_STREAM) || makes_socket(AF_INET6, SOCK_DGRAM);
}

static bool socket_unix(void)
{
    return makes_socket(AF_UNIX, SOCK_STREAM);
}

static bool socket_netlink(void)
{
    return makes_socket(AF_NETLINK, SOCK_RAW) || makes_socket(AF_PACKET, SOCK_RAW);
}

/* One that is made in a pair can still be told to send to a name. */
static bool datagram(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
        return makes_socket(AF_UNIX, SOCK_DGRAM);
    close(pair[0]);
    close(pair[1]);
    return true;
}

/* To type what the user's shell reads afterwards. */
static bool type_ahead(void)
{
    return got_through(ioctl(-1, TIOCSTI, "x"));
}

static bool trace(void)
{
    return got_through(ptrace(PTRACE_SEIZE, getppid(), NULL, NULL));
}

static bool send_signal(void)
{
    siginfo_t info = {.si_signo = 0};
    return got_through(kill(getppid(), 0)) ||
           got_through(syscall(SYS_tgkill, getppid(), getppid(), 0)) ||
           got_through(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &info));
}

static bool open_pidfd(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getppid(), 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool vm_read(void)
{
    char buffer[8];
    struct iovec iov = {buffer, sizeof(buffer)};
    return got_through(process_vm_readv(getppid(), &iov, 1, &iov, 1, 0));
}

static bool mounts(void)
{
    return got_through(mount("none", "/nonexistent", "tmpfs", 0, NULL)) ||
           got_through(syscall(SYS_fsopen, "nonexistent", 0));
}

static bool change_root(void)
{
    return got_through(chroot("/nonexistent"));
}

static bool user_namespace(void)
{
    return got_through(unshare(CLONE_NEWUSER));
}

static bool clone_user(void)
{
    return has_child(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
}

static bool enter_namespace(void)
{
    return got_through(setns(-1, 0));
}

static bool make_ring(void)
{
    return got_through(syscall(SYS_io_uring_setup, 1, NULL));
}

/* -- a ring that the monitor has ------------------------------------------------------------------- */

static struct io_uring_params layout; /* the same for every ring of the process */

void payload_learn_rings(void)
{
    int fd = (int)syscall(SYS_io_uring_setup, 128, &layout);
    if (fd >= 0)
        close(fd);
}

/* With the ring's own memory, have it open a file. */
static bool abuse_ring(int fd)
{
    const size_t sqes_bytes = layout.sq_entries * sizeof(struct io_uring_sqe);
    const size_t ring_bytes = (layout.sq_off.array + 4 * layout.sq_entries + 4095) & ~(size_t)4095;
    /* Of what is no ring, to touch a mapping could end us. */
    if (syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0) < 0)
        return false;
    struct io_uring_sqe *sqes =
        mmap(NULL, sqes_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)IORING_OFF_SQES);
    if (sqes == MAP_FAILED)
        return false;
    uint8_t *ring =
        mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)IORING_OFF_SQ_RING);
    if (ring == MAP_FAILED)
        return false;
    uint32_t *tail = (uint32_t *)(void *)(ring + layout.sq_off.tail);
    uint32_t *mask = (uint32_t *)(void *)(ring + layout.sq_off.ring_mask);
    uint32_t *cq_head = (uint32_t *)(void *)(ring + layout.cq_off.head);
    uint32_t *cq_tail = (uint32_t *)(void *)(ring + layout.cq_off.tail);
    uint32_t *cq_mask = (uint32_t *)(void *)(ring + layout.cq_off.ring_mask);
    struct io_uring_cqe *cqes = (struct io_uring_cqe *)(void *)(ring + layout.cq_off.cqes);
    uint32_t *array = (uint32_t *)(void *)(ring + layout.sq_off.array);
    if (layout.sq_off.array + 4 * (*mask + 1) > ring_bytes)
        return false;
    sqes[0] = (struct io_uring_sqe){
        .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t) "/etc/passwd"};
    array[*tail & *mask] = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
        return false;
    if (*cq_head == __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE))
        return false;
    int result = cqes[*cq_head & *cq_mask].res;
    __atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
    if (result >= 0)
        close(result);
    return result >= 0;
}

static bool foreign_ring(void)
{
    for (int fd = 0; fd < 256 && layout.sq_off.array; fd++)
        if (abuse_ring(fd))
            return true;
    return false;
}

/* -------------------------------------------------------------------------------------------------- */

static bool load_bpf(void)
{
    return got_through(syscall(SYS_bpf, 0, NULL, 0));
}

static bool perf(void)
{
    return got_through(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
}

static bool userfault(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return got_through(fd);
}

static bool keys(void)
{
    return got_through(syscall(SYS_keyctl, 0, -3, 0, 0, 0)) ||
           got_through(syscall(SYS_add_key, NULL, NULL, NULL, 0, 0));
}

static bool handle(void)
{
    return got_through(syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, O_RDONLY));
}

static bool make_code(void)
{
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at != MAP_FAILED)
        munmap(at, 4096);
    return at != MAP_FAILED;
}

/* A filter for all threads of the process, of the attacker's choice. */
static bool filter_others(void)
{
    return got_through(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, NULL));
}

static bool capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    return syscall(SYS_capget, &header, data) == 0 && (data[0].effective | data[1].effective);
}

static const struct {
    const char *name;
    bool (*succeeds)(void);
} attacks[ATTACKS] = {
    [ATTACK_READ_FILES] = {"read files", read_files},
    [ATTACK_READ_UPWARD] = {"read files by ..", read_upward},
    [ATTACK_READ_MEMORY] = {"open memory", read_memory},
    [ATTACK_WRITE_FILES] = {"write files", write_files},
    [ATTACK_EXEC] = {"exec", exec},
    [ATTACK_FORK] = {"fork", make_process},
    [ATTACK_SOCKET_INET] = {"inet sockets", socket_inet},
    [ATTACK_SOCKET_UNIX] = {"unix sockets", socket_unix},
    [ATTACK_SOCKET_NETLINK] = {"netlink sockets", socket_netlink},
    [ATTACK_DATAGRAM] = {"datagram sockets", datagram},
    [ATTACK_TERMINAL] = {"type on a terminal", type_ahead},
    [ATTACK_PTRACE] = {"ptrace", trace},
    [ATTACK_SIGNAL] = {"signals", send_signal},
    [ATTACK_PIDFD] = {"pidfd", open_pidfd},
    [ATTACK_VM_READ] = {"read another's memory", vm_read},
    [ATTACK_MOUNT] = {"mount", mounts},
    [ATTACK_CHROOT] = {"chroot", change_root},
    [ATTACK_USER_NAMESPACE] = {"user namespace", user_namespace},
    [ATTACK_CLONE_USER] = {"clone into a user namespace", clone_user},
    [ATTACK_SETNS] = {"setns", enter_namespace},
    [ATTACK_IO_URING] = {"make an io_uring", make_ring},
    [ATTACK_FOREIGN_RING] = {"abuse an io_uring", foreign_ring},
    [ATTACK_BPF] = {"bpf", load_bpf},
    [ATTACK_PERF] = {"perf", perf},
    [ATTACK_USERFAULT] = {"userfaultfd", userfault},
    [ATTACK_KEYS] = {"keys", keys},
    [ATTACK_HANDLE] = {"open by handle", handle},
    [ATTACK_CODE] = {"code in memory", make_code},
    [ATTACK_FILTER_OTHERS] = {"filter others", filter_others},
    [ATTACK_CAPABILITIES] = {"capabilities", capabilities},
};

uint64_t payload_run(void)
{
    uint64_t breaches = 0;
    for (unsigned i = 0; i < ATTACKS; i++)
        if (attacks[i].succeeds())
            breaches |= UINT64_C(1) << i;
    return breaches;
}

char *payload_names(uint64_t breaches, char text[static PAYLOAD_TEXT_BYTES])
{
    int len = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < ATTACKS; i++)
        if (breaches >> i & 1)
            len += snprintf(text + len, (size_t)(PAYLOAD_TEXT_BYTES - len), "%s%s", len ? ", " : "",
                            attacks[i].name);
    return text;
}
