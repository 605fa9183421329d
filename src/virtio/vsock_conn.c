/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vsock connection: a pair of streams between a Unix socket on the host and the guest.
 *
 * Guest to host. What comes goes straight into the host's socket; what that does not take at once waits
 * in a buffer, made when it is needed and freed when it is empty. The guest may send as much as the
 * buffer holds (its credit: VSOCK_BUFFER_BYTES less what was received and not forwarded), so an honest
 * guest never overruns it, and one that does is reset.
 *
 * Host to guest. The host's socket is read straight into the guest's receive buffers, never ahead of
 * them: what the guest has no credit or no buffer for stays in the socket, which is the bound.
 *
 * The end. The host's end of file becomes SHUTDOWN(SEND), its close SHUTDOWN(both); the guest answers
 * that with RST when its program has closed too. The guest's SHUTDOWN(SEND) becomes a half close of the
 * socket when the buffer is empty, its SHUTDOWN(both) is answered with RST then. Waits of ours have a
 * limit.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "virtio/vsock_private.h"

#define PACKET_BYTES_MAX (64u * 1024)

/* How long the guest may take to answer REQUEST, and SHUTDOWN(both). */
#define ANSWER_NS (10 * NS_PER_S)

static struct list *bucket(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
    /* Both are counted up by whoever connects; the multiplication spreads either. */
    uint32_t hash = (host_port * 31 + guest_port) * UINT32_C(2654435761);
    return &vs->buckets[(hash >> 24) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
    struct vsock_conn *conn, *tmp;
    list_for_each (conn, tmp, bucket(vs, host_port, guest_port), node)
        if (conn->host_port == host_port && conn->guest_port == guest_port)
            return conn;
    return NULL;
}

/* -- the host's socket ------------------------------------------------------------------------ */

/* Which events are of use now; -1: not even the socket's hanging up. */
static int wanted_events(const struct vsock_conn *conn)
{
    int events = conn->buffered > 0 ? EPOLLOUT : 0;
    if (conn->state != VSOCK_OPEN || conn->no_credit || conn->readable ||
        (conn->host_sent_all && conn->host_refuses))
        return events ? events : -1; /* epoll always reports EPOLLHUP: it would spin */
    if (conn->host_sent_all || conn->guest_wants_none)
        return events; /* the close is yet to come */
    return events | EPOLLIN;
}

void vsock_conn_watch(struct vsock_conn *conn)
{
    int events = wanted_events(conn);
    if (events < 0) {
        loop_remove(&conn->source);
    } else if (conn->source.loop) {
        loop_modify(&conn->source, (uint32_t)events);
    } else {
        conn->source.events = (uint32_t)events;
        if (loop_add(conn->vs->dev.loop, &conn->source) < 0 && conn->state != VSOCK_DRAINING)
            vsock_conn_owe(conn, OWE_RST);
    }
}

static void make_ready(struct vsock_conn *conn)
{
    if (list_empty(&conn->ready))
        list_append(&conn->vs->ready, &conn->ready);
}

void vsock_conn_owe(struct vsock_conn *conn, unsigned what)
{
    conn->owes |= what;
    make_ready(conn);
}

static void drop_buffer(struct vsock_conn *conn)
{
    free(steal_ptr(&conn->buffer));
    conn->head = conn->buffered = 0;
}

/* Tell the guest that no more goes in these directions. */
static void shut_down(struct vsock_conn *conn, unsigned flags)
{
    if ((conn->shutdown | flags) == conn->shutdown)
        return;
    conn->shutdown |= flags;
    if (conn->shutdown == VSOCK_SHUTDOWN_BOTH)
        vsock_set_deadline(conn->vs, &conn->deadline_ns, ANSWER_NS);
    vsock_conn_owe(conn, OWE_SHUTDOWN);
}

/* The host program can no longer be written to; what it had written before is still read. */
static void host_refuses(struct vsock_conn *conn)
{
    conn->forwarded += conn->buffered;
    drop_buffer(conn);
    conn->host_refuses = true;
    if (conn->state == VSOCK_OPEN)
        shut_down(conn, VSOCK_SHUTDOWN_RECEIVE);
}

static void host_closed(struct vsock_conn *conn)
{
    conn->host_sent_all = true;
    host_refuses(conn);
    shut_down(conn, VSOCK_SHUTDOWN_BOTH);
}

/* After the buffer has moved: pass on ends, return credit. */
static void moved(struct vsock_conn *conn)
{
    if (conn->buffered == 0) {
        drop_buffer(conn);
        if (conn->guest_sent_all && !conn->said_end) {
            conn->said_end = true;
            shutdown(conn->source.fd, SHUT_WR);
        }
        if (conn->state == VSOCK_OPEN && conn->guest_sent_all && conn->guest_wants_none)
            vsock_conn_owe(conn, OWE_RST);
    }
    if (conn->state == VSOCK_OPEN && !conn->guest_sent_all &&
        conn->forwarded - conn->advertised >= VSOCK_BUFFER_BYTES / 4)
        vsock_conn_owe(conn, OWE_CREDIT_UPDATE);
}

/* Write what waits into the host's socket. */
static void flush(struct vsock_conn *conn)
{
    while (conn->buffered > 0) {
        uint32_t first = MIN(conn->buffered, VSOCK_BUFFER_BYTES - conn->head);
        struct iovec iov[2] = {{conn->buffer + conn->head, first},
                               {conn->buffer, conn->buffered - first}};
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t n = sendmsg(conn->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN)
                host_refuses(conn);
            break;
        }
        conn->head = (conn->head + (uint32_t)n) % VSOCK_BUFFER_BYTES;
        conn->buffered -= (uint32_t)n;
        conn->forwarded += (uint32_t)n;
    }
    moved(conn);
}

