/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_NET_H
#define AGENT_NET_H

/*
 * The guest's networks, as the host says: addresses and routes by rtnetlink, names by files. Nothing is
 * waited for: no link, no duplicate of an address, no answer of anybody's. In the new root.
 */

#include "proto/message.h"

/* The host's name, and who localhost is. `etc` is the directory /etc. */
void net_set_names(int etc, const char *host);

/* Loopback, always; the devices that the set-up names, which have to be there; the resolver. A guest
 * whose kernel has no IPv6 does without, and says so. */
int net_raise(int etc, const struct proto_setup *setup, struct proto_fail *why);

#endif
