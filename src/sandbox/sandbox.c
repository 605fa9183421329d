/* SPDX-License-Identifier: Apache-2.0 */
/* See sandbox.h. The runner's side: what has to be settled before the first process is born, and its
 * end. */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/cow.h"
#include "sandbox/bare.h"
#include "sandbox/filter.h"
#include "sandbox/idmap.h"
#include "sandbox/setup.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/home.h"
#include "util/io.h"
#include "util/sigpipe.h"

#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* Inside, of a sandbox whose job has its runner's id outside. */
#define UNPRIVILEGED_UID UIDS_DEFAULT_FIRST

struct sandbox {
    struct sandbox_options options;
    struct sandbox_share shares[SANDBOX_MAX_SHARES];
    struct cow cows[SANDBOX_MAX_SHARES]; /* of those whose changes are kept */
    struct setup setup;
    struct uids uids;
    struct cgroup group;
    uid_t uid;
    pid_t pid; /* of its init; 0: none, or reaped */
    int pid_fd;
    int link_fd, go_fd, report_fd; /* our ends */
    int tap_fd;
    bool died, blamed;
    int wait_status;
    char shortcomings[200];
};

static struct sandbox *alloc(const struct sandbox_options *options)
{
    struct sandbox *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->options = *options;
    if (options->share_count)
        memcpy(s->shares, options->shares, options->share_count * sizeof(*s->shares));
    s->options.shares = s->shares;
    cgroup_init(&s->group);
    s->uids.fd = s->pid_fd = s->link_fd = s->go_fd = s->report_fd = s->tap_fd = -1;
    s->setup = (struct setup){
        .options = &s->options,
        .link_fd = -1,
        .go_fd = -1,
        .report_fd = -1,
        .agent_fd = -1,
        .filter_fd = -1,
        .group = &s->group,
        .lease_fd = -1,
    };
    for (size_t i = 0; i < SANDBOX_MAX_SHARES; i++) {
        s->setup.idmap_fds[i] = s->setup.cow_fds[i] = -1;
        s->cows[i] = (struct cow)COW_INIT;
    }
    return s;
}

/* -- what the child needs ----------------------------------------------------------------------------
 */

/* Its user, and the groups: as root alone. */
static int take_identity(struct sandbox *s, struct dayfly_err *err)
{
    char dir[PATH_MAX];
    int r = home_run_dir(dir, sizeof(dir), err);
    if (r == 0)
        r = uids_open(&s->uids, dir, err);
    if (r == 0)
        r = s->setup.lease_fd = uids_take(&s->uids, &s->uid, err);
    if (r < 0)
        return r;
    cgroup_sweep(&s->uids, NULL);
    cgroup_make(&s->group, s->uid, &s->options.limits);
    char lacks[80];
    cgroup_lacks(&s->group, &s->options.limits, lacks, sizeof(lacks));
    if (lacks[0])
        snprintf(s->shortcomings, sizeof(s->shortcomings), "no cgroup here limits %s", lacks);
    return 0;
}

static void do_without_root(struct sandbox *s)
{
    s->uid = UNPRIVILEGED_UID;
    s->setup.user_namespace = true;
    snprintf(s->shortcomings, sizeof(s->shortcomings),
             "not root: the job is %u outside of the sandbox as well, and no cgroup limits it",
             getuid());
}

/* A share's owner is shown as the job, and so the job may what the owner may. */
static int make_idmaps(struct sandbox *s, struct dayfly_err *err)
{
    for (size_t i = 0; i < s->options.share_count && !s->setup.user_namespace; i++) {
        struct stat st;
        if (s->shares[i].same_ids)
            continue;
        if (fstat(s->shares[i].fd, &st) < 0)
            return err_errno(err, errno, "share %s", s->shares[i].source);
        int fd = idmap_make(st.st_uid, st.st_gid, s->uid, s->uid, err);
        if (fd < 0)
            return err_wrap(err, "share %s", s->shares[i].source);
        s->setup.idmap_fds[i] = fd;
    }
    return 0;
}

/* Made out here, where the lock on the changes is the runner's, and moved in there. */
static int make_cows(struct sandbox *s, struct dayfly_err *err)
{
    for (size_t i = 0; i < s->options.share_count; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", s->shares[i].fd);
        const struct cow_options options = {
            .dir = path,
            .changes = s->shares[i].changes,
            .idmap_fd = s->setup.idmap_fds[i] < 0 ? 0 : s->setup.idmap_fds[i],
        };
        if (!options.changes)
            continue;
        int r = cow_open(&s->cows[i], &options, err);
        if (r < 0)
            return err_wrap(err, "share %s", s->shares[i].source);
        s->setup.cow_fds[i] = s->cows[i].fd;
    }
    return 0;
}

