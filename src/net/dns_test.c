/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of both directions, and the resolver's TCP against a client that loses segments. */
#include "net/dns.h"

#include <string.h>

#include "net/dns_tcp.h"
#include "util/arith.h"
#include "util/clock.h"
#include "util/testing.h"

#define WWW      "\3www\7example\3org"
#define QUESTION WWW "\0\0\1\0\1"
#define HEADER   "\0\7\1\0\0\1\0\0\0\0\0\0"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static void test_queries(void **state)
{
    struct dns_query q;
    uint8_t out[DNS_QUERY_BYTES];
    assert_int_equal(dns_parse_query(BYTES(HEADER "\3WWW\7eXample\3org\0\0\1\0\1"), &q), DNS_NOERROR);
    assert_string_equal(q.name, "www.example.org");
    assert_int_equal(q.id, 7);
    assert_int_equal(q.type, 1);
    assert_true(q.recursion_desired);
    assert_false(q.edns);
    assert_int_equal(q.udp_bytes, 512);
    size_t len = dns_make_query(&q, 0x1234, out);
    assert_int_equal(len, 12 + sizeof(QUESTION) - 1);
    assert_memory_equal(out, "\x12\x34\1\0\0\1\0\0\0\0\0\0\3WWW", 16);

    /* Options: their size and "dnssec ok" are taken, the rest is not passed on. */
    assert_int_equal(
        dns_parse_query(
            BYTES("\0\7\1\0\0\1\0\0\0\0\0\1" QUESTION "\0\0\x29\x10\0\0\0\x80\0\0\4\0\x0a\0\0"), &q),
        DNS_NOERROR);
    assert_true(q.edns && q.dnssec_ok);
    assert_int_equal(q.udp_bytes, 4096);
    len = dns_make_query(&q, 1, out);
    assert_int_equal(len, 12 + sizeof(QUESTION) - 1 + 11);
    len = dns_make_error(&q, DNS_NXDOMAIN, false, out);
    assert_int_equal(out[2] & 0x80, 0x80);
    assert_int_equal(out[3] & 15, DNS_NXDOMAIN);

    /* A label with a dot or a zero in it looks like no other name. */
    assert_int_equal(dns_parse_query(BYTES(HEADER "\3a.b\3a\0b\3ORG\0\0\1\0\1"), &q), DNS_NOERROR);
    assert_string_equal(q.name, "a?b.a?b.org");
}

static void test_queries_that_are_none(void **state)
{
    struct dns_query q;
    assert_int_equal(dns_parse_query(BYTES(""), &q), -1);
    assert_int_equal(dns_parse_query(BYTES("\0\7\x81\0\0\1\0\0\0\0\0\0" QUESTION), &q), -1);
    assert_int_equal(dns_parse_query(BYTES("\0\7\x28\0\0\1\0\0\0\0\0\0" QUESTION), &q), DNS_NOTIMP);
    assert_int_equal(dns_parse_query(BYTES(HEADER WWW "\0\0\xfc\0\1"), &q), DNS_NOTIMP);
    assert_int_equal(dns_parse_query(BYTES(HEADER WWW "\0\0\1\0\3"), &q), DNS_NOTIMP);
    assert_int_equal(dns_parse_query(BYTES("\0\7\1\0\0\2\0\0\0\0\0\0" QUESTION QUESTION), &q),
                     DNS_FORMERR);
    assert_int_equal(dns_parse_query(BYTES(HEADER QUESTION "x"), &q), DNS_FORMERR);
    assert_int_equal(dns_parse_query(BYTES(HEADER WWW), &q), DNS_FORMERR);
    assert_int_equal(dns_parse_query(BYTES(HEADER "\x40"
                                                  "a\0\0\1\0\1"),
                                     &q),
                     DNS_FORMERR);
    /* A pointer to itself, forward, into the header. */
    assert_int_equal(dns_parse_query(BYTES(HEADER "\xc0\x0c\0\1\0\1"), &q), DNS_FORMERR);
    assert_int_equal(dns_parse_query(BYTES(HEADER "\1a\xc0\x0c\0\1\0\1"), &q), DNS_FORMERR);
    assert_int_equal(dns_parse_query(BYTES(HEADER "\xc0\x0e\0\0\1\0\1"), &q), DNS_FORMERR);
    assert_int_equal(dns_parse_query(BYTES(HEADER "\xc0\x00\0\1\0\1"), &q), DNS_FORMERR);

    /* 255 bytes are a name, 256 are not. */
    uint8_t message[400];
    for (size_t last = 61; last <= 62; last++) {
        size_t at = 12;
        memcpy(message, HEADER, 12);
        for (int i = 0; i < 4; i++) {
            size_t label = i < 3 ? 63 : last;
            message[at++] = (uint8_t)label;
            memset(message + at, 'a', label);
            at += label;
        }
        memcpy(message + at, "\0\0\1\0\1", 5);
        assert_int_equal(dns_parse_query(message, at + 5, &q), last == 61 ? DNS_NOERROR : DNS_FORMERR);
    }
}

