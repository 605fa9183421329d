/* SPDX-License-Identifier: Apache-2.0 */
/* Stage 1: nothing of the host to be seen. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "isolate/isolate.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

static bool write_text(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* Not allowed here, not more of them, or not in this kernel. */
static bool cannot_be_had(int code)
{
    return code == EPERM || code == EACCES || code == ENOSPC || code == EINVAL || code == ENOSYS;
}

/* One's own ids, as themselves. */
static bool enter_user_namespace(void)
{
    char uids[40], gids[40];
    snprintf(uids, sizeof(uids), "%u %u 1", geteuid(), geteuid());
    snprintf(gids, sizeof(gids), "%u %u 1", getegid(), getegid());
    return unshare(CLONE_NEWUSER) == 0 && write_text("/proc/self/uid_map", uids) &&
           write_text("/proc/self/setgroups", "deny") && write_text("/proc/self/gid_map", gids);
}

/* An empty file system, which hangs nowhere yet. */
static int make_root(void)
{
    _cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    return fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

/* The root becomes `fd`'s, the working directory stays, and the old tree hangs nowhere any more:
 * descriptors into it go on working, paths do not lead there. */
static int change_root(int fd)
{
    _cleanup_close_ int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cwd < 0 || move_mount(fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(fd) < 0 ||
        chroot(".") < 0)
        return -1;
    return fchdir(cwd);
}

static int furnish(const struct isolate_options *options, int root, struct dayfly_err *err)
{
    return options->furnish ? options->furnish(options->opaque, root, err) : 0;
}

static int make_read_only(struct dayfly_err *err)
{
    static const unsigned long flags =
        MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    return mount(NULL, "/", NULL, flags, NULL) < 0 ? err_errno(err, errno, "close an empty root") : 0;
}

static int without_root(const struct isolate_options *options, int code, struct dayfly_err *err)
{
    if (!cannot_be_had(code))
        return err_errno(err, code, "change to an empty root");
    return furnish(options, -1, err);
}

int isolate_namespaces(const struct isolate_options *options, struct dayfly_err *err)
{
    if (options->new_user && !enter_user_namespace())
        return furnish(options, -1, err);
    /* The thread's root and working directory are its own from here on. */
    if (unshare(CLONE_FS) < 0)
        return err_errno(err, errno, "unshare the root directory");
    /* Each by itself: a kernel may lack one, a limit or a security module forbid another. */
    const int others[] = {options->keep_network ? 0 : CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (others[i] && unshare(others[i]) < 0 && !cannot_be_had(errno))
            return err_errno(err, errno, "make a namespace");
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return without_root(options, errno, err);
    _cleanup_close_ int root = make_root();
    if (root < 0 || change_root(root) < 0)
        return without_root(options, errno, err);
    int r = furnish(options, root, err);
    if (r == 0)
        r = make_read_only(err);
    return r < 0 ? r : 1;
}
