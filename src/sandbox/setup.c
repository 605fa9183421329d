/* SPDX-License-Identifier: Apache-2.0 */
/* See setup.h for the stages. */
#include "sandbox/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/mounts.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define SETUP_FAILED 125

/* -- 1: born -----------------------------------------------------------------------------------------
 */

static int be_born(const struct setup *setup, struct dayfly_err *err)
{
    char byte;
    struct pollfd runner = {.fd = setup->link_fd, .events = 0};
    int r = cgroup_enter(setup->group, err);
    if (r < 0)
        return r;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* It may have gone before that was said. */
    if (poll(&runner, 1, 0) != 0 || io_read_full(setup->go_fd, &byte, 1) != 1)
        _exit(SETUP_FAILED);
    umask(0);
    /* ENOSYS: a kernel without keys. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return err_errno(err, errno, "make a session keyring");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return errno == EINVAL ? err_set(err, EINVAL,
                                         "the root directory is no mount point, as in a chroot: mounts "
                                         "of a sandbox could not be kept to it")
                               : err_errno(err, errno, "keep the sandbox's mounts to itself");
    return device_make(setup, err);
}

/* -- 6: shares ---------------------------------------------------------------------------------------
 */

/* What the job writes goes to `part` of the layer. */
static int place_cow(const struct setup *setup, int share, int part, int root, const char *path,
                     struct dayfly_err *err)
{
    struct stat st;
    const struct mounts_setting overlay[] = {
        {"lowerdir", "lower"},
        {"upperdir", "upper"},
        {"workdir", "work"},
        {"volatile", NULL},
        /* Who is not root has no other place for its marks, and without them no directory of the share
         * can be removed. */
        {setup->user_namespace ? "userxattr" : NULL, NULL},
        {NULL, NULL}};
    /* Its place in the tree for now: overlayfs takes its directories by path. */
    _cleanup_close_ int layer = fcntl(part, F_DUPFD_CLOEXEC, 0);
    int r = mounts_place(part, root, path, err);
    if (r < 0)
        return r;
    if (fstat(share, &st) < 0 || fchdir(layer) < 0 || mkdir("lower", 0755) < 0 ||
        mkdir("work", 0700) < 0 || mkdir("upper", st.st_mode & 07777) < 0 ||
        /* Whoever has no number here is nobody's to give files to. */
        (chown("upper", st.st_uid, st.st_gid) < 0 && errno != EINVAL))
        return err_errno(err, errno, "share %s: make its layer", path);
    if ((r = mounts_place(fcntl(share, F_DUPFD_CLOEXEC, 0), layer, "lower", err)) < 0)
        return r;
    r = mounts_make("overlay", overlay, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
    return r < 0 ? err_wrap(err, "share %s: stack a layer on it", path)
                 : mounts_place(r, root, path, err);
}

int shares_place(const struct setup *setup, const struct setup_gathered *gathered,
                 const struct setup_parts *parts, int root, struct dayfly_err *err)
{
    const struct sandbox_options *options = setup->options;
    int r = 0;
    for (size_t i = 0; i < options->share_count && r == 0; i++) {
        const struct sandbox_share *share = &options->shares[i];
        if (share->mode == DAYFLY_SHARE_COW && setup->cow_fds[i] < 0)
            r = place_cow(setup, gathered->shares[i], parts->cow[i], root, share->path, err);
        else
            r = mounts_place(gathered->shares[i], root, share->path, err);
    }
    if (r == -EROFS)
        err_wrap(err, "what is below the host's own folders cannot be made, only covered");
    return r;
}

/* -- 7: leave ----------------------------------------------------------------------------------------
 */

static int leave(int root, struct dayfly_err *err)
{
    if (fchdir(root) < 0)
        return err_errno(err, errno, "enter the new root");
    /* The old root ends up on top of the new one, and is taken off. That of an initramfs cannot be
     * moved: it stays beneath, where no path leads. */
    int r = (int)syscall(SYS_pivot_root, ".", ".");
    if (r == 0)
        r = umount2(".", MNT_DETACH);
    else if (errno == EINVAL)
        r = chroot(".");
    return r < 0 || chdir("/") < 0 ? err_errno(err, errno, "leave the host's root") : 0;
}

/* -- 8: become ---------------------------------------------------------------------------------------
 */

/* In a user namespace, where the agent is not its root: by exec it would lose what it has. */
static int keep_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    data[0].inheritable = data[0].permitted;
    data[1].inheritable = data[1].permitted;
    if (syscall(SYS_capset, &header, data) < 0)
        return -errno;
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    return 0;
}

static int keep_open(int fd)
{
    return fd < 0 ? 0 : fcntl(fd, F_SETFD, 0);
}

static int become(const struct setup *setup, const struct setup_kept *kept, struct dayfly_err *err)
{
    const char *argv[16] = {"dayfly-agent", "sandbox"};
    char words[12][40];
    size_t n = 0;
    const struct cgroup *group = setup->group;
    snprintf(words[n++], sizeof(words[0]), "user=%u", setup->uid);
    snprintf(words[n++], sizeof(words[0]), "link=%d", setup->link_fd);
    snprintf(words[n++], sizeof(words[0]), "filter=%d", setup->filter_fd);
    snprintf(words[n++], sizeof(words[0]), "pids=%llu",
             (unsigned long long)setup->options->limits.pids);
    snprintf(words[n++], sizeof(words[0]), "etc=%d", kept->etc);
    snprintf(words[n++], sizeof(words[0]), "secrets=%d", kept->secrets);
    if (group->v2.run_fd >= 0)
        snprintf(words[n++], sizeof(words[0]), "group=%d", group->v2.run_fd);
    for (int c = 0; c < CGROUP_CONTROLLERS; c++)
        if (group->v1[c].run_fd >= 0)
            snprintf(words[n++], sizeof(words[0]), "join=%d", group->v1[c].run_fd);
    for (size_t i = 0; i < n; i++)
        argv[2 + i] = words[i];
    const char *const env[] = {NULL};

    cgroup_hide(group);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        return err_errno(err, errno, "open /dev/null");
    if (syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) < 0 || keep_open(setup->link_fd) < 0 ||
        keep_open(setup->filter_fd) < 0 || keep_open(setup->lease_fd) < 0 || keep_open(kept->etc) < 0 ||
        keep_open(kept->secrets) < 0 || keep_open(group->v2.run_fd) < 0)
        return err_errno(err, errno, "close what is not the agent's");
    for (int c = 0; c < CGROUP_CONTROLLERS; c++)
        keep_open(group->v1[c].run_fd);
    int r = setup->user_namespace ? keep_capabilities() : 0;
    if (r < 0)
        return err_errno(err, -r, "keep capabilities");
    syscall(SYS_execveat, setup->agent_fd, "", argv, env, AT_EMPTY_PATH);
    return err_errno(err, errno, "start the agent");
}

void setup_run(const struct setup *setup)
{
    struct dayfly_err err = {0};
    struct setup_gathered gathered;
    struct setup_parts parts;
    struct setup_kept kept;
    int root = -1;
    if (be_born(setup, &err) == 0 && gather(setup, &gathered, &err) == 0 &&
        (root = root_make(setup, &gathered, &parts, &err)) >= 0 &&
        system_make(setup, &gathered, &parts, root, &kept, &err) == 0 &&
        people_make(setup, root, &kept, &err) == 0 &&
        shares_place(setup, &gathered, &parts, root, &err) == 0 &&
        system_check(root, &kept, &err) == 0 && leave(root, &err) == 0)
        become(setup, &kept, &err);
    (void)send(setup->report_fd, &err, sizeof(err), MSG_NOSIGNAL);
    _exit(SETUP_FAILED);
}