/* Pointers that lead to pointers: as many as a name can have labels, and no more. */
static void test_chains_of_pointers(void **state)
{
    struct dns_query q;
    struct dns_answer a;
    uint8_t message[1024];
    assert_int_equal(dns_parse_query(BYTES(HEADER QUESTION), &q), DNS_NOERROR);
    for (size_t pointers = 127; pointers <= 128; pointers++) {
        static const char head[] = "\0\7\x81\x80\0\1\0\2\0\0\0\0" QUESTION "\0\0\x10\0\1\0\0\0\0";
        size_t at = sizeof(head) - 1, target = 12;
        memcpy(message, head, at);
        /* Data of the first record are pointers, each to the one before; the second one's owner is the
         * last. */
        message[at++] = (uint8_t)((pointers - 1) * 2 >> 8);
        message[at++] = (uint8_t)((pointers - 1) * 2);
        for (size_t i = 0; i < pointers; i++) {
            message[at] = (uint8_t)(0xc0 | target >> 8);
            message[at + 1] = (uint8_t)target;
            target = at;
            at += 2;
        }
        memcpy(message + at, "\0\1\0\1\0\0\0\0\0\4\xc6\x33\x64\7", 14);
        assert_int_equal(dns_parse_answer(message, at + 14, &q, 7, &a), pointers == 127);
        assert_int_equal(a.count, pointers == 127);
    }
}

#define ANSWER(flags, count) "\0\7" flags "\0\1\0" count "\0\0\0\0" QUESTION
#define HERE                 "\xc0\x0c"

static void test_answers(void **state)
{
    struct dns_query q;
    struct dns_answer a;
    assert_int_equal(dns_parse_query(BYTES(HEADER QUESTION), &q), DNS_NOERROR);
    static const char two[] = ANSWER("\x81\x80", "\2") HERE "\0\1\0\1\0\0\1\x2c\0\4\xc6\x33\x64\7" HERE
                                                            "\0\1\0\1\xff\0\0\0\0\4\xc6\x33\x64\x8";
    assert_true(dns_parse_answer(BYTES(two), &q, 7, &a));
    assert_int_equal(a.count, 2);
    assert_int_equal(a.addrs[0].ttl_s, 300);
    assert_int_equal(a.addrs[1].ttl_s, 0); /* a negative one */
    assert_false(dns_parse_answer(BYTES(two), &q, 8, &a));
    for (size_t len = 0; len < sizeof(two) - 1; len++)
        assert_false(dns_parse_answer((const uint8_t *)two, len, &q, 7, &a));
    q.type = 28;
    assert_false(dns_parse_answer(BYTES(two), &q, 7, &a));
    q.type = 1;
    q.wire[1] = 'x';
    assert_false(dns_parse_answer(BYTES(two), &q, 7, &a));
    q.wire[1] = 'W';
    assert_true(dns_parse_answer(BYTES(two), &q, 7, &a));

    /* The alias comes behind its address, and another name's address is not ours. */
    assert_true(
        dns_parse_answer(BYTES(ANSWER("\x81\x80", "\3") "\3cdn\xc0\x10\0\1\0\1\0\0\0\1\0\4\1\2\3\4" HERE
                                                        "\0\5\0\1\0\0\0\1\0\6\3cdn\xc0\x10"
                                                        "\3bad\xc0\x10\0\1\0\1\0\0\0\1\0\4\5\6\7\x8"),
                         &q, 7, &a));
    assert_int_equal(a.count, 1);
    assert_int_equal(a.addrs[0].addr.bytes[12], 1);
    /* An alias of itself ends. */
    assert_true(
        dns_parse_answer(BYTES(ANSWER("\x81\x80", "\1") HERE "\0\5\0\1\0\0\0\1\0\2" HERE), &q, 7, &a));
    assert_int_equal(a.count, 0);
    assert_true(dns_parse_answer(BYTES(ANSWER("\x83\x80", "\0")), &q, 7, &a));
    assert_true(a.truncated);
    /* An address of IPv4 in a record of IPv6. */
    q.type = 1;
    assert_true(
        dns_parse_answer(BYTES(ANSWER("\x81\x80", "\1") HERE "\0\x1c\0\1\0\0\0\1\0\x10\0\0\0\0\0\0\0\0"
                                                             "\0\0\xff\xff\x7f\0\0\1"),
                         &q, 7, &a));
    assert_int_equal(a.count, 0);
}

