/* SPDX-License-Identifier: Apache-2.0 */
#include "net/policy.h"

#include <netinet/in.h>
#include <string.h>

#include "util/arith.h"
#include "util/clock.h"
#include "util/testing.h"

#define S NS_PER_S

struct world {
    struct policy *policy;
    struct nat_addresses addresses;
    struct net_rule rules[16];
    struct net_publish publish[2];
    const char *own; /* the host's address */
    bool room;
    uint8_t frame[2048];
    struct packet packet;
    enum policy_reason reason;
};

static struct net_addr addr(const char *text)
{
    struct net_addr out;
    assert_true(net_addr_parse(text, &out));
    return out;
}

static bool is_own(void *opaque, const struct net_addr *a)
{
    const struct world *w = opaque;
    struct net_addr own;
    return w->own && net_addr_parse(w->own, &own) && net_addr_equal(a, &own);
}

static void begin(struct world *w, const char *const *rules, const char *publish)
{
    memset(w, 0, sizeof(*w));
    nat_addresses_default(&w->addresses);
    struct policy_options options = {.rules = w->rules,
                                     .publish = w->publish,
                                     .addresses = w->addresses,
                                     .tcp_max = 8,
                                     .other_max = 8,
                                     .is_own = is_own,
                                     .opaque = w};
    for (; rules && rules[options.rule_count]; options.rule_count++)
        assert_int_equal(net_rule_parse(rules[options.rule_count], &w->rules[options.rule_count], NULL),
                         0);
    if (publish) {
        assert_int_equal(net_publish_parse(publish, &w->publish[0], NULL), 0);
        options.publish_count = 1;
    }
    w->policy = policy_new(&options);
    assert_non_null(w->policy);
    w->own = "192.0.2.1";
}

/* A frame between two ends; the makers of packet.h serve for both directions. */
static void make(struct world *w, const char *from, uint16_t from_port, const char *to,
                 uint16_t to_port, int flags)
{
    struct packet_ends ends = {.guest = addr(to),
                               .ours = addr(from),
                               .guest_port = to_port,
                               .our_port = from_port,
                               .our_mac = {0x52, 0x54, 0, 0, 0, 1},
                               .guest_mac = {0x52, 0x55, 10, 0, 2, 2}};
    struct packet_tcp tcp = {.seq = 1, .ack = 1, .flags = (uint8_t)flags, .window = 1000};
    size_t len = flags >= 0 ? packet_tcp(&ends, &tcp, NULL, 0, w->frame, sizeof(w->frame))
                            : packet_udp(&ends, "text", 4, w->frame, sizeof(w->frame));
    assert_int_equal(packet_parse(w->frame, len, &w->packet), PACKET_FINE);
}

/* An echo request of the guest's by IPv4: a datagram that says to be one. */
static void make_echo(struct world *w, const char *to)
{
    make(w, "10.0.2.15", 8 << 8, to, 1, -1);
    uint8_t *ip = w->frame + 14;
    unsigned sum = (unsigned)(ip[10] << 8 | ip[11]) + IPPROTO_UDP - IPPROTO_ICMP;
    sum = (sum & 0xffff) + (sum >> 16);
    ip[9] = IPPROTO_ICMP;
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
    assert_int_equal(packet_parse(w->frame, w->packet.len, &w->packet), PACKET_FINE);
    assert_true(packet_is_echo(&w->packet));
}

static enum policy_verdict check_at(struct world *w, uint64_t now)
{
    return policy_check(w->policy, &w->packet, now, &w->reason);
}

static const char *guest_for(const char *to)
{
    return strchr(to, ':') ? "fd64:6179:666c:7900::15" : "10.0.2.15";
}

static enum policy_verdict tcp(struct world *w, const char *to, uint16_t port)
{
    make(w, guest_for(to), 40000, to, port, PACKET_TCP_SYN);
    return check_at(w, S);
}

static enum policy_verdict udp(struct world *w, const char *to, uint16_t port)
{
    make(w, guest_for(to), 40000, to, port, -1);
    return check_at(w, S);
}

