/* SPDX-License-Identifier: Apache-2.0 */
#include "sabotage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "common.h"

#define CALLS_MAX 4
#define ANY       (-1)

/* Names for the several calls that do one thing; `command` is the second argument to go by. */
struct liar {
    const char *name;
    int calls[CALLS_MAX];
    unsigned count;
    int command;
};

static const struct liar LIARS[] = {
    {"rename", {SYS_rename, SYS_renameat, SYS_renameat2}, 3, ANY},
    {"unlink", {SYS_unlink, SYS_unlinkat, SYS_rmdir}, 3, ANY},
    {"link", {SYS_link, SYS_linkat}, 2, ANY},
    {"symlink", {SYS_symlink, SYS_symlinkat}, 2, ANY},
    {"mkdir", {SYS_mkdir, SYS_mkdirat}, 2, ANY},
    {"mknod", {SYS_mknod, SYS_mknodat}, 2, ANY},
    {"chmod", {SYS_chmod, SYS_fchmod, SYS_fchmodat}, 3, ANY},
    {"chown", {SYS_chown, SYS_lchown, SYS_fchown, SYS_fchownat}, 4, ANY},
    {"utimens", {SYS_utimensat}, 1, ANY},
    {"truncate", {SYS_truncate, SYS_ftruncate}, 2, ANY},
    {"fallocate", {SYS_fallocate}, 1, ANY},
    {"write", {SYS_pwrite64}, 1, ANY},
    {"copy", {SYS_copy_file_range}, 1, ANY},
    {"setxattr", {SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr}, 3, ANY},
    {"flock", {SYS_flock}, 1, ANY},
    {"setlk", {SYS_fcntl}, 1, F_SETLK},
    {"ofd-setlk", {SYS_fcntl}, 1, F_OFD_SETLK},
};

#define COUNT (sizeof LIARS / sizeof LIARS[0])

const char *sabotage_names(char *buf, unsigned bytes)
{
    size_t used = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < COUNT && used < bytes; i++)
        used += (size_t)snprintf(buf + used, bytes - used, "%s%s", i ? ", " : "", LIARS[i].name);
    return buf;
}

/* The low half of an argument: descriptors and commands fit into it. */
#define LOAD(field)           BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, t, f) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), t, f)
#define RETURN(action)        BPF_STMT(BPF_RET | BPF_K, action)

/* A filter of: is it one of the calls, with that command, with that first argument? Then it lies. */
void sabotage(const char *name, int first_argument)
{
    struct sock_filter code[2 + 2 * CALLS_MAX + 8];
    struct sock_fprog program = {.filter = code};
    const struct liar *liar = NULL;
    unsigned at = 0;
    char names[256];

    for (unsigned i = 0; i < COUNT; i++)
        if (strcmp(LIARS[i].name, name) == 0)
            liar = &LIARS[i];
    if (!liar)
        unable("--break: no '%s'; there are %s", name, sabotage_names(names, sizeof names));

    code[at++] = (struct sock_filter)LOAD(nr);
    for (unsigned i = 0; i < liar->count; i++)
        code[at++] = (struct sock_filter)IF_EQUAL(liar->calls[i], (uint8_t)(liar->count - i), 0);
    code[at++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    if (liar->command != ANY) {
        code[at++] = (struct sock_filter)LOAD(args[1]);
        code[at++] = (struct sock_filter)IF_EQUAL(liar->command, 1, 0);
        code[at++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    }
    if (first_argument != SABOTAGE_ANYWHERE) {
        code[at++] = (struct sock_filter)LOAD(args[0]);
        code[at++] = (struct sock_filter)IF_EQUAL(first_argument, 1, 0);
        code[at++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    }
    code[at++] = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | 0);
    program.len = (unsigned short)at;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        unable_errno("--break: seccomp");
}
