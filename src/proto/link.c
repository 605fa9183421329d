/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"

/* The largest frame fits behind the reserve. */
static_assert(PROTO_LINK_BYTES >= PROTO_HEADER_BYTES + PROTO_PAYLOAD_MAX + PROTO_LINK_RESERVE, "");

int proto_link_init(struct proto_link *l, int fd)
{
    *l = (struct proto_link){.fd = fd};
    int flags = fcntl(fd, F_GETFL);
    struct stat st;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fstat(fd, &st) < 0)
        return -errno;
    l->socket = S_ISSOCK(st.st_mode);
    l->rx.buf = malloc(2 * PROTO_LINK_BYTES);
    if (!l->rx.buf)
        return -ENOMEM;
    l->tx.buf = l->rx.buf + PROTO_LINK_BYTES;
    return 0;
}

void proto_link_finish(struct proto_link *l)
{
    free(l->rx.buf);
    l->rx.buf = l->tx.buf = NULL;
}

ssize_t proto_link_fill(struct proto_link *l)
{
    if (l->rx.head > 0) {
        memmove(l->rx.buf, l->rx.buf + l->rx.head, l->rx.tail - l->rx.head);
        l->rx.tail -= l->rx.head;
        l->rx.head = 0;
    }
    if (l->rx.tail == PROTO_LINK_BYTES)
        return -EAGAIN;
    ssize_t n;
    do
        n = read(l->fd, l->rx.buf + l->rx.tail, PROTO_LINK_BYTES - l->rx.tail);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    l->rx.tail += (size_t)n;
    return n;
}

int proto_link_next(struct proto_link *l, struct proto_frame *f)
{
    size_t have = l->rx.tail - l->rx.head;
    const uint8_t *p = l->rx.buf + l->rx.head;
    if (have < PROTO_HEADER_BYTES)
        return 0;
    int r = proto_get_header(p, f);
    if (r < 0)
        return r;
    if (have - PROTO_HEADER_BYTES < f->len)
        return 0;
    f->payload = p + PROTO_HEADER_BYTES;
    l->rx.head += PROTO_HEADER_BYTES + f->len;
    return 1;
}

/* Bytes in front of tx.head are free, but only contiguous room behind tx.tail is used: proto_link_flush
 * brings what is left to the front. */
size_t proto_link_room(const struct proto_link *l, bool data)
{
    size_t kept = PROTO_HEADER_BYTES + (data ? PROTO_LINK_RESERVE : 0);
    size_t left = PROTO_LINK_BYTES - l->tx.tail;
    return left > kept ? MIN(left - kept, (size_t)PROTO_PAYLOAD_MAX) : 0;
}

uint8_t *proto_link_payload(struct proto_link *l)
{
    return l->tx.buf + l->tx.tail + PROTO_HEADER_BYTES;
}

void proto_link_commit(struct proto_link *l, uint16_t type, uint16_t stream, uint32_t session,
                       size_t len)
{
    assert(len <= PROTO_PAYLOAD_MAX && l->tx.tail + PROTO_HEADER_BYTES + len <= PROTO_LINK_BYTES);
    proto_put_header(l->tx.buf + l->tx.tail, type, stream, session, (uint32_t)len);
    l->tx.tail += PROTO_HEADER_BYTES + len;
}

int proto_link_send(struct proto_link *l, uint16_t type, uint16_t stream, uint32_t session,
                    const void *payload, size_t len)
{
    /* An empty payload needs room for its header, which proto_link_room has no way to say. */
    if (PROTO_LINK_BYTES - l->tx.tail < PROTO_HEADER_BYTES || len > proto_link_room(l, false))
        return -EAGAIN;
    if (len)
        memcpy(proto_link_payload(l), payload, len);
    proto_link_commit(l, type, stream, session, len);
    return 0;
}

void proto_link_wipe(struct proto_link *l)
{
    explicit_bzero(l->rx.buf, l->rx.head);
    explicit_bzero(l->rx.buf + l->rx.tail, PROTO_LINK_BYTES - l->rx.tail);
    explicit_bzero(l->tx.buf, l->tx.head);
    explicit_bzero(l->tx.buf + l->tx.tail, PROTO_LINK_BYTES - l->tx.tail);
}

bool proto_link_pending(const struct proto_link *l)
{
    return l->tx.tail > l->tx.head;
}

/* Only once the room behind the tail gets short: a slow peer must not cost a copy a wake. */
static void compact(struct proto_link *l)
{
    if (l->tx.tail < PROTO_LINK_BYTES / 2)
        return;
    memmove(l->tx.buf, l->tx.buf + l->tx.head, l->tx.tail - l->tx.head);
    l->tx.tail -= l->tx.head;
    l->tx.head = 0;
}

int proto_link_flush(struct proto_link *l)
{
    while (proto_link_pending(l)) {
        const uint8_t *p = l->tx.buf + l->tx.head;
        size_t len = l->tx.tail - l->tx.head;
        ssize_t n = l->socket ? send(l->fd, p, len, MSG_NOSIGNAL) : write(l->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        if (n <= 0) {
            compact(l);
            return -EAGAIN;
        }
        l->tx.head += (size_t)n;
    }
    l->tx.head = l->tx.tail = 0;
    return 0;
}
