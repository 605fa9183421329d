/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run a program, and have the Nth of its system calls fail:
 *
 *     fault-at KIND N LOG [--limit SECONDS] [--not NAME]... COMMAND [ARG...]
 *
 * KIND is EMFILE, ENOMEM, EIO, ENOSPC or EINTR: the call does nothing and ends with that error;
 * `short`: it moves one byte (of a regular file, pipe or stream socket); `kill-other`: the process that
 * makes the call gets SIGKILL, unless it is the command itself, whose calls are not counted then;
 * `kill`: the command does. Calls of the command and of every process below it count together, each
 * kind only those that it can befall (calls.c). Not counted: what the dynamic loader does before a
 * program begins, since no program can help what happens there, and processes by the NAMEs (comm). N =
 * 0 only counts.
 *
 * LOG gets `count N`, and of the call `hit PROGRAM CALL WHAT`, WHAT a name or descriptor.
 *
 * Status: the command's own, or 128 + its signal; 125 of this program's is a line in LOG, `broken WHY`.
 * Processes that are there LIMIT seconds after the start: `hang PROGRAM...` in LOG, and all are killed.
 * There is no other way out for them, so that when this program ended nothing runs any more.
 *
 * By ptrace, which a seccomp filter calls in for the calls in question alone. Root, x86_64.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "util/arith.h"
#include "util/cleanup.h"

#define TASKS_MAX  512
#define SPARED_MAX 8
#define COMM_MAX   32

static const struct {
    const char *word;
    int error;
} KINDS[] = {
    [FAULT_EMFILE] = {"EMFILE", EMFILE},
    [FAULT_ENOMEM] = {"ENOMEM", ENOMEM},
    [FAULT_EIO] = {"EIO", EIO},
    [FAULT_ENOSPC] = {"ENOSPC", ENOSPC},
    [FAULT_EINTR] = {"EINTR", EINTR},
    [FAULT_SHORT] = {"short", 0},
    [FAULT_KILL_OTHER] = {"kill-other", 0},
    [FAULT_KILL] = {"kill", 0},
};
static_assert(ARRAY_SIZE(KINDS) == FAULT_COUNT, "a word for each kind");

/* A thread that is traced. */
struct task {
    pid_t tid;
    bool loading;   /* not at its program's entry yet */
    bool left_out;  /* by its name */
    uint64_t entry; /* where a breakpoint stands in place of `word` */
    long word;
};

struct run {
    enum fault kind;
    unsigned long at, count;
    unsigned limit_s;
    const char *spared[SPARED_MAX]; /* by comm */
    unsigned spared_count;
    FILE *log;
    pid_t command;
    int status;
    struct task tasks[TASKS_MAX];
    size_t task_count;
};

static void __attribute__((noreturn)) fail(const struct run *run, const char *what)
{
    if (run->log)
        fprintf(run->log, "broken %s: %s\n", what, strerror(errno));
    fprintf(stderr, "fault-at: %s: %s\n", what, strerror(errno));
    exit(125);
}

/* -- tasks ------------------------------------------------------------------------------------- */

static pid_t process_of(pid_t tid)
{
    char path[40], line[64];
    int pid = tid;
    snprintf(path, sizeof(path), "/proc/%d/status", tid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "Tgid: %d", &pid) == 1)
            break;
    if (f)
        fclose(f);
    return pid;
}

static struct task *find(struct run *run, pid_t tid)
{
    for (size_t i = 0; i < run->task_count; i++)
        if (run->tasks[i].tid == tid)
            return &run->tasks[i];
    return NULL;
}

static struct task *task_of(struct run *run, pid_t tid)
{
    struct task *task = find(run, tid);
    if (task)
        return task;
    if (run->task_count == TASKS_MAX) {
        errno = E2BIG;
        fail(run, "too many threads");
    }
    /* A thread is left out with its process, whatever its own name is. */
    const struct task *leader = find(run, process_of(tid));
    task = &run->tasks[run->task_count++];
    *task = (struct task){.tid = tid, .left_out = leader && leader->left_out};
    return task;
}

static void forget(struct run *run, pid_t tid)
{
    *task_of(run, tid) = run->tasks[run->task_count - 1];
    run->task_count--;
}

