/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back ends, without a device. Those of a socket are tried on pairs; a tap interface is made in a
 * network namespace of the test's own, which takes root.
 */
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

/* -- sockets ----------------------------------------------------------------------------------- */

struct pair {
    struct net *net;
    int peer;
};

static struct pair open_pair(int type)
{
    struct pair p;
    struct dayfly_err err;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    p.peer = fds[0];
    assert_int_equal(net_socket_open(&p.net, &(struct net_socket_options){.fd = fds[1]}, &err), 0);
    assert_int_equal(p.net->queues, 1);
    assert_int_equal(p.net->mtu, NET_MTU_DEFAULT);
    assert_false(p.net->headers);
    return p;
}

static void close_pair(struct pair *p)
{
    close_fd(&p->peer);
    net_destroy(p->net);
}

static void frames_are_messages(void **state)
{
    const int types[] = {SOCK_SEQPACKET, SOCK_DGRAM};
    for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
        struct pair p = open_pair(types[t]);
        uint8_t out[3][40], in[4][100];
        struct iovec cut[3][2], room[4];
        struct net_frame frames[4];
        for (int i = 0; i < 3; i++) {
            memset(out[i], i + 1, sizeof(out[i]));
            cut[i][0] = (struct iovec){out[i], 10};
            cut[i][1] = (struct iovec){out[i] + 10, (size_t)(10 + 10 * i)};
            frames[i] = (struct net_frame){cut[i], 2, (size_t)(20 + 10 * i)};
        }
        assert_int_equal(p.net->ops->send(p.net, 0, frames, 3), 3);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(recv(p.peer, in[0], sizeof(in[0]), 0), 20 + 10 * i);
            assert_memory_equal(in[0], out[i], (size_t)(20 + 10 * i));
        }
        for (int i = 0; i < 4; i++) {
            room[i] = (struct iovec){in[i], i == 2 ? 15 : sizeof(in[i])};
            frames[i] = (struct net_frame){&room[i], 1, room[i].iov_len};
        }
        assert_int_equal(p.net->ops->receive(p.net, 0, frames, 4), 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(send(p.peer, out[i], 20, 0), 20);
        assert_int_equal(p.net->ops->receive(p.net, 0, frames, 4), 3);
        assert_int_equal(frames[0].bytes, 20);
        assert_memory_equal(in[1], out[1], 20);
        /* Cut, and its length says so. */
        assert_int_equal(frames[2].bytes, 20);
        close_pair(&p);
    }
}

static void a_full_socket_takes_some(void **state)
{
    struct pair p = open_pair(SOCK_SEQPACKET);
    static uint8_t bytes[1000];
    struct iovec iov = {bytes, sizeof(bytes)};
    struct net_frame frames[100];
    for (size_t i = 0; i < ARRAY_SIZE(frames); i++)
        frames[i] = (struct net_frame){&iov, 1, sizeof(bytes)};
    unsigned sent = 0;
    int n;
    while ((n = p.net->ops->send(p.net, 0, frames, ARRAY_SIZE(frames))) > 0)
        sent += (unsigned)n;
    assert_int_equal(n, 0);
    for (unsigned i = 0; i < sent; i++)
        assert_int_equal(recv(p.peer, bytes, sizeof(bytes), MSG_DONTWAIT), sizeof(bytes));
    assert_int_equal(recv(p.peer, bytes, sizeof(bytes), MSG_DONTWAIT), -1);
    struct pollfd writable = {.fd = p.net->fds[0], .events = POLLOUT};
    assert_int_equal(poll(&writable, 1, 20000), 1);
    assert_true(p.net->ops->send(p.net, 0, frames, 1) == 1);
    close_pair(&p);
}

static void the_end_of_a_connection(void **state)
{
    uint8_t bytes[20] = {0}, in[100];
    struct iovec iov = {bytes, sizeof(bytes)}, room = {in, sizeof(in)};
    struct net_frame out = {&iov, 1, sizeof(bytes)}, frames[2];
    struct pair p = open_pair(SOCK_SEQPACKET);
    /* What was sent before the end comes first. */
    assert_int_equal(send(p.peer, bytes, sizeof(bytes), 0), sizeof(bytes));
    close_fd(&p.peer);
    for (int i = 0; i < 2; i++)
        frames[i] = (struct net_frame){&room, 1, sizeof(in)};
    assert_int_equal(p.net->ops->receive(p.net, 0, frames, 2), 1);
    assert_true(p.net->ops->receive(p.net, 0, frames, 2) < 0);
    assert_true(p.net->ops->send(p.net, 0, &out, 1) < 0);
    close_pair(&p);
    /* Datagrams have no end, only nobody to take them. */
    p = open_pair(SOCK_DGRAM);
    close_fd(&p.peer);
    assert_int_equal(p.net->ops->send(p.net, 0, &out, 1), 1);
    assert_int_equal(p.net->ops->receive(p.net, 0, frames, 2), 0);
    close_pair(&p);
}

