/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NAT_WIRE_H
#define NET_NAT_WIRE_H

/* Between nat.c and the helper, which are of one build, beside util/helper.h. */

#include "net/nat.h"
#include "util/helper.h"

#define NAT_FD_FRAMES HELPER_FD_OTHERS
#define NAT_FD_BORDER (HELPER_FD_OTHERS + 1) /* NAT_BORDER_PORTS sockets, where there is a border */

#define NAT_RESOLVERS_MAX 3 /* as resolv.conf(5) */

struct nat_setup {
    struct nat_addresses addresses;
    uint32_t ttl_min_s;
    uint32_t resolver_count, rule_count, publish_count, border_host_count;
    struct sockaddr_storage resolvers[NAT_RESOLVERS_MAX];
    struct net_rule rules[NAT_RULES_MAX];
    struct net_publish publish[NAT_PUBLISH_MAX];
    char border_hosts[NAT_BORDER_HOSTS_MAX][NET_NAME_BYTES];
};

struct nat_shared {
    struct helper_head head;
    struct nat_setup setup;
    uint8_t ipv6;   /* once it is ready, as the next */
    uint32_t lacks; /* stages of being locked up that it went without */
    struct nat_report report;
};

#endif
