/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_RESOLVE_H
#define BORDER_RESOLVE_H

/* The addresses of secrets' hosts: asked of the machine's DNS servers when they are needed, and put to
 * the network's rules, as are those that a guest asks for. */

#include <poll.h>

#include "border/swap.h"
#include "net/policy.h"

#define RESOLVE_ADDRS_MAX 8
#define RESOLVE_FDS_MAX   (2 * SWAP_HOSTS_MAX)

struct resolve_options {
    const struct swap *swap; /* borrowed, as the others */
    struct policy *policy;   /* has a rule for each host's name */
    const struct sockaddr_storage *servers;
    unsigned server_count;
};

struct resolve;

/* NULL without memory. It is there until the process ends. */
struct resolve *resolve_new(const struct resolve_options *options);

enum resolve_state { RESOLVE_ASKING, RESOLVE_KNOWN, RESOLVE_FAILED };

/* The host's addresses that may be connected to at the port, at most RESOLVE_ADDRS_MAX. It is asked for
 * if that is needed. KNOWN with none: what it has is not allowed. */
enum resolve_state resolve_host(struct resolve *resolve, unsigned host, uint16_t port, uint64_t now_ns,
                                struct net_addr addrs[static RESOLVE_ADDRS_MAX], unsigned *count);

/* As the forwarder's. */
unsigned resolve_fill(struct resolve *resolve, struct pollfd *fds, uint64_t *deadline_ns);
void resolve_poll(struct resolve *resolve, const struct pollfd *fds, uint64_t now_ns);

#endif
