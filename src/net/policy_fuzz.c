/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest sends, as the NAT's helper takes it: reading a frame, the policy, refusals, the
 * resolver's TCP port. The input is a byte that chooses the rules, then frames: a byte of flags, a
 * length of two bytes, and as much. A frame may ask for its IPv4 checksum to be made right, for what it
 * acknowledges to be what the resolver has sent (whose numbers nobody guesses), to be one to the guest,
 * or for a name to open where it goes.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/dns_tcp.h"
#include "net/policy.h"
#include "net/testing_frame.h"
#include "util/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    FIX_CHECKSUM = 1,
    TO_GUEST = 2,
    WAIT = 4,
    WAIT_LITTLE = 8,
    FIX_ACK = 16,
    OPEN = 32,
    NO_ROOM = 64,
};

#define TCP_ACK_AT (14 + 20 + 8) /* of IPv4 */

static bool is_own(void *opaque, const struct net_addr *addr)
{
    (void)opaque;
    return addr->bytes[15] == 1;
}

static bool has_room(void *opaque)
{
    return *(const bool *)opaque;
}

struct answer {
    struct dns_tcp *tcp;
    uint64_t now;
    uint32_t sent; /* the next number that the resolver would send */
};

static void send_nowhere(void *opaque, const uint8_t *frame, size_t len)
{
    struct answer *a = opaque;
    struct packet packet;
    assert(packet_parse(frame, len, &packet) == PACKET_FINE);
    assert(packet_checksum_ok(&packet));
    a->sent = packet.seq + (uint32_t)(packet.len - packet.payload) +
              ((packet.tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_FIN)) != 0);
}

static void answer_query(void *opaque, uint32_t connection, const uint8_t *message, size_t len)
{
    struct answer *a = opaque;
    dns_tcp_answer(a->tcp, connection, message, len, a->now);
}

/* Where the policy lets a conversation begin no matter what the rules say, it is wrong. */
static void check_passed(const struct policy_options *options, const struct packet *packet)
{
    const struct nat_addresses *a = &options->addresses;
    if (packet->kind == PACKET_ARP || packet->kind == PACKET_ICMP ||
        net_addr_equal(&packet->dst, &a->gateway4) || net_addr_equal(&packet->dst, &a->gateway6) ||
        packet->dst_port == 67)
        return;
    enum net_class class = net_addr_class(&packet->dst);
    assert(class != NET_CLASS_LOOPBACK && class != NET_CLASS_RESERVED && class != NET_CLASS_MULTICAST);
    assert(class != NET_CLASS_LINK_LOCAL || packet->dst_port == 80);
    /* A caller from there may be answered. */
    bool begins = packet->kind == PACKET_TCP &&
                  (packet->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK)) == PACKET_TCP_SYN;
    assert(!begins || !is_own(NULL, &packet->dst));
}

static void take(const struct policy_options *options, struct policy *policy, struct answer *a,
                 const uint8_t *frame, size_t len, unsigned flags)
{
    static uint8_t reply[PACKET_REFUSAL_MAX];
    struct packet packet, again;
    enum policy_reason reason;
    if (packet_parse(frame, len, &packet) != PACKET_FINE)
        return;
    assert(packet.len <= len && packet.l4 <= packet.len && packet.payload <= packet.len);
    if (flags & OPEN)
        policy_open(policy, "example.org", &packet.dst, packet.hops, a->now);
    if (flags & TO_GUEST) {
        policy_deliver(policy, &packet, a->now);
        return;
    }
    switch (policy_check(policy, &packet, a->now, &reason)) {
    case POLICY_PASS:
        check_passed(options, &packet);
        break;
    case POLICY_REFUSE:
        len = packet_refuse(&packet, reply, sizeof(reply));
        assert(!len || packet_parse(reply, len, &again) == PACKET_FINE);
        assert(!len || packet_checksum_ok(&again));
        break;
    case POLICY_DNS:
        if (packet.kind == PACKET_TCP)
            dns_tcp_input(a->tcp, &packet, a->now);
        break;
    case POLICY_DROP:
        break;
    }
}

static void fix_ack(uint8_t *frame, size_t len, uint32_t ack)
{
    for (size_t i = 0; i < 4 && len >= TCP_ACK_AT + 4; i++)
        frame[TCP_ACK_AT + i] = (uint8_t)(ack >> (24 - 8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {"169.254.169.254:80", "198.51.100.0/24", "example.org:443",
                                        "host:22"};
    struct net_rule rules[4];
    const struct net_publish publish = {.guest_port = 80};
    static const struct dns_tcp_ops ops = {.send = send_nowhere, .query = answer_query};
    bool room = true;
    if (size < 1)
        return 0;
    struct policy_options options = {.rules = rules,
                                     .rule_count = data[0] & 1 ? 4 : 0,
                                     .publish = &publish,
                                     .publish_count = 1,
                                     .tcp_max = 4,
                                     .other_max = 4,
                                     .is_own = is_own,
                                     .has_room = has_room,
                                     .opaque = &room};
    nat_addresses_default(&options.addresses);
    options.addresses.ipv6 = !(data[0] & 2);
    for (size_t i = 0; i < 4; i++)
        net_rule_parse(texts[i], &rules[i], NULL);
    struct policy *policy = policy_new(&options);
    struct answer a = {.now = NS_PER_S};
    a.tcp = dns_tcp_new(1500, &ops, &a);
    for (size_t at = 1; policy && a.tcp && size - at >= 3;) {
        unsigned flags = data[at];
        size_t len = (size_t)(data[at + 1] << 8 | data[at + 2]);
        at += 3;
        len = len < size - at ? len : size - at;
        uint8_t *frame = malloc(len ? len : 1); /* so that a byte too many is seen */
        memcpy(frame, data + at, len);
        if (flags & FIX_CHECKSUM)
            frame_fix_ipv4(frame, len);
        if (flags & FIX_ACK)
            fix_ack(frame, len, a.sent);
        room = !(flags & NO_ROOM);
        take(&options, policy, &a, frame, len, flags);
        free(frame);
        if (flags & (WAIT | WAIT_LITTLE)) {
            uint64_t deadline = UINT64_MAX;
            a.now += flags & WAIT ? 20 * NS_PER_S : 250 * NS_PER_MS;
            policy_sweep(policy, a.now);
            dns_tcp_tick(a.tcp, a.now, &deadline);
        }
        at += len;
    }
    policy_free(policy);
    dns_tcp_free(a.tcp);
    return 0;
}
