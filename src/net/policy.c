/* SPDX-License-Identifier: Apache-2.0 */
/* See policy.h; the order of the questions in `decide` is the rule that doc/network.md states. */
#include "net/policy.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/clock.h"

#define PORT_DNS         53
#define PORT_DHCP_SERVER 67

/* ICMPv6 */
#define ROUTER_SOLICITATION     133
#define NEIGHBOUR_SOLICITATION  135
#define NEIGHBOUR_ADVERTISEMENT 136

struct opened {
    struct net_addr addr;
    uint16_t port; /* 0: all */
    uint64_t until_ns;
};

struct policy {
    struct policy_options options;
    struct flow_table *flows;
    unsigned open_count;
    struct opened open[POLICY_OPEN_MAX];
};

static const char *const reasons[] = {
    [POLICY_FINE] = "allowed",
    [POLICY_NO_RULE] = "no rule allows it",
    [POLICY_HOST] = "the host itself",
    [POLICY_LINK_LOCAL] = "link-local or metadata",
    [POLICY_ADDRESS] = "not a usable address",
    [POLICY_GROUP] = "multicast or broadcast",
    [POLICY_SOURCE] = "not the guest's address",
    [POLICY_KIND] = "a kind that is not carried",
    [POLICY_FULL] = "too many connections",
};
static_assert(ARRAY_SIZE(reasons) == POLICY_REASONS, "a text for each reason");

const char *policy_reason_text(enum policy_reason reason)
{
    return (unsigned)reason < POLICY_REASONS ? reasons[reason] : "?";
}

void nat_addresses_default(struct nat_addresses *out)
{
    static const char *const texts[] = {"10.0.2.0", "10.0.2.15", "10.0.2.2", "10.0.2.3"};
    static const char *const texts6[] = {"fd64:6179:666c:7900::", "fd64:6179:666c:7900::15",
                                         "fd64:6179:666c:7900::2", "fd64:6179:666c:7900::3"};
    *out = (struct nat_addresses){.bits4 = 24, .bits6 = 64, .ipv6 = true, .mtu = 65520};
    struct net_addr *const fields[] = {&out->network4, &out->guest4, &out->gateway4, &out->resolver4};
    struct net_addr *const fields6[] = {&out->network6, &out->guest6, &out->gateway6, &out->resolver6};
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        net_addr_parse(texts[i], fields[i]);
        net_addr_parse(texts6[i], fields6[i]);
    }
    net_addr_parse("10.0.2.4", &out->border4);
}

struct policy *policy_new(const struct policy_options *options)
{
    struct policy *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->options = *options;
    if (!p->options.ttl_min_s)
        p->options.ttl_min_s = POLICY_TTL_MIN_S;
    p->flows = flow_table_new(options->tcp_max, options->other_max);
    if (!p->flows) {
        free(p);
        return NULL;
    }
    return p;
}

void policy_free(struct policy *p)
{
    if (p)
        flow_table_free(p->flows);
    free(p);
}

/* ---- rules ---- */

static bool port_fits(uint16_t wanted, uint16_t port)
{
    return !wanted || wanted == port;
}

static bool rule_fits(const struct net_rule *rule, const struct net_addr *addr, uint16_t port)
{
    if (!port_fits(rule->port, port))
        return false;
    return rule->kind == NET_RULE_ANY ||
           (rule->kind == NET_RULE_NETWORK && net_addr_within(addr, &rule->net, rule->bits));
}

/* By rules for addresses. `port` 0 (ICMP) fits a rule without a port only. */
static bool ruled(const struct policy *p, const struct net_addr *addr, uint16_t port)
{
    for (size_t i = 0; i < p->options.rule_count; i++)
        if (rule_fits(&p->options.rules[i], addr, port))
            return true;
    return p->options.rule_count == 0;
}

/* Named as the very address and port: what no wide rule opens. */
static bool named_exactly(const struct policy *p, const struct net_addr *addr, uint16_t port)
{
    for (size_t i = 0; i < p->options.rule_count; i++) {
        const struct net_rule *rule = &p->options.rules[i];
        if (rule->kind == NET_RULE_NETWORK && rule->bits == 128 && rule->port && rule->port == port &&
            net_addr_equal(&rule->net, addr))
            return true;
    }
    return false;
}

