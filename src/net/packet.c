/* SPDX-License-Identifier: Apache-2.0 */
/* See packet.h. Every read is at an offset that was checked against the frame's length before. */
#include "net/packet.h"

#include <netinet/in.h>
#include <string.h>

#include "util/arith.h"

#define ETHER_BYTES 14
#define IPV4_BYTES  20
#define IPV6_BYTES  40
#define TCP_BYTES   20
#define UDP_BYTES   8
#define ICMP_BYTES  8
#define ARP_BYTES   28

#define TYPE_IPV4 0x0800
#define TYPE_ARP  0x0806
#define TYPE_IPV6 0x86dd

#define HOPS 64

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

/* ---- checksums (RFC 1071) ---- */

static uint64_t sum(const uint8_t *p, size_t len, uint64_t total)
{
    for (; len >= 2; p += 2, len -= 2)
        total += get16(p);
    return len ? total + (uint64_t)(*p << 8) : total;
}

static uint16_t fold(uint64_t total)
{
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}

/* Of the bytes from the fourth layer on, with the pseudo header. */
static uint16_t checksum(const struct net_addr *src, const struct net_addr *dst, uint8_t protocol,
                         const uint8_t *l4, size_t len)
{
    size_t skip = net_addr_is_v4(src) ? 12 : 0;
    uint64_t total = protocol + (uint64_t)len;
    total = sum(src->bytes + skip, 16 - skip, total);
    total = sum(dst->bytes + skip, 16 - skip, total);
    return fold(sum(l4, len, total));
}

bool packet_checksum_ok(const struct packet *p)
{
    const uint8_t *l4 = p->frame + p->l4;
    size_t len = p->len - p->l4;
    bool v4 = packet_is_v4(p);
    switch (p->kind) {
    case PACKET_TCP:
        return checksum(&p->src, &p->dst, IPPROTO_TCP, l4, len) == 0;
    case PACKET_UDP:
        return (v4 && get16(l4 + 6) == 0) || checksum(&p->src, &p->dst, IPPROTO_UDP, l4, len) == 0;
    case PACKET_ICMP:
        return (v4 ? fold(sum(l4, len, 0)) : checksum(&p->src, &p->dst, IPPROTO_ICMPV6, l4, len)) == 0;
    case PACKET_ARP:
        break;
    }
    return true;
}

/* ---- reading ---- */

static enum packet_fault parse_tcp(struct packet *p, size_t len)
{
    const uint8_t *h = p->frame + p->l4;
    if (len < TCP_BYTES)
        return PACKET_LENGTH;
    size_t header = (size_t)(h[12] >> 4) * 4;
    if (header < TCP_BYTES || header > len)
        return PACKET_LENGTH;
    p->kind = PACKET_TCP;
    p->src_port = get16(h);
    p->dst_port = get16(h + 2);
    p->seq = get32(h + 4);
    p->ack = get32(h + 8);
    p->tcp_flags = h[13];
    p->tcp_window = get16(h + 14);
    p->payload = p->l4 + header;
    return p->src_port && p->dst_port ? PACKET_FINE : PACKET_HEADER;
}

static enum packet_fault parse_udp(struct packet *p, size_t len)
{
    const uint8_t *h = p->frame + p->l4;
    if (len < UDP_BYTES || get16(h + 4) != len)
        return PACKET_LENGTH;
    p->kind = PACKET_UDP;
    p->src_port = get16(h);
    p->dst_port = get16(h + 2);
    p->payload = p->l4 + UDP_BYTES;
    return p->src_port && p->dst_port ? PACKET_FINE : PACKET_HEADER;
}

static enum packet_fault parse_icmp(struct packet *p, size_t len)
{
    const uint8_t *h = p->frame + p->l4;
    if (len < ICMP_BYTES)
        return PACKET_LENGTH;
    p->kind = PACKET_ICMP;
    p->icmp_type = h[0];
    p->icmp_id = get16(h + 4);
    p->payload = p->l4 + ICMP_BYTES;
    return PACKET_FINE;
}

static enum packet_fault parse_l4(struct packet *p, uint8_t protocol, uint8_t icmp)
{
    size_t len = p->len - p->l4;
    if (protocol == IPPROTO_TCP)
        return parse_tcp(p, len);
    if (protocol == IPPROTO_UDP)
        return parse_udp(p, len);
    return protocol == icmp ? parse_icmp(p, len) : PACKET_PROTOCOL;
}

static enum packet_fault parse_ipv4(struct packet *p)
{
    const uint8_t *h = p->frame + ETHER_BYTES;
    size_t room = p->len - ETHER_BYTES;
    if (room < IPV4_BYTES)
        return PACKET_RUNT;
    if (h[0] >> 4 != 4 || (h[0] & 15) < 5)
        return PACKET_HEADER;
    size_t total = get16(h + 2);
    if (total > room || total < (size_t)(h[0] & 15) * 4)
        return PACKET_LENGTH;
    if ((h[0] & 15) > 5)
        return PACKET_OPTIONS;
    if (fold(sum(h, IPV4_BYTES, 0)) != 0)
        return PACKET_CHECKSUM;
    if (get16(h + 6) & 0x3fff) /* more fragments, offset */
        return PACKET_FRAGMENT;
    if (h[8] == 0 || h[6] & 0x80)
        return PACKET_HEADER;
    p->len = ETHER_BYTES + total;
    p->hops = h[8];
    p->src = net_addr_v4(h + 12);
    p->dst = net_addr_v4(h + 16);
    p->l4 = ETHER_BYTES + IPV4_BYTES;
    return parse_l4(p, h[9], IPPROTO_ICMP);
}

