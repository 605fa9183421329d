/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_GUEST_TURN_H
#define JOB_GUEST_TURN_H

/* What guest.c and guest_pump.c share: the loop that serves a guest, one turn at a time, and the
 * sessions by their names. SIGPIPE is blocked by whoever turns (util/sigpipe.h). */

#include <stdbool.h>
#include <stdint.h>

#include "job/guest.h"
#include "job/guest_session.h"

/* What a turn waits for besides the guest. */
struct guest_turn {
    uint64_t deadline_ns;
    int cancel_fd, signal_fd;
    bool local;     /* go on without the guest: what it said last is still to be written */
    bool signalled; /* out: signal_fd is readable */
};

/*
 * Wait for something to happen and serve it. 0; -ETIMEDOUT from the deadline on, whether something
 * happened or not: a guest that never stops talking must not keep it off; -ECANCELED; or the reason why
 * the guest is lost.
 */
int guest_turn(struct guest *g, struct guest_turn *t);

/* 0, or the reason why the guest is gone for good. */
int guest_lost(const struct guest *g, struct dayfly_err *err);

/* Borrowed, until guest_forget. NULL: none of this name. */
struct guest_session *guest_find(struct guest *g, uint32_t id);
void guest_forget(struct guest *g, uint32_t id);

#endif