/* A translator may send it back to the host that it came from. */
static bool is_own(const struct policy *p, const struct net_addr *addr)
{
    struct net_addr inner;
    return p->options.is_own(p->options.opaque, addr) ||
           (net_addr_translated(addr, &inner) && p->options.is_own(p->options.opaque, &inner));
}

static bool host_port_named(const struct policy *p, uint16_t port)
{
    for (size_t i = 0; i < p->options.rule_count; i++)
        if (p->options.rules[i].kind == NET_RULE_HOST && p->options.rules[i].port == port)
            return true;
    return false;
}

static bool opened_by_name(const struct policy *p, const struct net_addr *addr, uint16_t port,
                           uint64_t now_ns)
{
    for (unsigned i = 0; i < p->open_count; i++) {
        const struct opened *o = &p->open[i];
        if (now_ns < o->until_ns && port_fits(o->port, port) && net_addr_equal(&o->addr, addr))
            return true;
    }
    return false;
}

/* Where a destination outside leads: POLICY_FINE when a new conversation may begin. */
static enum policy_reason decide(const struct policy *p, const struct net_addr *dst, uint16_t port,
                                 uint64_t now_ns)
{
    switch (net_addr_class(dst)) {
    case NET_CLASS_LOOPBACK:
        return POLICY_HOST;
    case NET_CLASS_RESERVED:
        return POLICY_ADDRESS;
    case NET_CLASS_MULTICAST:
        return POLICY_GROUP;
    case NET_CLASS_LINK_LOCAL:
        /* fe80::/10 would need to know the link. */
        if (dst->bytes[0] != 0xfe && named_exactly(p, dst, port))
            break;
        return POLICY_LINK_LOCAL;
    case NET_CLASS_GLOBAL:
    case NET_CLASS_PRIVATE:
        break;
    }
    if (is_own(p, dst) && !named_exactly(p, dst, port))
        return POLICY_HOST;
    return ruled(p, dst, port) || opened_by_name(p, dst, port, now_ns) ? POLICY_FINE : POLICY_NO_RULE;
}

/* ---- packets ---- */

static bool in_networks(const struct policy *p, const struct net_addr *addr)
{
    const struct nat_addresses *a = &p->options.addresses;
    return net_addr_within(addr, &a->network4, NET_V4_BITS + a->bits4) ||
           (a->ipv6 && net_addr_within(addr, &a->network6, a->bits6));
}

static bool is_ours(const struct policy *p, const struct net_addr *addr)
{
    const struct nat_addresses *a = &p->options.addresses;
    return net_addr_equal(addr, &a->gateway4) || net_addr_equal(addr, &a->resolver4) ||
           (a->border && net_addr_equal(addr, &a->border4)) ||
           (a->ipv6 && (net_addr_equal(addr, &a->gateway6) || net_addr_equal(addr, &a->resolver6)));
}

static bool is_zero(const struct net_addr *addr)
{
    static const uint8_t zero[16];
    return memcmp(addr->bytes + (net_addr_is_v4(addr) ? 12 : 0), zero, net_addr_is_v4(addr) ? 4 : 16) ==
           0;
}

static bool is_dhcp(const struct packet *packet)
{
    return packet->kind == PACKET_UDP && packet_is_v4(packet) && packet->dst_port == PORT_DHCP_SERVER;
}

/* Neighbours and routers of the link, which libslirp plays (RFC 4861: from no further away). */
static bool is_link_talk(const struct packet *packet)
{
    return packet->kind == PACKET_ICMP && !packet_is_v4(packet) && packet->hops == 255 &&
           (packet->icmp_type == ROUTER_SOLICITATION || packet->icmp_type == NEIGHBOUR_SOLICITATION ||
            packet->icmp_type == NEIGHBOUR_ADVERTISEMENT);
}

static bool comes_from_guest(const struct policy *p, const struct packet *packet)
{
    const struct net_addr *src = &packet->src;
    if (is_ours(p, src))
        return false;
    if (in_networks(p, src))
        return true;
    if (is_zero(src)) /* who has no address yet */
        return packet->kind == PACKET_ARP || is_dhcp(packet) || is_link_talk(packet);
    return is_link_talk(packet) && net_addr_class(src) == NET_CLASS_LINK_LOCAL;
}

static bool has_room(const struct policy *p)
{
    return !p->options.has_room || p->options.has_room(p->options.opaque);
}

static enum policy_verdict refuse(enum policy_reason why, enum policy_reason *reason)
{
    *reason = why;
    return why == POLICY_GROUP || why == POLICY_SOURCE || why == POLICY_KIND ? POLICY_DROP
                                                                             : POLICY_REFUSE;
}