static const char *comm_of(pid_t pid, char comm[COMM_MAX])
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(comm, COMM_MAX, f))
        snprintf(comm, COMM_MAX, "?");
    comm[strcspn(comm, "\n")] = '\0';
    if (f)
        fclose(f);
    return comm;
}

/* -- what a call is about ---------------------------------------------------------------------- */

static const struct call *call_of(uint64_t nr)
{
    for (size_t i = 0; i < call_count; i++)
        if ((uint64_t)calls[i].nr == nr)
            return &calls[i];
    return NULL;
}

static void describe(pid_t pid, const struct call *call, const uint64_t *args, char out[PATH_MAX])
{
    char link[64];
    snprintf(out, PATH_MAX, "-");
    if (call->path >= 0) {
        /* As far as its page goes: a look for people. */
        size_t here = MIN(4096 - args[call->path] % 4096, 512u);
        const struct iovec local = {out, here};
        const struct iovec remote = {(void *)(uintptr_t)args[call->path], here};
        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) < 1)
            snprintf(out, PATH_MAX, "-");
        out[here - 1] = '\0';
        out[strcspn(out, "\n")] = '\0';
    } else if (call->fd >= 0) {
        snprintf(link, sizeof(link), "/proc/%d/fd/%d", pid, (int)args[call->fd]);
        ssize_t len = readlink(link, out, PATH_MAX - 1);
        out[MAX(len, 0)] = '\0';
    }
}

/* What a descriptor of another process stands for. */
struct file {
    struct stat st;
    struct statfs fs;
    int type; /* of a socket */
};

static bool look_at(pid_t tid, int fd, struct file *out)
{
    socklen_t len = sizeof(out->type);
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, process_of(tid), 0);
    _cleanup_close_ int here = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    if (here < 0 || fstat(here, &out->st) < 0 || fstatfs(here, &out->fs) < 0)
        return false;
    out->type = 0;
    return !S_ISSOCK(out->st.st_mode) || getsockopt(here, SOL_SOCKET, SO_TYPE, &out->type, &len) == 0;
}

/* A file in memory alone: neither signals nor anything else cuts a call short. */
static bool is_memory(const struct file *file)
{
    return S_ISREG(file->st.st_mode) && file->st.st_nlink == 0 && file->fs.f_type == TMPFS_MAGIC;
}

/* The kernel's own files take a word whole, or not at all. */
static bool is_kernels(const struct file *file)
{
    return file->fs.f_type == PROC_SUPER_MAGIC || file->fs.f_type == SYSFS_MAGIC ||
           file->fs.f_type == CGROUP_SUPER_MAGIC || file->fs.f_type == CGROUP2_SUPER_MAGIC;
}

static bool may_be_short(const struct file *file)
{
    if (S_ISSOCK(file->st.st_mode))
        return file->type == SOCK_STREAM;
    return S_ISFIFO(file->st.st_mode) ||
           (S_ISREG(file->st.st_mode) && !is_kernels(file) && !is_memory(file));
}

/* May it wait, so that a signal finds it waiting? */
static bool may_be_interrupted(pid_t tid, const struct call *call, const uint64_t *args)
{
    struct file file;
    if (call->nr == SYS_flock)
        return !(args[1] & LOCK_NB);
    if (call->nr == SYS_wait4)
        return !(args[2] & WNOHANG);
    if (call->nr == SYS_poll)
        return (int)args[2] != 0;
    if (call->nr == SYS_epoll_wait || call->nr == SYS_epoll_pwait)
        return (int)args[3] != 0;
    return !(call->fd >= 0 && look_at(tid, (int)args[call->fd], &file) && is_memory(&file));
}

static bool befalls(const struct run *run, pid_t tid, const struct call *call, const uint64_t *args)
{
    struct file file;
    switch (run->kind) {
    case FAULT_KILL_OTHER:
        return process_of(tid) != run->command;
    case FAULT_KILL:
        return true;
    case FAULT_SHORT:
        return call->kinds & 1u << FAULT_SHORT && args[call->length] > 1 &&
               look_at(tid, (int)args[call->fd], &file) && may_be_short(&file);
    case FAULT_EINTR:
        return call->kinds & 1u << FAULT_EINTR && may_be_interrupted(tid, call, args);
    default:
        return call->kinds & 1u << run->kind;
    }
}

