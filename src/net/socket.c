/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames as messages of a Unix socket, many with one system call.
 *
 * Limit: the kernel's socket buffer is all there is between a fast side and a slow one. It answers
 * EAGAIN when it is full, which the device turns into back-pressure on its driver.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "net/net.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define BATCH 64

struct socket_net {
    struct net net;
    bool connection; /* SOCK_SEQPACKET: it ends */
    struct mmsghdr messages[BATCH];
};

static struct socket_net *socket_of(struct net *net)
{
    return container_of(net, struct socket_net, net);
}

static void fill_message(struct mmsghdr *message, const struct net_frame *frame)
{
    *message = (struct mmsghdr){
        .msg_hdr = {.msg_iov = (struct iovec *)(uintptr_t)frame->iov, .msg_iovlen = frame->count}};
}

static int socket_receive(struct net *net, unsigned queue, struct net_frame *frames, unsigned max)
{
    struct socket_net *s = socket_of(net);
    unsigned count = MIN(max, BATCH);
    for (unsigned i = 0; i < count; i++)
        fill_message(&s->messages[i], &frames[i]);
    int n;
    do /* MSG_TRUNC: the length that it had, not the one that fitted */
        n = recvmmsg(net->fds[queue], s->messages, count, MSG_DONTWAIT | MSG_TRUNC, NULL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || !s->connection ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        frames[i].bytes = s->messages[i].msg_len;
        if (frames[i].bytes == 0 && s->connection)
            return i > 0 ? i : -EPIPE; /* its end; what came before it first */
    }
    return n;
}

/* What a single frame makes sendmmsg fail with. */
static int refused(struct socket_net *s, int error)
{
    switch (error) {
    case EAGAIN:
    case ENOBUFS:
        return 0;
    case EMSGSIZE:
        return 1; /* more than the socket takes, whatever its buffer holds now */
    default:
        return s->connection ? -error : 1;
    }
}

static int socket_send(struct net *net, unsigned queue, const struct net_frame *frames, unsigned count)
{
    struct socket_net *s = socket_of(net);
    count = MIN(count, BATCH);
    for (unsigned i = 0; i < count; i++)
        fill_message(&s->messages[i], &frames[i]);
    int n;
    do
        n = sendmmsg(net->fds[queue], s->messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? refused(s, errno) : n;
}

static void socket_destroy(struct net *net)
{
    struct socket_net *s = socket_of(net);
    close_fd(&net->fds[0]);
    free(s);
}

static const struct isolate_call calls[] = {
    ISOLATE_CALL(recvmmsg),
    ISOLATE_CALL(sendmmsg),
};

static const struct net_ops socket_ops = {
    .name = "socket",
    .receive = socket_receive,
    .send = socket_send,
    .destroy = socket_destroy,
    .calls = ISOLATE_CALLS(calls),
};

static int option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

int net_socket_open(struct net **out, const struct net_socket_options *options, struct dayfly_err *err)
{
    _cleanup_close_ int fd = options->fd;
    int type = option(fd, SO_TYPE);
    if (option(fd, SO_DOMAIN) != AF_UNIX || (type != SOCK_SEQPACKET && type != SOCK_DGRAM))
        return err_set(err, EINVAL,
                       "descriptor %d is no Unix socket of type SOCK_SEQPACKET or SOCK_DGRAM", fd);
    struct socket_net *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ENOMEM, "network: out of memory");
    s->net = (struct net){
        .ops = &socket_ops,
        .queues = 1,
        .fds = {steal_fd(&fd)},
        .mtu = options->mtu ? options->mtu : NET_MTU_DEFAULT,
    };
    s->connection = type == SOCK_SEQPACKET;
    *out = &s->net;
    return 0;
}