static void test_without_rules(void **state)
{
    static const struct {
        const char *to;
        enum policy_verdict verdict;
        enum policy_reason reason;
    } rows[] = {
        {"198.51.100.7", POLICY_PASS, POLICY_FINE},
        {"10.1.2.3", POLICY_PASS, POLICY_FINE},
        {"2001:db8::7", POLICY_PASS, POLICY_FINE},
        {"fd00::7", POLICY_PASS, POLICY_FINE},
        {"192.0.2.1", POLICY_REFUSE, POLICY_HOST},
        {"127.0.0.1", POLICY_REFUSE, POLICY_HOST},
        {"127.9.9.9", POLICY_REFUSE, POLICY_HOST},
        {"0.0.0.0", POLICY_REFUSE, POLICY_HOST},
        {"::", POLICY_REFUSE, POLICY_HOST},
        {"::1", POLICY_REFUSE, POLICY_HOST},
        {"10.0.2.2", POLICY_REFUSE, POLICY_HOST},
        {"10.0.2.3", POLICY_REFUSE, POLICY_HOST},
        {"fd64:6179:666c:7900::2", POLICY_REFUSE, POLICY_HOST},
        {"10.0.2.99", POLICY_REFUSE, POLICY_ADDRESS},
        {"10.0.2.255", POLICY_REFUSE, POLICY_ADDRESS},
        {"fd64:6179:666c:7900::99", POLICY_REFUSE, POLICY_ADDRESS},
        {"169.254.169.254", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"100.100.100.200", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"192.0.0.192", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd00:ec2::254", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd00:ec2::23", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd20:ce::254", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd00:c1::a9fe:a9fe", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd00:100::100:200", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd00:a9fe:a9fe::1", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd00:42::42", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"fd00:42::43", POLICY_PASS, POLICY_FINE},
        {"fe80::1", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"64:ff9b::7f00:1", POLICY_REFUSE, POLICY_HOST},
        {"64:ff9b::a9fe:a9fe", POLICY_REFUSE, POLICY_LINK_LOCAL},
        {"64:ff9b::c633:6407", POLICY_PASS, POLICY_FINE},
        {"64:ff9b::c000:201", POLICY_REFUSE, POLICY_HOST}, /* 192.0.2.1 */
        {"2002:7f00:1::", POLICY_REFUSE, POLICY_ADDRESS},
        {"::7f00:1", POLICY_REFUSE, POLICY_ADDRESS},
        {"240.0.0.1", POLICY_REFUSE, POLICY_ADDRESS},
        {"224.0.0.251", POLICY_DROP, POLICY_GROUP},
        {"255.255.255.255", POLICY_DROP, POLICY_GROUP},
        {"ff02::fb", POLICY_DROP, POLICY_GROUP},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct world w;
        begin(&w, NULL, NULL);
        print_message("%s\n", rows[i].to);
        assert_int_equal(tcp(&w, rows[i].to, 80), rows[i].verdict);
        assert_int_equal(w.reason, rows[i].reason);
        assert_int_equal(udp(&w, rows[i].to, 80), rows[i].verdict);
        assert_int_equal(w.reason, rows[i].reason);
        policy_free(w.policy);
    }
}

static void test_rules(void **state)
{
    static const char *const rules[] = {"198.51.100.0/24:443", "203.0.113.9",    "169.254.169.254:80",
                                        "192.0.2.1:22",        "0.0.0.0/0:8443", "host:5432",
                                        "[fd00:ec2::254]:80",  "[fe80::1]:80",   NULL};
    struct world w;
    begin(&w, rules, NULL);
    assert_int_equal(tcp(&w, "198.51.100.7", 443), POLICY_PASS);
    assert_int_equal(tcp(&w, "198.51.100.7", 80), POLICY_REFUSE);
    assert_int_equal(w.reason, POLICY_NO_RULE);
    assert_int_equal(tcp(&w, "203.0.113.9", 1), POLICY_PASS);
    assert_int_equal(udp(&w, "203.0.113.9", 1), POLICY_PASS);
    assert_int_equal(udp(&w, "203.0.113.8", 1), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "2001:db8::7", 443), POLICY_REFUSE);
    /* What only the very address and port opens, and no wide rule. */
    assert_int_equal(tcp(&w, "169.254.169.254", 80), POLICY_PASS);
    assert_int_equal(tcp(&w, "169.254.169.254", 8443), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "fd00:ec2::254", 80), POLICY_PASS);
    assert_int_equal(tcp(&w, "fd00:ec2::254", 8443), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "fe80::1", 80), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "192.0.2.1", 22), POLICY_PASS);
    assert_int_equal(tcp(&w, "192.0.2.1", 8443), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "127.0.0.1", 8443), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "10.0.2.2", 5432), POLICY_PASS);
    assert_int_equal(tcp(&w, "10.0.2.2", 8443), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "10.0.2.3", 5432), POLICY_REFUSE);
    assert_int_equal(tcp(&w, "fd64:6179:666c:7900::2", 5432), POLICY_PASS);
    policy_free(w.policy);
}