static enum packet_fault parse_ipv6(struct packet *p)
{
    const uint8_t *h = p->frame + ETHER_BYTES;
    size_t room = p->len - ETHER_BYTES;
    if (room < IPV6_BYTES)
        return PACKET_RUNT;
    if (h[0] >> 4 != 6 || h[7] == 0)
        return PACKET_HEADER;
    size_t payload = get16(h + 4);
    if (payload > room - IPV6_BYTES)
        return PACKET_LENGTH;
    p->len = ETHER_BYTES + IPV6_BYTES + payload;
    p->hops = h[7];
    p->src = net_addr_v6(h + 8);
    p->dst = net_addr_v6(h + 24);
    if (net_addr_is_v4(&p->src) || net_addr_is_v4(&p->dst))
        return PACKET_HEADER;
    p->l4 = ETHER_BYTES + IPV6_BYTES;
    switch (h[6]) {
    case IPPROTO_FRAGMENT:
        return PACKET_FRAGMENT;
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_DSTOPTS:
    case IPPROTO_AH:
    case IPPROTO_MH:
        return PACKET_OPTIONS;
    default:
        return parse_l4(p, h[6], IPPROTO_ICMPV6);
    }
}

static enum packet_fault parse_arp(struct packet *p)
{
    static const uint8_t wanted[7] = {0, 1, TYPE_IPV4 >> 8, TYPE_IPV4 & 0xff, PACKET_MAC_BYTES, 4, 0};
    const uint8_t *h = p->frame + ETHER_BYTES;
    if (p->len < ETHER_BYTES + ARP_BYTES)
        return PACKET_RUNT;
    if (memcmp(h, wanted, sizeof(wanted)) != 0 || (h[7] != 1 && h[7] != 2) || h[8] & 1)
        return PACKET_HEADER;
    p->len = ETHER_BYTES + ARP_BYTES;
    p->kind = PACKET_ARP;
    p->src = net_addr_v4(h + 14);
    p->dst = net_addr_v4(h + 24);
    return PACKET_FINE;
}

enum packet_fault packet_parse(const uint8_t *frame, size_t len, struct packet *out)
{
    *out = (struct packet){.frame = frame, .len = len};
    if (len < ETHER_BYTES)
        return PACKET_RUNT;
    if (len > PACKET_FRAME_MAX)
        return PACKET_GIANT;
    if (frame[PACKET_MAC_BYTES] & 1) /* a sender is one, not a group */
        return PACKET_HEADER;
    switch (get16(frame + 2 * PACKET_MAC_BYTES)) {
    case TYPE_IPV4:
        return parse_ipv4(out);
    case TYPE_IPV6:
        return parse_ipv6(out);
    case TYPE_ARP:
        return parse_arp(out);
    default:
        return PACKET_TYPE;
    }
}

/* ---- writing ---- */

struct packet_ends packet_ends_of(const struct packet *p)
{
    struct packet_ends ends = {
        .guest = p->src, .ours = p->dst, .guest_port = p->src_port, .our_port = p->dst_port};
    memcpy(ends.our_mac, p->frame, PACKET_MAC_BYTES);
    memcpy(ends.guest_mac, p->frame + PACKET_MAC_BYTES, PACKET_MAC_BYTES);
    /* One of our own for what came to everybody: locally administered, and not libslirp's 52:55:... */
    if (ends.our_mac[0] & 1)
        memcpy(ends.our_mac, "\x52\x56\0\0\0\1", PACKET_MAC_BYTES);
    return ends;
}

/* Both headers in front of `len` bytes from the fourth layer on. Returns where those go, or NULL. */
static uint8_t *put_headers(const struct packet_ends *ends, uint8_t protocol, size_t len, uint8_t *out,
                            size_t size)
{
    bool v4 = net_addr_is_v4(&ends->guest);
    size_t header = ETHER_BYTES + (v4 ? IPV4_BYTES : IPV6_BYTES);
    if (len > UINT16_MAX - IPV4_BYTES || header + len > size || header + len > PACKET_FRAME_MAX)
        return NULL;
    memset(out, 0, header);
    memcpy(out, ends->guest_mac, PACKET_MAC_BYTES);
    memcpy(out + PACKET_MAC_BYTES, ends->our_mac, PACKET_MAC_BYTES);
    put16(out + 12, v4 ? TYPE_IPV4 : TYPE_IPV6);
    uint8_t *h = out + ETHER_BYTES;
    if (v4) {
        h[0] = 0x45;
        put16(h + 2, (uint16_t)(IPV4_BYTES + len));
        h[6] = 0x40; /* don't fragment */
        h[8] = HOPS;
        h[9] = protocol;
        memcpy(h + 12, ends->ours.bytes + 12, 4);
        memcpy(h + 16, ends->guest.bytes + 12, 4);
        put16(h + 10, fold(sum(h, IPV4_BYTES, 0)));
    } else {
        h[0] = 0x60;
        put16(h + 4, (uint16_t)len);
        h[6] = protocol;
        h[7] = HOPS;
        memcpy(h + 8, ends->ours.bytes, 16);
        memcpy(h + 24, ends->guest.bytes, 16);
    }
    return out + header;
}

