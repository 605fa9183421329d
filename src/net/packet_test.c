/* SPDX-License-Identifier: Apache-2.0 */
#include "net/packet.h"

#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

#define IP  14
#define UDP (IP + 20)

static struct net_addr addr(const char *text)
{
    struct net_addr out;
    assert_true(net_addr_parse(text, &out));
    return out;
}

/* A datagram of four bytes of IPv4. */
static size_t make(uint8_t *frame, size_t size)
{
    const struct packet_ends ends = {.guest = addr("198.51.100.7"),
                                     .ours = addr("10.0.2.15"),
                                     .guest_port = 9,
                                     .our_port = 4000,
                                     .our_mac = {2}};
    return packet_udp(&ends, "text", 4, frame, size);
}

static void fix(uint8_t *frame)
{
    uint32_t total = 0;
    frame[IP + 10] = frame[IP + 11] = 0;
    for (size_t i = IP; i < UDP; i += 2)
        total += (uint32_t)(frame[i] << 8 | frame[i + 1]);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    frame[IP + 10] = (uint8_t)(~total >> 8);
    frame[IP + 11] = (uint8_t)~total;
}

static void test_the_only_form(void **state)
{
    /* A byte of the good frame, and what it makes of it. */
    static const struct {
        size_t at;
        uint8_t value;
        enum packet_fault fault;
    } rows[] = {
        {6, 3, PACKET_HEADER},           /* from a group */
        {12, 0x81, PACKET_TYPE},         /* a VLAN's type */
        {IP, 0x65, PACKET_HEADER},       /* version 6 */
        {IP, 0x44, PACKET_HEADER},       /* a header of 16 bytes */
        {IP, 0x46, PACKET_OPTIONS},      /* of 24 */
        {IP, 0x4f, PACKET_LENGTH},       /* of 60 */
        {IP + 3, 19, PACKET_LENGTH},     /* shorter than its header */
        {IP + 3, 33, PACKET_LENGTH},     /* longer than the frame */
        {IP + 2, 0xff, PACKET_LENGTH},   /* much longer */
        {IP + 6, 0x20, PACKET_FRAGMENT}, /* more fragments */
        {IP + 7, 1, PACKET_FRAGMENT},    /* an offset */
        {IP + 6, 0x80, PACKET_HEADER},   /* a bit that must be zero */
        {IP + 8, 0, PACKET_HEADER},      /* no hops left */
        {IP + 9, 132, PACKET_PROTOCOL},  /* SCTP */
        {IP + 9, 6, PACKET_LENGTH},      /* TCP of 12 bytes */
        {UDP + 5, 11, PACKET_LENGTH},    /* shorter than the packet */
        {UDP + 5, 13, PACKET_LENGTH},    /* longer */
        {UDP + 3, 0, PACKET_HEADER},     /* port 0 */
        {UDP + 11, 'x', PACKET_FINE},    /* content */
    };
    uint8_t frame[64];
    struct packet p;
    size_t len = make(frame, sizeof(frame));
    assert_int_equal(len, 46);
    assert_int_equal(packet_parse(frame, len, &p), PACKET_FINE);
    assert_true(packet_checksum_ok(&p));
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        make(frame, sizeof(frame));
        frame[rows[i].at] = rows[i].value;
        fix(frame);
        print_message("byte %zu is %#x\n", rows[i].at, rows[i].value);
        assert_int_equal(packet_parse(frame, len, &p), rows[i].fault);
    }
    assert_false(packet_checksum_ok(&p)); /* the last one's */
    make(frame, sizeof(frame));
    frame[IP + 10] ^= 1;
    assert_int_equal(packet_parse(frame, len, &p), PACKET_CHECKSUM);
}

static void test_every_length(void **state)
{
    static uint8_t frame[PACKET_FRAME_MAX + 1];
    struct packet p;
    size_t whole = make(frame, sizeof(frame));
    for (size_t len = 0; len < whole; len++)
        assert_int_not_equal(packet_parse(frame, len, &p), PACKET_FINE);
    /* Padding is not part of it. */
    assert_int_equal(packet_parse(frame, 60, &p), PACKET_FINE);
    assert_int_equal(p.len, whole);
    assert_int_equal(packet_parse(frame, PACKET_FRAME_MAX, &p), PACKET_FINE);
    assert_int_equal(packet_parse(frame, PACKET_FRAME_MAX + 1, &p), PACKET_GIANT);
}