static void test_names(void **state)
{
    static const char *const rules[] = {"example.org:443", "*.example.net", "10.0.0.0/8", NULL};
    struct world w;
    begin(&w, rules, NULL);
    assert_true(policy_allows_name(w.policy, "example.org"));
    assert_false(policy_allows_name(w.policy, "www.example.org"));
    assert_false(policy_allows_name(w.policy, "example.net"));
    assert_true(policy_allows_name(w.policy, "a.b.example.net"));
    assert_false(policy_allows_name(w.policy, "xexample.net"));
    assert_false(policy_allows_name(w.policy, ".example.net"));
    assert_false(policy_allows_name(w.policy, ""));

    struct net_addr web = addr("198.51.100.7"), rebound = addr("192.168.1.1"), own = addr("192.0.2.1");
    assert_int_equal(tcp(&w, "198.51.100.7", 443), POLICY_REFUSE);
    assert_true(policy_open(w.policy, "example.org", &web, 300, S));
    assert_int_equal(tcp(&w, "198.51.100.7", 443), POLICY_PASS);
    assert_int_equal(tcp(&w, "198.51.100.7", 80), POLICY_REFUSE);
    /* Neither a private address nor the host's by way of a name, but a private one by its own rule. */
    assert_false(policy_open(w.policy, "a.example.net", &rebound, 300, S));
    assert_int_equal(tcp(&w, "192.168.1.1", 80), POLICY_REFUSE);
    assert_false(policy_open(w.policy, "a.example.net", &own, 300, S));
    assert_int_equal(tcp(&w, "192.0.2.1", 80), POLICY_REFUSE);
    assert_int_equal(w.reason, POLICY_HOST);
    assert_int_equal(tcp(&w, "10.9.9.9", 80), POLICY_PASS);
    /* Nor by a translator that would bring it back. */
    own = addr("64:ff9b::c000:201");
    assert_false(policy_open(w.policy, "a.example.net", &own, 300, S));
    assert_int_equal(tcp(&w, "64:ff9b::c000:201", 80), POLICY_REFUSE);
    policy_free(w.policy);
}

static void test_opened_addresses_expire_but_connections_stay(void **state)
{
    static const char *const rules[] = {"example.org", NULL};
    struct world w;
    struct net_addr web = addr("198.51.100.7");
    begin(&w, rules, NULL);
    policy_open(w.policy, "example.org", &web, 300, 0);
    make(&w, "10.0.2.15", 40000, "198.51.100.7", 443, PACKET_TCP_SYN);
    assert_int_equal(check_at(&w, 309 * S), POLICY_PASS);
    make(&w, "198.51.100.7", 443, "10.0.2.15", 40000, PACKET_TCP_SYN | PACKET_TCP_ACK);
    policy_deliver(w.policy, &w.packet, 309 * S);
    assert_int_equal(policy_connections(w.policy), 1);
    policy_sweep(w.policy, 311 * S);

    make(&w, "10.0.2.15", 40000, "198.51.100.7", 443, PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, 700 * S), POLICY_PASS);
    make(&w, "10.0.2.15", 40001, "198.51.100.7", 443, PACKET_TCP_SYN);
    assert_int_equal(check_at(&w, 700 * S), POLICY_REFUSE);
    make(&w, "10.0.2.15", 40001, "198.51.100.7", 443, PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, 700 * S), POLICY_REFUSE);
    /* A new connection from the same port is a new one. */
    make(&w, "10.0.2.15", 40000, "198.51.100.7", 443, PACKET_TCP_SYN);
    assert_int_equal(check_at(&w, 700 * S), POLICY_REFUSE);
    /* And it ends. */
    make(&w, "198.51.100.7", 443, "10.0.2.15", 40000, PACKET_TCP_RST);
    policy_deliver(w.policy, &w.packet, 700 * S);
    assert_int_equal(policy_connections(w.policy), 0);
    make(&w, "10.0.2.15", 40000, "198.51.100.7", 443, PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, 700 * S), POLICY_REFUSE);

    /* A short time is lengthened to the least one. */
    policy_open(w.policy, "example.org", &web, 0, 1000 * S);
    make(&w, "10.0.2.15", 40002, "198.51.100.7", 443, PACKET_TCP_SYN);
    assert_int_equal(check_at(&w, 1059 * S), POLICY_PASS);
    make(&w, "10.0.2.15", 40003, "198.51.100.7", 443, PACKET_TCP_SYN);
    assert_int_equal(check_at(&w, 1061 * S), POLICY_REFUSE);
    policy_free(w.policy);
}