size_t packet_udp(const struct packet_ends *ends, const void *payload, size_t payload_len, uint8_t *out,
                  size_t size)
{
    size_t len = UDP_BYTES + payload_len;
    uint8_t *h = put_headers(ends, IPPROTO_UDP, len, out, size);
    if (!h)
        return 0;
    put16(h, ends->our_port);
    put16(h + 2, ends->guest_port);
    put16(h + 4, (uint16_t)len);
    put16(h + 6, 0);
    memcpy(h + UDP_BYTES, payload, payload_len);
    uint16_t check = checksum(&ends->ours, &ends->guest, IPPROTO_UDP, h, len);
    put16(h + 6, check ? check : 0xffff); /* zero would be "none" */
    return (size_t)(h - out) + len;
}

size_t packet_tcp(const struct packet_ends *ends, const struct packet_tcp *tcp, const void *payload,
                  size_t payload_len, uint8_t *out, size_t size)
{
    size_t header = TCP_BYTES + (tcp->mss ? 4 : 0), len = header + payload_len;
    uint8_t *h = put_headers(ends, IPPROTO_TCP, len, out, size);
    if (!h)
        return 0;
    memset(h, 0, header);
    put16(h, ends->our_port);
    put16(h + 2, ends->guest_port);
    put32(h + 4, tcp->seq);
    put32(h + 8, tcp->ack);
    h[12] = (uint8_t)(header / 4 << 4);
    h[13] = tcp->flags;
    put16(h + 14, tcp->window);
    if (tcp->mss) {
        h[TCP_BYTES] = 2; /* maximum segment size, 4 bytes */
        h[TCP_BYTES + 1] = 4;
        put16(h + TCP_BYTES + 2, tcp->mss);
    }
    if (payload_len)
        memcpy(h + header, payload, payload_len);
    put16(h + 16, checksum(&ends->ours, &ends->guest, IPPROTO_TCP, h, len));
    return (size_t)(h - out) + len;
}

/* RFC 9293, 3.10.7.1: the answer to a segment for which there is no connection. */
static size_t reset(const struct packet *p, uint8_t *out, size_t size)
{
    if (p->tcp_flags & PACKET_TCP_RST)
        return 0;
    uint32_t length = (uint32_t)(p->len - p->payload) + !!(p->tcp_flags & PACKET_TCP_SYN) +
                      !!(p->tcp_flags & PACKET_TCP_FIN);
    const struct packet_tcp without = {.ack = p->seq + length,
                                       .flags = PACKET_TCP_RST | PACKET_TCP_ACK};
    const struct packet_tcp with = {.seq = p->ack, .flags = PACKET_TCP_RST};
    const struct packet_ends ends = packet_ends_of(p);
    return packet_tcp(&ends, p->tcp_flags & PACKET_TCP_ACK ? &with : &without, NULL, 0, out, size);
}

/* Destination unreachable, communication administratively prohibited (RFC 1812 5.2.7.1, RFC 4443 3.1),
 * with as much of the packet as such an error should have. */
static size_t prohibited(const struct packet *p, uint8_t *out, size_t size)
{
    bool v4 = packet_is_v4(p);
    const struct packet_ends ends = packet_ends_of(p);
    size_t most = v4 ? 576 - IPV4_BYTES - ICMP_BYTES : 1280 - IPV6_BYTES - ICMP_BYTES;
    size_t quoted = MIN(p->len - ETHER_BYTES, most), len = ICMP_BYTES + quoted;
    uint8_t *h = put_headers(&ends, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, len, out, size);
    if (!h)
        return 0;
    memset(h, 0, ICMP_BYTES);
    h[0] = v4 ? 3 : 1;
    h[1] = v4 ? 13 : 1;
    memcpy(h + ICMP_BYTES, p->frame + ETHER_BYTES, quoted);
    put16(h + 2, v4 ? fold(sum(h, len, 0)) : checksum(&ends.ours, &ends.guest, IPPROTO_ICMPV6, h, len));
    return (size_t)(h - out) + len;
}

size_t packet_refuse(const struct packet *p, uint8_t *out, size_t size)
{
    if (p->kind == PACKET_TCP)
        return reset(p, out, size);
    return p->kind == PACKET_UDP || packet_is_echo(p) ? prohibited(p, out, size) : 0;
}
