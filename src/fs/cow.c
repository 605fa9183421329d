/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mount is made by a child in a mount namespace of its own and handed back as a descriptor:
 *   - overlayfs takes layers only from the namespace of who mounts it, and a tmpfs without a name can
 * be attached nowhere else;
 *   - a user namespace, which a process that is not root needs, cannot be entered by one thread of
 *     several.
 * The process may have threads, so the child makes system calls and nothing else (no malloc, no locks),
 * and says only which step failed, with errno; words are found for it here.
 */
#include "fs/cow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/changes.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/meminfo.h"
#include "util/program.h"

#define FD_PATH_BYTES 48

enum step { DONE, USER_NAMESPACE, MOUNT_NAMESPACE, MEMORY, BASE, IDS, LAYERS, OVERLAY };

struct report {
    enum step failed;
    int code;
};

struct plan {
    int base_fd;
    int changes_fd; /* -1: in memory */
    int idmap_fd;   /* 0: ids are shown as they are */
    bool user_namespace;
    char memory_size[24];
    char uid_line[40], gid_line[40];
};

/* ---- the child ---- */

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close_fd(&fd);
    return ok ? 0 : -1;
}

static int enter_user_namespace(const struct plan *plan)
{
    if (unshare(CLONE_NEWUSER) < 0 || write_text("/proc/self/uid_map", plan->uid_line) < 0 ||
        write_text("/proc/self/setgroups", "deny") < 0)
        return -1;
    return write_text("/proc/self/gid_map", plan->gid_line);
}

/* The directory that `fd` is open on, as this mount namespace has it. */
static int reopen_here(int fd)
{
    char link[FD_PATH_BYTES], path[PATH_MAX];
    struct stat there, here;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n < 0)
        return -1;
    path[n] = '\0';
    int again = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (again < 0 || fstat(fd, &there) < 0 || fstat(again, &here) < 0)
        return -1;
    /* Moved since it was opened, or something was mounted over it. */
    if (there.st_dev != here.st_dev || there.st_ino != here.st_ino) {
        errno = ESTALE;
        return -1;
    }
    return again;
}