static void test_connections_are_bounded_and_end(void **state)
{
    struct world w;
    begin(&w, NULL, NULL);
    for (uint16_t i = 0; i < 8; i++) {
        make(&w, "10.0.2.15", (uint16_t)(1000 + i), "198.51.100.7", 80, PACKET_TCP_SYN);
        assert_int_equal(check_at(&w, S), POLICY_PASS);
        make(&w, "10.0.2.15", (uint16_t)(1000 + i), "198.51.100.7", 80, -1);
        assert_int_equal(check_at(&w, S), POLICY_PASS);
    }
    assert_int_equal(tcp(&w, "198.51.100.7", 80), POLICY_REFUSE);
    assert_int_equal(w.reason, POLICY_FULL);
    assert_int_equal(udp(&w, "198.51.100.7", 80), POLICY_REFUSE);
    assert_int_equal(w.reason, POLICY_FULL);
    /* Closed from both sides, then over; the others never came about. */
    make(&w, "10.0.2.15", 1000, "198.51.100.7", 80, PACKET_TCP_FIN | PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, 2 * S), POLICY_PASS);
    make(&w, "198.51.100.7", 80, "10.0.2.15", 1000, PACKET_TCP_FIN | PACKET_TCP_ACK);
    policy_deliver(w.policy, &w.packet, 2 * S);
    assert_int_equal(policy_connections(w.policy), 7);
    make(&w, "10.0.2.15", 1000, "198.51.100.7", 80, PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, 2 * S), POLICY_PASS);
    policy_sweep(w.policy, 63 * S);
    assert_true(policy_remembers(w.policy));
    policy_sweep(w.policy, 300 * S);
    assert_int_equal(policy_connections(w.policy), 0);
    assert_false(policy_remembers(w.policy));
    assert_int_equal(udp(&w, "198.51.100.7", 80), POLICY_PASS);
    policy_free(w.policy);
}

/* One that is closed is remembered for stragglers, and is in nobody's way. */
static void test_closed_connections_make_room(void **state)
{
    struct world w;
    begin(&w, NULL, NULL);
    for (uint16_t i = 0; i < 100; i++) {
        make(&w, "10.0.2.15", (uint16_t)(1000 + i), "198.51.100.7", 80, PACKET_TCP_SYN);
        assert_int_equal(check_at(&w, S), POLICY_PASS);
        make(&w, "198.51.100.7", 80, "10.0.2.15", (uint16_t)(1000 + i),
             PACKET_TCP_FIN | PACKET_TCP_ACK);
        policy_deliver(w.policy, &w.packet, S);
        make(&w, "10.0.2.15", (uint16_t)(1000 + i), "198.51.100.7", 80,
             PACKET_TCP_FIN | PACKET_TCP_ACK);
        assert_int_equal(check_at(&w, S), POLICY_PASS);
        assert_int_equal(policy_connections(w.policy), 0);
    }
    /* Begun anew from the same port it is a new one. */
    make(&w, "10.0.2.15", 1099, "198.51.100.7", 80, PACKET_TCP_SYN);
    assert_int_equal(check_at(&w, S), POLICY_PASS);
    assert_int_equal(policy_connections(w.policy), 1);
    for (uint16_t i = 0; i < 8; i++) {
        make(&w, "10.0.2.15", (uint16_t)(2000 + i), "198.51.100.7", 80, PACKET_TCP_SYN);
        assert_int_equal(check_at(&w, S), i < 7 ? POLICY_PASS : POLICY_REFUSE);
    }
    policy_sweep(w.policy, 300 * S);
    assert_false(policy_remembers(w.policy));
    policy_free(w.policy);
}

