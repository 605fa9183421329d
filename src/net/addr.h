/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_ADDR_H
#define NET_ADDR_H

/*
 * An internet address of either version, as 16 bytes: IPv4 stands as ::ffff:a.b.c.d. What is parsed
 * from a packet or a text never takes an IPv6 address of that form (packet.c, rule.c), so that the two
 * cannot be mistaken for each other.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct net_addr {
    uint8_t bytes[16];
};

#define NET_ADDR_TEXT_BYTES 46

/* Bits before those of an IPv4 address: 10.0.0.0/8 is 96 + 8 bits long. */
#define NET_V4_BITS 96

/* What an address is by its number alone; what the host makes of it only the host's kernel knows. */
enum net_class {
    NET_CLASS_GLOBAL,
    NET_CLASS_PRIVATE,    /* RFC 1918, shared (RFC 6598), unique local */
    NET_CLASS_LINK_LOCAL, /* and where clouds answer for their machines: 169.254.169.254 and its like */
    NET_CLASS_LOOPBACK,   /* also "this host": 0.0.0.0/8 and ::, to which connecting is connecting to
                             oneself */
    NET_CLASS_MULTICAST,  /* and the broadcast address */
    NET_CLASS_RESERVED,   /* no address to send to, or a tunnel to one that was not looked at */
};

struct net_addr net_addr_v4(const uint8_t bytes[static 4]);
struct net_addr net_addr_v6(const uint8_t bytes[static 16]);
bool net_addr_is_v4(const struct net_addr *addr);
bool net_addr_equal(const struct net_addr *a, const struct net_addr *b);

/* Whether the first `bits` (0 to 128) of the two are the same. */
bool net_addr_within(const struct net_addr *addr, const struct net_addr *net, unsigned bits);

/* Whether it stands for an IPv4 address behind a translator (NAT64's well-known prefix): then that. */
bool net_addr_translated(const struct net_addr *addr, struct net_addr *inner);

enum net_class net_addr_class(const struct net_addr *addr);

/* Dotted or hexadecimal text. False when it is neither, or an IPv4 address in an IPv6 one. */
bool net_addr_parse(const char *text, struct net_addr *out);
void net_addr_text(const struct net_addr *addr, char out[static NET_ADDR_TEXT_BYTES]);

/* As sockaddr_in or sockaddr_in6. Returns its length. */
socklen_t net_addr_sockaddr(const struct net_addr *addr, uint16_t port, struct sockaddr_storage *out);

#endif