/* ---- TCP ---- */

/* A client: what it was sent, and how it takes it. */
struct client {
    struct dns_tcp *tcp;
    struct packet_ends ends; /* "ours" is the client's */
    uint32_t seq, expected;
    uint16_t window;
    bool connected, ended, reset;
    unsigned lose_every, frames;
    uint32_t connection;
    uint8_t query[64];
    size_t query_len;
    uint8_t got[70000];
    size_t got_len;
    uint64_t now;
};

static void say(struct client *c, uint8_t flags, const void *data, size_t len)
{
    uint8_t frame[2048];
    struct packet p;
    const struct packet_tcp tcp = {.seq = c->seq,
                                   .ack = c->expected,
                                   .flags = flags,
                                   .window = c->window,
                                   .mss = flags & PACKET_TCP_SYN ? 1000 : 0};
    size_t bytes = packet_tcp(&c->ends, &tcp, data, len, frame, sizeof(frame));
    assert_int_equal(packet_parse(frame, bytes, &p), PACKET_FINE);
    c->seq += (uint32_t)len + !!(flags & (PACKET_TCP_SYN | PACKET_TCP_FIN));
    dns_tcp_input(c->tcp, &p, c->now);
}

/* To the client. It notes what comes in order; it answers in `settle`, not from within the call. */
static void take(void *opaque, const uint8_t *frame, size_t len)
{
    struct client *c = opaque;
    struct packet p;
    assert_int_equal(packet_parse(frame, len, &p), PACKET_FINE);
    assert_true(packet_checksum_ok(&p));
    if (p.tcp_flags & PACKET_TCP_RST) {
        c->reset = true;
        return;
    }
    if (c->lose_every && ++c->frames % c->lose_every == 0)
        return;
    size_t data = p.len - p.payload;
    assert_true(data <= 1000);
    if (p.tcp_flags & PACKET_TCP_SYN) {
        c->expected = p.seq + 1;
        c->connected = true;
        return;
    }
    if (p.seq != c->expected)
        return;
    assert_true(c->got_len + data <= sizeof(c->got));
    memcpy(c->got + c->got_len, frame + p.payload, data);
    c->got_len += data;
    c->expected += (uint32_t)data;
    if (p.tcp_flags & PACKET_TCP_FIN) {
        c->expected++;
        c->ended = true;
    }
}

static void take_query(void *opaque, uint32_t connection, const uint8_t *message, size_t len)
{
    struct client *c = opaque;
    assert_true(len <= sizeof(c->query));
    c->connection = connection;
    memcpy(c->query, message, len);
    c->query_len = len;
}

static const struct dns_tcp_ops tcp_ops = {.send = take, .query = take_query};

static void begin(struct client *c)
{
    memset(c, 0, sizeof(*c));
    c->now = NS_PER_S;
    c->window = 5000;
    c->seq = UINT32_MAX - 3; /* wraps */
    c->ends =
        (struct packet_ends){.guest_port = 53, .our_port = 4000, .our_mac = {2}, .guest_mac = {2}};
    assert_true(net_addr_parse("10.0.2.15", &c->ends.ours) &&
                net_addr_parse("10.0.2.3", &c->ends.guest));
    c->tcp = dns_tcp_new(1500, &tcp_ops, c);
    assert_non_null(c->tcp);
    say(c, PACKET_TCP_SYN, NULL, 0);
    assert_true(c->connected);
    say(c, PACKET_TCP_ACK, NULL, 0);
}

/* Acknowledge and let time pass until an answer of `len` bytes is there. */
static void receive(struct client *c, size_t len)
{
    for (int i = 0; i < 2000 && c->got_len < len && !c->reset; i++) {
        uint64_t deadline = UINT64_MAX;
        size_t before = c->got_len;
        say(c, PACKET_TCP_ACK, NULL, 0);
        if (c->got_len == before) {
            c->now += 500 * NS_PER_MS;
            dns_tcp_tick(c->tcp, c->now, &deadline);
        }
    }
}

static void ask_and_answer(struct client *c, size_t len)
{
    static uint8_t answer[65535];
    for (size_t i = 0; i < len; i++)
        answer[i] = (uint8_t)(i * 7 + i / 256);
    say(c, PACKET_TCP_ACK, "\0", 1);
    say(c, PACKET_TCP_ACK, "\5hel", 4);
    say(c, PACKET_TCP_ACK, "lo", 2);
    assert_int_equal(c->query_len, 5);
    assert_memory_equal(c->query, "hello", 5);
    c->query_len = c->got_len = 0;
    dns_tcp_answer(c->tcp, c->connection, answer, len, c->now);
    receive(c, len + 2);
    assert_int_equal(c->got_len, len + 2);
    assert_int_equal(c->got[0] << 8 | c->got[1], (int)len);
    assert_memory_equal(c->got + 2, answer, len);
    say(c, PACKET_TCP_ACK, NULL, 0);
}

