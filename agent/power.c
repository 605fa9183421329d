/* SPDX-License-Identifier: Apache-2.0 */
#include "power.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"

#define FAMILY "acpi_event"
#define BUTTON "button/power"

/* The family's attribute and the head of the structure in it (drivers/acpi/event.c). */
#define ACPI_ATTR_EVENT  1
#define ACPI_CLASS_BYTES 20

/* A netlink attribute of this type in [p, p + len), or NULL. *size: of what it holds. */
static const uint8_t *find(const uint8_t *p, size_t len, unsigned type, size_t *size)
{
    struct nlattr a;
    while (len >= sizeof(a)) {
        memcpy(&a, p, sizeof(a));
        if (a.nla_len < sizeof(a) || a.nla_len > len)
            return NULL;
        if ((a.nla_type & NLA_TYPE_MASK) == type) {
            *size = a.nla_len - sizeof(a);
            return p + sizeof(a);
        }
        size_t step = NLA_ALIGN(a.nla_len);
        if (step > len)
            return NULL;
        p += step;
        len -= step;
    }
    return NULL;
}

/* The multicast group of the family, which has one; 0 when there is none. */
static uint32_t group_of(int fd)
{
    struct {
        struct nlmsghdr n;
        struct genlmsghdr g;
        struct nlattr a;
        char name[sizeof(FAMILY)];
    } ask = {
        .n = {.nlmsg_len = sizeof(ask), .nlmsg_type = GENL_ID_CTRL, .nlmsg_flags = NLM_F_REQUEST},
        .g = {.cmd = CTRL_CMD_GETFAMILY, .version = 1},
        .a = {.nla_len = sizeof(struct nlattr) + sizeof(FAMILY), .nla_type = CTRL_ATTR_FAMILY_NAME},
        .name = FAMILY,
    };
    uint8_t buf[4096];
    size_t head = NLMSG_HDRLEN + GENL_HDRLEN, size;
    uint32_t id = 0;
    if (send(fd, &ask, sizeof(ask), 0) < 0)
        return 0;
    ssize_t n = recv(fd, buf, sizeof(buf), 0);
    if (n < (ssize_t)head || ((struct nlmsghdr *)(void *)buf)->nlmsg_type != GENL_ID_CTRL)
        return 0;
    const uint8_t *p = find(buf + head, (size_t)n - head, CTRL_ATTR_MCAST_GROUPS, &size);
    p = p ? find(p, size, 1, &size) : NULL;
    p = p ? find(p, size, CTRL_ATTR_MCAST_GRP_ID, &size) : NULL;
    if (p && size >= sizeof(id))
        memcpy(&id, p, sizeof(id));
    return id;
}

int power_open(void)
{
    struct sockaddr_nl me = {.nl_family = AF_NETLINK};
    _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    if (fd < 0 || bind(fd, (struct sockaddr *)&me, sizeof(me)) < 0)
        return -errno;
    uint32_t group = group_of(fd);
    if (!group)
        return -ENOENT;
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
        return -errno;
    return steal_fd(&fd);
}

bool power_pressed(int fd)
{
    uint8_t buf[4096];
    size_t head = NLMSG_HDRLEN + GENL_HDRLEN, size;
    bool pressed = false;
    for (;;) {
        ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return pressed;
        if (n < (ssize_t)head)
            continue;
        const uint8_t *p = find(buf + head, (size_t)n - head, ACPI_ATTR_EVENT, &size);
        pressed |= p && size >= ACPI_CLASS_BYTES && memcmp(p, BUTTON, sizeof(BUTTON) - 1) == 0;
    }
}
