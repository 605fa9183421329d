/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_PACKET_H
#define NET_PACKET_H

/*
 * Ethernet frames: reading one in the only form that the NAT takes, and making those that it sends
 * itself. Pure: no state, no system calls.
 *
 * The form is the simple one that real traffic has: Ethernet II without a VLAN; IPv4 without options
 * and not a fragment (RFC 791), a right header checksum; IPv6 without extension headers (RFC 8200);
 * ARP for IPv4 over Ethernet (RFC 826); lengths that agree with each other. Checksums of TCP, UDP and
 * ICMP are not looked at here (packet_checksum_ok does it for UDP where we are the receiver; libslirp
 * does where it is).
 */

#include <stddef.h>

#include "net/addr.h"

#define PACKET_FRAME_MAX 65550
#define PACKET_MAC_BYTES 6

enum packet_kind { PACKET_ARP, PACKET_TCP, PACKET_UDP, PACKET_ICMP };

/* Why a frame is not taken. */
enum packet_fault {
    PACKET_FINE,
    PACKET_RUNT,     /* ends before its headers do */
    PACKET_GIANT,    /* longer than PACKET_FRAME_MAX */
    PACKET_TYPE,     /* an Ethernet type that is not carried */
    PACKET_HEADER,   /* a header that says what cannot be */
    PACKET_LENGTH,   /* lengths that contradict each other */
    PACKET_CHECKSUM, /* of the IPv4 header */
    PACKET_OPTIONS,  /* IPv4 options, IPv6 extension headers */
    PACKET_FRAGMENT, /* a part of a packet */
    PACKET_PROTOCOL, /* neither TCP, UDP nor ICMP */
    PACKET_FAULTS,
};

enum {
    PACKET_TCP_FIN = 1,
    PACKET_TCP_SYN = 2,
    PACKET_TCP_RST = 4,
    PACKET_TCP_PSH = 8,
    PACKET_TCP_ACK = 16
};

struct packet {
    const uint8_t *frame; /* borrowed */
    size_t len;           /* without padding behind the packet */
    enum packet_kind kind;
    struct net_addr src, dst; /* ARP: sender's and target's */
    uint16_t src_port, dst_port;
    size_t l4, payload; /* offsets in the frame: of the TCP, UDP or ICMP header, and behind it */
    uint8_t hops;
    uint8_t tcp_flags;
    uint16_t tcp_window;
    uint32_t seq, ack;
    uint8_t icmp_type;
    uint16_t icmp_id; /* of an echo */
};

/* Read a frame. It stays where it is, and must not change while `out` is used. */
enum packet_fault packet_parse(const uint8_t *frame, size_t len, struct packet *out);

/* Whether the checksum of a TCP, UDP or ICMP packet is right, or a UDP one over IPv4 was left out. */
bool packet_checksum_ok(const struct packet *packet);

static inline bool packet_is_v4(const struct packet *packet)
{
    return net_addr_is_v4(&packet->dst);
}

static inline bool packet_is_echo(const struct packet *packet)
{
    return packet->kind == PACKET_ICMP && packet->icmp_type == (packet_is_v4(packet) ? 8 : 128);
}

/* ---- frames to the guest ---- */

/* The two ends of what we say to the guest. */
struct packet_ends {
    uint8_t guest_mac[PACKET_MAC_BYTES], our_mac[PACKET_MAC_BYTES];
    struct net_addr guest, ours;
    uint16_t guest_port, our_port;
};

/* The ends of the answer to a packet. */
struct packet_ends packet_ends_of(const struct packet *from_guest);

struct packet_tcp {
    uint32_t seq, ack;
    uint8_t flags;
    uint16_t window;
    uint16_t mss; /* the option, unless 0 */
};

/* Each writes a frame into `out` and returns its length, or 0 when it does not fit or, for
 * packet_refuse, when the packet gets no answer: a TCP reset or an ICMP error. */
size_t packet_udp(const struct packet_ends *ends, const void *payload, size_t payload_len, uint8_t *out,
                  size_t size);
size_t packet_tcp(const struct packet_ends *ends, const struct packet_tcp *tcp, const void *payload,
                  size_t payload_len, uint8_t *out, size_t size);

/* Refuse a packet of the guest's: TCP by a reset, UDP and echo by ICMP's "administratively prohibited".
 */
size_t packet_refuse(const struct packet *packet, uint8_t *out, size_t size);

/* As big as any refusal. */
#define PACKET_REFUSAL_MAX 1400

#endif