/* Keep `len` bytes of data until the socket takes them. The caller has checked the credit. */
static bool keep(struct vsock_conn *conn, const struct iovec *data, unsigned count)
{
    if (!conn->buffer && !(conn->buffer = malloc(VSOCK_BUFFER_BYTES)))
        return false;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *from = data[i].iov_base;
        size_t left = data[i].iov_len;
        while (left > 0) {
            uint32_t tail = (conn->head + conn->buffered) % VSOCK_BUFFER_BYTES;
            size_t n = MIN(left, (size_t)(VSOCK_BUFFER_BYTES - tail));
            memcpy(conn->buffer + tail, from, n);
            conn->buffered += (uint32_t)n;
            from += n;
            left -= n;
        }
    }
    return true;
}

static void guest_data(struct vsock_conn *conn, uint32_t len, unsigned segments)
{
    struct vsock *vs = conn->vs;
    if (len > VSOCK_BUFFER_BYTES - (conn->received - conn->forwarded) || conn->guest_sent_all) {
        log_limited(vs->dev.log, &vs->dev.limit, LOG_WARN,
                    "vsock: the guest sent what it had no credit for, on its port %u",
                    conn->guest_port);
        vsock_conn_owe(conn, OWE_RST);
        return;
    }
    conn->received += len;
    ssize_t n = 0;
    if (conn->host_refuses) {
        conn->forwarded += len;
        n = len;
    } else if (conn->buffered == 0) {
        struct msghdr msg = {.msg_iov = vs->part,
                             .msg_iovlen = vsock_part(vs, segments, VSOCK_HEADER_BYTES, len)};
        do
            n = sendmsg(conn->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN)
            n = 0;
        if (n < 0) {
            host_refuses(conn);
            n = len;
        }
        conn->forwarded += (uint32_t)n;
    }
    unsigned rest = vsock_part(vs, segments, VSOCK_HEADER_BYTES + (size_t)n, len - (size_t)n);
    if (rest > 0 && !keep(conn, vs->part, rest))
        vsock_conn_owe(conn, OWE_RST);
    moved(conn);
}

static void socket_ready(struct loop_source *source, uint32_t events)
{
    struct vsock_conn *conn = container_of(source, struct vsock_conn, source);
    struct vsock *vs = conn->vs;
    pthread_mutex_lock(&vs->dev.lock);
    uint32_t host_port = conn->host_port, guest_port = conn->guest_port;
    flush(conn);
    if (conn->state == VSOCK_DRAINING && conn->buffered == 0) {
        vsock_conn_free(conn);
    } else if (conn->state == VSOCK_OPEN) {
        if ((events & (EPOLLHUP | EPOLLERR)) && (conn->host_sent_all || conn->guest_wants_none)) {
            host_closed(conn);
        } else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            conn->readable = true;
            make_ready(conn);
        }
        vsock_fill_rx(vs);
        if (vsock_conn_find(vs, host_port, guest_port) == conn) /* it may have ended just now */
            vsock_conn_watch(conn);
    }
    pthread_mutex_unlock(&vs->dev.lock);
}

