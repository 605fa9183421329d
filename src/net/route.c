/* SPDX-License-Identifier: Apache-2.0 */
#include "net/route.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

static const struct isolate_call calls[] = {
    ISOLATE_CALL(sendto),
    ISOLATE_CALL(recvfrom),
};
const struct isolate_calls route_calls = ISOLATE_CALLS(calls);

struct question {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr attr;
    uint8_t addr[16];
};

int route_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd < 0 ? -errno : fd;
}

static ssize_t ask(int fd, const struct net_addr *addr, void *reply, size_t size)
{
    bool v4 = net_addr_is_v4(addr);
    size_t bytes = v4 ? 4 : 16, skip = 16 - bytes;
    struct question q = {
        .header = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST},
        .route = {.rtm_family = v4 ? AF_INET : AF_INET6, .rtm_dst_len = (uint8_t)(bytes * 8)},
        .attr = {.rta_type = RTA_DST, .rta_len = (uint16_t)RTA_LENGTH(bytes)},
    };
    memcpy(q.addr, addr->bytes + skip, bytes);
    q.header.nlmsg_len = (uint32_t)(offsetof(struct question, addr) + bytes);
    if (send(fd, &q, q.header.nlmsg_len, 0) < 0)
        return -1;
    /* The kernel has answered within send. */
    return recv(fd, reply, size, MSG_DONTWAIT);
}

bool route_is_own(int fd, const struct net_addr *addr)
{
    union {
        struct nlmsghdr header;
        uint8_t bytes[2048];
    } reply;
    ssize_t n = ask(fd, addr, &reply, sizeof(reply));
    if (n < (ssize_t)sizeof(struct nlmsghdr))
        return true;
    if (reply.header.nlmsg_type == NLMSG_ERROR) {
        const struct nlmsgerr *error = NLMSG_DATA(&reply.header);
        if (n < (ssize_t)NLMSG_LENGTH(sizeof(*error)))
            return true;
        return error->error != -ENETUNREACH && error->error != -EHOSTUNREACH && error->error != -EACCES;
    }
    const struct rtmsg *route = NLMSG_DATA(&reply.header);
    if (reply.header.nlmsg_type != RTM_NEWROUTE || n < (ssize_t)NLMSG_LENGTH(sizeof(*route)))
        return true;
    return route->rtm_type == RTN_LOCAL || route->rtm_type == RTN_BROADCAST ||
           route->rtm_type == RTN_ANYCAST || route->rtm_type == RTN_MULTICAST;
}
