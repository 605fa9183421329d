/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libslirp itself answers a guest, by way of our policy: DHCP, ARP, neighbour discovery and echo
 * of the gateway. The input is frames: a byte of kind, a length of two bytes, and as much. Of DHCP it
 * is what stands behind the UDP header; of the others the frame behind its addresses and type. Nothing
 * else is let through: this opens no socket.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/policy.h"
#include "net/slirp.h"
#include "net/testing_frame.h"
#include "util/arith.h"
#include "util/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { DHCP, ARP, IPV6, KINDS };

#define FRAME_MAX 2048
#define UDP_AT    34
#define DHCP_AT   42

static ssize_t check_answer(const void *frame, size_t len, void *opaque)
{
    struct packet packet;
    (void)opaque;
    assert(packet_parse(frame, len, &packet) == PACKET_FINE);
    return (ssize_t)len;
}

static int64_t no_time(void *opaque)
{
    (void)opaque;
    return (int64_t)NS_PER_S;
}

static void say_nothing(const char *message, void *opaque)
{
    (void)message;
    (void)opaque;
}

static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    (void)id;
    (void)cb_opaque;
    return opaque;
}

static void timer_free(void *timer, void *opaque)
{
    (void)timer;
    (void)opaque;
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    (void)timer;
    (void)expire_ms;
    (void)opaque;
}

static void ignore_fd(int fd, void *opaque)
{
    (void)fd;
    (void)opaque;
}

static void ignore(void *opaque)
{
    (void)opaque;
}

static const SlirpCb callbacks = {
    .send_packet = check_answer,
    .guest_error = say_nothing,
    .clock_get_ns = no_time,
    .timer_new_opaque = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = ignore_fd,
    .unregister_poll_fd = ignore_fd,
    .notify = ignore,
};

/* From 0.0.0.0:68 to 255.255.255.255:67, checksums as IPv4 wants them. */
static size_t wrap_dhcp(uint8_t *frame, const uint8_t *message, size_t len)
{
    uint8_t *ip = frame + 14, *udp = frame + UDP_AT;
    frame_put16(frame + 12, 0x0800);
    ip[0] = 0x45;
    frame_put16(ip + 2, DHCP_AT - 14 + len);
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    memset(ip + 16, 0xff, 4);
    frame_put16(udp, 68);
    frame_put16(udp + 2, 67);
    frame_put16(udp + 4, DHCP_AT - UDP_AT + len);
    memcpy(frame + DHCP_AT, message, len);
    frame_fix_ipv4(frame, DHCP_AT);
    return DHCP_AT + len;
}

static size_t wrap(uint8_t *frame, enum kind kind, const uint8_t *data, size_t len)
{
    memset(frame, 0xff, 6);
    memcpy(frame + 6,
           "\x02"
           "dayfl",
           6);
    len = MIN(len, (size_t)(FRAME_MAX - DHCP_AT));
    if (kind == DHCP)
        return wrap_dhcp(frame, data, len);
    frame_put16(frame + 12, kind == ARP ? 0x0806 : 0x86dd);
    memcpy(frame + 14, data, len);
    return 14 + len;
}

/* Answered by libslirp without a socket. */
static bool is_local(const struct nat_addresses *a, const struct packet *packet)
{
    return packet->kind == PACKET_ARP ||
           (packet->kind == PACKET_ICMP &&
            (net_addr_equal(&packet->dst, &a->gateway4) || net_addr_equal(&packet->dst, &a->gateway6) ||
             net_addr_class(&packet->dst) == NET_CLASS_MULTICAST ||
             net_addr_class(&packet->dst) == NET_CLASS_LINK_LOCAL)) ||
           (packet->kind == PACKET_UDP && packet->dst_port == 67);
}

static bool is_own(void *opaque, const struct net_addr *addr)
{
    (void)opaque;
    (void)addr;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct policy_options options = {.tcp_max = 4, .other_max = 4, .is_own = is_own};
    nat_addresses_default(&options.addresses);
    struct policy *policy = policy_new(&options);
    Slirp *slirp = slirp_of(&options.addresses, &callbacks, (void *)(uintptr_t)&callbacks);
    assert(policy && slirp);
    for (size_t at = 0; size - at >= 3;) {
        enum kind kind = data[at] % KINDS;
        size_t len = (size_t)(data[at + 1] << 8 | data[at + 2]);
        at += 3;
        len = MIN(len, size - at);
        uint8_t *frame = calloc(1, FRAME_MAX);
        size_t bytes = wrap(frame, kind, data + at, len);
        frame = realloc(frame, bytes); /* so that a byte too many is seen */
        struct packet packet;
        enum policy_reason reason;
        if (packet_parse(frame, bytes, &packet) == PACKET_FINE &&
            is_local(&options.addresses, &packet) &&
            policy_check(policy, &packet, NS_PER_S, &reason) == POLICY_PASS)
            slirp_input(slirp, frame, (int)packet.len);
        free(frame);
        at += len;
    }
    slirp_cleanup(slirp);
    policy_free(policy);
    return 0;
}
