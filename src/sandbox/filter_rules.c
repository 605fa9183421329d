/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See filter.h. A job runs programs that nobody knows, so this is a list of what is refused: the calls
 * that a build has no use for and that are most of the kernel's surface for attacks, in the manner of
 * container engines. Most of them need a capability that no job has; here they end before the kernel's
 * own check does.
 *
 * Not on the list, since the namespaces hold it: ptrace, process_vm_readv and the like reach the job's
 * own processes alone, of its own id in its own PID namespace, and debuggers and test suites want them.
 */
#include "sandbox/filter_rules.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define EQUALS(arg_, value_)                                                                           \
    {                                                                                                  \
        .arg = (arg_), .mask = UINT32_MAX, .value = (value_)                                           \
    }
#define FROM(arg_, value_)                                                                             \
    {                                                                                                  \
        .arg = (arg_), .value = (value_), .from = true                                                 \
    }

/* The view of files that the sandbox was given is not the job's to change, and no handle leads past it.
 */
static const struct isolate_call mounts[] = {
    ISOLATE_CALL(mount),         ISOLATE_CALL(umount2),       ISOLATE_CALL(pivot_root),
    ISOLATE_CALL(chroot),        ISOLATE_CALL(open_tree),     ISOLATE_CALL(move_mount),
    ISOLATE_CALL(mount_setattr), ISOLATE_CALL(fsopen),        ISOLATE_CALL(fsconfig),
    ISOLATE_CALL(fsmount),       ISOLATE_CALL(fspick),        ISOLATE_CALL(open_by_handle_at),
    ISOLATE_CALL(quotactl),      ISOLATE_CALL(quotactl_fd),   ISOLATE_CALL(swapon),
    ISOLATE_CALL(swapoff),       ISOLATE_CALL(fanotify_init),
};

/* A user namespace would give it capabilities to reach for the rest with. */
#define CLONE_DENIED(flag)                                                                             \
    ISOLATE_CALL_IF(clone, 0, flag, flag), ISOLATE_CALL_IF(unshare, 0, flag, flag)
static const struct isolate_call namespaces[] = {
    ISOLATE_CALL(setns),
    CLONE_DENIED(CLONE_NEWUSER),
    CLONE_DENIED(CLONE_NEWNS),
    CLONE_DENIED(CLONE_NEWPID),
    CLONE_DENIED(CLONE_NEWNET),
    CLONE_DENIED(CLONE_NEWIPC),
    CLONE_DENIED(CLONE_NEWUTS),
    CLONE_DENIED(CLONE_NEWCGROUP),
    ISOLATE_CALL_IF(unshare, 0, 0x80, 0x80), /* CLONE_NEWTIME; clone has a signal's number there */
};

/* Large parts of the kernel, each with its own history of holes, and none of a build's business. */
static const struct isolate_call surface[] = {
    ISOLATE_CALL(bpf),
    ISOLATE_CALL(perf_event_open),
    ISOLATE_CALL(userfaultfd),
    ISOLATE_CALL(io_uring_setup),
    ISOLATE_CALL(io_uring_enter),
    ISOLATE_CALL(io_uring_register),
    ISOLATE_CALL(lookup_dcookie),
    ISOLATE_CALL(kcmp),
};

/* The machine itself: its kernel, clock, ports and log. */
static const struct isolate_call machine[] = {
    ISOLATE_CALL(kexec_load),    ISOLATE_CALL(kexec_file_load),
    ISOLATE_CALL(init_module),   ISOLATE_CALL(finit_module),
    ISOLATE_CALL(delete_module), ISOLATE_CALL(reboot),
    ISOLATE_CALL(settimeofday),  ISOLATE_CALL(clock_settime),
    ISOLATE_CALL(clock_adjtime), ISOLATE_CALL(adjtimex),
    ISOLATE_CALL(iopl),          ISOLATE_CALL(ioperm),
    ISOLATE_CALL(syslog),        ISOLATE_CALL(acct),
    ISOLATE_CALL(sethostname),   ISOLATE_CALL(setdomainname),
    ISOLATE_CALL(vhangup),       ISOLATE_CALL(nfsservctl),
    ISOLATE_CALL(uselib),        ISOLATE_CALL(_sysctl),
};

/*
 * Keys: only in keyrings of the job's own processes, threads and session. A user's keyrings are the
 * kernel's for as long as it runs; requesting a key may start a program of the host's, as root.
 */
#define KEYCTL(command)        ISOLATE_CALL_IF(keyctl, 0, UINT32_MAX, command)
#define KEYRING(call, arg, id) ISOLATE_CALL_IF(call, arg, UINT32_MAX, (uint32_t)(id))
#define USERS_KEYRINGS(call, arg)                                                                      \
    KEYRING(call, arg, KEY_SPEC_USER_KEYRING), KEYRING(call, arg, KEY_SPEC_USER_SESSION_KEYRING),      \
        KEYRING(call, arg, KEY_SPEC_GROUP_KEYRING)