static void test_published_ports_may_answer(void **state)
{
    static const char *const rules[] = {"203.0.113.9", NULL};
    struct world w;
    begin(&w, rules, "8080:80");
    make(&w, "10.0.2.15", 80, "192.0.2.77", 5555, PACKET_TCP_SYN | PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, S), POLICY_REFUSE);
    make(&w, "192.0.2.77", 5555, "10.0.2.15", 80, PACKET_TCP_SYN);
    policy_deliver(w.policy, &w.packet, S);
    make(&w, "10.0.2.15", 80, "192.0.2.77", 5555, PACKET_TCP_SYN | PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, S), POLICY_PASS);
    /* Not a connection of the guest's own to there. */
    make(&w, "10.0.2.15", 80, "192.0.2.77", 5555, PACKET_TCP_SYN);
    assert_int_equal(check_at(&w, S), POLICY_REFUSE);
    /* Nor to a port that is not published. */
    make(&w, "192.0.2.77", 5555, "10.0.2.15", 81, PACKET_TCP_SYN);
    policy_deliver(w.policy, &w.packet, S);
    make(&w, "10.0.2.15", 81, "192.0.2.77", 5555, PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, S), POLICY_REFUSE);
    policy_free(w.policy);
}

/* A datagram comes in only from where one went. */
static void test_strangers(void **state)
{
    struct world w;
    begin(&w, NULL, "5300:53/udp");
    assert_int_equal(udp(&w, "198.51.100.7", 123), POLICY_PASS);
    make(&w, "198.51.100.7", 123, "10.0.2.15", 40000, -1);
    assert_true(policy_deliver(w.policy, &w.packet, S));
    make(&w, "198.51.100.7", 124, "10.0.2.15", 40000, -1);
    assert_false(policy_deliver(w.policy, &w.packet, S));
    make(&w, "198.51.100.8", 123, "10.0.2.15", 40000, -1);
    assert_false(policy_deliver(w.policy, &w.packet, S));
    make(&w, "10.0.2.2", 123, "10.0.2.15", 40000, -1);
    assert_false(policy_deliver(w.policy, &w.packet, S));
    /* But to a published port from anywhere, and libslirp's DHCP. */
    make(&w, "198.51.100.8", 123, "10.0.2.15", 53, -1);
    assert_true(policy_deliver(w.policy, &w.packet, S));
    make(&w, "10.0.2.2", 67, "10.0.2.15", 68, -1);
    assert_true(policy_deliver(w.policy, &w.packet, S));
    policy_free(w.policy);
}

static bool has_room(void *opaque)
{
    return ((struct world *)opaque)->room;
}

/* What there is room for is asked of whoever has the sockets, for each echo again. */
static void test_room_is_asked_for(void **state)
{
    struct world w;
    begin(&w, NULL, NULL);
    policy_free(w.policy);
    const struct policy_options options = {.addresses = w.addresses,
                                           .tcp_max = 8,
                                           .other_max = 8,
                                           .is_own = is_own,
                                           .has_room = has_room,
                                           .opaque = &w};
    w.policy = policy_new(&options);
    assert_non_null(w.policy);
    for (int i = 0; i < 2; i++) {
        w.room = i == 0;
        enum policy_verdict verdict = w.room ? POLICY_PASS : POLICY_REFUSE;
        assert_int_equal(tcp(&w, "198.51.100.7", (uint16_t)(80 + i)), verdict);
        assert_int_equal(udp(&w, "198.51.100.7", (uint16_t)(80 + i)), verdict);
        make_echo(&w, "198.51.100.7");
        assert_int_equal(check_at(&w, S), verdict);
        assert_int_equal(w.reason, w.room ? POLICY_FINE : POLICY_FULL);
    }
    /* What is under way goes on. */
    assert_int_equal(udp(&w, "198.51.100.7", 80), POLICY_PASS);
    make(&w, "10.0.2.15", 40000, "198.51.100.7", 80, PACKET_TCP_ACK);
    assert_int_equal(check_at(&w, S), POLICY_PASS);
    policy_free(w.policy);
}

