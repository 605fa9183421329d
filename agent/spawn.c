/* SPDX-License-Identifier: Apache-2.0 */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <grp.h>
#include <unistd.h>

#include "collect.h"
#include "confine.h"
#include "path.h"
#include "secret.h"
#include "user.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/io.h"

#define TTY_GID          5
#define NAMES_FILE_BYTES (1u << 20)
#define FILES_SOFT       1024 /* programs that use select() trust in it */
#define FILES_HARD       524288

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What a child writes to the report pipe: at most one of each, in this order. The pipe's end without a
 * failure says that the command runs. */
struct report {
    pid_t pid; /* the command's own, where a leader stands between; 0: this is a failure */
    struct proto_exec_failed failed;
};

/* The child's ends. */
struct child {
    const struct machine *machine;
    const struct proto_exec *exec;
    int stdio[3];
    int report_fd;
};

static pid_t fork_flags(uint64_t flags, int cgroup_fd)
{
    struct clone_args args = {.flags = flags, .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD};
    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup_fd;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* From here to start_command: the child, which never returns. */

static void __attribute__((noreturn, format(printf, 4, 5)))
give_up(const struct child *c, enum proto_exec_step step, int code, const char *fmt, ...)
{
    struct report r = {.failed = {.code = (uint32_t)code, .step = step}};
    va_list args;
    va_start(args, fmt);
    vsnprintf(r.failed.text, sizeof(r.failed.text), fmt, args);
    va_end(args);
    (void)io_write_full(c->report_fd, &r, sizeof(r));
    _exit(127);
}

/* All 64 to their defaults, by the kernel's own call: a C library keeps two of them to itself, and
 * whoever started us may have ignored them. A zeroed action of the kernel's is SIG_DFL, without flags
 * or mask. */
static void reset_signals(void)
{
    static const uint64_t plain[4]; /* handler, flags, restorer, mask */
    sigset_t none;
    for (int i = 1; i <= 64; i++)
        syscall(SYS_rt_sigaction, i, plain, NULL, sizeof(plain[3]));
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* With one thread it moves at once: see src/sandbox/cgroup.c. */
static void enter_group(const struct child *c, int dir)
{
    _cleanup_close_ int fd = openat(dir, "tasks", O_WRONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : io_write_full(fd, "0", 1);
    if (r < 0)
        give_up(c, PROTO_STEP_RESOURCES, -r, "entering a cgroup");
}

static void set_limits(const struct child *c)
{
    struct rlimit files = {FILES_SOFT, FILES_HARD}, now;
    struct rlimit any = {RLIM_INFINITY, RLIM_INFINITY};
    struct rlimit no_core = {0, RLIM_INFINITY};
    /* pids.max is the limit of processes, for all users of the guest together. */
    if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &now) == 0) {
        files.rlim_max =
            MIN(now.rlim_max, (rlim_t)FILES_HARD); /* only root of a machine may raise it */
        files.rlim_cur = MIN(files.rlim_max, (rlim_t)FILES_SOFT);
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setrlimit(RLIMIT_NPROC, &any);
    setrlimit(RLIMIT_CORE, &no_core);
    umask(022);

    for (size_t i = 0; i < c->machine->join_count; i++)
        enter_group(c, c->machine->join_fds[i]);
    int fd = openat(c->machine->proc_fd, "self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "0", 1);
        close(fd);
    }
    if (c->machine->cgroup_ns_fd >= 0)
        setns(c->machine->cgroup_ns_fd, CLONE_NEWCGROUP);
}

/* The text of a file of the guest, "" when there is none. A fifo there must not hold us. */
static char *read_names(const char *path)
{
    struct stat st;
    char *text = NULL;
    if (stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
        io_read_file(AT_FDCWD, path, NAMES_FILE_BYTES, &text, NULL) == 0)
        return text;
    return strdup("");
}

static void become(const struct child *c, struct user *user)
{
    char *passwd = read_names("/etc/passwd"), *group = read_names("/etc/group");
    if (!passwd || !group)
        give_up(c, PROTO_STEP_RESOURCES, ENOMEM, "reading /etc/passwd");
    int r = user_resolve(c->exec->user, passwd, group, user);
    if (r == -ENOENT)
        give_up(c, PROTO_STEP_USER, ENOENT, "no user '%s' in the image's /etc/passwd", c->exec->user);
    if (r < 0)
        give_up(c, PROTO_STEP_USER, ESRCH, "no group for '%s' in the image's /etc/group",
                c->exec->user);
    free(passwd);
    free(group);
    const struct confine *confine = c->machine->confine;
    if (confine && (user->uid != confine->uid || user->gid != confine->uid || user->group_count > 1))
        give_up(c, PROTO_STEP_USER, EPERM, "a sandbox has one user, and %s is not it", user->name);
}

/* Programs open /dev/stdout and the like again, which the owner of a pipe may do, and others not. */
static void set_stdio(const struct child *c, const struct user *user)
{
    for (int i = 0; i < 3; i++) {
        struct stat st;
        if (fstat(c->stdio[i], &st) < 0)
            continue;
        if (c->exec->flags & PROTO_EXEC_TTY) {
            if (fchown(c->stdio[i], user->uid, TTY_GID) == 0)
                fchmod(c->stdio[i], 0620);
        } else if (S_ISFIFO(st.st_mode)) {
            (void)!fchown(c->stdio[i], user->uid, user->gid);
        }
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(c->stdio[i], i) < 0)
            give_up(c, PROTO_STEP_RESOURCES, errno, "standard streams");
    }
}

static void drop_to(const struct child *c, const struct user *user)
{
    /* Without the right to (a test that is not root), being that user already is enough. */
    if (geteuid() != 0 && user->uid == getuid() && user->gid == getgid())
        return;
    if (setgroups(user->group_count, user->groups) < 0 ||
        setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        give_up(c, PROTO_STEP_USER, errno, "becoming user '%s'", user->name);
    /* Others of that user must not trace what still has the agent's descriptors; a host's
     * fs.suid_dumpable may have it that they could. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void enter_cwd(const struct child *c, const struct user *user)
{
    const char *cwd = c->exec->cwd;
    if (cwd[0] && chdir(cwd) < 0)
        give_up(c, PROTO_STEP_CWD, errno, "%s", cwd);
    if (!cwd[0] && chdir(user->home) < 0 && chdir("/") < 0)
        give_up(c, PROTO_STEP_CWD, errno, "/");
}

static void confine(const struct child *c)
{
    const char *what;
    int code = c->machine->confine ? confine_command(c->machine->confine, &what) : 0;
    if (code)
        give_up(c, PROTO_STEP_RESOURCES, code, "confining the command: %s", what);
}

static const char *get_env(const char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (; *env; env++) {
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return *env + n + 1;
    }
    return NULL;
}

/* Put the secrets that are variables in front, where a program finds them first. */
static size_t add_secrets(const struct child *c, const char **env)
{
    const struct secrets *s = c->machine->secrets;
    size_t n = 0;
    if (!(c->exec->flags & PROTO_EXEC_SECRETS))
        return 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->entries[i].line)
            env[n++] = s->entries[i].line;
    }
    return n;
}

/* Whether a secret is of this variable's name. */
static bool is_secret(const struct child *c, const char *line)
{
    const struct secrets *s = c->machine->secrets;
    size_t len = strcspn(line, "=");
    if (!(c->exec->flags & PROTO_EXEC_SECRETS))
        return false;
    for (size_t i = 0; i < s->count; i++) {
        if (s->entries[i].line && strncmp(s->entries[i].line, line, len + 1) == 0)
            return true;
    }
    return false;
}

/* The environment with what every command may count on. */
static const char **make_env(const struct child *c, const struct user *user)
{
    const struct proto_exec *e = c->exec;
    const struct {
        const char *name, *value;
    } defaults[] = {
        {"PATH", DEFAULT_PATH},
        {"HOME", user->home},
        {"USER", user->name},
        {"LOGNAME", user->name},
        {"TERM", e->flags & PROTO_EXEC_TTY ? "xterm" : NULL},
    };
    const char **env = calloc(PROTO_SECRETS_MAX + e->envc + ARRAY_SIZE(defaults) + 1, sizeof(*env));
    if (!env)
        give_up(c, PROTO_STEP_RESOURCES, ENOMEM, "environment");
    size_t n = add_secrets(c, env);
    for (uint32_t i = 0; i < e->envc; i++) {
        if (!is_secret(c, e->env[i]))
            env[n++] = e->env[i];
    }
    for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
        char *s;
        if (!defaults[i].value || get_env(env, defaults[i].name))
            continue;
        if (asprintf(&s, "%s=%s", defaults[i].name, defaults[i].value) < 0)
            give_up(c, PROTO_STEP_RESOURCES, ENOMEM, "environment");
        env[n++] = s;
    }
    return env;
}