static bool writes_to_host(const struct sandbox_options *options)
{
    for (size_t i = 0; i < options->share_count; i++)
        if (options->shares[i].mode == DAYFLY_SHARE_RW || options->shares[i].changes)
            return true;
    return false;
}

static int make_filter(const struct sandbox *s, struct dayfly_err *err)
{
    const struct filter_options options = {
        .shared_writes = writes_to_host(&s->options),
        .shared_user = s->setup.user_namespace,
    };
    return filter_make(&options, err);
}

static int make_channels(struct sandbox *s, struct dayfly_err *err)
{
    int link[2], go[2], report[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) < 0)
        return err_errno(err, errno, "a socket to the sandbox");
    s->link_fd = link[0];
    s->setup.link_fd = link[1];
    if (pipe2(go, O_CLOEXEC) < 0)
        return err_errno(err, errno, "a pipe to the sandbox");
    s->setup.go_fd = go[0];
    s->go_fd = go[1];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
        return err_errno(err, errno, "a socket to the sandbox");
    s->report_fd = report[0];
    s->setup.report_fd = report[1];
    return 0;
}

/* -- birth -------------------------------------------------------------------------------------------
 */

static int give_birth(struct sandbox *s, struct dayfly_err *err)
{
    struct clone_args args = {
        .flags = NAMESPACES | CLONE_PIDFD | (s->setup.user_namespace ? (uint64_t)CLONE_NEWUSER : 0),
        .pidfd = (uint64_t)(uintptr_t)&s->pid_fd,
        .exit_signal = SIGCHLD,
    };
    if (s->group.v2.home_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)s->group.v2.home_fd;
    }
    s->setup.uid = s->uid;
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        /* The child's copies of our ends: with one of them open it would never see us go. */
        close(s->link_fd);
        close(s->go_fd);
        close(s->report_fd);
        setup_run(&s->setup);
    }
    if (pid < 0)
        return err_errno(err, errno, "make namespaces for the sandbox");
    s->pid = pid;
    close_fd(&s->setup.link_fd);
    close_fd(&s->setup.go_fd);
    close_fd(&s->setup.report_fd);
    return 0;
}

/* In the new user namespace the runner's own id is the job's. */
static int map_own_ids(const struct sandbox *s, struct dayfly_err *err)
{
    int r = idmap_write(s->pid, "uid_map", s->uid, getuid());
    if (r == 0)
        r = idmap_write(s->pid, "gid_map", s->uid, getgid());
    return r < 0 ? err_errno(err, -r, "map the job's ids") : 0;
}

int sandbox_new(struct sandbox **out, const struct sandbox_options *options, struct dayfly_err *err)
{
    if (options->share_count > SANDBOX_MAX_SHARES)
        return err_set(err, E2BIG, "more than %d shares", SANDBOX_MAX_SHARES);
    if (!options->layer_bytes) /* which a tmpfs takes for no limit */
        return err_set(err, EINVAL, "a layer of no bytes");
    struct sandbox *s = alloc(options);
    if (!s)
        return err_set(err, ENOMEM, "out of memory");
    int r = 0;
    if (geteuid() == 0)
        r = take_identity(s, err);
    else if (options->root_fd >= 0)
        r = err_set(err, EPERM, "only root mounts an image's file system");
    else
        do_without_root(s);
    if (r >= 0 && (r = s->setup.agent_fd = bare_agent(err)) >= 0 &&
        (r = s->setup.filter_fd = make_filter(s, err)) >= 0 && (r = make_idmaps(s, err)) == 0 &&
        (r = make_cows(s, err)) == 0 && (r = make_channels(s, err)) == 0 &&
        (r = give_birth(s, err)) == 0 && s->setup.user_namespace)
        r = map_own_ids(s, err);
    if (r < 0) {
        sandbox_free(s);
        return r;
    }
    *out = s;
    return 0;
}

/* The next message: its length, with a descriptor where one came along. */
static ssize_t receive(int socket, void *out, size_t size, int *fd)
{
    struct iovec text = {out, size};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n;
    do
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
        close_fd(fd);
        memcpy(fd, CMSG_DATA(header), sizeof(*fd));
    }
    return n;
}

int sandbox_start(struct sandbox *s, struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    /* One that has ended already says why when it is called. */
    int r = io_write_full(s->go_fd, "", 1);
    if (r < 0 && r != -EPIPE)
        return err_errno(err, -r, "start the sandbox");
    close_fd(&s->go_fd);
    return 0;
}