/* -- life ------------------------------------------------------------------------------------- */

struct vsock_conn *vsock_conn_new(struct vsock *vs, int fd, uint32_t host_port, uint32_t guest_port,
                                  enum vsock_state state)
{
    struct vsock_conn *conn = NULL;
    if (vs->conn_count < VSOCK_CONNECTIONS_MAX)
        conn = calloc(1, sizeof(*conn));
    if (!conn) {
        close(fd);
        return NULL;
    }
    *conn = (struct vsock_conn){
        .vs = vs,
        .source = {.fd = fd, .ready = socket_ready},
        .host_port = host_port,
        .guest_port = guest_port,
        .state = state,
    };
    list_init(&conn->ready);
    list_append(bucket(vs, host_port, guest_port), &conn->node);
    vs->conn_count++;
    if (state == VSOCK_CONNECTING)
        vsock_set_deadline(vs, &conn->deadline_ns, ANSWER_NS);
    return conn;
}

void vsock_conn_free(struct vsock_conn *conn)
{
    loop_remove(&conn->source);
    close_fd(&conn->source.fd);
    list_remove(&conn->node);
    list_remove(&conn->ready);
    conn->vs->conn_count--;
    free(conn->buffer);
    free(conn);
}

void vsock_conn_end(struct vsock_conn *conn)
{
    if (conn->buffered == 0) {
        vsock_conn_free(conn);
        return;
    }
    list_remove(&conn->ready);
    list_remove(&conn->node);
    list_append(&conn->vs->draining, &conn->node);
    conn->state = VSOCK_DRAINING;
    conn->guest_sent_all = true;
    conn->deadline_ns = 0;
    conn->owes = 0;
    shutdown(conn->source.fd, SHUT_RD);
    vsock_conn_watch(conn);
}

void vsock_conn_expired(struct vsock_conn *conn)
{
    conn->deadline_ns = 0;
    if (conn->state == VSOCK_CONNECTING)
        shutdown(conn->source.fd, SHUT_RDWR); /* now, even if the guest gives no buffer for the RST */
    if (conn->state == VSOCK_CONNECTING || conn->shutdown == VSOCK_SHUTDOWN_BOTH)
        vsock_conn_owe(conn, OWE_RST);
}

/* -- the guest's packets ---------------------------------------------------------------------- */

/* How much the guest has room for. */
static uint32_t credit(const struct vsock_conn *conn)
{
    uint32_t in_flight = conn->sent - conn->peer_fwd_cnt;
    return in_flight < conn->peer_buf_alloc ? conn->peer_buf_alloc - in_flight : 0;
}

/* The guest's side of the credit, which every header carries. */
static void note_credit(struct vsock_conn *conn, const struct vsock_header *h)
{
    conn->peer_buf_alloc = h->buf_alloc;
    conn->peer_fwd_cnt = h->fwd_cnt;
    if (conn->no_credit && credit(conn) > 0) {
        conn->no_credit = false;
        make_ready(conn);
    }
}