static void __attribute__((noreturn)) refuse_command(const struct child *c, const char *path, int code)
{
    if (code == ENOENT && access(path, F_OK) == 0) /* there it is: what is missing is what runs it */
        give_up(c, PROTO_STEP_COMMAND, ENOEXEC, "%s: its interpreter or loader is not in the image",
                path);
    give_up(c, PROTO_STEP_COMMAND, code, "%s", path);
}

static void __attribute__((noreturn)) run_command(const struct child *c, const char **env)
{
    const char *name = c->exec->argv[0];
    char *const *argv = (char *const *)c->exec->argv;
    char path[PATH_MAX];
    int code = ENOENT;

    if (strchr(name, '/')) {
        execve(name, argv, (char *const *)env);
        refuse_command(c, name, errno);
    }
    for (const char *dir = get_env(env, "PATH"); dir && *name;) {
        size_t n = strcspn(dir, ":");
        int len = snprintf(path, sizeof(path), "%.*s/%s", n ? (int)n : 1, n ? dir : ".", name);
        if (len > 0 && (size_t)len < sizeof(path)) {
            execve(path, argv, (char *const *)env);
            if (errno == EACCES)
                code = EACCES; /* perhaps a later directory has one that may be run */
            else if ((errno != ENOENT && errno != ENOTDIR) || access(path, F_OK) == 0)
                refuse_command(c, path, errno);
        }
        dir = dir[n] ? dir + n + 1 : NULL;
    }
    if (code == ENOENT)
        give_up(c, PROTO_STEP_COMMAND, ENOENT, "%s: not in PATH", name);
    give_up(c, PROTO_STEP_COMMAND, code, "%s", name);
}