static void test_tcp_answers(void **state)
{
    static struct client c;
    begin(&c);
    ask_and_answer(&c, 30);
    ask_and_answer(&c, 65535);
    c.lose_every = 7;
    ask_and_answer(&c, 20000);
    c.lose_every = 0;
    say(&c, PACKET_TCP_ACK | PACKET_TCP_FIN, NULL, 0);
    assert_true(c.ended);
    say(&c, PACKET_TCP_ACK, NULL, 0);
    assert_false(c.reset);
    say(&c, PACKET_TCP_ACK, "x", 1); /* it is gone */
    assert_true(c.reset);
    dns_tcp_free(c.tcp);
}

static void test_tcp_bounds(void **state)
{
    static struct client c;
    uint64_t deadline = UINT64_MAX;
    begin(&c);
    say(&c, PACKET_TCP_ACK, "\xff\xff", 2); /* no question is that long */
    assert_true(c.reset);
    dns_tcp_free(c.tcp);

    begin(&c); /* silence */
    dns_tcp_tick(c.tcp, c.now + 14 * NS_PER_S, &deadline);
    assert_false(c.reset);
    dns_tcp_tick(c.tcp, c.now + 16 * NS_PER_S, &deadline);
    assert_true(c.reset);
    dns_tcp_free(c.tcp);

    begin(&c); /* more connections than there may be */
    for (uint16_t i = 1; i <= DNS_TCP_CONNECTIONS; i++) {
        assert_false(c.reset);
        c.ends.our_port = (uint16_t)(4000 + i);
        say(&c, PACKET_TCP_SYN, NULL, 0);
    }
    assert_true(c.reset);
    /* An answer for nobody. */
    dns_tcp_answer(c.tcp, 12345, (const uint8_t *)"x", 1, c.now);
    dns_tcp_free(c.tcp);

    begin(&c); /* a client that closes its window, and never takes its answer */
    say(&c, PACKET_TCP_ACK, "\0\1x", 3);
    c.window = 0;
    say(&c, PACKET_TCP_ACK, NULL, 0);
    dns_tcp_answer(c.tcp, c.connection, c.got, 60000, c.now);
    assert_int_equal(c.got_len, 0);
    for (int i = 0; i < 40 && !c.reset; i++)
        dns_tcp_tick(c.tcp, c.now += NS_PER_S, &deadline);
    assert_true(c.reset);
    dns_tcp_free(c.tcp);
}

/* What we ask and answer ourselves is well-formed by our own reading. */
static void test_questions_and_addresses_of_ours(void **state)
{
    struct dns_query q, again;
    struct dns_answer answer;
    uint8_t message[DNS_ADDRESS_BYTES];
    static const uint8_t bytes[] = {10, 0, 2, 4};
    const struct net_addr addr = net_addr_v4(bytes);
    assert_true(dns_question("api.example.org", DNS_TYPE_A, &q));
    size_t len = dns_make_query(&q, 7, message);
    assert_int_equal(dns_parse_query(message, len, &again), DNS_NOERROR);
    assert_string_equal(again.name, "api.example.org");
    assert_int_equal(again.type, DNS_TYPE_A);
    len = dns_make_address(&again, &addr, 60, message);
    assert_true(len <= sizeof(message));
    assert_true(dns_parse_answer(message, len, &q, 7, &answer));
    assert_int_equal(answer.count, 1);
    assert_true(net_addr_equal(&answer.addrs[0].addr, &addr));
    assert_int_equal(answer.addrs[0].ttl_s, 60);

    static const char *const wrong[] = {
        "", ".", "a..b", "a.", "0123456789012345678901234567890123456789012345678901234567890123.org"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_false(dns_question(wrong[i], DNS_TYPE_A, &q));
    char long_name[300];
    for (size_t i = 0; i < sizeof(long_name) - 1; i++)
        long_name[i] = i % 10 == 9 ? '.' : 'a';
    long_name[254] = '\0';
    assert_false(dns_question(long_name, DNS_TYPE_A, &q));
    long_name[253] = '\0';
    assert_true(dns_question(long_name, DNS_TYPE_AAAA, &q));
    assert_int_equal(q.wire_bytes, DNS_WIRE_NAME_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_queries_that_are_none),
        cmocka_unit_test(test_chains_of_pointers),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_tcp_answers),
        cmocka_unit_test(test_tcp_bounds),
        cmocka_unit_test(test_questions_and_addresses_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