static void test_other_senders(void **state)
{
    static const char *const senders[] = {"10.0.2.2",     "10.0.2.3",  "0.0.0.0",
                                          "198.51.100.1", "127.0.0.1", "10.0.3.1"};
    static const char *const senders6[] = {"::", "fd64:6179:666c:7900::2", "2001:db8::1", "fe80::5"};
    struct world w;
    begin(&w, NULL, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(senders); i++) {
        make(&w, senders[i], 4000, "198.51.100.7", 80, PACKET_TCP_SYN);
        assert_int_equal(check_at(&w, S), POLICY_DROP);
        assert_int_equal(w.reason, POLICY_SOURCE);
    }
    for (size_t i = 0; i < ARRAY_SIZE(senders6); i++) {
        make(&w, senders6[i], 4000, "2001:db8::7", 80, PACKET_TCP_SYN);
        assert_int_equal(check_at(&w, S), POLICY_DROP);
    }
    make(&w, "0.0.0.0", 68, "255.255.255.255", 67, -1);
    assert_int_equal(check_at(&w, S), POLICY_PASS);
    make(&w, "10.0.2.15", 53000, "10.0.2.3", 53, -1);
    assert_int_equal(check_at(&w, S), POLICY_DNS);
    make(&w, "10.0.2.15", 53000, "10.0.2.2", 53, -1);
    assert_int_equal(check_at(&w, S), POLICY_REFUSE);
    policy_free(w.policy);
}

/* Two ports of the border's address, where there is one; and nobody speaks for it. */
static void test_the_border(void **state)
{
    static const char *const rules[] = {"198.51.100.1", NULL};
    static const char border[] = "10.0.2.4";
    struct world w;
    for (int there = 0; there < 2; there++) {
        begin(&w, rules, NULL);
        w.addresses.border = there;
        policy_free(w.policy);
        const struct policy_options options = {.rules = w.rules,
                                               .rule_count = 1,
                                               .addresses = w.addresses,
                                               .tcp_max = 8,
                                               .other_max = 8,
                                               .is_own = is_own,
                                               .opaque = &w};
        w.policy = policy_new(&options);
        static const uint16_t ports[] = {80, 443, 22, 53};
        for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
            make(&w, "10.0.2.15", 40000, border, ports[i], PACKET_TCP_SYN);
            assert_int_equal(check_at(&w, 0), there && i < 2 ? POLICY_PASS : POLICY_REFUSE);
            make(&w, "10.0.2.15", 40000, border, ports[i], -1);
            assert_int_equal(check_at(&w, 0), POLICY_REFUSE);
        }
        make(&w, border, 443, "198.51.100.1", 80, PACKET_TCP_SYN);
        assert_int_equal(check_at(&w, 0), there ? POLICY_DROP : POLICY_PASS);
        policy_free(w.policy);
    }
}

/* What somebody on the host may connect to for the guest. */
static void test_reaching_for_the_guest(void **state)
{
    static const char *const rules[] = {"host:443", "10.1.0.0/16:443", "api.example.org:443", NULL};
    struct world w;
    struct net_addr a = addr("198.51.100.9"), private = addr("10.2.0.1");
    begin(&w, rules, NULL);
    assert_false(policy_reaches(w.policy, &a, 443, 0));
    assert_true(policy_open(w.policy, "api.example.org", &a, 60, 0));
    assert_false(policy_open(w.policy, "api.example.org", &private, 60, 0));
    assert_true(policy_reaches(w.policy, &a, 443, 0));
    assert_false(policy_reaches(w.policy, &a, 80, 0));
    static const struct {
        const char *text;
        uint16_t port;
        bool reached;
    } cases[] = {{"10.1.2.3", 443, true},   {"10.1.2.3", 80, false},
                 {"10.2.0.1", 443, false},  {"127.0.0.1", 443, true},
                 {"127.0.0.1", 80, false},  {"::1", 443, true},
                 {"192.0.2.1", 443, false}, {"169.254.169.254", 443, false},
                 {"0.0.0.1", 80, false},    {"64:ff9b::7f00:1", 443, false}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        a = addr(cases[i].text);
        assert_int_equal(policy_reaches(w.policy, &a, cases[i].port, 0), cases[i].reached);
    }
    policy_free(w.policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_rules),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_opened_addresses_expire_but_connections_stay),
        cmocka_unit_test(test_connections_are_bounded_and_end),
        cmocka_unit_test(test_closed_connections_make_room),
        cmocka_unit_test(test_published_ports_may_answer),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_room_is_asked_for),
        cmocka_unit_test(test_other_senders),
        cmocka_unit_test(test_the_border),
        cmocka_unit_test(test_reaching_for_the_guest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