static void set_register(const struct run *run, pid_t tid, size_t offset, long value)
{
    if (ptrace(PTRACE_POKEUSER, tid, offset, value) < 0 && errno != ESRCH)
        fail(run, "set a register");
}

static void strike(const struct run *run, pid_t tid, const struct call *call)
{
    static const size_t arguments[] = {
        offsetof(struct user, regs.rdi), offsetof(struct user, regs.rsi),
        offsetof(struct user, regs.rdx), offsetof(struct user, regs.r10),
        offsetof(struct user, regs.r8),
    };
    if (run->kind == FAULT_KILL)
        kill(run->command, SIGKILL);
    else if (run->kind == FAULT_KILL_OTHER)
        kill(process_of(tid), SIGKILL);
    else if (run->kind == FAULT_SHORT)
        set_register(run, tid, arguments[call->length], 1);
    else {
        set_register(run, tid, offsetof(struct user, regs.orig_rax), -1);
        set_register(run, tid, offsetof(struct user, regs.rax), -KINDS[run->kind].error);
    }
}

static void at_call(struct run *run, struct task *task)
{
    struct __ptrace_syscall_info info;
    char what[PATH_MAX], comm[COMM_MAX];
    if (task->loading || task->left_out ||
        ptrace(PTRACE_GET_SYSCALL_INFO, task->tid, sizeof(info), &info) < 0)
        return;
    const struct call *call = call_of(info.seccomp.nr);
    if (!call || !befalls(run, task->tid, call, (const uint64_t *)info.seccomp.args) ||
        ++run->count != run->at)
        return;
    describe(task->tid, call, (const uint64_t *)info.seccomp.args, what);
    fprintf(run->log, "hit %s %s %s\n", comm_of(task->tid, comm), call->name, what);
    strike(run, task->tid, call);
}

/* -- programs and their beginning -------------------------------------------------------------- */

static uint64_t entry_of(pid_t pid)
{
    char path[40];
    uint64_t pair[2];
    uint64_t entry = 0;
    snprintf(path, sizeof(path), "/proc/%d/auxv", pid);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && read(fd, pair, sizeof(pair)) == sizeof(pair))
        if (pair[0] == AT_ENTRY)
            entry = pair[1];
    return entry;
}

/* A new program: a breakpoint where the loader hands over to it. */
static void at_exec(struct run *run, struct task *task)
{
    char comm[COMM_MAX];
    comm_of(task->tid, comm);
    task->left_out = false;
    for (unsigned i = 0; i < run->spared_count; i++)
        task->left_out = task->left_out || !strcmp(comm, run->spared[i]);
    task->entry = entry_of(task->tid);
    errno = 0;
    task->word = ptrace(PTRACE_PEEKTEXT, task->tid, task->entry, NULL);
    if (errno || ptrace(PTRACE_POKETEXT, task->tid, task->entry, (task->word & ~0xffL) | 0xcc) < 0)
        task->entry = 0;
    task->loading = task->entry != 0;
}

/* True when the trap was our breakpoint. */
static bool at_entry(const struct run *run, struct task *task)
{
    struct user_regs_struct regs;
    if (!task->loading || ptrace(PTRACE_GETREGS, task->tid, NULL, &regs) < 0 ||
        regs.rip != task->entry + 1)
        return false;
    regs.rip--;
    if (ptrace(PTRACE_POKETEXT, task->tid, task->entry, task->word) < 0 ||
        ptrace(PTRACE_SETREGS, task->tid, NULL, &regs) < 0)
        fail(run, "take a breakpoint away");
    task->loading = false;
    return true;
}

/* -- tracing ----------------------------------------------------------------------------------- */

