/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kill a program at the Nth step of its work on a directory:
 *
 *     kill-at DIR N LOG COMMAND [ARG...]
 *
 * A step is a system call, of the command or of any process below it, that would change something below
 * DIR: make, name, rename, link or remove a file, write to one, or change its attributes. Several
 * writes in a row to one file are one step. Before step N is made the command gets SIGKILL, and no
 * other process does: those that it started have to end by themselves, and are held until it is dead.
 * Every step that was counted is a line in LOG: program, call, path.
 *
 * Status: 137 when it was killed (0 with N = 0 never is), else the command's own, 126 when this program
 * fails. Processes that outlive the command by LIMIT_S seconds are a failure, and are killed.
 *
 * By ptrace, which a seccomp filter calls in for the calls in question alone. x86_64.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"

#define LIMIT_S  60
#define HELD_MAX 256

/* What a call changes: a name, of which argument `at` is the directory (-1: there is none, the working
 * directory is meant), or an open file. */
enum kind {
    KIND_NAME,
    KIND_OPEN, /* a name, if the flags say that it is made or emptied */
    KIND_FILE,
    KIND_WRITE,
};

static const struct {
    long nr;
    const char *name;
    enum kind kind;
    int at;   /* the argument that is a directory's or file's descriptor */
    int path; /* the argument that is a name */
    int flags;
} CALLS[] = {
    {SYS_open, "open", KIND_OPEN, -1, 0, 1},
    {SYS_openat, "openat", KIND_OPEN, 0, 1, 2},
    {SYS_openat2, "openat2", KIND_OPEN, 0, 1, 2},
    {SYS_creat, "creat", KIND_NAME, -1, 0, 0},
    {SYS_mkdir, "mkdir", KIND_NAME, -1, 0, 0},
    {SYS_mkdirat, "mkdirat", KIND_NAME, 0, 1, 0},
    {SYS_mknod, "mknod", KIND_NAME, -1, 0, 0},
    {SYS_mknodat, "mknodat", KIND_NAME, 0, 1, 0},
    {SYS_rmdir, "rmdir", KIND_NAME, -1, 0, 0},
    {SYS_unlink, "unlink", KIND_NAME, -1, 0, 0},
    {SYS_unlinkat, "unlinkat", KIND_NAME, 0, 1, 0},
    {SYS_rename, "rename", KIND_NAME, -1, 1, 0},
    {SYS_renameat, "renameat", KIND_NAME, 2, 3, 0},
    {SYS_renameat2, "renameat2", KIND_NAME, 2, 3, 0},
    {SYS_link, "link", KIND_NAME, -1, 1, 0},
    {SYS_linkat, "linkat", KIND_NAME, 2, 3, 0},
    {SYS_symlink, "symlink", KIND_NAME, -1, 1, 0},
    {SYS_symlinkat, "symlinkat", KIND_NAME, 1, 2, 0},
    {SYS_chmod, "chmod", KIND_NAME, -1, 0, 0},
    {SYS_fchmodat, "fchmodat", KIND_NAME, 0, 1, 0},
    {SYS_chown, "chown", KIND_NAME, -1, 0, 0},
    {SYS_lchown, "lchown", KIND_NAME, -1, 0, 0},
    {SYS_fchownat, "fchownat", KIND_NAME, 0, 1, 0},
    {SYS_utimensat, "utimensat", KIND_NAME, 0, 1, 0},
    {SYS_truncate, "truncate", KIND_NAME, -1, 0, 0},
    {SYS_fchmod, "fchmod", KIND_FILE, 0, 0, 0},
    {SYS_fchown, "fchown", KIND_FILE, 0, 0, 0},
    {SYS_ftruncate, "ftruncate", KIND_FILE, 0, 0, 0},
    {SYS_fallocate, "fallocate", KIND_FILE, 0, 0, 0},
    {SYS_write, "write", KIND_WRITE, 0, 0, 0},
    {SYS_writev, "writev", KIND_WRITE, 0, 0, 0},
    {SYS_pwrite64, "pwrite64", KIND_WRITE, 0, 0, 0},
    {SYS_pwritev, "pwritev", KIND_WRITE, 0, 0, 0},
    {SYS_pwritev2, "pwritev2", KIND_WRITE, 0, 0, 0},
    {SYS_sendfile, "sendfile", KIND_WRITE, 0, 0, 0},
    {SYS_splice, "splice", KIND_WRITE, 2, 0, 0},
    {SYS_copy_file_range, "copy_file_range", KIND_WRITE, 2, 0, 0},
};

