/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_SERVE_H
#define AGENT_SERVE_H

/*
 * The agent's life after READY: one thread, one loop, at most PROTO_SESSIONS_MAX sessions.
 *
 * What to wait for is worked out anew from the sessions' state each turn, with poll: some 260
 * descriptors at most, and no registration that could disagree with the state. Memory is fixed when the
 * loop begins.
 */

#include "machine.h"
#include "proto/link.h"

enum serve_end {
    SERVE_SHUTDOWN, /* the host asked for it */
    SERVE_BUTTON,   /* the power button was pressed */
    SERVE_LOST,     /* the host has gone, or broke the rules */
};

/*
 * Serve the host on link until one of these. *sync: the host wants the scratch disk written back as
 * well. SIGCHLD must be blocked. All children of the process are reaped here.
 */
enum serve_end serve(struct proto_link *link, const struct machine *m, bool *sync);

#endif