int sandbox_call(struct sandbox *s, int cancel_fd, struct dayfly_err *err)
{
    struct dayfly_err told;
    ssize_t n;
    do {
        struct pollfd fds[] = {{.fd = s->report_fd, .events = POLLIN},
                               {.fd = cancel_fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return err_errno(err, errno, "wait for the sandbox");
        if (fds[1].revents)
            return err_set(err, ECANCELED, "cancelled while waiting for the sandbox");
        n = fds[0].revents ? receive(s->report_fd, &told, sizeof(told), &s->tap_fd) : 1;
    } while (n == 1);
    close_fd(&s->report_fd);
    if (n == 0)
        return steal_fd(&s->link_fd);
    if (n != (ssize_t)sizeof(told))
        return err_set(err, EIO, "the sandbox did not say how it went");
    told.msg[sizeof(told.msg) - 1] = '\0';
    s->blamed = true;
    return err_set(err, told.code > 0 ? told.code : EIO, "in the sandbox: %s", told.msg);
}

int sandbox_take_tap(struct sandbox *s)
{
    return steal_fd(&s->tap_fd);
}

/* Build one, as far as it goes without an image, and let it go. */
int sandbox_probe(struct dayfly_err *why)
{
    const struct sandbox_options options = {
        .root_fd = -1,
        .layer_bytes = 1 << 20,
        .limits = {.memory_bytes = 64 << 20, .pids = 16, .cpus = 1}};
    struct sandbox *s;
    int r = sandbox_new(&s, &options, why);
    if (r < 0)
        return r;
    if ((r = sandbox_start(s, why)) == 0)
        r = sandbox_call(s, -1, why);
    _cleanup_close_ int link = r;
    if (r >= 0 && s->shortcomings[0])
        err_set(why, 0, "%s", s->shortcomings);
    sandbox_free(s);
    return r < 0 ? r : 0;
}

/* -- its life and end --------------------------------------------------------------------------------
 */

uid_t sandbox_uid(const struct sandbox *s)
{
    return geteuid() == 0 ? s->uid : 0;
}

const char *sandbox_shortcomings(const struct sandbox *s)
{
    return s->shortcomings;
}

pid_t sandbox_init_pid(const struct sandbox *s)
{
    return s->pid;
}

void sandbox_measure(const struct sandbox *s, struct cgroup_figures *out)
{
    cgroup_measure(&s->group, out);
}

static void reap(struct sandbox *s, int options)
{
    siginfo_t info = {0};
    int r;
    if (s->pid <= 0 || s->died)
        return;
    do
        r = waitid(P_PIDFD, (id_t)s->pid_fd, &info, WEXITED | options);
    while (r < 0 && errno == EINTR);
    if (r == 0 && info.si_pid == s->pid) {
        s->died = true;
        s->wait_status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status & 0x7f;
    }
}

int sandbox_ended(struct sandbox *s, struct dayfly_err *err)
{
    reap(s, WNOHANG);
    if (!s->died || s->blamed)
        return 0;
    if (WIFSIGNALED(s->wait_status))
        return err_set(err, EIO, "the sandbox was killed by signal %d%s", WTERMSIG(s->wait_status),
                       WTERMSIG(s->wait_status) == SIGKILL ? "; is memory short?" : "");
    return err_set(err, EIO, "the sandbox ended with status %d", WEXITSTATUS(s->wait_status));
}

void sandbox_free(struct sandbox *s)
{
    if (!s)
        return;
    if (s->pid > 0 && !s->died) {
        syscall(SYS_pidfd_send_signal, s->pid_fd, SIGKILL, NULL, 0);
        /* Its init is not reaped before all else in it is dead. */
        reap(s, 0);
    }
    cgroup_remove(&s->group);
    close_fd(&s->pid_fd);
    close_fd(&s->link_fd);
    close_fd(&s->go_fd);
    close_fd(&s->report_fd);
    close_fd(&s->tap_fd);
    close_fd(&s->setup.link_fd);
    close_fd(&s->setup.go_fd);
    close_fd(&s->setup.report_fd);
    close_fd(&s->setup.agent_fd);
    close_fd(&s->setup.filter_fd);
    for (size_t i = 0; i < SANDBOX_MAX_SHARES; i++) {
        close_fd(&s->setup.idmap_fds[i]);
        cow_close(&s->cows[i]);
    }
    close_fd(&s->setup.lease_fd);
    uids_close(&s->uids);
    free(s);
}
