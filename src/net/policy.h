/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_POLICY_H
#define NET_POLICY_H

/*
 * What may leave a machine. Each packet of the guest's is put to policy_check before anything acts on
 * it; doc/network.md states the rule. Pure but for what is asked back: the caller has the clock and the frames.
 */

#include "net/flow.h"
#include "net/rule.h"

/* The addresses of the network that the guest sees; it has the guest and two of ours. */
struct nat_addresses {
    struct net_addr network4, guest4, gateway4, resolver4;
    struct net_addr network6, guest6, gateway6, resolver6;
    struct net_addr border4; /* stands for secrets' hosts, at the two ports below */
    uint8_t bits4, bits6;    /* of the networks, as one writes them: 24, 64 */
    bool ipv6;               /* else there is no IPv6, and the guest should have none */
    bool border;             /* else border4 is nobody's */
    uint16_t mtu;
};

#define POLICY_BORDER_HTTP  80
#define POLICY_BORDER_HTTPS 443

/* 10.0.2.0/24 and fd64:6179:666c:7900::/64, the guest at .15 and ::15, gateway 2, resolver 3, border
 * 10.0.2.4. */
void nat_addresses_default(struct nat_addresses *out);

struct policy_options {
    const struct net_rule *rules; /* borrowed for good */
    size_t rule_count;
    const struct net_publish *publish; /* borrowed for good */
    size_t publish_count;
    struct nat_addresses addresses;
    unsigned tcp_max, other_max;
    uint32_t ttl_min_s; /* 0: POLICY_TTL_MIN_S */
    /* Whether the host's kernel takes the address for its own, or for no single host's. */
    bool (*is_own)(void *opaque, const struct net_addr *addr);
    /* Whether what passes may take more memory and sockets. NULL: always. */
    bool (*has_room)(void *opaque);
    void *opaque;
};

/* An address that a name opened stays open as long as the answer says, and a little, since programs
 * look a name up and connect later: curl keeps an address for a minute whatever its time to live. */
#define POLICY_TTL_MIN_S  60
#define POLICY_TTL_MORE_S 10
#define POLICY_TTL_MAX_S  86400
#define POLICY_OPEN_MAX   1024

enum policy_verdict {
    POLICY_PASS,
    POLICY_DROP,   /* silently: what nobody waits for */
    POLICY_REFUSE, /* packet_refuse says so to the guest */
    POLICY_DNS,    /* for our forwarder */
};

/* Why not, in the words of policy_reason_text. */
enum policy_reason {
    POLICY_FINE,
    POLICY_NO_RULE,    /* no rule allows it */
    POLICY_HOST,       /* the host itself */
    POLICY_LINK_LOCAL, /* link-local, cloud metadata */
    POLICY_ADDRESS,    /* an address that is nobody's */
    POLICY_GROUP,      /* multicast, broadcast */
    POLICY_SOURCE,     /* not from the guest's address */
    POLICY_KIND,       /* ICMP but echo and what IPv6 needs */
    POLICY_FULL,       /* too many conversations */
    POLICY_REASONS,
};

const char *policy_reason_text(enum policy_reason reason);

struct policy;

struct policy *policy_new(const struct policy_options *options);
void policy_free(struct policy *policy);

/* What is to be done with a packet from the guest. */
enum policy_verdict policy_check(struct policy *policy, const struct packet *packet, uint64_t now_ns,
                                 enum policy_reason *reason);

/* A packet is about to go to the guest: a published port is asked for, or a connection ends. False: it
 * must not, since a stranger says it, to a socket that the guest has for somebody else. */
bool policy_deliver(struct policy *policy, const struct packet *packet, uint64_t now_ns);

/* Whether a name (lower case, no dot at the end) may be looked up. */
bool policy_allows_name(const struct policy *policy, const char *name);

/* The name's answer has this address: open it as its rules say. Only a global one is ever opened.
 * Returns whether it is open now, by this or by another rule. */
bool policy_open(struct policy *policy, const char *name, const struct net_addr *addr, uint32_t ttl_s,
                 uint64_t now_ns);

/* Whether somebody on the host may connect to this address in the guest's place, by rules and by what
 * names have opened. Loopback is open where a rule for the host names the port. */
bool policy_reaches(const struct policy *policy, const struct net_addr *addr, uint16_t port,
                    uint64_t now_ns);

/* Forget what is over. Call it about once a second, while there is anything to forget. */
void policy_sweep(struct policy *policy, uint64_t now_ns);
bool policy_remembers(const struct policy *policy);

/* Those that are not closed. */
unsigned policy_connections(const struct policy *policy);

#endif
