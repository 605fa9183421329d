/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap interface of the host's, with the kernel's own header in front of each frame, so that checksums
 * and segments are left to whoever needs them in the end, mostly to nobody.
 *
 * Only an interface that exists is attached to: TUNSETIFF would make one of any name that is free, for
 * who has CAP_NET_ADMIN, and a misspelt name would then be a cable to nowhere. (One that goes away
 * between the look and the attaching is made anew, without anything behind it, and goes with us.)
 *
 * Whether an interface has several queues is decided when it is made, and one must be attached to as it
 * is: what it is, the kernel tells by refusing the other way.
 *
 * Limit: a frame that is longer than what receive has room for is cut without a sign. Only an interface
 * whose MTU was raised after it was opened has such.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "net/net.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define TUN_PATH "/dev/net/tun"

/* Of Linux 6.2; Debian 12's headers are older. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tap_net {
    struct net net;
    unsigned in_use; /* queues attached */
};

static struct tap_net *tap_of(struct net *net)
{
    return container_of(net, struct tap_net, net);
}

/* What a frame's reading or writing failed with: 0 for later, 1 for never mind, -errno for the end. */
static int verdict(int error)
{
    switch (error) {
    case EAGAIN:
        return 0;
    case EBADFD: /* the interface was removed */
    case EBADF:
        return -EPIPE;
    default:
        return 1; /* EIO: the interface is down; EINVAL: the kernel does not like the frame */
    }
}

