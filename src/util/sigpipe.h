/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_SIGPIPE_H
#define UTIL_SIGPIPE_H

/*
 * Writing to pipes and sockets in a thread that is not ours: SIGPIPE is blocked while QUIET_SIGPIPE is
 * in scope, and one that came meanwhile is taken away at its end. A scope may be within another.
 */

#include <signal.h>
#include <stdbool.h>

struct sigpipe {
    sigset_t set;
    bool was_blocked, was_pending;
};

struct sigpipe sigpipe_begin(void);
void sigpipe_end(struct sigpipe *quiet); /* errno stays */

#define QUIET_SIGPIPE                                                                                  \
    __attribute__((unused, cleanup(sigpipe_end))) struct sigpipe _quiet = sigpipe_begin()

#endif
