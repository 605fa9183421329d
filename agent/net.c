/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fail.h"
#include "log.h"
#include "util/cleanup.h"
#include "util/io.h"

/* -- files ------------------------------------------------------------------------------------- */

/* A file of /etc. What an image has there goes: a link would lead somewhere else, and a fifo hold us.
 * What cannot go (of a host that is shown read-only) was put there for us to write to. */
static void write_file(int etc, const char *name, const char *text)
{
    unlinkat(etc, name, 0);
    _cleanup_close_ int fd = openat(etc, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        fd = openat(etc, name, O_WRONLY | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || io_write_full(fd, text, strlen(text)) < 0)
        log_say("/etc/%s: %s", name, strerror(errno));
}

void net_set_names(int etc, const char *host)
{
    char text[512];
    if (sethostname(host, strlen(host)) < 0)
        log_say("host name %s: %s", host, strerror(errno));
    snprintf(text, sizeof(text), "%s\n", host);
    write_file(etc, "hostname", text);
    snprintf(text, sizeof(text),
             "127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\n", host);
    write_file(etc, "hosts", text);
}

static int family_of(const struct proto_address *a)
{
    return a->family == 4 ? AF_INET : AF_INET6;
}

static size_t bytes_of(const struct proto_address *a)
{
    return a->family == 4 ? 4 : 16;
}

static void set_resolver(int etc, const struct proto_setup *setup)
{
    char text[PROTO_TEXT_BYTES + PROTO_SERVERS_MAX * (INET6_ADDRSTRLEN + 16)], ip[INET6_ADDRSTRLEN];
    int len = 0;
    if (setup->server_count == 0 && !setup->search[0])
        return;
    if (setup->search[0])
        len = snprintf(text, sizeof(text), "search %s\n", setup->search);
    for (uint32_t i = 0; i < setup->server_count; i++) {
        const struct proto_address *a = &setup->servers[i];
        inet_ntop(family_of(a), a->bytes, ip, sizeof(ip));
        len += snprintf(text + len, sizeof(text) - (size_t)len, "nameserver %s\n", ip);
    }
    write_file(etc, "resolv.conf", text);
}

/* -- rtnetlink --------------------------------------------------------------------------------- */

struct request {
    struct nlmsghdr header;
    uint8_t payload[256];
};

/* Begin a request with its fixed part, of `bytes`, which is zeroed and returned. */
static void *begin(struct request *r, uint16_t type, uint16_t flags, size_t bytes)
{
    memset(r, 0, sizeof(*r));
    r->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(bytes);
    r->header.nlmsg_type = type;
    r->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    return NLMSG_DATA(&r->header);
}

/* Ours are few and short: they fit. */
static void add(struct request *r, uint16_t type, const void *data, size_t bytes)
{
    struct rtattr *a = (struct rtattr *)((uint8_t *)r + NLMSG_ALIGN(r->header.nlmsg_len));
    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(bytes);
    memcpy(RTA_DATA(a), data, bytes);
    r->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->header.nlmsg_len) + RTA_ALIGN(a->rta_len));
}

/* The kernel answers at once. 0 or -errno. */
static int ask(int fd, const struct request *r)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        uint8_t more[512];
    } answer;
    if (send(fd, r, r->header.nlmsg_len, 0) < 0)
        return -errno;
    ssize_t n = recv(fd, &answer, sizeof(answer), 0);
    if (n < 0)
        return -errno;
    if ((size_t)n < NLMSG_LENGTH(sizeof(answer.error)) || answer.header.nlmsg_type != NLMSG_ERROR)
        return -EPROTO;
    return answer.error.error;
}

static int set_link(int fd, int index, uint32_t mtu)
{
    struct request r;
    struct ifinfomsg *link = begin(&r, RTM_NEWLINK, 0, sizeof(*link));
    link->ifi_index = index;
    link->ifi_flags = link->ifi_change = IFF_UP;
    if (mtu)
        add(&r, IFLA_MTU, &mtu, sizeof(mtu));
    return ask(fd, &r);
}

static int add_address(int fd, int index, const struct proto_address *a)
{
    struct request r;
    struct ifaddrmsg *address = begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*address));
    address->ifa_family = (uint8_t)family_of(a);
    address->ifa_prefixlen = (uint8_t)a->prefix;
    address->ifa_flags = a->family == 6 ? IFA_F_NODAD : 0;
    address->ifa_index = (uint32_t)index;
    add(&r, IFA_LOCAL, a->bytes, bytes_of(a));
    add(&r, IFA_ADDRESS, a->bytes, bytes_of(a));
    return ask(fd, &r);
}

