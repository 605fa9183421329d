/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage 5: a list of system calls (program.h). What is not listed fails with EPERM rather than with
 * a killed process: a call that a new C library makes once costs that call, not somebody's machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "isolate/isolate.h"
#include "isolate/program.h"
#include "util/arith.h"
#include "util/err.h"

static const struct isolate_call base_calls[] = {
    /* memory, which never becomes code */
    ISOLATE_CALL_IF(mmap, 2, PROT_EXEC, 0),
    ISOLATE_CALL_IF(mprotect, 2, PROT_EXEC, 0),
    ISOLATE_CALL(munmap),
    ISOLATE_CALL(mremap),
    ISOLATE_CALL(madvise),
    ISOLATE_CALL(brk),
    /* what is open */
    ISOLATE_CALL(read),
    ISOLATE_CALL(write),
    ISOLATE_CALL(readv),
    ISOLATE_CALL(writev),
    ISOLATE_CALL(close),
    ISOLATE_CALL(close_range),
    /* of descriptors and locks; none that has the kernel signal somebody else */
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_DUPFD),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_DUPFD_CLOEXEC),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_GETFD),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_SETFD),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_GETFL),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_SETFL),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_OFD_GETLK),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_OFD_SETLK),
    ISOLATE_CALL(fstat),
    ISOLATE_CALL(newfstatat),
    ISOLATE_CALL(lseek),
    /* locks, time, signals, threads' own matters */
    ISOLATE_CALL(futex),
    ISOLATE_CALL(clock_gettime),
    ISOLATE_CALL(clock_nanosleep),
    ISOLATE_CALL(gettimeofday),
    ISOLATE_CALL(nanosleep),
    ISOLATE_CALL(sched_yield),
    ISOLATE_CALL(sched_getaffinity),
    ISOLATE_CALL(restart_syscall),
    ISOLATE_CALL(rt_sigprocmask),
    ISOLATE_CALL(rt_sigaction),
    ISOLATE_CALL(rt_sigreturn),
    ISOLATE_CALL(sigaltstack),
    ISOLATE_CALL(getpid),
    ISOLATE_CALL(gettid),
    ISOLATE_CALL(getrandom),
    ISOLATE_CALL(exit),
    ISOLATE_CALL(exit_group),
};

#define CLONE_NEW_ANY                                                                                  \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |      \
     CLONE_NEWNET)

static const struct isolate_call thread_calls[] = {
    ISOLATE_CALL_IF(clone, 0, CLONE_THREAD | CLONE_VM | CLONE_NEW_ANY, CLONE_THREAD | CLONE_VM),
    ISOLATE_CALL(set_robust_list),
    ISOLATE_CALL(rseq),
    ISOLATE_CALL_IF(prctl, 0, UINT64_MAX, PR_SET_NAME),
};

/* Without flags: one of them would give every thread of the process the filter. */
static const struct isolate_call tighten_calls[] = {
    {
        .number = SYS_seccomp,
        .check_count = 2,
        .checks = {{.arg = 0, .mask = UINT64_MAX, .value = SECCOMP_SET_MODE_FILTER},
                   {.arg = 1, .mask = UINT64_MAX, .value = 0}},
    },
    ISOLATE_CALL_IF(prctl, 0, UINT64_MAX, PR_SET_NO_NEW_PRIVS),
    ISOLATE_CALL_IF(prctl, 0, UINT64_MAX, PR_GET_SECCOMP),
};

const struct isolate_calls isolate_tighten_calls = ISOLATE_CALLS(tighten_calls);
const struct isolate_calls isolate_base_calls = ISOLATE_CALLS(base_calls);
const struct isolate_calls isolate_thread_calls = ISOLATE_CALLS(thread_calls);

/* Its flags lie in memory, where no filter sees them: the C library then uses clone. */
static const struct isolate_call no_clone3[] = {{.number = SYS_clone3, .code = ENOSYS}};

#define TABLES_MAX (ISOLATE_TABLES_MAX + 2)

int isolate_program(const struct sock_fprog *program, struct dayfly_err *err)
{
    /* Without flags, it is this thread's alone. */
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) < 0
               ? err_errno(err, errno, "load a seccomp filter")
               : 1;
}

int isolate_seccomp(const struct isolate_calls *tables, size_t count, struct dayfly_err *err)
{
    static const struct program_verdicts verdicts = {
        .listed = SECCOMP_RET_ALLOW,
        .other = SECCOMP_RET_ERRNO | EPERM,
    };
    /* abort(3) signals its own process, and so may any of its threads; not another one. */
    const struct isolate_call own_signals[] = {
        ISOLATE_CALL_IF(tgkill, 0, UINT32_MAX, (uint32_t)getpid()),
    };
    struct isolate_calls all[TABLES_MAX] = {ISOLATE_CALLS(no_clone3), ISOLATE_CALLS(own_signals)};
    if (count > ISOLATE_TABLES_MAX)
        return err_set(err, EINVAL, "too many tables of system calls");
    for (size_t i = 0; i < count; i++)
        all[2 + i] = tables[i];
    struct sock_fprog program;
    int r = program_compile(all, 2 + count, &verdicts, &program);
    if (r < 0)
        return err_errno(err, -r, "make a seccomp filter");
    r = isolate_program(&program, err);
    program_free(&program);
    return r;
}

int isolate_denials(const struct isolate_calls *table, unsigned newest, struct sock_fprog *out,
                    struct dayfly_err *err)
{
    const struct program_verdicts verdicts = {
        .listed = SECCOMP_RET_ERRNO | EPERM,
        .other = SECCOMP_RET_ALLOW,
        .newest = newest,
    };
    const struct isolate_calls all[] = {ISOLATE_CALLS(no_clone3), *table};
    int r = program_compile(all, ARRAY_SIZE(all), &verdicts, out);
    return r < 0 ? err_errno(err, -r, "make a seccomp filter") : 0;
}
