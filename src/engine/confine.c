/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/program.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define NOBODY 65534
/* The newest call that was looked at (removexattrat, of Linux 6.13). */
#define NEWEST 466

static const struct isolate_call denied[] = {
    /* other processes */
    ISOLATE_CALL(ptrace),
    ISOLATE_CALL(process_vm_readv),
    ISOLATE_CALL(process_vm_writev),
    ISOLATE_CALL(process_madvise),
    ISOLATE_CALL(kcmp),
    ISOLATE_CALL(pidfd_open),
    ISOLATE_CALL(pidfd_getfd),
    ISOLATE_CALL(pidfd_send_signal),
    ISOLATE_CALL(kill),
    ISOLATE_CALL(tkill),
    ISOLATE_CALL(tgkill), /* also of its own, which is abort(3)'s: it ends by another signal then */
    ISOLATE_CALL(rt_sigqueueinfo),
    ISOLATE_CALL(rt_tgsigqueueinfo),
    ISOLATE_CALL(process_mrelease),
    ISOLATE_CALL(migrate_pages),
    ISOLATE_CALL(move_pages),
    {.number = SYS_prlimit64, /* others' limits; one's own are 0's */
     .check_count = 1,
     .checks = {{.arg = 0, .value = 1, .from = true}}},
    /* namespaces and mounts */
    ISOLATE_CALL(unshare),
    ISOLATE_CALL(setns),
    ISOLATE_CALL_IF(clone, 0, CLONE_NEWUSER, CLONE_NEWUSER),
    ISOLATE_CALL(mount),
    ISOLATE_CALL(umount2),
    ISOLATE_CALL(pivot_root),
    ISOLATE_CALL(chroot),
    ISOLATE_CALL(open_tree),
    ISOLATE_CALL(move_mount),
    ISOLATE_CALL(fsopen),
    ISOLATE_CALL(fsmount),
    ISOLATE_CALL(fspick),
    ISOLATE_CALL(fsconfig),
    ISOLATE_CALL(mount_setattr),
    ISOLATE_CALL(name_to_handle_at),
    ISOLATE_CALL(open_by_handle_at),
    /* large parts of the kernel that it has no need of */
    ISOLATE_CALL(io_uring_setup),
    ISOLATE_CALL(io_uring_enter),
    ISOLATE_CALL(io_uring_register),
    ISOLATE_CALL(bpf),
    ISOLATE_CALL(perf_event_open),
    ISOLATE_CALL(userfaultfd),
    ISOLATE_CALL(keyctl),
    ISOLATE_CALL(add_key),
    ISOLATE_CALL(request_key),
    ISOLATE_CALL(fanotify_init),
    ISOLATE_CALL(mq_open),
    ISOLATE_CALL(shmget),
    ISOLATE_CALL(semget),
    ISOLATE_CALL(msgget),
    ISOLATE_CALL(acct),
    ISOLATE_CALL(quotactl),
    ISOLATE_CALL(quotactl_fd),
    ISOLATE_CALL(lookup_dcookie),
    ISOLATE_CALL(modify_ldt),
    ISOLATE_CALL(syslog),
    ISOLATE_CALL(init_module),
    ISOLATE_CALL(finit_module),
    ISOLATE_CALL(delete_module),
    ISOLATE_CALL(kexec_load),
    ISOLATE_CALL(kexec_file_load),
    ISOLATE_CALL(reboot),
    ISOLATE_CALL(swapon),
    ISOLATE_CALL(swapoff),
    ISOLATE_CALL(settimeofday),
    ISOLATE_CALL(clock_settime),
    ISOLATE_CALL(ioperm),
    ISOLATE_CALL(iopl),
    /* sockets of any family but Unix */
    {.number = SYS_socket,
     .check_count = 1,
     .checks = {{.arg = 0, .value = AF_UNIX + 1, .from = true}}},
    {.number = SYS_socketpair,
     .check_count = 1,
     .checks = {{.arg = 0, .value = AF_UNIX + 1, .from = true}}},
};

static const struct isolate_calls denials = ISOLATE_CALLS(denied);

static const char *const shows[] = {"/usr", "/lib", "/lib64", "/bin", "/proc", NULL};
/* What of it is read and executed; the rest are links into it, where they are none of their own. */
static const char *const programs[] = {"/usr", "/lib", "/lib64", "/bin"};

int confine_prepare(struct confine *c, const int *fds, size_t count, struct dayfly_err *err)
{
    struct stat st;
    c->root = c->nobody = geteuid() == 0;
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        c->own_fds[i] = open(programs[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (c->own_fds[i] >= 0)
            c->dirs[c->dir_count++] =
                (struct isolate_dir){.fd = c->own_fds[i], .read_only = true, .execute = true};
    }
    for (size_t i = 0; i < count; i++) {
        if (fstat(fds[i], &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (c->dir_count == CONFINE_FILES_MAX)
            return err_set(err, E2BIG, "too many files for a program");
        c->dirs[c->dir_count++] = (struct isolate_dir){.fd = fds[i], .read_only = true};
        /* It opens them anew, by /proc/self/fd. */
        if (!(st.st_mode & S_IROTH))
            c->nobody = false;
    }
    return isolate_denials(&denials, NEWEST, &c->program, err);
}

void confine_finish(struct confine *c)
{
    for (size_t i = 0; i < ARRAY_SIZE(c->own_fds); i++)
        close_fd(&c->own_fds[i]);
    program_free(&c->program);
    *c = (struct confine)CONFINE_NONE;
}

unsigned confine_wanted(const struct confine *c)
{
    return ISOLATE_NAMESPACES | ISOLATE_CAPABILITIES | ISOLATE_LANDLOCK | ISOLATE_SECCOMP |
           (c->root ? ISOLATE_USER : 0);
}

int confine_enter(const struct confine *c, unsigned *applied, struct dayfly_err *err)
{
    const struct isolate_options options = {
        .dirs = c->dirs,
        .dir_count = c->dir_count,
        .change_user = c->nobody,
        .uid = NOBODY,
        .gid = NOBODY,
        .new_user = geteuid() != 0,
        .shows = shows,
        .no_signals = true,
        .program = &c->program,
    };
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none); /* the guest's memory is mapped there */
    return isolate_thread(&options, applied, err);
}