static const struct isolate_call keys[] = {
    ISOLATE_CALL(request_key),
    KEYCTL(KEYCTL_GET_PERSISTENT),
    KEYCTL(KEYCTL_SESSION_TO_PARENT),
    USERS_KEYRINGS(keyctl, 1),
    USERS_KEYRINGS(keyctl, 2),
    USERS_KEYRINGS(keyctl, 3),
    USERS_KEYRINGS(keyctl, 4),
    USERS_KEYRINGS(add_key, 4),
    /* Nor does it make one for others: keys have a number, and keyrings a name, that all of the
     * machine know. */
    KEYCTL(KEYCTL_CHOWN),
    KEYCTL(KEYCTL_SETPERM),
    {.number = SYS_keyctl,
     .check_count = 2,
     .checks = {EQUALS(0, KEYCTL_JOIN_SESSION_KEYRING), FROM(1, 1)}}, /* by a name */
};

/* Without root others outside have the job's id: keys of theirs it could find by trying numbers. And
 * init has it, whose limits it could set to what ends it. */
static const struct isolate_call shared_id[] = {
    {.number = SYS_keyctl, .code = ENOSYS},
    {.number = SYS_add_key, .code = ENOSYS},
    {.number = SYS_request_key, .code = ENOSYS},
    {.number = SYS_prlimit64, .check_count = 2, .checks = {FROM(0, 1), FROM(2, 1)}},
};

/*
 * Sockets: Unix, IPv4, IPv6, and of netlink what tells a process about its own network. No namespace
 * holds vsock, by which it would reach a hypervisor, or guests; events of devices are sent to every
 * network of root's; and to ask for any of the others may load a module.
 */
#define FAMILY(call, family)                                                                           \
    {                                                                                                  \
        .number = SYS_##call, .check_count = 1, .checks = {EQUALS(0, family)}, .code = EAFNOSUPPORT    \
    }
#define FAMILIES(call)                                                                                 \
    FAMILY(call, AF_AX25), FAMILY(call, AF_IPX), FAMILY(call, AF_APPLETALK), FAMILY(call, AF_NETROM),  \
        FAMILY(call, AF_BRIDGE), FAMILY(call, AF_ATMPVC), FAMILY(call, AF_X25), FAMILY(call, AF_ROSE), \
        FAMILY(call, AF_DECnet), FAMILY(call, AF_NETBEUI), FAMILY(call, AF_SECURITY),                  \
        FAMILY(call, AF_KEY)
#define NETLINK(protocol)                                                                              \
    {                                                                                                  \
        .number = SYS_socket, .check_count = 2, .checks = {EQUALS(0, AF_NETLINK), protocol},           \
        .code = EPROTONOSUPPORT                                                                        \
    }
static const struct isolate_call sockets[] = {
    FAMILIES(socket),
    FAMILIES(socketpair),
    {.number = SYS_socket, .check_count = 1, .checks = {FROM(0, AF_PACKET)}, .code = EAFNOSUPPORT},
    {.number = SYS_socketpair, .check_count = 1, .checks = {FROM(0, AF_PACKET)}, .code = EAFNOSUPPORT},
    NETLINK(EQUALS(2, 1)), /* NETLINK_ROUTE is 0 */
    NETLINK(EQUALS(2, NETLINK_USERSOCK)),
    NETLINK(EQUALS(2, NETLINK_FIREWALL)),
    NETLINK(FROM(2, NETLINK_SOCK_DIAG + 1)),
};

/*
 * Programs that run as their owner. In the job's own layer they would be without effect and gone with
 * it; in a directory of the host they would be neither. open and creat make such a file only with
 * O_CREAT, whose mode stands in an argument; openat2 has it in memory.
 */
#define SYS_fchmodat2_number 452 /* newer than the headers */
#define MODE_BIT(number_, arg_, bit)                                                                   \
    {                                                                                                  \
        .number = (number_), .check_count = 1, .checks = {                                             \
            {.arg = (arg_), .mask = (bit), .value = (bit)}                                             \
        }                                                                                              \
    }
#define MODE(number, arg) MODE_BIT(number, arg, S_ISUID), MODE_BIT(number, arg, S_ISGID)
static const struct isolate_call special_modes[] = {
    MODE(SYS_chmod, 1),    MODE(SYS_fchmod, 1),
    MODE(SYS_fchmodat, 2), MODE(SYS_fchmodat2_number, 2),
    MODE(SYS_open, 2),     MODE(SYS_openat, 3),
    MODE(SYS_creat, 1),    MODE(SYS_mknod, 1),
    MODE(SYS_mknodat, 2),  {.number = SYS_openat2, .code = ENOSYS},
};

size_t filter_tables(const struct filter_options *options, struct isolate_calls tables[FILTER_TABLES])
{
    const struct isolate_calls all[FILTER_TABLES] = {
        ISOLATE_CALLS(mounts),        ISOLATE_CALLS(namespaces), ISOLATE_CALLS(surface),
        ISOLATE_CALLS(machine),       ISOLATE_CALLS(sockets),    ISOLATE_CALLS(keys),
        ISOLATE_CALLS(special_modes),
    };
    memcpy(tables, all, sizeof(all));
    if (options->shared_user)
        tables[FILTER_TABLES - 2] = (struct isolate_calls)ISOLATE_CALLS(shared_id);
    return options->shared_writes ? FILTER_TABLES : FILTER_TABLES - 1;
}
