/* SPDX-License-Identifier: Apache-2.0 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "util/arith.h"

static const uint8_t MAPPED[12] = {[10] = 0xff, [11] = 0xff};

struct net_addr net_addr_v4(const uint8_t bytes[static 4])
{
    struct net_addr addr;
    memcpy(addr.bytes, MAPPED, sizeof(MAPPED));
    memcpy(addr.bytes + 12, bytes, 4);
    return addr;
}

struct net_addr net_addr_v6(const uint8_t bytes[static 16])
{
    struct net_addr addr;
    memcpy(addr.bytes, bytes, 16);
    return addr;
}

bool net_addr_is_v4(const struct net_addr *addr)
{
    return memcmp(addr->bytes, MAPPED, sizeof(MAPPED)) == 0;
}

bool net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool net_addr_within(const struct net_addr *addr, const struct net_addr *net, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(addr->bytes, net->bytes, whole) != 0)
        return false;
    return !rest || (addr->bytes[whole] ^ net->bytes[whole]) >> (8 - rest) == 0;
}

struct range {
    struct net_addr net;
    unsigned bits;
    enum net_class class;
};

#define V4(a, b, c, d)                                                                                 \
    {                                                                                                  \
        {                                                                                              \
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d                                       \
        }                                                                                              \
    }

/* The first that matches counts. */
static const struct range ranges[] = {
    /* Where clouds answer for their own machines, with keys among the answers, beside 169.254.0.0/16:
     * Alibaba's, Azure's, Oracle's old ones; Amazon's, Google's, Oracle's, Alibaba's, Akamai's and
     * Scaleway's of IPv6. */
    {V4(100, 100, 100, 200), 128, NET_CLASS_LINK_LOCAL},
    {V4(168, 63, 129, 16), 128, NET_CLASS_LINK_LOCAL},
    {V4(192, 0, 0, 192), 128, NET_CLASS_LINK_LOCAL},
    {{{0xfd, 0x00, 0x0e, 0xc2}}, 32, NET_CLASS_LINK_LOCAL},
    {{{0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}}, 128, NET_CLASS_LINK_LOCAL},
    {{{0xfd, 0x00, 0x00, 0xc1, [12] = 0xa9, 0xfe, 0xa9, 0xfe}}, 128, NET_CLASS_LINK_LOCAL},
    {{{0xfd, 0x00, 0x01, 0x00, [12] = 0x01, 0x00, 0x02, 0x00}}, 128, NET_CLASS_LINK_LOCAL},
    {{{0xfd, 0x00, 0xa9, 0xfe, 0xa9, 0xfe, [15] = 0x01}}, 128, NET_CLASS_LINK_LOCAL},
    {{{0xfd, 0x00, 0x00, 0x42, [15] = 0x42}}, 128, NET_CLASS_LINK_LOCAL},
    {V4(0, 0, 0, 0), NET_V4_BITS + 8, NET_CLASS_LOOPBACK},
    {V4(127, 0, 0, 0), NET_V4_BITS + 8, NET_CLASS_LOOPBACK},
    {V4(10, 0, 0, 0), NET_V4_BITS + 8, NET_CLASS_PRIVATE},
    {V4(100, 64, 0, 0), NET_V4_BITS + 10, NET_CLASS_PRIVATE},
    {V4(172, 16, 0, 0), NET_V4_BITS + 12, NET_CLASS_PRIVATE},
    {V4(192, 168, 0, 0), NET_V4_BITS + 16, NET_CLASS_PRIVATE},
    {V4(169, 254, 0, 0), NET_V4_BITS + 16, NET_CLASS_LINK_LOCAL},
    {V4(224, 0, 0, 0), NET_V4_BITS + 4, NET_CLASS_MULTICAST},
    {V4(255, 255, 255, 255), NET_V4_BITS + 32, NET_CLASS_MULTICAST},
    {V4(240, 0, 0, 0), NET_V4_BITS + 4, NET_CLASS_RESERVED},
    {V4(0, 0, 0, 0), NET_V4_BITS + 0, NET_CLASS_GLOBAL}, /* the rest of IPv4 */
    {{{[15] = 1}}, 128, NET_CLASS_LOOPBACK},
    {{{0}}, 128, NET_CLASS_LOOPBACK},
    {{{0xff}}, 8, NET_CLASS_MULTICAST},
    {{{0xfe, 0x80}}, 10, NET_CLASS_LINK_LOCAL},
    {{{0xfc}}, 7, NET_CLASS_PRIVATE},
    {{{0xfe, 0xc0}}, 10, NET_CLASS_PRIVATE},
    {{{0x20, 0x02}}, 16, NET_CLASS_RESERVED}, /* 6to4 */
    {{{0x20, 0x01}}, 32, NET_CLASS_RESERVED}, /* Teredo */
    {{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}}, 48, NET_CLASS_RESERVED},
    {{{0x20}}, 3, NET_CLASS_GLOBAL},
};

/* RFC 6052: the translator sends it on to the IPv4 address in its last bytes. */
static const struct net_addr NAT64 = {{0x00, 0x64, 0xff, 0x9b}};

bool net_addr_translated(const struct net_addr *addr, struct net_addr *inner)
{
    if (!net_addr_within(addr, &NAT64, 96))
        return false;
    *inner = net_addr_v4(addr->bytes + 12);
    return true;
}

enum net_class net_addr_class(const struct net_addr *addr)
{
    struct net_addr inner;
    if (net_addr_translated(addr, &inner))
        return net_addr_class(&inner);
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
        if (net_addr_within(addr, &ranges[i].net, ranges[i].bits))
            return ranges[i].class;
    return NET_CLASS_RESERVED;
}

bool net_addr_parse(const char *text, struct net_addr *out)
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1) {
        *out = net_addr_v4(bytes);
        return true;
    }
    if (inet_pton(AF_INET6, text, bytes) != 1)
        return false;
    *out = net_addr_v6(bytes);
    return !net_addr_is_v4(out);
}

void net_addr_text(const struct net_addr *addr, char out[static NET_ADDR_TEXT_BYTES])
{
    if (net_addr_is_v4(addr))
        inet_ntop(AF_INET, addr->bytes + 12, out, NET_ADDR_TEXT_BYTES);
    else
        inet_ntop(AF_INET6, addr->bytes, out, NET_ADDR_TEXT_BYTES);
}

socklen_t net_addr_sockaddr(const struct net_addr *addr, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (net_addr_is_v4(addr)) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, addr->bytes + 12, 4);
        return sizeof(*in);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, addr->bytes, 16);
    return sizeof(*in6);
}
