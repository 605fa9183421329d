/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage 5: a list of system calls, by libseccomp. What is not listed fails with EPERM rather than with
 * a killed process: a call that a new C library makes once costs that call, not somebody's machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <seccomp.h>

#include "isolate/isolate.h"
#include "util/arith.h"
#include "util/cleanup.h"
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

static int add(scmp_filter_ctx filter, uint32_t action, const struct isolate_call *call)
{
    struct scmp_arg_cmp comparisons[ISOLATE_CHECKS_MAX];
    for (unsigned i = 0; i < call->check_count; i++) {
        const struct isolate_check *c = &call->checks[i];
        comparisons[i] = c->from ? SCMP_CMP(c->arg, SCMP_CMP_GE, c->value)
                                 : SCMP_CMP(c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value);
    }
    if (call->code)
        action = SCMP_ACT_ERRNO((unsigned)call->code);
    return seccomp_rule_add_array(filter, action, call->number, call->check_count, comparisons);
}

static int add_tables(scmp_filter_ctx filter, uint32_t action, const struct isolate_calls *tables,
                      size_t count)
{
    /* Its flags lie in memory, where no filter sees them: the C library then uses clone. */
    int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tables[i].count && r == 0; j++)
            r = add(filter, action, &tables[i].calls[j]);
    /* A tree instead of a list: the filter runs at every call. */
    return r < 0 ? r : seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
}

/* abort(3) signals its own process, and so may any of its threads; not another one. */
static int add_own_signals(scmp_filter_ctx filter)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)getpid()));
}

int isolate_seccomp(const struct isolate_calls *tables, size_t count, struct dayfly_err *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return err_set(err, ENOMEM, "make a seccomp filter");
    int r = add_tables(filter, SCMP_ACT_ALLOW, tables, count);
    if (r == 0)
        r = add_own_signals(filter);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    /* EDOM, EFAULT: libseccomp's own; the kernel's own errno comes as it is. */
    return r < 0 ? err_errno(err, -r, "load a seccomp filter") : 1;
}

/* In front of libseccomp's own program, which jumps only forward, and knows no range of numbers. Those
 * of x86_64 and i386 are the same since long. */
static int put_newest(int fd, unsigned newest)
{
    const struct sock_filter head[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, newest, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    };
    return write(fd, head, sizeof(head)) == (ssize_t)sizeof(head) ? 0 : -EIO;
}

int isolate_denials(const struct isolate_calls *tables, size_t count, unsigned newest,
                    struct dayfly_err *err)
{
    _cleanup_close_ int fd = memfd_create("seccomp filter", MFD_CLOEXEC);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (fd < 0 || !filter) {
        seccomp_release(filter);
        return err_set(err, ENOMEM, "make a seccomp filter");
    }
    int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
#ifdef __x86_64__
    if (r == 0)
        r = seccomp_arch_add(filter, SCMP_ARCH_X86);
#endif
    if (r == 0)
        r = add_tables(filter, SCMP_ACT_ERRNO(EPERM), tables, count);
    if (r == 0)
        r = put_newest(fd, newest);
    if (r == 0)
        r = seccomp_export_bpf(filter, fd);
    seccomp_release(filter);
    return r < 0 ? err_errno(err, -r, "write a seccomp filter") : steal_fd(&fd);
}
