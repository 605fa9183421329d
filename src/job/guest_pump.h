/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_GUEST_PUMP_H
#define JOB_GUEST_PUMP_H

/*
 * One command in a guest, to its end: deadlines, the caller's signals and window size, and what came of
 * it. The rules of job/guest.h hold.
 */

#include <stdbool.h>
#include <stdint.h>

#include "job/guest.h"

struct guest_pump {
    int cancel_fd;        /* as in guest_wait */
    uint64_t deadline_ns; /* of the command: then it is killed; 0: none */
    /*
     * A signalfd, or -1. SIGWINCH sends the size of tty_fd. SIGINT, SIGTERM, SIGHUP and SIGQUIT are
     * passed on once: a second of them, or grace_ns after the first, kills the session. Others are
     * passed on.
     */
    int signal_fd;
    int tty_fd;
    uint64_t grace_ns; /* 0: 10 s */
};

enum guest_outcome {
    GUEST_EXITED,   /* code */
    GUEST_SIGNALED, /* signal */
    GUEST_REFUSED,  /* it never ran: refused */
    GUEST_NONE,     /* killed, but the end did not come in time */
};

struct guest_result {
    enum guest_outcome outcome;
    int code;
    int signal;
    struct proto_exec_failed refused;
    bool timed_out;                /* deadline_ns passed */
    int interrupted;               /* the first of the four signals that was passed on, or 0 */
    uint64_t wall_ns;              /* of the command, by the guest's clock */
    uint64_t started_ns, ended_ns; /* when the agent's word came, by ours; 0: it did not */
    uint64_t in_bytes, out_bytes, err_bytes;
};

/*
 * Serve all sessions until this one is over and its output is written. 0: *out says how it ended; the
 * session is forgotten. A killed session is waited for some seconds more; then it is GUEST_NONE, as
 * when a local reader does not take the output. On failure (-ECANCELED, -EPROTO, -ECONNRESET) the
 * session stays.
 */
int guest_pump(struct guest *g, uint32_t session, const struct guest_pump *opts,
               struct guest_result *out, struct dayfly_err *err);

/* The exit status that `dayfly run` promises: the command's own; 124 timed out; 126, 127 as a shell;
 * 128 + n; 125 for what is Dayfly's failure or the machine's. */
int guest_result_status(const struct guest_result *r);

#endif
