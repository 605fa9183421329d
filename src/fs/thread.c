/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A serving thread's identity. See thread.h.
 *
 * Only raw system calls: glibc's wrappers of setgroups and its kin change every thread of the process.
 *
 * The thread's permitted capabilities shrink to those below when it enters, and its effective ones to
 * none until it acts. setfsuid(2) moves effective capabilities about by rules of its own, so they are
 * set after each change of ids rather than fixed by securebits, which would take CAP_SETPCAP.
 */
#include "fs/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/arith.h"
#include "util/err.h"

#define CAP(name)   (UINT64_C(1) << CAP_##name)
#define NOBODY_ELSE UINT32_MAX /* no supplementary group; as an argument of setfsuid: only ask */

/* Without these other identities cannot be taken. */
#define CAPS_NEEDED                                                                                    \
    (CAP(SETUID) | CAP(SETGID) | CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER))
#define CAPS_IDS (CAP(SETUID) | CAP(SETGID))
#define CAPS_FILES                                                                                     \
    (CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(MKNOD) | CAP(SETFCAP))

const uint64_t fs_thread_capabilities = CAPS_IDS | CAPS_FILES | CAP(FSETID);

/* -- system calls ------------------------------------------------------------------------------------
 */

static int get_caps(uint64_t *permitted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    *permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
    return 0;
}

static int set_caps(uint64_t permitted, uint64_t effective)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
        {.permitted = (uint32_t)permitted, .effective = (uint32_t)effective},
        {.permitted = (uint32_t)(permitted >> 32), .effective = (uint32_t)(effective >> 32)},
    };
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int set_group(gid_t group)
{
    size_t count = group == NOBODY_ELSE ? 0 : 1;
    return syscall(SYS_setgroups, count, &group) < 0 ? -errno : 0;
}

/* setfsuid and setfsgid answer with what was, never with an error: what is now has to be asked for. */
static int set_fsid(long number, uint32_t id)
{
    syscall(number, id);
    return (uint32_t)syscall(number, NOBODY_ELSE) == id ? 0 : -EPERM;
}

/* -- changing ----------------------------------------------------------------------------------------
 */

/* Whatever of ids and capabilities is not so yet. After a failure nothing is taken for granted. */
static int become(struct fs_thread *thread, uid_t uid, gid_t gid, gid_t group, uint64_t caps)
{
    int rc = 0;
    caps &= thread->permitted;
    if (uid != thread->fsuid || gid != thread->fsgid || group != thread->group) {
        if ((thread->effective & CAPS_IDS) != CAPS_IDS)
            rc = set_caps(thread->permitted, CAPS_IDS);
        thread->effective = CAPS_IDS;
        if (rc == 0 && group != thread->group)
            rc = set_group(group);
        if (rc == 0 && gid != thread->fsgid)
            rc = set_fsid(SYS_setfsgid, gid);
        if (rc == 0 && uid != thread->fsuid)
            rc = set_fsid(SYS_setfsuid, uid);
        if (rc < 0) {
            thread->fsuid = thread->fsgid = NOBODY_ELSE;
            set_caps(thread->permitted, 0);
            thread->effective = 0;
            return rc;
        }
        thread->fsuid = uid;
        thread->fsgid = gid;
        thread->group = group;
    }
    if (caps == thread->effective)
        return 0;
    rc = set_caps(thread->permitted, caps);
    if (rc == 0)
        thread->effective = caps;
    return rc;
}

static bool squashed(const struct export *export)
{
    return export->idmap.kind == FS_IDMAP_SQUASH;
}

static int act_squashed(struct fs_thread *thread, const struct export *export)
{
    uid_t uid = export->idmap.host_uid;
    gid_t gid = export->idmap.host_gid;
    if (thread->privileged)
        return become(thread, uid, gid, NOBODY_ELSE, 0);
    return uid == thread->fsuid && gid == thread->fsgid ? 0 : -EPERM;
}

int fs_thread_act(struct fs_thread *thread, const struct export *export, uint32_t guest_uid,
                  uint32_t guest_gid)
{
    if (squashed(export))
        return act_squashed(thread, export);
    uid_t uid;
    gid_t gid;
    if (!thread->privileged || guest_uid == UINT32_MAX || guest_gid == UINT32_MAX ||
        !fs_idmap_uid_to_host(&export->idmap, guest_uid, &uid) ||
        !fs_idmap_gid_to_host(&export->idmap, guest_gid, &gid))
        return -EPERM;
    thread->plain = false;
    return become(thread, uid, gid, NOBODY_ELSE, CAPS_FILES);
}

int fs_thread_act_plain(struct fs_thread *thread, const struct export *export, uint32_t guest_uid,
                        uint32_t guest_gid)
{
    uid_t uid;
    gid_t gid;
    if (!thread->privileged)
        return -EPERM;
    if (guest_uid == UINT32_MAX || !fs_idmap_uid_to_host(&export->idmap, guest_uid, &uid))
        uid = FS_NOBODY;
    if (guest_gid == UINT32_MAX || !fs_idmap_gid_to_host(&export->idmap, guest_gid, &gid))
        gid = FS_NOBODY;
    thread->plain = true;
    return become(thread, uid, gid, NOBODY_ELSE, 0);
}

