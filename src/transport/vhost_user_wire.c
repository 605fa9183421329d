/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/vhost_user_wire.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define HEADER_BYTES ((uint32_t)sizeof(struct vhost_user_header))

static_assert(offsetof(struct vhost_user_message, payload) == 12, "as in the specification");
static_assert(sizeof(struct vhost_user_vring_addr) == 40, "as in the specification");
static_assert(sizeof(struct vhost_user_mem_table) == 8 + 32 * VHOST_USER_REGIONS_MAX, "likewise");

/* Take the descriptors of a control message into the inbox. False when there are too many. */
static bool collect_fds(struct vhost_user_inbox *inbox, struct msghdr *msg)
{
    bool fit = !(msg->msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (inbox->fd_count < ARRAY_SIZE(inbox->fds)) {
                inbox->fds[inbox->fd_count++] = fd;
            } else {
                close(fd);
                fit = false;
            }
        }
    }
    return fit;
}

/* Read until `want` bytes stand in the inbox: 1, 0 or -errno. */
static int fill(int socket_fd, struct vhost_user_inbox *inbox, uint32_t want, struct dayfly_err *err)
{
    while (inbox->have_bytes < want) {
        union {
            char bytes[CMSG_SPACE(sizeof(int) * VHOST_USER_REGIONS_MAX)];
            struct cmsghdr align;
        } control;
        struct iovec iov = {.iov_base = (uint8_t *)&inbox->message + inbox->have_bytes,
                            .iov_len = want - inbox->have_bytes};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        if (n < 0)
            return err_errno(err, errno, "receive a vhost-user message");
        if (!collect_fds(inbox, &msg))
            return err_set(err, EPROTO, "vhost-user message with more than %d descriptors",
                           VHOST_USER_REGIONS_MAX);
        if (n == 0)
            return err_set(err, ECONNRESET, "the front end closed the connection%s",
                           inbox->have_bytes ? " within a message" : "");
        inbox->have_bytes += (uint32_t)n;
    }
    return 1;
}

int vhost_user_receive(int socket_fd, struct vhost_user_inbox *inbox, struct dayfly_err *err)
{
    /* The header alone first: its size bounds what is read next, and a read never takes bytes (and with
     * them descriptors) of the message behind. */
    if (inbox->have_bytes < HEADER_BYTES) {
        int r = fill(socket_fd, inbox, HEADER_BYTES, err);
        if (r <= 0)
            return r;
    }
    const struct vhost_user_header *h = &inbox->message.header;
    if ((h->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
        return err_set(err, EPROTO, "vhost-user message %u of version %u", h->request,
                       h->flags & VHOST_USER_VERSION_MASK);
    if (h->size_bytes > sizeof(inbox->message.payload))
        return err_set(err, EPROTO, "vhost-user message %u of %u bytes", h->request, h->size_bytes);
    return fill(socket_fd, inbox, HEADER_BYTES + h->size_bytes, err);
}

void vhost_user_inbox_clear(struct vhost_user_inbox *inbox)
{
    for (unsigned i = 0; i < inbox->fd_count; i++)
        close_fd(&inbox->fds[i]);
    *inbox = (struct vhost_user_inbox){0};
}

int vhost_user_send(int socket_fd, const struct vhost_user_message *message, const int *fds,
                    unsigned fd_count)
{
    assert(fd_count <= VHOST_USER_REGIONS_MAX);
    union {
        char bytes[CMSG_SPACE(sizeof(int) * VHOST_USER_REGIONS_MAX)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)message,
                        .iov_len = HEADER_BYTES + message->header.size_bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    do
        n = sendmsg(socket_fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == iov.iov_len ? 0 : -EAGAIN;
}