/* Also to a gateway outside of the device's network, as some providers have it. */
static int add_route(int fd, int index, const struct proto_address *gateway)
{
    struct request r;
    struct rtmsg *route = begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*route));
    route->rtm_family = (uint8_t)family_of(gateway);
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_BOOT;
    route->rtm_scope = RT_SCOPE_UNIVERSE;
    route->rtm_type = RTN_UNICAST;
    route->rtm_flags = RTNH_F_ONLINK;
    add(&r, RTA_GATEWAY, gateway->bytes, bytes_of(gateway));
    add(&r, RTA_OIF, &index, sizeof(index));
    return ask(fd, &r);
}

/* -- devices ----------------------------------------------------------------------------------- */

/* The index and name of the device with this address, or 0. */
static unsigned find(int fd, const uint8_t mac[PROTO_MAC_BYTES], char name[IF_NAMESIZE])
{
    unsigned index = 0;
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *one = all; one && one->if_index && !index; one++) {
        struct ifreq ifr = {0};
        snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", one->if_name);
        if (ioctl(fd, SIOCGIFHWADDR, &ifr) == 0 &&
            memcmp(ifr.ifr_hwaddr.sa_data, mac, PROTO_MAC_BYTES) == 0) {
            index = one->if_index;
            snprintf(name, IF_NAMESIZE, "%s", one->if_name);
        }
    }
    if (all)
        if_freenameindex(all);
    return index;
}

static void set_ipv6(const char *device, const char *key)
{
    char path[80];
    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", device, key);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "0", 1);
}

/* Where the host gives IPv6 addresses nobody else does, and its own link-local one is not tried out
 * first either. */
static void prepare_ipv6(const struct proto_net *net, const char *device)
{
    for (uint32_t i = 0; i < net->address_count; i++)
        if (net->addresses[i].family == 6) {
            set_ipv6(device, "accept_ra");
            set_ipv6(device, "accept_dad");
            return;
        }
}

/* What could not be done, for an address or a route of it. */
static int judge(int r, const struct proto_address *a, const char *what, const char *device,
                 struct proto_fail *why)
{
    char ip[INET6_ADDRSTRLEN];
    if (r == 0)
        return 0;
    inet_ntop(family_of(a), a->bytes, ip, sizeof(ip));
    if (a->family == 4)
        return fail(why, -r, "%s %s for %s", what, ip, device);
    log_say("%s %s for %s: %s", what, ip, device, strerror(-r));
    return 0;
}

static int raise_device(int fd, int inet_fd, const struct proto_net *net, struct proto_fail *why)
{
    char device[IF_NAMESIZE];
    const uint8_t *m = net->mac;
    int index = (int)find(inet_fd, m, device);
    if (index == 0)
        return fail(why, ENODEV, "no network device has the address %02x:%02x:%02x:%02x:%02x:%02x",
                    m[0], m[1], m[2], m[3], m[4], m[5]);
    prepare_ipv6(net, device);
    int r = set_link(fd, index, net->mtu);
    if (r < 0)
        return fail(why, -r, "network device %s, MTU %u", device, (unsigned)net->mtu);
    for (uint32_t i = 0; i < net->address_count && r == 0; i++)
        r = judge(add_address(fd, index, &net->addresses[i]), &net->addresses[i], "address", device,
                  why);
    for (uint32_t i = 0; i < net->gateway_count && r == 0; i++)
        r = judge(add_route(fd, index, &net->gateways[i]), &net->gateways[i], "default route by",
                  device, why);
    return r;
}

int net_raise(int etc, const struct proto_setup *setup, struct proto_fail *why)
{
    const int loopback = 1; /* in every namespace */
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    _cleanup_close_ int inet_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int r = fd < 0 ? -errno : set_link(fd, loopback, 0);
    if (r < 0)
        log_say("loopback: %s", strerror(-r));
    for (uint32_t i = 0; i < setup->net_count; i++)
        if ((r = raise_device(fd, inet_fd, &setup->nets[i], why)) < 0)
            return r;
    set_resolver(etc, setup);
    return 0;
}
