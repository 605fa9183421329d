/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISOLATE_ISOLATE_H
#define ISOLATE_ISOLATE_H

/*
 * Locking up a thread before it touches what a guest controls. On Linux identity, capabilities,
 * namespaces, root directory, landlock domain and seccomp filter are a task's own, so a thread that
 * serves files can be locked up within a process that goes on as it was; threads that it makes
 * afterwards inherit all of it. A process that is nothing but a server does the same in its only
 * thread.
 *
 * What this is worth: a thread that is made to do what it should not by hostile *requests* (a path that
 * gets out, a call nobody thought of) is held. A thread whose *memory* is taken over shares that memory
 * with the rest of its process; only a process of its own holds that.
 *
 * In stages, each of which needs what the one before has left:
 *   1. namespaces   mount (with an empty root), network (where it may go), IPC, UTS; needs
 *                   CAP_SYS_ADMIN, else skipped
 *   2. user         another user's ids, and no supplementary groups; where asked for
 *   3. capabilities all but the ones asked for, and no new privileges
 *   4. landlock     files only below the directories given, and no Unix sockets by abstract names (from
 *                   Linux 6.12 on); skipped where the kernel has none
 *   5. seccomp      the listed system calls; every other one fails with EPERM
 *
 * All of it is for ever. Set-up is over before the first stage. Afterwards landlock lets nothing be
 * opened but below the given directories. Without landlock (`no_landlock`, an old kernel) the empty
 * root ends absolute paths alone: ".." from a descriptor leads up as far as the code that is locked up
 * lets it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include "dayfly/error.h"

/* What an argument has to be: `value` under `mask`; or, with `from`, that or more, in all its bits. */
struct isolate_check {
    unsigned arg;
    uint64_t mask, value;
    bool from;
};

struct sock_fprog;

#define ISOLATE_CHECKS_MAX 2

/* One system call that a thread needs. With checks, only where they all hold, each of an argument of
 * its own; several rows for one call add up. */
struct isolate_call {
    int number;
    unsigned check_count;
    struct isolate_check checks[ISOLATE_CHECKS_MAX];
    int code; /* the errno that it fails with; 0: what the list is for */
};

#define ISOLATE_CALL(name)                                                                             \
    {                                                                                                  \
        .number = SYS_##name                                                                           \
    }
#define ISOLATE_CALL_IF(name, arg_, mask_, value_)                                                     \
    {                                                                                                  \
        .number = SYS_##name, .check_count = 1, .checks = {                                            \
            {.arg = (arg_), .mask = (mask_), .value = (value_)}                                        \
        }                                                                                              \
    }

/* Of socket(2) and socketpair(2): streams of this host. A datagram's sender names whom it is for, in
 * memory, where no filter sees it. */
#define ISOLATE_CALL_UNIX_STREAM(name)                                                                 \
    {                                                                                                  \
        .number = SYS_##name, .check_count = 2, .checks = {                                            \
            {.arg = 0, .mask = UINT64_MAX, .value = AF_UNIX},                                          \
            {.arg = 1, .mask = ~(uint64_t)(SOCK_CLOEXEC | SOCK_NONBLOCK), .value = SOCK_STREAM}        \
        }                                                                                              \
    }

/* A table of calls, kept beside the code that makes them. */
struct isolate_calls {
    const struct isolate_call *calls;
    size_t count;
};

#define ISOLATE_CALLS(array)                                                                           \
    {                                                                                                  \
        (array), sizeof(array) / sizeof((array)[0])                                                    \
    }

/* What any thread needs: memory, locks, time, signals, reading and writing what is open, ending. */
extern const struct isolate_calls isolate_base_calls;
/* Making further threads (not processes). */
extern const struct isolate_calls isolate_thread_calls;

/* Making a filter of one's own stricter still, and nobody else's: for threads made by one that is
 * locked up, which need less than it. */
extern const struct isolate_calls isolate_tighten_calls;

#define ISOLATE_TABLES_MAX 24

/* Namespaces that several threads share; -1 for what could not be had. */
struct isolate_namespaces {
    int mount, network, ipc, uts;
};

#define ISOLATE_NO_NAMESPACES                                                                          \
    {                                                                                                  \
        -1, -1, -1, -1                                                                                 \
    }

struct isolate_dir {
    int fd; /* any mode; a regular file's stands for that file alone */
    bool read_only;
    bool execute; /* what is in it may be executed */
};