struct job {
    char dir[PATH_MAX];
    dev_t dev;
    unsigned long at, steps;
    FILE *log;
    pid_t command;
    bool killed, ended;
    int status;
    ino_t last_written;
    pid_t held[HELD_MAX]; /* stopped until the command is dead */
    size_t held_count;
};

static void __attribute__((noreturn)) fail(const char *what)
{
    fprintf(stderr, "kill-at: %s: %s\n", what, strerror(errno));
    exit(126);
}

/* ---- what a call is about ---- */

static bool read_memory(pid_t pid, uint64_t from, void *to, size_t len)
{
    const struct iovec local = {to, len}, remote = {(void *)(uintptr_t)from, len};
    return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)len;
}

/* A text, which may end where the next page is not there. */
static bool read_text(pid_t pid, uint64_t from, char out[PATH_MAX])
{
    for (size_t i = 0; i < PATH_MAX; i++) {
        if (!read_memory(pid, from + i, &out[i], 1))
            return false;
        if (!out[i])
            return true;
    }
    return false;
}

/* Is it below the directory, and not on something mounted there? */
static bool is_ours(const struct job *job, int fd, char path[PATH_MAX])
{
    char link[40];
    struct stat st;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, PATH_MAX - 1);
    size_t dir_len = strlen(job->dir);
    if (len < 0 || fstat(fd, &st) < 0 || st.st_dev != job->dev)
        return false;
    path[len] = '\0';
    return !strncmp(path, job->dir, dir_len) && (path[dir_len] == '/' || !path[dir_len]);
}

static bool is_our_file(struct job *job, pid_t pid, int fd, bool write, char path[PATH_MAX])
{
    char name[64];
    struct stat st;
    snprintf(name, sizeof(name), "/proc/%d/fd/%d", pid, fd);
    _cleanup_close_ int here = open(name, O_PATH | O_CLOEXEC);
    if (here < 0 || !is_ours(job, here, path) || fstat(here, &st) < 0)
        return false;
    bool again = write && st.st_ino == job->last_written;
    job->last_written = write ? st.st_ino : 0;
    return !again;
}

static bool is_our_name(const struct job *job, pid_t pid, int at, uint64_t text, char path[PATH_MAX])
{
    char name[PATH_MAX], full[PATH_MAX + 64], parent[PATH_MAX];
    if (!text || !read_text(pid, text, name))
        return false;
    if (name[0] == '/')
        snprintf(full, sizeof(full), "/proc/%d/root%s", pid, name);
    else if (at == AT_FDCWD)
        snprintf(full, sizeof(full), "/proc/%d/cwd/%s", pid, name);
    else
        snprintf(full, sizeof(full), "/proc/%d/fd/%d/%s", pid, at, name);
    char *slash = strrchr(full, '/');
    *slash = '\0';
    _cleanup_close_ int fd = open(full, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || !is_ours(job, fd, parent))
        return false;
    snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX - NAME_MAX - 2, parent, slash + 1);
    return true;
}

static bool opens_to_change(pid_t pid, long nr, uint64_t flags)
{
    struct open_how how;
    if (nr == SYS_openat2) {
        if (!read_memory(pid, flags, &how, sizeof(how)))
            return false;
        flags = how.flags;
    }
    return flags & (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY));
}

/* The name of the call, when it is a step. */
static const char *step_of(struct job *job, pid_t pid, const struct __ptrace_syscall_info *info,
                           char path[PATH_MAX])
{
    const uint64_t *args = info->seccomp.args;
    for (size_t i = 0; i < ARRAY_SIZE(CALLS); i++) {
        if (CALLS[i].nr != (long)info->seccomp.nr)
            continue;
        int at = CALLS[i].at < 0 ? AT_FDCWD : (int)args[CALLS[i].at];
        bool ours;
        if (CALLS[i].kind == KIND_FILE || CALLS[i].kind == KIND_WRITE)
            ours = is_our_file(job, pid, at, CALLS[i].kind == KIND_WRITE, path);
        else if (CALLS[i].nr == SYS_utimensat && !args[1])
            ours = is_our_file(job, pid, at, false, path);
        else
            ours = (CALLS[i].kind != KIND_OPEN ||
                    opens_to_change(pid, CALLS[i].nr, args[CALLS[i].flags])) &&
                   is_our_name(job, pid, at, args[CALLS[i].path], path);
        return ours ? CALLS[i].name : NULL;
    }
    return NULL;
}

