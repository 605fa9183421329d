/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_RULE_H
#define NET_RULE_H

/*
 * What a job may reach (--allow) and what reaches it (--publish), as texts and as data.
 *
 *   rule:     NAME | *.NAME | ADDRESS | ADDRESS/BITS | host | *      each with :PORT behind it
 *             an IPv6 address with a port stands in brackets: [2001:db8::/32]:443
 *   publish:  [ADDRESS:]HOST:GUEST[/tcp|/udp]                        an IPv6 address in brackets
 *
 * "*.example.org" is every name below example.org, and not example.org itself. "host" is the host's
 * loopback and needs a port. "*" is what a job without rules may reach.
 */

#include "dayfly/error.h"
#include "net/addr.h"

#define NET_NAME_BYTES 256 /* a name's text with its NUL: at most 253 characters */

enum net_rule_kind { NET_RULE_ANY, NET_RULE_NAME, NET_RULE_BELOW, NET_RULE_NETWORK, NET_RULE_HOST };

struct net_rule {
    enum net_rule_kind kind;
    uint16_t port;             /* 0: every port, and ICMP echo */
    struct net_addr net;       /* NETWORK */
    uint8_t bits;              /* of net_addr_within */
    char name[NET_NAME_BYTES]; /* NAME, BELOW: lower case, no dot at either end */
};

struct net_publish {
    struct net_addr host;
    uint16_t host_port, guest_port;
    bool udp;
};

/* Both return 0, or -EINVAL with a message that quotes the text and says what is wrong with it. */
int net_rule_parse(const char *text, struct net_rule *out, struct dayfly_err *err);
int net_publish_parse(const char *text, struct net_publish *out, struct dayfly_err *err);

/* Whether a NAME, BELOW or ANY rule covers the name (as in struct net_rule). */
bool net_rule_covers_name(const struct net_rule *rule, const char *name);

/* "127.0.0.1:8080", "[::1]:8080" */
#define NET_ENDPOINT_TEXT_BYTES (NET_ADDR_TEXT_BYTES + 8)
void net_endpoint_text(const struct net_addr *addr, uint16_t port,
                       char out[static NET_ENDPOINT_TEXT_BYTES]);

#endif