static void give_secrets(const struct child *c, const struct user *user)
{
    const struct secrets *s = c->machine->secrets;
    if (!(c->exec->flags & PROTO_EXEC_SECRETS))
        return;
    if (s->failed.code)
        give_up(c, PROTO_STEP_SECRETS, (int)s->failed.code, "%s", s->failed.text);
    int r = secrets_give(s, user->uid, user->gid);
    if (r < 0)
        give_up(c, PROTO_STEP_SECRETS, -r, "giving them to user '%s'", user->name);
}

static void __attribute__((noreturn)) start_command(const struct child *c)
{
    struct user user;
    /* All of ours close themselves; this is for what whoever started the agent may have left open. */
    syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC);
    if (c->exec->flags & PROTO_EXEC_TTY) {
        /* The command says its number itself, so that it is known before the command can be reaped. */
        struct report r = {.pid = getpid()};
        (void)io_write_full(c->report_fd, &r, sizeof(r));
        /* SIGTTOU is still blocked, so a background group may do that. */
        setpgid(0, 0);
        tcsetpgrp(c->stdio[0], getpid());
    } else {
        setsid();
    }
    reset_signals();
    set_limits(c);
    become(c, &user);
    set_stdio(c, &user);
    give_secrets(c, &user);
    bool make_cwd = c->exec->flags & PROTO_EXEC_MKCWD && c->exec->cwd[0];
    if (make_cwd && c->machine->confine)
        path_make_on_root(c->exec->cwd, &user);
    else if (make_cwd)
        path_make(c->exec->cwd, &user);
    if (c->exec->flags & PROTO_EXEC_COLLECT) {
        /* In a machine as the agent; where a kernel is shared with less. */
        if (c->machine->confine)
            drop_to(c, &user);
        enter_cwd(c, &user);
        confine(c);
        close(c->report_fd); /* "it runs": there is no execve to do that */
        _exit(collect(STDOUT_FILENO, c->exec->argv, c->exec->argc) < 0);
    }
    const char **env = make_env(c, &user);
    drop_to(c, &user);
    if (make_cwd && c->machine->confine)
        path_make(c->exec->cwd, &user); /* in a share: no more than the user may */
    enter_cwd(c, &user);
    confine(c);
    run_command(c, env);
}

