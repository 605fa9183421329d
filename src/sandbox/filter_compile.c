/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See filter_rules.h: by libseccomp, which knows the numbers of i386. Jobs may run programs of that
 * architecture, and their calls are judged as well.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <seccomp.h>

#include "isolate/isolate.h"
#include "sandbox/filter_rules.h"
#include "util/cleanup.h"
#include "util/err.h"

static int add(scmp_filter_ctx filter, const struct isolate_call *call)
{
    struct scmp_arg_cmp comparisons[ISOLATE_CHECKS_MAX];
    for (unsigned i = 0; i < call->check_count; i++) {
        const struct isolate_check *c = &call->checks[i];
        comparisons[i] = c->from ? SCMP_CMP(c->arg, SCMP_CMP_GE, c->value)
                                 : SCMP_CMP(c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value);
    }
    unsigned code = call->code ? (unsigned)call->code : EPERM;
    return seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(code), call->number, call->check_count,
                                  comparisons);
}

static int add_rules(scmp_filter_ctx filter, const struct filter_options *options)
{
    struct isolate_calls tables[FILTER_TABLES];
    size_t count = filter_tables(options, tables);
    /* Its flags lie in memory, where no filter sees them: the C library then uses clone. */
    int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tables[i].count && r == 0; j++)
            r = add(filter, &tables[i].calls[j]);
    /* A tree instead of a list: the filter runs at every call. */
    return r < 0 ? r : seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
}

/* In front of libseccomp's own program, which jumps only forward, and knows no range of numbers. Those
 * of x86_64 and i386 are the same since long; those of x32 are all higher. */
static int put_newest(int fd)
{
    const struct sock_filter head[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, FILTER_NEWEST, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    };
    return write(fd, head, sizeof(head)) == (ssize_t)sizeof(head) ? 0 : -EIO;
}

int filter_compile(const struct filter_options *options, struct dayfly_err *err)
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
        r = add_rules(filter, options);
    if (r == 0)
        r = put_newest(fd);
    if (r == 0)
        r = seccomp_export_bpf(filter, fd);
    seccomp_release(filter);
    return r < 0 ? err_errno(err, -r, "write a seccomp filter") : steal_fd(&fd);
}