static void log_step(const struct job *job, pid_t pid, const char *call, const char *path)
{
    char name[40], comm[32] = "?";
    snprintf(name, sizeof(name), "/proc/%d/comm", pid);
    FILE *f = fopen(name, "re");
    if (f && fgets(comm, sizeof(comm), f))
        comm[strcspn(comm, "\n")] = '\0';
    if (f)
        fclose(f);
    fprintf(job->log, "%s %s %s\n", comm, call, path + strlen(job->dir));
}

/* ---- tracing ---- */

static void go_on(pid_t pid, int signal)
{
    /* It may have been killed meanwhile. */
    if (ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)signal) < 0 && errno != ESRCH)
        fail("ptrace");
}

static void at_call(struct job *job, pid_t pid)
{
    struct __ptrace_syscall_info info;
    char path[PATH_MAX];
    if (job->killed || ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) < 0)
        return;
    const char *call = step_of(job, pid, &info, path);
    if (!call)
        return;
    log_step(job, pid, call, path);
    if (++job->steps == job->at) {
        kill(job->command, SIGKILL);
        job->killed = true;
    }
}

static void stopped(struct job *job, pid_t pid, int status)
{
    int event = status >> 16, signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_SECCOMP)
        at_call(job, pid);
    if (job->killed && !job->ended) {
        if (job->held_count == HELD_MAX)
            fail("too many processes");
        job->held[job->held_count++] = pid;
        return;
    }
    /* A stop is how ptrace announces a new process; nobody here stops one otherwise. */
    go_on(pid, event || signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
}

static void ended(struct job *job, pid_t pid, int status)
{
    if (pid != job->command)
        return;
    job->ended = true;
    job->status = status;
    alarm(LIMIT_S);
    for (size_t i = 0; i < job->held_count; i++)
        go_on(job->held[i], 0);
    job->held_count = 0;
}

static void trace(struct job *job)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == ECHILD)
            return;
        if (pid < 0 && errno != EINTR)
            fail("wait");
        if (pid > 0 && WIFSTOPPED(status))
            stopped(job, pid, status);
        else if (pid > 0)
            ended(job, pid, status);
    }
}

/* ---- the command ---- */

static int call_in_for(void)
{
    struct sock_filter code[2 * ARRAY_SIZE(CALLS) + 2];
    unsigned short n = 0;
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < ARRAY_SIZE(CALLS); i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (__u32)CALLS[i].nr, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = {.len = n, .filter = code};
    /* Root needs no promise to gain no privileges; without root newuidmap would do without its own. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
        return 0;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void __attribute__((noreturn)) command(char **argv)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 || raise(SIGSTOP) || call_in_for())
        fail("cannot trace");
    execvp(argv[0], argv);
    fail(argv[0]);
}

int main(int argc, char **argv)
{
    struct job job = {0};
    struct stat st;
    int status;
    if (argc < 5) {
        fprintf(stderr, "usage: kill-at DIR N LOG COMMAND [ARG...]\n");
        return 126;
    }
    if (!realpath(argv[1], job.dir) || stat(job.dir, &st) < 0)
        fail(argv[1]);
    job.dev = st.st_dev;
    job.at = strtoul(argv[2], NULL, 10);
    job.log = fopen(argv[3], "we");
    if (!job.log)
        fail(argv[3]);
    job.command = fork();
    if (job.command < 0)
        fail("fork");
    if (job.command == 0)
        command(argv + 4);
    if (waitpid(job.command, &status, 0) < 0 || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, job.command, NULL,
               (void *)(intptr_t)(PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                                  PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)) < 0)
        fail("cannot trace");
    go_on(job.command, 0);
    trace(&job);
    if (fclose(job.log))
        fail(argv[3]);
    if (job.killed)
        return 128 + SIGKILL;
    return WIFEXITED(job.status) ? WEXITSTATUS(job.status) : 128 + WTERMSIG(job.status);
}
