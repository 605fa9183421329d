/* SPDX-License-Identifier: Apache-2.0 */
/* Stages 2 and 3: another user, then only the capabilities asked for, and none to be had again. The C
 * library's functions would change every thread of the process. */
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "isolate/isolate.h"
#include "util/err.h"

int isolate_user(uid_t uid, gid_t gid, struct dayfly_err *err)
{
    if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
        return err_errno(err, errno, "give up supplementary groups");
    if (syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
        return err_errno(err, errno, "become user %u:%u", uid, gid);
    return 1;
}

static int drop(uint64_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -1;
    /* The bounding set, while CAP_SETPCAP lasts. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
            return -1;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(keep >> (32 * i));
        data[i].effective &= (uint32_t)(keep >> (32 * i));
        data[i].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &header, data);
}

int isolate_capabilities(uint64_t keep, struct dayfly_err *err)
{
    if (drop(keep) < 0)
        return err_errno(err, errno, "drop capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(err, errno, "forbid new privileges");
    return 1;
}
