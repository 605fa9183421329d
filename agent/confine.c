/* SPDX-License-Identifier: Apache-2.0 */
#include "confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fail.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/io.h"

#define BIT(cap) (UINT64_C(1) << (cap))

/* Becoming the job's user and handing it its terminal and pipes; killing what it runs; files in its
 * name. */
#define AGENT_CAPABILITIES                                                                             \
    (BIT(CAP_SETUID) | BIT(CAP_SETGID) | BIT(CAP_KILL) | BIT(CAP_CHOWN) | BIT(CAP_FOWNER) |            \
     BIT(CAP_DAC_OVERRIDE))

int confine_load(struct confine *c, int filter_fd, struct proto_fail *why)
{
    struct stat st;
    if (fstat(filter_fd, &st) < 0)
        return fail(why, errno, "the filter of system calls");
    size_t bytes = (size_t)st.st_size, each = sizeof(*c->filter.filter);
    if (bytes == 0 || bytes % each || bytes / each > BPF_MAXINSNS)
        return fail(why, EINVAL, "the filter of system calls has %zu bytes", bytes);
    c->filter.len = (unsigned short)(bytes / each);
    c->filter.filter = malloc(bytes);
    if (!c->filter.filter || io_pread_full(filter_fd, c->filter.filter, bytes, 0) != (ssize_t)bytes)
        return fail(why, EIO, "the filter of system calls");
    close(filter_fd);
    return 0;
}

static int keep_capabilities(uint64_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(keep >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* Newer than Debian 12's headers; the numbers are the kernel's interface. */
struct ruleset {
    uint64_t handled_fs, handled_net, scoped;
};
#define SCOPE_ABSTRACT_UNIX_SOCKET UINT64_C(1) /* ABI 6 */
#define SCOPE_SIGNAL               UINT64_C(2)
#define ABI_SCOPES                 6

/*
 * A second lock on what namespaces and the filter already hold, by another part of the kernel: nothing
 * in the domain mounts, makes devices, or traces, signals or calls by an abstract socket who is
 * outside. The agent is in it with all its sessions: they may signal each other. Without landlock it is
 * one lock.
 */
static int enter_landlock_domain(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 1)
        return 0;
    const struct ruleset rules = {
        .handled_fs = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK,
        .scoped = abi >= ABI_SCOPES ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0,
    };
    /* What a kernel does not know may be at the end, as zeroes. */
    _cleanup_close_ int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (fd < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return -errno;
    return 0;
}

int confine_agent(struct proto_fail *why)
{
    int r = enter_landlock_domain();
    if (r < 0)
        return fail(why, -r, "entering a landlock domain");
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return fail(why, errno, "dropping capability %d", cap);
    r = keep_capabilities(AGENT_CAPABILITIES);
    if (r < 0)
        return fail(why, -r, "dropping capabilities");
    /* Nobody of the same id, which without root is the job's, reads the agent's memory. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return 0;
}

int confine_command(const struct confine *c, const char **what)
{
    struct rlimit core = {1, 1}, none = {0, 0}, pids;
    *what = "limits";
    /* One byte: neither a file nor a program of the host's that would be handed the core. Where not
     * even that much is allowed, none: then there is no file at least. */
    if (setrlimit(RLIMIT_CORE, &core) < 0 && setrlimit(RLIMIT_CORE, &none) < 0)
        return errno;
    if (getrlimit(RLIMIT_NPROC, &pids) < 0)
        return errno;
    pids.rlim_cur = pids.rlim_max = MIN(pids.rlim_max, (rlim_t)c->pids);
    if (c->pids && setrlimit(RLIMIT_NPROC, &pids) < 0)
        return errno;
    /* Made as the job's user it is the job's, and counts as such. */
    *what = "session keyring";
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return errno;
    *what = "capabilities";
    int r = keep_capabilities(0);
    if (r < 0)
        return -r;
    *what = "filter of system calls";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &c->filter) < 0)
        return errno;
    return 0;
}
