/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/program.h"
#include "util/testing.h"

/* Arguments with which an allowed call fails harmlessly, with another error. */
struct
try {
    long number, a, b, c, d, e;
    int code; /* of the refusal; 0: it is not refused */
};

static void load(bool shared_writes)
{
    static struct sock_filter program[BPF_MAXINSNS];
    int fd = filter_make(shared_writes, NULL);
    ssize_t n = fd < 0 ? -1 : pread(fd, program, sizeof(program), 0);
    if (n <= 0 || n % (ssize_t)sizeof(*program))
        _exit(98);
    const struct sock_fprog filter = {(unsigned short)((size_t)n / sizeof(*program)), program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0)
        _exit(97);
}

/* In a child: 0 when all go as they should, else the number of the first that does not, plus 1. */
static int run(bool shared_writes, const struct try *tries, size_t count)
{
    pid_t pid = fork();
    if (pid == 0) {
        load(shared_writes);
        for (size_t i = 0; i < count; i++) {
            const struct try *t = &tries[i];
            errno = 0;
            long r = syscall((int)t->number, t->a, t->b, t->c, t->d, t->e);
            bool refused = r < 0 && errno == t->code;
            if (t->code ? !refused : r < 0 && (errno == EPERM || errno == ENOSYS))
                _exit((int)i + 1);
        }
        _exit(0);
    }
    int status;
    assert_int_equal(program_wait(pid, &status), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define NOWHERE ((long)"/nonexistent/file")

static void what_is_refused(void **state)
{
    static const struct try tries[] = {
        {SYS_mount, .code = EPERM},
        {SYS_umount2, .code = EPERM},
        {SYS_open_tree, -1, .code = EPERM},
        {SYS_open_by_handle_at, -1, .code = EPERM},
        {SYS_setns, -1, .code = EPERM},
        {SYS_unshare, CLONE_NEWUSER, .code = EPERM},
        {SYS_unshare, CLONE_FS | CLONE_NEWNET, .code = EPERM},
        {SYS_clone, CLONE_NEWUSER | CLONE_THREAD, .code = EPERM},
        {SYS_clone3, .code = ENOSYS},
        {SYS_bpf, -1, .code = EPERM},
        {SYS_io_uring_setup, .code = EPERM},
        {SYS_userfaultfd, -1, .code = EPERM},
        {SYS_request_key, .code = EPERM},
        {SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, .code = EPERM},
        {SYS_keyctl, KEYCTL_LINK, -1, KEY_SPEC_USER_SESSION_KEYRING, .code = EPERM},
        {SYS_keyctl, KEYCTL_GET_PERSISTENT, .code = EPERM},
        {SYS_add_key, 0, 0, 0, 0, KEY_SPEC_USER_KEYRING, .code = EPERM},
    };
    assert_int_equal(run(false, tries, ARRAY_SIZE(tries)), 0);
}

static void what_is_not(void **state)
{
    static const struct try tries[] = {
        {SYS_getpid},
        {SYS_unshare, CLONE_FS | CLONE_FILES},
        {SYS_ptrace, 16, -1},
        {SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING},
        {SYS_chmod, NOWHERE, 04755},
        {SYS_openat2, AT_FDCWD, NOWHERE},
    };
    assert_int_equal(run(false, tries, ARRAY_SIZE(tries)), 0);
}

/* Only where the job writes to directories of the host. */
static void modes_of_other_owners(void **state)
{
    static const struct try tries[] = {
        {SYS_chmod, NOWHERE, 04755, .code = EPERM},
        {SYS_fchmod, -1, S_ISGID, .code = EPERM},
        {SYS_fchmodat, AT_FDCWD, NOWHERE, 06755, .code = EPERM},
        {452, AT_FDCWD, NOWHERE, 04755, .code = EPERM},
        {SYS_open, NOWHERE, O_CREAT, 04755, .code = EPERM},
        {SYS_openat, AT_FDCWD, NOWHERE, O_CREAT, 02755, .code = EPERM},
        {SYS_creat, NOWHERE, 04755, .code = EPERM},
        {SYS_openat2, AT_FDCWD, NOWHERE, .code = ENOSYS},
        {SYS_chmod, NOWHERE, 01777},
        {SYS_openat, AT_FDCWD, NOWHERE, O_CREAT, 0666},
    };
    assert_int_equal(run(true, tries, ARRAY_SIZE(tries)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(what_is_not),
        cmocka_unit_test(modes_of_other_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