/* The base with other ids, attached over itself: a layer has to be somewhere in this namespace. */
static int show_ids(int base_fd, int idmap_fd)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY,
                              .userns_fd = (uint64_t)idmap_fd};
    int fd = open_tree(base_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
        move_mount(fd, "", base_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return -1;
    return fd;
}

/* A tmpfs, attached within this namespace only: overlayfs takes no layer from anywhere else. */
static int mount_memory(const struct plan *plan)
{
    int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", plan->memory_size, 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (fd < 0 || move_mount(fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return -1;
    return fd;
}

/* The merged root is the upper directory's inode: it takes mode and owner of the base when it is made.
 */
static int copy_root(int base_fd, int changes_fd)
{
    struct stat base, upper;
    int fd = openat(changes_fd, CHANGES_UPPER_NEW, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(base_fd, &base) < 0 || fstat(fd, &upper) < 0)
        return -1;
    const struct timespec times[2] = {base.st_atim, base.st_mtim};
    int r = 0;
    if (upper.st_uid != base.st_uid || upper.st_gid != base.st_gid)
        r = fchown(fd, base.st_uid, base.st_gid);
    r = r < 0 ? r : fchmod(fd, base.st_mode & 07777);
    r = r < 0 ? r : futimens(fd, times);
    close_fd(&fd);
    return r;
}

/* An upper directory without the base's mode and owner is never there by its name, whenever we are
 * killed: it is made under another and renamed. */
static int make_layers(int base_fd, int changes_fd)
{
    if (mkdirat(changes_fd, CHANGES_WORK, 0700) < 0 && errno != EEXIST)
        return -1;
    if (faccessat(changes_fd, CHANGES_UPPER, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    if ((mkdirat(changes_fd, CHANGES_UPPER_NEW, 0700) < 0 && errno != EEXIST) ||
        copy_root(base_fd, changes_fd) < 0)
        return -1;
    return renameat(changes_fd, CHANGES_UPPER_NEW, changes_fd, CHANGES_UPPER);
}

static int set_path(int fs, const char *key, int fd, const char *below)
{
    char path[FD_PATH_BYTES];
    snprintf(path, sizeof(path), "/proc/self/fd/%d%s", fd, below);
    return fsconfig(fs, FSCONFIG_SET_STRING, key, path, 0);
}

static int mount_overlay(const struct plan *plan, int base_fd, int changes_fd)
{
    int fs = fsopen("overlay", FSOPEN_CLOEXEC);
    if (fs < 0 || set_path(fs, "lowerdir", base_fd, "") < 0 ||
        set_path(fs, "upperdir", changes_fd, "/" CHANGES_UPPER) < 0 ||
        set_path(fs, "workdir", changes_fd, "/" CHANGES_WORK) < 0)
        return -1;
    if (plan->user_namespace) {
        if (fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
            return -1;
    } else if (fsconfig(fs, FSCONFIG_SET_STRING, "redirect_dir", "off", 0) < 0 ||
               fsconfig(fs, FSCONFIG_SET_STRING, "metacopy", "off", 0) < 0) {
        return -1;
    }
    /* Without xino, where the changes lie on another file system, a directory gets a new inode number
     * whenever the kernel has dropped it from memory: another directory, to the guest. */
    if (fsconfig(fs, FSCONFIG_SET_STRING, "xino", "on", 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "index", "off", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    return fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

/* Returns the step that failed, with errno. */
static enum step build(const struct plan *plan, int *merged)
{
    int changes_fd;
    if (plan->user_namespace && enter_user_namespace(plan) < 0)
        return USER_NAMESPACE;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return MOUNT_NAMESPACE;
    int base_fd = reopen_here(plan->base_fd);
    if (base_fd < 0)
        return BASE;
    if (plan->idmap_fd > 0 && (base_fd = show_ids(base_fd, plan->idmap_fd)) < 0)
        return IDS;
    if (plan->changes_fd < 0) {
        if ((changes_fd = mount_memory(plan)) < 0)
            return MEMORY;
    } else if ((changes_fd = reopen_here(plan->changes_fd)) < 0) {
        return LAYERS;
    }
    if (make_layers(base_fd, changes_fd) < 0)
        return LAYERS;
    *merged = mount_overlay(plan, base_fd, changes_fd);
    return *merged < 0 ? OVERLAY : DONE;
}

static void __attribute__((noreturn)) child_main(const struct plan *plan, int socket_fd)
{
    int merged = -1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    errno = 0;
    struct report report = {.failed = build(plan, &merged)};
    report.code = errno;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {&report, sizeof(report)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (merged >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &merged, sizeof(int));
    }
    _exit(sendmsg(socket_fd, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(report) ? 0 : 1);
}

/* ---- the parent ---- */

static int receive(int socket_fd, struct report *report)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {report, sizeof(*report)};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n;
    while ((n = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (n != (ssize_t)sizeof(*report)) {
        *report = (struct report){.failed = MOUNT_NAMESPACE, .code = ECHILD};
        return -1;
    }
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int fd = -1;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(header), sizeof(int));
    return fd;
}

static int explain(const struct report *report, const struct cow_options *options,
                   struct dayfly_err *err)
{
    const char *dir = options->dir;
    switch (report->failed) {
    case USER_NAMESPACE:
        return err_errno(
            err, report->code,
            "%s, copy on write: cannot make a user namespace, which all but root need for it "
            "(see /proc/sys/user/max_user_namespaces)",
            dir);
    case MOUNT_NAMESPACE:
        return err_errno(err, report->code, "%s, copy on write: cannot make a mount namespace", dir);
    case MEMORY:
        return err_errno(err, report->code, "%s, copy on write: cannot mount a tmpfs for the changes",
                         dir);
    case BASE:
        return err_errno(err, report->code, "%s, copy on write: cannot open it again", dir);
    case IDS:
        return err_errno(err, report->code,
                         "%s, copy on write: its file system cannot show its files with other ids",
                         dir);
    case LAYERS:
        return err_errno(err, report->code, "%s: cannot prepare the directory of changes",
                         options->changes ? options->changes : dir);
    default:
        return err_errno(
            err, report->code,
            "%s, copy on write: the host mounts no overlay there (the changes' file system "
            "must keep extended attributes and not be an overlay itself)",
            dir);
    }
}

static int make(struct cow *cow, const struct plan *plan, const struct cow_options *options,
                struct dayfly_err *err)
{
    _cleanup_close_ int ours = -1;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, errno, "%s, copy on write", options->dir);
    ours = pair[0];
    pid_t pid = fork();
    if (pid == 0)
        child_main(plan, pair[1]);
    int code = errno;
    close_fd(&pair[1]);
    if (pid < 0)
        return err_errno(err, code, "%s, copy on write: fork", options->dir);
    struct report report = {0};
    int status;
    cow->fd = receive(ours, &report);
    program_wait(pid, &status);
    return cow->fd < 0 ? explain(&report, options, err) : 0;
}

int cow_open(struct cow *cow, const struct cow_options *options, struct dayfly_err *err)
{
    *cow = (struct cow)COW_INIT;
    struct plan plan = {.changes_fd = -1, .user_namespace = geteuid() != 0};
    bool fresh = true;
    _cleanup_close_ int base_fd = open(options->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (base_fd < 0)
        return err_errno(err, errno, "share %s", options->dir);
    if (options->changes) {
        int r = changes_claim(&cow->lock_fd, options->changes, options->dir, &fresh, err);
        if (r < 0)
            return r;
    }
    uint64_t bytes = options->memory_bytes ? options->memory_bytes : meminfo_budget();
    snprintf(plan.memory_size, sizeof(plan.memory_size), "%llu", (unsigned long long)bytes);
    snprintf(plan.uid_line, sizeof(plan.uid_line), "%u %u 1", geteuid(), geteuid());
    snprintf(plan.gid_line, sizeof(plan.gid_line), "%u %u 1", getegid(), getegid());
    plan.base_fd = base_fd;
    plan.idmap_fd = options->idmap_fd;
    plan.changes_fd = cow->lock_fd;
    int r = make(cow, &plan, options, err);
    if (r == 0 && fresh && options->changes)
        r = changes_begin(cow->lock_fd, options->dir, err);
    if (r < 0)
        cow_close(cow);
    return r;
}

void cow_close(struct cow *cow)
{
    close_fd(&cow->fd);
    close_fd(&cow->lock_fd);
}