static int tap_receive(struct net *net, unsigned queue, struct net_frame *frames, unsigned max)
{
    unsigned done = 0;
    while (done < max) {
        ssize_t n = readv(net->fds[queue], frames[done].iov, (int)frames[done].count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return done > 0 || verdict(errno) >= 0 ? (int)done : -EPIPE;
        frames[done++].bytes = (size_t)n;
    }
    return (int)done;
}

static int tap_send(struct net *net, unsigned queue, const struct net_frame *frames, unsigned count)
{
    unsigned done = 0;
    while (done < count) {
        ssize_t n = writev(net->fds[queue], frames[done].iov, (int)frames[done].count);
        int v = n < 0 ? verdict(errno) : 1;
        if (n < 0 && errno == EINTR)
            continue;
        if (v <= 0)
            return done > 0 || v == 0 ? (int)done : v;
        done++;
    }
    return (int)done;
}

static unsigned tun_offloads(unsigned offloads)
{
    return (offloads & NET_OFFLOAD_CSUM ? TUN_F_CSUM : 0) |
           (offloads & NET_OFFLOAD_TSO4 ? TUN_F_TSO4 : 0) |
           (offloads & NET_OFFLOAD_TSO6 ? TUN_F_TSO6 : 0) |
           (offloads & NET_OFFLOAD_ECN ? TUN_F_TSO_ECN : 0) |
           (offloads & NET_OFFLOAD_USO ? TUN_F_USO4 | TUN_F_USO6 : 0);
}

/* They are the interface's, by whichever of its queues they are set. */
static void tap_set_offloads(struct net *net, unsigned offloads)
{
    ioctl(net->fds[0], TUNSETOFFLOAD, (unsigned long)tun_offloads(offloads));
}

static void tap_set_queues(struct net *net, unsigned queues)
{
    struct tap_net *t = tap_of(net);
    struct ifreq attach = {.ifr_flags = IFF_ATTACH_QUEUE}, detach = {.ifr_flags = IFF_DETACH_QUEUE};
    while (t->in_use < queues)
        ioctl(net->fds[t->in_use++], TUNSETQUEUE, &attach);
    while (t->in_use > queues)
        ioctl(net->fds[--t->in_use], TUNSETQUEUE, &detach);
}

static void tap_destroy(struct net *net)
{
    struct tap_net *t = tap_of(net);
    for (unsigned i = 0; i < NET_QUEUES_MAX; i++)
        close_fd(&net->fds[i]);
    free(t);
}

static const struct isolate_call calls[] = {
    ISOLATE_CALL_IF(ioctl, 1, UINT32_MAX, TUNSETOFFLOAD),
    ISOLATE_CALL_IF(ioctl, 1, UINT32_MAX, TUNSETQUEUE),
};

static const struct net_ops tap_ops = {
    .name = "tap",
    .receive = tap_receive,
    .send = tap_send,
    .set_offloads = tap_set_offloads,
    .set_queues = tap_set_queues,
    .destroy = tap_destroy,
    .calls = ISOLATE_CALLS(calls),
};

/* -- opening ----------------------------------------------------------------------------------- */

static struct ifreq named(const char *interface, int flags)
{
    struct ifreq ifr = {.ifr_flags = (short)flags};
    memcpy(ifr.ifr_name, interface, strlen(interface) + 1);
    return ifr;
}

/* One queue of the interface, as TUNSETIFF with `flags` gives it. The descriptor or -errno. */
static int attach(const char *interface, int flags)
{
    struct ifreq ifr = named(interface, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
    int header_bytes = sizeof(struct net_header);
    _cleanup_close_ int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0)
        return -errno;
    return steal_fd(&fd);
}

static int explain(const char *interface, int error, struct dayfly_err *err)
{
    switch (error) {
    case EINVAL:
        return err_set(err, EINVAL, "network interface %s is no tap: ip tuntap add dev NAME mode tap",
                       interface);
    case EBUSY:
        return err_set(err, EBUSY, "network interface %s is in use: give each machine one of its own",
                       interface);
    case EPERM:
        return err_set(err, EPERM,
                       "no permission to use network interface %s: ip tuntap add dev NAME mode tap "
                       "user USER",
                       interface);
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return err_set(err, error, TUN_PATH " is missing, and with it tap interfaces: modprobe tun");
    default:
        return err_errno(err, error, "network interface %s", interface);
    }
}

/* The first queue, and whether there can be more. */
static int attach_first(struct tap_net *t, const char *interface, bool *several, struct dayfly_err *err)
{
    int fd = attach(interface, IFF_MULTI_QUEUE);
    *several = fd >= 0;
    if (fd == -EINVAL)
        fd = attach(interface, 0);
    if (fd < 0)
        return explain(interface, -fd, err);
    t->net.fds[0] = fd;
    t->net.queues = t->in_use = 1;
    return 0;
}

/* A host that gives fewer than were asked for is no reason to do without. Each takes its share of the
 * interface's frames as soon as it is attached: so it is detached until it is needed. */
static void attach_more(struct tap_net *t, const char *interface, unsigned queues)
{
    struct ifreq detach = {.ifr_flags = IFF_DETACH_QUEUE};
    while (t->net.queues < MIN(queues, (unsigned)NET_QUEUES_MAX)) {
        int fd = attach(interface, IFF_MULTI_QUEUE);
        if (fd >= 0 && ioctl(fd, TUNSETQUEUE, &detach) < 0)
            close_fd(&fd);
        if (fd < 0)
            return;
        t->net.fds[t->net.queues++] = fd;
    }
}

/* What the kernel can hand out; what it can take is never less. */
static unsigned probe_offloads(int fd)
{
    static const unsigned wanted[] = {
        NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN | NET_OFFLOAD_USO,
        NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN,
        NET_OFFLOAD_CSUM,
    };
    unsigned found = 0;
    for (size_t i = 0; i < ARRAY_SIZE(wanted) && !found; i++)
        if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)tun_offloads(wanted[i])) == 0)
            found = wanted[i];
    ioctl(fd, TUNSETOFFLOAD, 0ul);
    return found;
}

static uint16_t mtu_of(const char *interface)
{
    struct ifreq ifr = named(interface, 0);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFMTU, &ifr) < 0)
        return NET_MTU_DEFAULT;
    return (uint16_t)MIN(MAX(ifr.ifr_mtu, NET_MTU_MIN), NET_MTU_MAX);
}

int net_tap_open(struct net **out, const struct net_tap_options *options, struct dayfly_err *err)
{
    const char *interface = options->interface;
    bool several;
    if (!*interface || strlen(interface) >= IFNAMSIZ || if_nametoindex(interface) == 0)
        return err_set(err, ENODEV,
                       "there is no network interface %.40s: ip tuntap add dev NAME mode tap",
                       interface);
    struct tap_net *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ENOMEM, "network: out of memory");
    t->net.ops = &tap_ops;
    t->net.headers = true;
    for (unsigned i = 0; i < NET_QUEUES_MAX; i++)
        t->net.fds[i] = -1;
    int r = attach_first(t, interface, &several, err);
    if (r < 0) {
        tap_destroy(&t->net);
        return r;
    }
    if (several)
        attach_more(t, interface, options->queues);
    t->net.offloads = probe_offloads(t->net.fds[0]);
    t->net.mtu = options->mtu ? options->mtu : mtu_of(interface);
    *out = &t->net;
    return 0;
}
