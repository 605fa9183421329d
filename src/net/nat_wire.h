/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NAT_WIRE_H
#define NET_NAT_WIRE_H

/*
 * Between nat.c and the helper, which are of one build. Three descriptors: the control socket
 * (SOCK_SEQPACKET), the frame socket, and a piece of shared memory. The library writes the set-up into
 * that before the helper starts; afterwards only the helper writes, and the library believes nothing
 * that it reads.
 *
 * A message on the control socket, always from the helper, is a type and a text:
 *   NAT_READY    once, locked up and serving
 *   NAT_FAILED   instead: the text says why; `ready.code` is the errno
 *   NAT_LOG      a line for the log
 */

#include "net/nat.h"

#define NAT_FD_CONTROL 3
#define NAT_FD_FRAMES  4
#define NAT_FD_SHARED  5

enum { NAT_READY = 'R', NAT_FAILED = 'F', NAT_LOG = 'L' };

#define NAT_MESSAGE_BYTES 300

#define NAT_RESOLVERS_MAX 3 /* as resolv.conf(5) */

struct nat_setup {
    uint32_t bytes; /* of struct nat_shared, to see that both ends are of one build */
    int32_t parent;
    struct nat_addresses addresses;
    uint32_t ttl_min_s;
    uint32_t resolver_count, rule_count, publish_count;
    struct sockaddr_storage resolvers[NAT_RESOLVERS_MAX];
    struct net_rule rules[NAT_RULES_MAX];
    struct net_publish publish[NAT_PUBLISH_MAX];
};

struct nat_shared {
    struct nat_setup setup;
    int32_t code; /* with NAT_FAILED */
    uint8_t ipv6; /* with NAT_READY */
    struct nat_report report;
};

#endif
