/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CONFINE_H
#define ENGINE_CONFINE_H

/*
 * Locking up a program that is not ours, and that runs what a guest says (QEMU), in the child that is
 * about to become it.
 *
 *   namespaces    mount (a root that shows /usr and its like, read-only, and /proc for /proc/self/fd),
 *                 network, IPC, UTS; in a user namespace where the caller has not the rights
 *   user          nobody, where root is the caller and everybody may read the files that are passed
 *   capabilities  none; and no core dumps, which would have the guest's memory
 *   landlock      nothing but /usr and the files that are passed, read-only; from Linux 6.12 on no
 *                 signals to others, and no Unix sockets by abstract names
 *   seccomp       all but a list: nobody can name the calls of a program of that size. What the program
 *                 adds by itself (QEMU's -sandbox) comes on top
 *
 * What it keeps: connecting to Unix sockets by paths that it sees, making code, memory, threads.
 */

#include <stddef.h>
#include <linux/filter.h>

#include "isolate/isolate.h"

#define CONFINE_FILES_MAX 64

struct confine {
    struct isolate_dir dirs[CONFINE_FILES_MAX];
    size_t dir_count;
    int own_fds[4]; /* of dirs, opened here; -1 */
    struct sock_fprog program;
    bool root;   /* is the caller */
    bool nobody; /* is what the program becomes */
};

/* What confine_finish is safe on. */
#define CONFINE_NONE                                                                                   \
    {                                                                                                  \
        .own_fds = { -1, -1, -1, -1 }                                                                  \
    }

/* In the parent: all that allocates. `fds` are what the program inherits. */
int confine_prepare(struct confine *confine, const int *fds, size_t count, struct dayfly_err *err);
void confine_finish(struct confine *confine);

/* In the child, which has one thread: async-signal-safe calls alone. Clears the signal for the parent's
 * death. Returns 0 or -errno; `applied` as of isolate_thread. */
int confine_enter(const struct confine *confine, unsigned *applied, struct dayfly_err *err);

/* The stages that confine_enter would apply where everything can be had. */
unsigned confine_wanted(const struct confine *confine);

#endif
