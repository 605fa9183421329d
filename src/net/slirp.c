/* SPDX-License-Identifier: Apache-2.0 */
#include "net/slirp.h"

#include <netinet/in.h>
#include <string.h>

static struct in_addr in4(const struct net_addr *addr)
{
    struct in_addr in;
    memcpy(&in, addr->bytes + 12, sizeof(in));
    return in;
}

static struct in6_addr in6(const struct net_addr *addr)
{
    struct in6_addr in;
    memcpy(&in, addr->bytes, sizeof(in));
    return in;
}

Slirp *slirp_of(const struct nat_addresses *a, const SlirpCb *callbacks, void *opaque)
{
    const SlirpConfig config = {
        .version = 4,
        .in_enabled = true,
        .vnetwork = in4(&a->network4),
        .vnetmask = {htonl(UINT32_MAX << (32 - a->bits4))},
        .vhost = in4(&a->gateway4),
        .vdhcp_start = in4(&a->guest4),
        .vnameserver = in4(&a->resolver4),
        .in6_enabled = a->ipv6,
        .vprefix_addr6 = in6(&a->network6),
        .vprefix_len = a->bits6,
        .vhost6 = in6(&a->gateway6),
        .vnameserver6 = in6(&a->resolver6),
        .if_mtu = a->mtu,
        .if_mru = a->mtu,
        .disable_dns = true,
    };
    return slirp_new(&config, callbacks, opaque);
}