static void other_descriptors_are_refused(void **state)
{
    const int types[] = {SOCK_STREAM, -1, -2};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        struct dayfly_err err = {0};
        struct net *net;
        int fd = types[i] >= 0    ? socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0)
                 : types[i] == -1 ? open("/dev/null", O_RDWR | O_CLOEXEC)
                                  : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_true(net_socket_open(&net, &(struct net_socket_options){.fd = fd}, &err) < 0);
        assert_non_null(strstr(err.msg, "SOCK_SEQPACKET"));
        assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken */
    }
    net_destroy(NULL);
}

/* -- tap interfaces ---------------------------------------------------------------------------- */

/* Make a tap interface that stays, up. 0 or -errno. */
static int make_tap(const char *name, int flags)
{
    struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags)};
    strcpy(ifr.ifr_name, name);
    _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    _cleanup_close_ int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
        return -errno;
    ifr.ifr_flags = IFF_UP;
    return ioctl(control, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

/* Go to a fresh network namespace, which goes with this process or the next call. */
static void enter_namespace(void)
{
    if (unshare(CLONE_NEWNET) < 0 || make_tap("single", 0) < 0 ||
        make_tap("several", IFF_MULTI_QUEUE) < 0)
        skip();
}

static int open_tap(struct net **net, const char *name, unsigned queues, struct dayfly_err *err)
{
    return net_tap_open(net, &(struct net_tap_options){.interface = name, .queues = queues}, err);
}

static void taps_are_attached_to_as_they_are(void **state)
{
    struct dayfly_err err = {0};
    struct net *one, *several, *other;
    enter_namespace();
    assert_int_equal(open_tap(&one, "single", 4, &err), 0);
    assert_int_equal(one->queues, 1);
    assert_true(one->headers);
    assert_int_equal(one->mtu, 1500);
    assert_int_equal(one->offloads & (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4),
                     NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
    assert_int_equal(open_tap(&several, "several", 3, &err), 0);
    assert_int_equal(several->queues, 3);
    several->ops->set_queues(several, 3);
    several->ops->set_queues(several, 1);
    several->ops->set_offloads(several, several->offloads);

    assert_true(open_tap(&other, "single", 1, &err) < 0);
    assert_non_null(strstr(err.msg, "in use"));
    assert_true(open_tap(&other, "lo", 1, &err) < 0);
    assert_non_null(strstr(err.msg, "is no tap"));
    assert_int_equal(open_tap(&other, "nosuch", 1, &err), -ENODEV);
    assert_int_equal(open_tap(&other, "", 1, &err), -ENODEV);
    assert_int_equal(open_tap(&other, "a-name-that-is-too-long", 1, &err), -ENODEV);
    assert_int_equal(if_nametoindex("nosuch"), 0); /* it was not made */

    net_destroy(one);
    net_destroy(several);
    assert_true(if_nametoindex("single") != 0); /* it is left as it was */
    assert_int_equal(open_tap(&one, "single", 1, &err), 0);
    net_destroy(one);
}

static void frames_cross_a_tap(void **state)
{
    struct dayfly_err err = {0};
    struct net *net;
    enter_namespace();
    assert_int_equal(open_tap(&net, "several", 1, &err), 0);
    struct net_header header = {0};
    uint8_t frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, in[2000];
    struct iovec out[2] = {{&header, sizeof(header)}, {frame, sizeof(frame)}}, room = {in, sizeof(in)};
    struct net_frame frames[2] = {{out, 2, sizeof(header) + sizeof(frame)},
                                  {out, 2, sizeof(header) + sizeof(frame)}};
    assert_int_equal(net->ops->send(net, 0, frames, 2), 2);
    /* The other way: what the kernel is given to send; it may have something of its own to say. */
    _cleanup_close_ int packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    const struct sockaddr_ll to = {.sll_family = AF_PACKET,
                                   .sll_ifindex = (int)if_nametoindex("several")};
    frame[14] = 42;
    assert_int_equal(sendto(packet, frame, sizeof(frame), 0, (const struct sockaddr *)&to, sizeof(to)),
                     sizeof(frame));
    do {
        struct pollfd readable = {.fd = net->fds[0], .events = POLLIN};
        frames[0] = (struct net_frame){&room, 1, sizeof(in)};
        assert_int_equal(poll(&readable, 1, 20000), 1);
        assert_int_equal(net->ops->receive(net, 0, frames, 1), 1);
    } while (frames[0].bytes != sizeof(header) + sizeof(frame) ||
             memcmp(in + sizeof(header), frame, sizeof(frame)) != 0);
    net_destroy(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_messages),
        cmocka_unit_test(a_full_socket_takes_some),
        cmocka_unit_test(the_end_of_a_connection),
        cmocka_unit_test(other_descriptors_are_refused),
        cmocka_unit_test(taps_are_attached_to_as_they_are),
        cmocka_unit_test(frames_cross_a_tap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