/* To the gateway, the resolver or the border. */
static enum policy_verdict check_ours(const struct policy *p, const struct packet *packet,
                                      enum policy_reason *reason)
{
    const struct nat_addresses *a = &p->options.addresses;
    bool gateway =
        net_addr_equal(&packet->dst, &a->gateway4) || net_addr_equal(&packet->dst, &a->gateway6);
    bool resolver =
        net_addr_equal(&packet->dst, &a->resolver4) || net_addr_equal(&packet->dst, &a->resolver6);
    bool answers = gateway || resolver; /* the border does not: libslirp would ask the host's network */
    if (is_link_talk(packet) || (gateway && is_dhcp(packet)))
        return POLICY_PASS;
    if (packet_is_echo(packet) && answers)
        return has_room(p) ? POLICY_PASS : refuse(POLICY_FULL, reason);
    if (packet->kind != PACKET_ICMP && resolver && packet->dst_port == PORT_DNS)
        return POLICY_DNS;
    *reason = packet->kind == PACKET_ICMP ? POLICY_KIND : POLICY_HOST;
    return packet->kind == PACKET_ICMP ? POLICY_DROP : POLICY_REFUSE;
}

static bool gateway_port_is_named(const struct policy *p, const struct packet *packet)
{
    const struct nat_addresses *a = &p->options.addresses;
    return packet->kind != PACKET_ICMP &&
           (net_addr_equal(&packet->dst, &a->gateway4) ||
            (a->ipv6 && net_addr_equal(&packet->dst, &a->gateway6))) &&
           host_port_named(p, packet->dst_port);
}

static bool is_border_port(const struct policy *p, const struct packet *packet)
{
    return p->options.addresses.border && packet->kind == PACKET_TCP &&
           net_addr_equal(&packet->dst, &p->options.addresses.border4) &&
           (packet->dst_port == POLICY_BORDER_HTTP || packet->dst_port == POLICY_BORDER_HTTPS);
}

static bool begins(const struct packet *packet)
{
    return packet->kind != PACKET_TCP ||
           (packet->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) == PACKET_TCP_SYN;
}

/* TCP, UDP or echo to somewhere else. A SYN asks anew; any other packet may belong to a conversation.
 */
static enum policy_verdict check_outside(struct policy *p, const struct packet *packet, uint64_t now_ns,
                                         enum policy_reason *reason)
{
    const struct flow_key key = flow_key_from_guest(packet);
    bool anew = packet->kind == PACKET_TCP && begins(packet);
    if (!anew && flow_known(p->flows, &key, now_ns)) {
        if (packet->kind == PACKET_TCP)
            flow_tcp(p->flows, &key, packet->tcp_flags, true);
        /* libslirp opens a socket for each echo. */
        return packet->kind != PACKET_ICMP || has_room(p) ? POLICY_PASS : refuse(POLICY_FULL, reason);
    }
    enum policy_reason why = POLICY_FINE;
    if (is_ours(p, &packet->dst) && !gateway_port_is_named(p, packet) && !is_border_port(p, packet))
        return check_ours(p, packet, reason);
    if (!is_ours(p, &packet->dst))
        why = in_networks(p, &packet->dst) ? POLICY_ADDRESS
                                           : decide(p, &packet->dst, packet->dst_port, now_ns);
    if (why == POLICY_FINE && begins(packet) && (!has_room(p) || !flow_begin(p->flows, &key, now_ns)))
        why = POLICY_FULL;
    return why == POLICY_FINE ? POLICY_PASS : refuse(why, reason);
}

enum policy_verdict policy_check(struct policy *p, const struct packet *packet, uint64_t now_ns,
                                 enum policy_reason *reason)
{
    *reason = POLICY_FINE;
    if (!packet_is_v4(packet) && !p->options.addresses.ipv6)
        return refuse(POLICY_KIND, reason);
    if (!comes_from_guest(p, packet))
        return refuse(POLICY_SOURCE, reason);
    if (packet->kind == PACKET_ARP)
        return POLICY_PASS;
    static const uint8_t everybody[4] = {255, 255, 255, 255};
    const struct net_addr broadcast = net_addr_v4(everybody);
    if (is_dhcp(packet) && net_addr_equal(&packet->dst, &broadcast))
        return POLICY_PASS;
    if (is_link_talk(packet))
        return POLICY_PASS;
    if (packet->kind == PACKET_ICMP && !packet_is_echo(packet))
        return refuse(POLICY_KIND, reason);
    return check_outside(p, packet, now_ns, reason);
}