static void accepted_by_guest(struct vsock_conn *conn)
{
    conn->state = VSOCK_OPEN;
    conn->deadline_ns = 0;
    if (conn->unix_client) {
        char line[32];
        int len = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);
        if (send(conn->source.fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
            host_refuses(conn);
    }
}

void vsock_conn_packet(struct vsock_conn *conn, const struct vsock_header *h, unsigned segments)
{
    if (h->op == VSOCK_OP_RST) {
        vsock_conn_end(conn);
        return;
    }
    if (conn->owes & OWE_RST)
        return; /* over already; the guest learns it next */
    note_credit(conn, h);
    if (conn->state == VSOCK_CONNECTING) {
        if (h->op == VSOCK_OP_RESPONSE)
            accepted_by_guest(conn);
        else
            vsock_conn_owe(conn, OWE_RST);
        vsock_conn_watch(conn);
        return;
    }
    switch (h->op) {
    case VSOCK_OP_RW:
        guest_data(conn, h->len, segments);
        break;
    case VSOCK_OP_CREDIT_UPDATE:
        break;
    case VSOCK_OP_CREDIT_REQUEST:
        vsock_conn_owe(conn, OWE_CREDIT_UPDATE);
        break;
    case VSOCK_OP_SHUTDOWN:
        if (h->flags & VSOCK_SHUTDOWN_RECEIVE && !conn->guest_wants_none) {
            conn->guest_wants_none = true;
            shutdown(conn->source.fd, SHUT_RD);
        }
        if (h->flags & VSOCK_SHUTDOWN_SEND)
            conn->guest_sent_all = true;
        moved(conn);
        break;
    default: /* a second REQUEST or RESPONSE, or an unknown operation */
        vsock_conn_owe(conn, OWE_RST);
        break;
    }
    vsock_conn_watch(conn);
}

/* -- packets for the guest -------------------------------------------------------------------- */

/* Read from the host's socket into the guest's buffer: the bytes, or 0 when there is nothing to send.
 */
static uint32_t read_host(struct vsock_conn *conn, unsigned segments)
{
    uint32_t may = MIN(credit(conn), PACKET_BYTES_MAX);
    if (conn->state != VSOCK_OPEN || !conn->readable || conn->host_sent_all || conn->guest_wants_none)
        return 0;
    if (may == 0) {
        /* Asked once: the guest tells of itself when its program has read. */
        if (!conn->no_credit)
            conn->owes |= OWE_CREDIT_REQUEST;
        conn->no_credit = true;
        return 0;
    }
    struct msghdr msg = {.msg_iov = conn->vs->part,
                         .msg_iovlen = vsock_part(conn->vs, segments, VSOCK_HEADER_BYTES, may)};
    ssize_t n;
    do
        n = recvmsg(conn->source.fd, &msg, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        conn->sent += (uint32_t)n;
        return (uint32_t)n;
    }
    conn->readable = false;
    if (n < 0 && errno == EAGAIN)
        return 0;
    /* The end. Half, or was the socket closed? */
    struct pollfd ask = {.fd = conn->source.fd};
    conn->host_sent_all = true;
    if (n < 0 || (poll(&ask, 1, 0) == 1 && (ask.revents & (POLLHUP | POLLERR))))
        host_closed(conn);
    else
        shut_down(conn, VSOCK_SHUTDOWN_SEND);
    return 0;
}

bool vsock_conn_produce(struct vsock_conn *conn, struct vsock_header *h, unsigned segments)
{
    static const struct {
        unsigned what;
        uint16_t op;
    } order[] = {
        {OWE_RST, VSOCK_OP_RST},
        {OWE_REQUEST, VSOCK_OP_REQUEST},
        {OWE_RESPONSE, VSOCK_OP_RESPONSE},
        {OWE_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE},
        {OWE_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST},
        {OWE_SHUTDOWN, VSOCK_OP_SHUTDOWN},
    };
    uint32_t len = 0;
    uint16_t op = 0;

    /* Data before the end of data: a SHUTDOWN is owed only after the last byte was read. */
    if (conn->owes == 0)
        len = read_host(conn, segments);
    if (len > 0)
        op = VSOCK_OP_RW;
    for (unsigned i = 0; op == 0 && i < ARRAY_SIZE(order); i++)
        if (conn->owes & order[i].what) {
            op = order[i].op;
            conn->owes &= ~order[i].what;
        }
    if (op == 0) {
        list_remove(&conn->ready);
        vsock_conn_watch(conn);
        return false;
    }
    *h = (struct vsock_header){
        .src_cid = htole64(VSOCK_HOST_CID),
        .dst_cid = htole64(conn->vs->guest_cid),
        .src_port = htole32(conn->host_port),
        .dst_port = htole32(conn->guest_port),
        .len = htole32(len),
        .type = htole16(VSOCK_TYPE_STREAM),
        .op = htole16(op),
        .flags = htole32(op == VSOCK_OP_SHUTDOWN ? conn->shutdown : 0),
        .buf_alloc = htole32(VSOCK_BUFFER_BYTES),
        .fwd_cnt = htole32(conn->forwarded),
    };
    conn->advertised = conn->forwarded;
    if (op == VSOCK_OP_RST)
        vsock_conn_end(conn);
    return true;
}