struct isolate_options {
    struct isolate_calls calls[ISOLATE_TABLES_MAX]; /* until the first empty one */
    const struct isolate_dir *dirs;
    size_t dir_count;
    bool change_user; /* become uid and gid, who may be oneself */
    uid_t uid;
    gid_t gid;
    bool no_landlock;      /* files are opened by handle, which landlock would refuse */
    uint64_t capabilities; /* 1 << CAP_x: those that stay, where the thread has them */
    bool keep_network;     /* what it does is to be on the caller's network */
    /* NULL: the thread gets namespaces of its own. Else it enters these, or none where there are none;
     * its working directory is then their empty root. */
    const struct isolate_namespaces *join;
    /* A directory to be the thread's working directory, from which ".." leads nowhere where that can be
     * had. Only with `join`. */
    bool change_dir;
    int dir;
    bool new_user; /* a process with one thread and no CAP_SYS_ADMIN: get it in a user namespace */
    /* What the empty root shows of the host's, read-only, up to a NULL: names in "/" that lead to
     * directories. For a process that is to become another program. */
    const char *const *shows;
    /* No signals to others (from Linux 6.12 on). A domain is a thread's: not for one that signals its
     * fellows. */
    bool no_signals;
    /* Instead of `calls`: a filter that is ready, for a child that may not allocate. */
    const struct sock_fprog *program;
    /* NULL, or: make something in the empty root, of which it gets a descriptor, before nothing can be
     * written there any more; or do without, where no such root can be had, which -1 says. Returns 0
     * or -errno. */
    int (*furnish)(void *opaque, int root, struct dayfly_err *err);
    void *opaque;
};

/* The stages that were applied. */
enum isolate_stage {
    ISOLATE_NAMESPACES = 1,
    ISOLATE_USER = 2,
    ISOLATE_CAPABILITIES = 4,
    ISOLATE_LANDLOCK = 8,
    ISOLATE_SECCOMP = 16,
};

/* The stages that isolate_thread would apply where everything can be had. */
unsigned isolate_wanted(const struct isolate_options *options);

/* Append tables, up to a NULL, that are not there yet. False: there is no room. */
bool isolate_add_calls(struct isolate_options *options, const struct isolate_calls *const *tables);

/*
 * Lock up the calling thread. Its working directory stays what it is, outside the empty root, its
 * descriptors stay usable, and the signal that it gets when its parent dies stays set. `applied`
 * receives a mask of stages: a stage that this host or user cannot have is left out there, and is no
 * error. Returns 0, or -errno when a stage failed half-way: the thread must then end.
 */
int isolate_thread(const struct isolate_options *options, unsigned *applied, struct dayfly_err *err);

/*
 * The other way round, for programs that nobody can list the calls of: a filter that refuses the calls
 * of the table and allows the rest up to number `newest`; what is newer is ENOSYS, as on a kernel that
 * has it not yet. clone3, whose flags no filter sees, is ENOSYS: a C library then uses clone. So are
 * calls of i386 and x32. It is not applied: out is for struct isolate_options, and then for
 * program_free (program.h). Returns 0, or -errno.
 */
int isolate_denials(const struct isolate_calls *table, unsigned newest, struct sock_fprog *out,
                    struct dayfly_err *err);

/* ---- the stages, for isolate.c and tests ---- */

/*
 * Make namespaces for others to join, in the calling thread, which is of no other use afterwards: it
 * should end. Returns 1, 0 (cannot be had here: out is ISOLATE_NO_NAMESPACES) or -errno.
 */
int isolate_namespaces_make(struct isolate_namespaces *out, struct dayfly_err *err);
void isolate_namespaces_close(struct isolate_namespaces *namespaces);

/* Whether the calling thread has a filter; of a program in a container also the container's. */
bool isolate_is_filtered(void);

/* "namespaces, landlock": the stages in a mask. */
#define ISOLATE_STAGES_BYTES 64
char *isolate_stage_names(unsigned stages, char text[static ISOLATE_STAGES_BYTES]);

/* Each returns 1 (applied), 0 (cannot be had here) or -errno. */
int isolate_namespaces(const struct isolate_options *options, struct dayfly_err *err);
int isolate_user(uid_t uid, gid_t gid, struct dayfly_err *err);
int isolate_capabilities(uint64_t keep, struct dayfly_err *err);
int isolate_landlock(const struct isolate_options *options, struct dayfly_err *err);
int isolate_seccomp(const struct isolate_calls *tables, size_t count, struct dayfly_err *err);
int isolate_program(const struct sock_fprog *program, struct dayfly_err *err);

#endif