static void stopped(struct run *run, pid_t tid, int status)
{
    struct task *task = task_of(run, tid);
    int event = status >> 16, signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_SECCOMP)
        at_call(run, task);
    else if (event == PTRACE_EVENT_EXEC)
        at_exec(run, task);
    else if (!event && signal == SIGTRAP && at_entry(run, task))
        signal = 0;
    /* A stop is how ptrace announces a new task; nobody here stops one otherwise. */
    if (event || signal == SIGSTOP)
        signal = 0;
    /* It may have been killed meanwhile. */
    if (ptrace(PTRACE_CONT, tid, NULL, (void *)(intptr_t)signal) < 0 && errno != ESRCH)
        fail(run, "ptrace");
}

static volatile sig_atomic_t too_late;

static void on_alarm(int signal)
{
    too_late = 1;
}

static void say_who_hangs(const struct run *run)
{
    char comm[COMM_MAX];
    fprintf(run->log, "hang");
    for (size_t i = 0; i < run->task_count; i++)
        fprintf(run->log, " %s(%d)", comm_of(run->tasks[i].tid, comm), run->tasks[i].tid);
    fprintf(run->log, "\n");
}

static void trace(struct run *run)
{
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == ECHILD)
            return;
        if (tid < 0 && errno != EINTR)
            fail(run, "wait");
        if (too_late) {
            /* Everything dies with this process: PTRACE_O_EXITKILL. */
            say_who_hangs(run);
            return;
        }
        if (tid > 0 && WIFSTOPPED(status)) {
            stopped(run, tid, status);
        } else if (tid > 0) {
            if (tid == run->command)
                run->status = status;
            forget(run, tid);
        }
    }
}

/* -- the command ------------------------------------------------------------------------------- */

static int call_in(void)
{
    struct sock_filter code[2 * CALLS_MAX + 2];
    unsigned short n = 0;
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < call_count; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (__u32)calls[i].nr, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = {.len = n, .filter = code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void __attribute__((noreturn)) command(const struct run *run, char **argv)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 || raise(SIGSTOP) || call_in())
        fail(run, "cannot trace");
    execvp(argv[0], argv);
    fail(run, argv[0]);
}

static void start(struct run *run, char **argv)
{
    int status;
    const struct sigaction action = {.sa_handler = on_alarm}; /* without SA_RESTART: it ends the wait */
    run->command = fork();
    if (run->command == 0)
        command(run, argv);
    if (run->command < 0 || waitpid(run->command, &status, 0) < 0 || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, run->command, NULL,
               (void *)(intptr_t)(PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                                  PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)) < 0 ||
        sigaction(SIGALRM, &action, NULL) < 0)
        fail(run, "cannot trace");
    task_of(run, run->command)->loading = true;
    alarm(run->limit_s);
    if (ptrace(PTRACE_CONT, run->command, NULL, NULL) < 0)
        fail(run, "cannot trace");
}

static void __attribute__((noreturn)) usage(void)
{
    fprintf(stderr, "usage: fault-at KIND N LOG [--limit SECONDS] [--not NAME]... COMMAND [ARG...]\n");
    exit(125);
}

static char **read_arguments(struct run *run, char **argv)
{
    for (int i = 0; i < 3; i++)
        if (!argv[i])
            usage();
    while (run->kind < FAULT_COUNT && strcmp(KINDS[run->kind].word, argv[0]))
        run->kind++;
    if (run->kind == FAULT_COUNT)
        usage();
    run->at = strtoul(argv[1], NULL, 10);
    run->log = fopen(argv[2], "we");
    if (!run->log)
        fail(run, argv[2]);
    for (argv += 3; argv[0] && argv[1] && !strncmp(argv[0], "--", 2); argv += 2) {
        if (!strcmp(argv[0], "--limit"))
            run->limit_s = (unsigned)strtoul(argv[1], NULL, 10);
        else if (!strcmp(argv[0], "--not") && run->spared_count < SPARED_MAX)
            run->spared[run->spared_count++] = argv[1];
        else
            usage();
    }
    if (!argv[0])
        usage();
    return argv;
}

int main(int argc, char **argv)
{
    struct run run = {.limit_s = 20};
    start(&run, read_arguments(&run, argv + 1));
    trace(&run);
    fprintf(run.log, "count %lu\n", run.count);
    if (fclose(run.log)) {
        run.log = NULL;
        fail(&run, "the log");
    }
    return WIFEXITED(run.status) ? WEXITSTATUS(run.status) : 128 + WTERMSIG(run.status);
}
