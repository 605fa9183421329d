/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_CONN_H
#define BORDER_CONN_H

/*
 * One connection of the guest's, with the connection to a host that it needs at the time: exchange.h's
 * bytes moved, TLS shaken, addresses tried, and limits of time held. All of it, buffers included, lies
 * in locked memory and is wiped at the end.
 */

#include "border/exchange.h"
#include "border/peer.h"
#include "border/resolve.h"
#include "border/tls.h"

struct conn_shared {
    struct exchange_options exchange;
    struct resolve *resolve;
    struct tls *tls;
};

struct conn;

/* `fd` is taken, also on failure: NULL, without memory. */
struct conn *conn_new(const struct conn_shared *shared, int fd, bool tls, uint64_t now_ns);
void conn_free(struct conn *conn);

/* What to wait for, CONN_FDS of them; *deadline_ns is lowered to when it wants to be called without.
 * Then, with the same: go on as far as that goes. False when the connection is over. */
#define CONN_FDS 2
void conn_fill(const struct conn *conn, struct pollfd *fds, uint64_t *deadline_ns);
bool conn_poll(struct conn *conn, const struct pollfd *fds, uint64_t now_ns);

/* Since when nothing is under way in it; UINT64_MAX: something is. */
uint64_t conn_idle_since(const struct conn *conn);

#endif