int fs_thread_act_any(struct fs_thread *thread, const struct export *export)
{
    if (squashed(export))
        return act_squashed(thread, export);
    if (!thread->privileged)
        return -EPERM;
    thread->plain = false;
    uint64_t caps = CAPS_FILES & thread->permitted;
    if ((thread->effective & caps) == caps)
        return 0;
    return become(thread, thread->fsuid, thread->fsgid, thread->group, caps);
}

int fs_thread_keep_setid(struct fs_thread *thread, const struct export *export, bool keep)
{
    if (squashed(export))
        return 0;
    if (!thread->privileged)
        return -EPERM;
    if (thread->plain)
        return 0;
    uint64_t caps = CAPS_FILES | (keep ? CAP(FSETID) : 0);
    return become(thread, thread->fsuid, thread->fsgid, thread->group, caps);
}

int fs_thread_supplementary(struct fs_thread *thread, const struct export *export, uint32_t guest_gid)
{
    gid_t gid;
    if (squashed(export))
        return 0;
    if (!thread->privileged || !fs_idmap_gid_to_host(&export->idmap, guest_gid, &gid))
        return -EPERM;
    return become(thread, thread->fsuid, thread->fsgid, gid, thread->effective);
}

void fs_thread_umask(struct fs_thread *thread, mode_t umask_bits)
{
    umask_bits &= 0777;
    if (thread->umask != umask_bits)
        umask(umask_bits);
    thread->umask = umask_bits;
}

const char *fs_fd_path(int fd, char buf[static FS_FD_PATH_BYTES])
{
    char *at = buf + FS_FD_PATH_BYTES - 1;
    unsigned left = (unsigned)fd;
    *at = '\0';
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    return at;
}

int fs_fd_open(const struct inode_ref *ref, int flags)
{
    char buf[FS_FD_PATH_BYTES];
    const char *path = fs_fd_path(ref->fd, buf);
    int fd = ref->export->read_only ? open(path, flags | O_NOATIME) : -1;
    if (fd < 0 && (!ref->export->read_only || errno == EPERM))
        fd = open(path, flags);
    return fd < 0 ? -errno : fd;
}

/* -- the thread --------------------------------------------------------------------------------------
 */

int fs_thread_check_idmap(const struct fs_idmap *map, struct dayfly_err *err)
{
    uint64_t permitted;
    int rc = get_caps(&permitted);
    if (rc < 0)
        return err_errno(err, -rc, "capget");
    if ((permitted & CAPS_NEEDED) == CAPS_NEEDED)
        return 0;
    if (map->kind != FS_IDMAP_SQUASH)
        return err_set(err, EPERM, "only root can serve files as other users: squash them to your own");
    if (map->host_uid != geteuid() || map->host_gid != getegid())
        return err_set(err, EPERM, "only root can serve files as user %u:%u: squash to your own, %u:%u",
                       map->host_uid, map->host_gid, geteuid(), getegid());
    return 0;
}

/* A thread made by one that serves begins as whom that one acts: take back who the process is. */
static int become_oneself(uint64_t permitted)
{
    int rc = set_caps(permitted, CAPS_IDS);
    if (rc == 0)
        rc = set_group(NOBODY_ELSE);
    if (rc == 0)
        rc = set_fsid(SYS_setfsgid, getegid());
    return rc < 0 ? rc : set_fsid(SYS_setfsuid, geteuid());
}

int fs_thread_enter(struct fs *fs, struct fs_thread *thread, struct dayfly_err *err)
{
    *thread = (struct fs_thread){.fsuid = geteuid(), .fsgid = getegid(), .group = NOBODY_ELSE};
    uint64_t permitted;
    int rc = get_caps(&permitted);
    if (rc < 0)
        return err_errno(err, -rc, "capget");
    thread->privileged = (permitted & CAPS_NEEDED) == CAPS_NEEDED;
    if (thread->privileged && (rc = become_oneself(permitted)) < 0)
        return err_errno(err, -rc, "a serving thread's identity");
    if (unshare(CLONE_FS) < 0)
        return err_errno(err, errno, "unshare(CLONE_FS)");
    if (fs->fds_fd >= 0 ? fchdir(fs->fds_fd) < 0 : chdir("/proc/thread-self/fd") < 0)
        return err_errno(err, errno, "/proc/thread-self/fd");
    umask(0);
    if (thread->privileged)
        thread->permitted = permitted & fs_thread_capabilities;
    rc = set_caps(thread->permitted, 0);
    return rc < 0 ? err_errno(err, -rc, "capset") : 0;
}

void fs_thread_leave(struct fs_thread *thread)
{
    *thread = (struct fs_thread){0};
}