/* What the guest answers to a connection from outside must get out, wherever that came from. */
static bool is_published(const struct policy *p, const struct packet *packet)
{
    for (size_t i = 0; i < p->options.publish_count; i++)
        if (p->options.publish[i].guest_port == packet->dst_port &&
            p->options.publish[i].udp == (packet->kind == PACKET_UDP))
            return true;
    return false;
}

/* What libslirp says itself, by DHCP, and it never says anything else so. */
static bool is_from_gateway(const struct policy *p, const struct packet *packet)
{
    return net_addr_equal(&packet->src, &p->options.addresses.gateway4) &&
           packet->src_port == PORT_DHCP_SERVER;
}

/* A socket of UDP takes what anybody sends it; that of a connection has one peer. */
bool policy_deliver(struct policy *p, const struct packet *packet, uint64_t now_ns)
{
    if (packet->kind != PACKET_TCP && packet->kind != PACKET_UDP)
        return true;
    const struct flow_key key = flow_key_to_guest(packet);
    bool known = flow_known(p->flows, &key, now_ns);
    if (known && packet->kind == PACKET_TCP)
        flow_tcp(p->flows, &key, packet->tcp_flags, false);
    else if (!known && begins(packet) && is_published(p, packet))
        known = flow_begin(p->flows, &key, now_ns);
    return known || packet->kind == PACKET_TCP || is_from_gateway(p, packet);
}

/* ---- names ---- */

bool policy_allows_name(const struct policy *p, const char *name)
{
    for (size_t i = 0; i < p->options.rule_count; i++)
        if (net_rule_covers_name(&p->options.rules[i], name))
            return true;
    return p->options.rule_count == 0;
}

/* An entry for the address and port: its own, a new one, or the one that would end first. */
static struct opened *entry_for(struct policy *p, const struct net_addr *addr, uint16_t port)
{
    struct opened *first = &p->open[0];
    for (unsigned i = 0; i < p->open_count; i++) {
        struct opened *o = &p->open[i];
        if (o->port == port && net_addr_equal(&o->addr, addr))
            return o;
        if (o->until_ns < first->until_ns)
            first = o;
    }
    if (p->open_count < POLICY_OPEN_MAX)
        first = &p->open[p->open_count++];
    *first = (struct opened){.addr = *addr, .port = port};
    return first;
}

bool policy_open(struct policy *p, const char *name, const struct net_addr *addr, uint32_t ttl_s,
                 uint64_t now_ns)
{
    uint64_t seconds =
        MIN(MAX((uint64_t)ttl_s + POLICY_TTL_MORE_S, p->options.ttl_min_s), POLICY_TTL_MAX_S);
    if (is_own(p, addr))
        return false;
    bool open = ruled(p, addr, 0);
    if (net_addr_class(addr) != NET_CLASS_GLOBAL)
        return open;
    for (size_t i = 0; i < p->options.rule_count; i++) {
        const struct net_rule *rule = &p->options.rules[i];
        if (rule->kind == NET_RULE_ANY || !net_rule_covers_name(rule, name))
            continue;
        struct opened *o = entry_for(p, addr, rule->port);
        o->until_ns = MAX(o->until_ns, now_ns + seconds * NS_PER_S);
        open = true;
    }
    return open;
}

bool policy_reaches(const struct policy *p, const struct net_addr *addr, uint16_t port, uint64_t now_ns)
{
    struct net_addr inner;
    if (net_addr_class(addr) == NET_CLASS_LOOPBACK && !net_addr_translated(addr, &inner))
        return host_port_named(p, port);
    return decide(p, addr, port, now_ns) == POLICY_FINE;
}

void policy_sweep(struct policy *p, uint64_t now_ns)
{
    flow_sweep(p->flows, now_ns);
    for (unsigned i = 0; i < p->open_count;)
        if (now_ns >= p->open[i].until_ns)
            p->open[i] = p->open[--p->open_count];
        else
            i++;
}

bool policy_remembers(const struct policy *p)
{
    return p->open_count || flow_count(p->flows, true) || flow_count(p->flows, false);
}

unsigned policy_connections(const struct policy *p)
{
    return flow_count(p->flows, true) - flow_closed_count(p->flows);
}