static void test_ipv6(void **state)
{
    const struct packet_ends ends = {.guest = addr("2001:db8::7"),
                                     .ours = addr("fd00::15"),
                                     .guest_port = 9,
                                     .our_port = 4000,
                                     .our_mac = {2}};
    static const uint8_t headers[][2] = {
        {0, PACKET_OPTIONS},  {43, PACKET_OPTIONS},  {60, PACKET_OPTIONS}, {44, PACKET_FRAGMENT},
        {1, PACKET_PROTOCOL}, {59, PACKET_PROTOCOL}, {17, PACKET_FINE}};
    uint8_t frame[80];
    struct packet p;
    size_t len = packet_udp(&ends, "text", 4, frame, sizeof(frame));
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        frame[IP + 6] = headers[i][0];
        assert_int_equal(packet_parse(frame, len, &p), headers[i][1]);
    }
    assert_true(packet_checksum_ok(&p));
    /* An IPv4 address in disguise is none. */
    memcpy(frame + IP + 24, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
    assert_int_equal(packet_parse(frame, len, &p), PACKET_HEADER);
}

static void test_refusals(void **state)
{
    const struct packet_ends ends = {.guest = addr("198.51.100.7"),
                                     .ours = addr("10.0.2.15"),
                                     .guest_port = 80,
                                     .our_port = 4000,
                                     .our_mac = {2, 0, 0, 0, 0, 9},
                                     .guest_mac = {0x52, 0x55, 10, 0, 2, 2}};
    const struct packet_tcp syn = {.seq = UINT32_MAX, .flags = PACKET_TCP_SYN};
    const struct packet_tcp late = {.seq = 5, .ack = 77, .flags = PACKET_TCP_ACK};
    uint8_t frame[128], reply[PACKET_REFUSAL_MAX];
    struct packet p, r;
    size_t len = packet_tcp(&ends, &syn, NULL, 0, frame, sizeof(frame));
    assert_int_equal(packet_parse(frame, len, &p), PACKET_FINE);
    len = packet_refuse(&p, reply, sizeof(reply));
    assert_int_equal(packet_parse(reply, len, &r), PACKET_FINE);
    assert_true(packet_checksum_ok(&r));
    assert_int_equal(r.tcp_flags, PACKET_TCP_RST | PACKET_TCP_ACK);
    assert_int_equal(r.ack, 0); /* behind the SYN */
    assert_int_equal(r.dst_port, 4000);
    assert_true(net_addr_equal(&r.src, &ends.guest));
    assert_memory_equal(reply, ends.our_mac, 6);

    len = packet_tcp(&ends, &late, "abc", 3, frame, sizeof(frame));
    assert_int_equal(packet_parse(frame, len, &p), PACKET_FINE);
    len = packet_refuse(&p, reply, sizeof(reply));
    assert_int_equal(packet_parse(reply, len, &r), PACKET_FINE);
    assert_int_equal(r.tcp_flags, PACKET_TCP_RST);
    assert_int_equal(r.seq, 77);
    /* A reset gets no reset. */
    assert_int_equal(packet_refuse(&r, frame, sizeof(frame)), 0);

    len = make(frame, sizeof(frame));
    assert_int_equal(packet_parse(frame, len, &p), PACKET_FINE);
    len = packet_refuse(&p, reply, sizeof(reply));
    assert_int_equal(packet_parse(reply, len, &r), PACKET_FINE);
    assert_true(packet_checksum_ok(&r));
    assert_int_equal(r.icmp_type, 3);
    assert_int_equal(reply[r.l4 + 1], 13);
    assert_memory_equal(reply + r.payload, frame + IP, p.len - IP);
    assert_int_equal(packet_refuse(&p, reply, 40), 0); /* no room */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_only_form),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
