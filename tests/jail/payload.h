/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_JAIL_PAYLOAD_H
#define TESTS_JAIL_PAYLOAD_H

/*
 * What somebody tries who has taken over a thread or process that serves a guest: one attempt each. An
 * attempt is asked with arguments that do no harm, and judged by the error: a refusal is EPERM, EACCES
 * or ENOSYS; any other error means that the call got through to do its work, and counts as a breach.
 */

#include <stdint.h>

enum attack {
    ATTACK_READ_FILES,
    ATTACK_READ_UPWARD,
    ATTACK_READ_MEMORY,
    ATTACK_WRITE_FILES,
    ATTACK_EXEC,
    ATTACK_FORK,
    ATTACK_SOCKET_INET,
    ATTACK_SOCKET_UNIX,
    ATTACK_SOCKET_NETLINK,
    ATTACK_DATAGRAM,
    ATTACK_TERMINAL,
    ATTACK_PTRACE,
    ATTACK_SIGNAL,
    ATTACK_PIDFD,
    ATTACK_VM_READ,
    ATTACK_MOUNT,
    ATTACK_CHROOT,
    ATTACK_USER_NAMESPACE,
    ATTACK_CLONE_USER,
    ATTACK_SETNS,
    ATTACK_IO_URING,
    ATTACK_FOREIGN_RING,
    ATTACK_BPF,
    ATTACK_PERF,
    ATTACK_USERFAULT,
    ATTACK_KEYS,
    ATTACK_HANDLE,
    ATTACK_CODE,
    ATTACK_FILTER_OTHERS,
    ATTACK_CAPABILITIES,
    ATTACKS,
};

#define ATTACK(name) (UINT64_C(1) << ATTACK_##name)

/* In the calling thread: all of them on the parent process, as a mask of those that got through. Makes
 * only system calls and no allocation. */
uint64_t payload_run(void);

/* "exec, mount". */
#define PAYLOAD_TEXT_BYTES 512
char *payload_names(uint64_t breaches, char text[static PAYLOAD_TEXT_BYTES]);

/* For ATTACK_FOREIGN_RING: where io_uring keeps what in its mappings, which is learnt by making one.
 * Once, in a thread that may. */
void payload_learn_rings(void);

#endif
