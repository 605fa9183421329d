/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_ROUTE_H
#define NET_ROUTE_H

/*
 * What the host's kernel would do with a packet to an address, asked by rtnetlink (rtnetlink(7)): of
 * all answers the only one that covers each address and each local route that it has, as they are now.
 * A question is one system call to send and one to receive, some microseconds.
 */

#include <stdbool.h>

#include "isolate/isolate.h"
#include "net/addr.h"

/* Returns the socket, or -errno. */
int route_open(void);

/* Whether the kernel takes it for an address of its own, or for a broadcast or multicast one. No route
 * at all is not that. Anything unclear counts as its own. */
bool route_is_own(int fd, const struct net_addr *addr);

/* The calls that route_is_own makes, for who locks itself up. */
extern const struct isolate_calls route_calls;

#endif