/* The leader of a session with a terminal. All signals stay blocked in it: only SIGKILL ends it. */
static void __attribute__((noreturn)) lead(struct child *c)
{
    setsid();
    if (ioctl(c->stdio[0], TIOCSCTTY, 0) < 0)
        give_up(c, PROTO_STEP_RESOURCES, errno, "controlling terminal");
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);

    /* CLONE_PARENT: the command is the agent's child, not ours. */
    pid_t pid = fork_flags(CLONE_PARENT, -1);
    if (pid == 0)
        start_command(c);
    if (pid < 0)
        give_up(c, PROTO_STEP_RESOURCES, errno, "starting a process");
    set_limits(c);
    close(c->report_fd);
    for (;;)
        pause();
}

/* One pipe; the end that stays with the agent does not block. */
static int make_pipe(int *mine, int *theirs, bool write_end_is_mine)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    *mine = fds[write_end_is_mine];
    *theirs = fds[!write_end_is_mine];
    fcntl(*mine, F_SETFL, (write_end_is_mine ? O_WRONLY : O_RDONLY) | O_NONBLOCK);
    return 0;
}

static int open_terminal(const struct machine *m, const struct proto_exec *e, struct spawned *s,
                         int *slave)
{
    struct winsize size = {.ws_row = e->rows, .ws_col = e->cols};
    int unlocked = 0;
    s->out_fd = openat(m->pts_fd, "ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (s->out_fd < 0)
        return -errno;
    s->in_fd = fcntl(s->out_fd, F_DUPFD_CLOEXEC, 0);
    if (s->in_fd < 0 || ioctl(s->out_fd, TIOCSPTLCK, &unlocked) < 0)
        return -errno;
    *slave = ioctl(s->out_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave < 0)
        return -errno;
    ioctl(s->out_fd, TIOCSWINSZ, &size);
    return 0;
}

int spawn(const struct machine *m, const struct proto_exec *exec, int cgroup_fd, struct spawned *out)
{
    bool tty = exec->flags & PROTO_EXEC_TTY;
    struct spawned s = {.report_fd = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1};
    struct child c = {.machine = m, .exec = exec, .stdio = {-1, -1, -1}, .report_fd = -1};
    int r = make_pipe(&s.report_fd, &c.report_fd, false);
    if (r == 0 && tty) {
        r = open_terminal(m, exec, &s, &c.stdio[0]);
        c.stdio[1] = c.stdio[2] = c.stdio[0];
    } else if (r == 0) {
        if (exec->flags & PROTO_EXEC_STDIN)
            r = make_pipe(&s.in_fd, &c.stdio[0], true);
        else
            c.stdio[0] = m->null_fd;
        if (r == 0)
            r = make_pipe(&s.out_fd, &c.stdio[1], false);
        if (r == 0)
            r = make_pipe(&s.err_fd, &c.stdio[2], false);
    }
    if (r == 0) {
        pid_t pid = fork_flags(0, cgroup_fd);
        if (pid == 0 && tty)
            lead(&c);
        if (pid == 0)
            start_command(&c);
        if (pid < 0)
            r = -errno;
        *(tty ? &s.leader : &s.pid) = pid;
    }

    close_fd(&c.report_fd);
    if (c.stdio[0] != m->null_fd)
        close_fd(&c.stdio[0]);
    if (!tty) {
        close_fd(&c.stdio[1]);
        close_fd(&c.stdio[2]);
    }
    if (r < 0) {
        close_fd(&s.report_fd);
        close_fd(&s.in_fd);
        close_fd(&s.out_fd);
        close_fd(&s.err_fd);
        return r;
    }
    *out = s;
    return 0;
}

int spawn_report(struct spawned *s, struct proto_exec_failed *failed)
{
    struct report r;
    for (;;) {
        /* Written with one call each, and shorter than PIPE_BUF: a whole one or none. */
        ssize_t n = read(s->report_fd, &r, sizeof(r));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return -EAGAIN;
        if (n == (ssize_t)sizeof(r) && r.pid > 0) {
            s->pid = r.pid;
            continue;
        }
        close_fd(&s->report_fd);
        if (n == (ssize_t)sizeof(r)) {
            *failed = r.failed;
            failed->text[sizeof(failed->text) - 1] = '\0';
            return -ECHILD;
        }
        if (s->pid > 0)
            return 0;
        *failed = (struct proto_exec_failed){ECANCELED, PROTO_STEP_RESOURCES, "killed before it began"};
        return -ECHILD;
    }
}
