/* SPDX-License-Identifier: Apache-2.0 */
/* Stage 1: nothing of the host to be seen. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
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

/* -- what an empty root shows ---------------------------------------------------------------------- */

#define SHOWS_MAX 8

struct show {
    int fd; /* of a tree that hangs nowhere; -1: there is nothing of that name, or it is a link */
    char link[64];
};

/* While the host's names lead somewhere. Allocates nothing. */
static int take_shows(const struct isolate_options *options, struct show *shows)
{
    static const unsigned flags = AT_RECURSIVE | AT_SYMLINK_NOFOLLOW;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
    for (int i = 0; i < SHOWS_MAX && options->shows && options->shows[i]; i++) {
        ssize_t n = readlink(options->shows[i], shows[i].link, sizeof(shows[i].link) - 1);
        if (n >= 0) {
            shows[i].link[n] = '\0';
            continue;
        }
        shows[i].fd =
            open_tree(AT_FDCWD, options->shows[i], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
        if (shows[i].fd < 0 && errno != ENOENT)
            return -1;
        if (shows[i].fd >= 0 &&
            mount_setattr(shows[i].fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
            return -1;
    }
    return 0;
}

static int place_shows(const struct isolate_options *options, const struct show *shows, int root)
{
    for (int i = 0; i < SHOWS_MAX && options->shows && options->shows[i]; i++) {
        const char *name = options->shows[i] + 1;
        if (shows[i].link[0] && symlinkat(shows[i].link, root, name) < 0)
            return -1;
        if (shows[i].fd >= 0 && (mkdirat(root, name, 0555) < 0 ||
                                 move_mount(shows[i].fd, "", root, name, MOVE_MOUNT_F_EMPTY_PATH) < 0))
            return -1;
    }
    return 0;
}

static void drop_shows(struct show *shows)
{
    for (int i = 0; i < SHOWS_MAX; i++)
        close_fd(&shows[i].fd);
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

/* -- namespaces that threads share ---------------------------------------------------------------- */

/* In the caller's mount namespace: a directory that is the top of its own tree, so that ".." ends
 * there. Without the right to that, the directory itself. */
static int top_of_itself(int dir)
{
    int fd = open_tree(dir, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    return fd >= 0 ? fd : fcntl(dir, F_DUPFD_CLOEXEC, 0);
}

/* The mount namespace first: the right to the others is the user namespace's, and stays. */
static int join(const struct isolate_options *options, struct dayfly_err *err)
{
    const struct isolate_namespaces *n = options->join;
    const struct {
        int fd, kind;
    } all[] = {{n->mount, CLONE_NEWNS},
               {n->network, CLONE_NEWNET},
               {n->ipc, CLONE_NEWIPC},
               {n->uts, CLONE_NEWUTS}};
    _cleanup_close_ int dir = options->change_dir ? top_of_itself(options->dir) : -1;
    if (options->change_dir && dir < 0)
        return err_errno(err, errno, "a directory to work in");
    if (unshare(CLONE_FS) < 0)
        return err_errno(err, errno, "unshare the root directory");
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i].fd >= 0 && setns(all[i].fd, all[i].kind) < 0)
            return err_errno(err, errno, "join a namespace");
    if (dir >= 0 && fchdir(dir) < 0)
        return err_errno(err, errno, "a directory to work in");
    return n->mount >= 0;
}

void isolate_namespaces_close(struct isolate_namespaces *n)
{
    close_fd(&n->mount);
    close_fd(&n->network);
    close_fd(&n->ipc);
    close_fd(&n->uts);
}

int isolate_namespaces_make(struct isolate_namespaces *out, struct dayfly_err *err)
{
    static const struct isolate_options plain = {0};
    *out = (struct isolate_namespaces)ISOLATE_NO_NAMESPACES;
    /* There is no /proc where the thread is going. */
    _cleanup_close_ int own = open("/proc/thread-self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (own < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "/proc/thread-self/ns");
    int r = isolate_namespaces(&plain, err);
    if (r <= 0)
        return r;
    const struct {
        int *fd;
        const char *name;
    } all[] = {{&out->mount, "mnt"}, {&out->network, "net"}, {&out->ipc, "ipc"}, {&out->uts, "uts"}};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        *all[i].fd = openat(own, all[i].name, O_RDONLY | O_CLOEXEC);
        if (*all[i].fd < 0) {
            r = err_errno(err, errno, "open a namespace");
            isolate_namespaces_close(out);
            return r;
        }
    }
    return 1;
}

/* -- a namespace of each kind --------------------------------------------------------------------- */

int isolate_namespaces(const struct isolate_options *options, struct dayfly_err *err)
{
    if (options->join)
        return join(options, err);
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
    struct show shows[SHOWS_MAX];
    for (int i = 0; i < SHOWS_MAX; i++)
        shows[i] = (struct show){.fd = -1};
    _cleanup_close_ int root = make_root();
    if (root < 0 || take_shows(options, shows) < 0 || change_root(root) < 0) {
        int code = errno;
        drop_shows(shows);
        return without_root(options, code, err);
    }
    int r = place_shows(options, shows, root) < 0 ? err_errno(err, errno, "furnish an empty root") : 0;
    drop_shows(shows);
    if (r == 0)
        r = furnish(options, root, err);
    if (r == 0)
        r = make_read_only(err);
    return r < 0 ? r : 1;
}
