/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock, the device (virtio 1.2, section 5.10): its queues, the guest's packets, its life.
 *
 * A packet is a header of 44 bytes and, for RW, payload behind it. The guest's are looked up by (host
 * port, guest port) and handed to their connection, or answered with RST. What the guest is owed stands
 * in two places, both bounded: a short list of RSTs for packets of no connection, and flags in each
 * connection, which is then in the list `ready`. Both are served, in turn, whenever the guest has
 * receive buffers. When the list of RSTs is full no more of the guest's packets are taken until it has
 * some.
 *
 * Threads: ops come from the loop or from a vCPU, with the lock held. Sources and timers are the loop's
 * alone, so a kick or a reset that comes from elsewhere only leaves a note and wakes the loop.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/iov.h"
#include "virtio/vsock_private.h"

#define QUEUE_SIZE 256

/* Packets in a row before other sources of the loop get their turn. */
#define PACKETS_A_ROUND 512

/* Sockets that wait for their listener's callback. */
#define ACCEPTS_MAX 128

static_assert(sizeof(struct vsock_header) == VSOCK_HEADER_BYTES, "as in the specification");

struct accept {
    struct list node;
    int fd;
    uint32_t port, guest_port;
};

static struct vsock *to_vsock(struct virtio_device *dev)
{
    return container_of(dev, struct vsock, dev);
}

/* -- segments --------------------------------------------------------------------------------- */

unsigned vsock_part(struct vsock *vs, unsigned segments, size_t skip, size_t max)
{
    unsigned count = 0;
    for (unsigned i = 0; i < segments && max > 0; i++) {
        struct iovec piece = vs->iov[i];
        size_t cut = MIN(skip, piece.iov_len);
        skip -= cut;
        piece.iov_base = (uint8_t *)piece.iov_base + cut;
        piece.iov_len = MIN(piece.iov_len - cut, max);
        max -= piece.iov_len;
        if (piece.iov_len > 0)
            vs->part[count++] = piece;
    }
    return count;
}

/* -- to the guest ----------------------------------------------------------------------------- */

static struct vsock_header reset_header(struct vsock *vs)
{
    struct vsock_reset r = vs->resets[0];
    memmove(vs->resets, vs->resets + 1, --vs->reset_count * sizeof(r));
    return (struct vsock_header){
        .src_cid = htole64(VSOCK_HOST_CID),
        .dst_cid = htole64(vs->guest_cid),
        .src_port = htole32(r.host_port),
        .dst_port = htole32(r.guest_port),
        .type = htole16(r.type),
        .op = htole16(VSOCK_OP_RST),
    };
}

/* The next packet that the guest is owed. False when there is none. */
static bool produce(struct vsock *vs, struct vsock_header *header, unsigned segments)
{
    if (vs->reset_count > 0) {
        *header = reset_header(vs);
        return true;
    }
    while (!list_empty(&vs->ready)) {
        struct vsock_conn *conn = list_entry(vs->ready.next, struct vsock_conn, ready);
        /* To the end of the line first, since it may be freed: everyone gets a turn. */
        list_remove(&conn->ready);
        list_append(&vs->ready, &conn->ready);
        if (vsock_conn_produce(conn, header, segments))
            return true;
    }
    return false;
}

void vsock_fill_rx(struct vsock *vs)
{
    struct virtio_device *dev = &vs->dev;
    struct ring *ring = &dev->queues[VSOCK_RX].ring;
    struct ring_chain chain;
    unsigned budget = PACKETS_A_ROUND;

    while ((vs->reset_count > 0 || !list_empty(&vs->ready)) && budget > 0) {
        if (!virtio_pop(dev, VSOCK_RX, &chain, vs->iov, RING_SIZE_MAX)) {
            if (virtio_kicks_on(dev, VSOCK_RX))
                continue;
            break; /* the guest kicks when it has given buffers */
        }
        budget--;
        if (chain.readable > 0 || chain.writable_bytes <= VSOCK_HEADER_BYTES) {
            virtio_violation(dev, "receive buffer of %llu bytes",
                             (unsigned long long)chain.writable_bytes);
            ring_push(ring, chain.head, 0);
            break;
        }
        struct vsock_header header;
        if (!produce(vs, &header, chain.writable)) {
            ring_unpop(ring);
            break;
        }
        iov_copy_in(vs->iov, chain.writable, 0, &header, sizeof(header));
        ring_push(ring, chain.head, VSOCK_HEADER_BYTES + le32toh(header.len));
    }
    if (budget == 0)
        vsock_wake(vs);
    virtio_interrupt(dev, VSOCK_RX);
}

/* -- from the guest --------------------------------------------------------------------------- */

static void owe_reset(struct vsock *vs, const struct vsock_header *h)
{
    if (h->op != VSOCK_OP_RST)
        vs->resets[vs->reset_count++] =
            (struct vsock_reset){.host_port = h->dst_port, .guest_port = h->src_port, .type = h->type};
}

static struct vsock_listener *find_listener(struct vsock *vs, uint32_t port)
{
    struct vsock_listener *l, *tmp;
    list_for_each (l, tmp, &vs->listeners, node)
        if (l->port == port)
            return l;
    return NULL;
}

/* A socket pair whose one end waits for the listener of `port`: returns the other, or -errno. */
static int connect_listener(struct vsock *vs, uint32_t port, uint32_t guest_port)
{
    int pair[2];
    struct accept *accept = vs->accept_count < ACCEPTS_MAX ? calloc(1, sizeof(*accept)) : NULL;
    if (!accept || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        free(accept);
        return -ENOMEM;
    }
    *accept = (struct accept){.fd = pair[1], .port = port, .guest_port = guest_port};
    list_append(&vs->accepts, &accept->node);
    vs->accept_count++;
    vsock_wake(vs);
    return pair[0];
}

/* The guest connects to a port of ours. */
static void guest_connects(struct vsock *vs, const struct vsock_header *h)
{
    int fd = -ECONNREFUSED;
    if (vs->conn_count < VSOCK_CONNECTIONS_MAX) {
        if (find_listener(vs, h->dst_port))
            fd = connect_listener(vs, h->dst_port, h->src_port);
        else if (vs->path)
            fd = vsock_unix_connect(vs, h->dst_port);
    }
    struct vsock_conn *conn =
        fd < 0 ? NULL : vsock_conn_new(vs, fd, h->dst_port, h->src_port, VSOCK_OPEN);
    if (!conn) {
        owe_reset(vs, h);
        return;
    }
    conn->peer_buf_alloc = h->buf_alloc;
    conn->peer_fwd_cnt = h->fwd_cnt;
    vsock_conn_owe(conn, OWE_RESPONSE);
    vsock_conn_watch(conn);
}

static void packet(struct vsock *vs, const struct ring_chain *chain)
{
    struct vsock_header h;
    if (chain->readable_bytes < VSOCK_HEADER_BYTES) {
        virtio_violation(&vs->dev, "packet of %llu bytes", (unsigned long long)chain->readable_bytes);
        return;
    }
    iov_copy_out(vs->iov, chain->readable, 0, &h, sizeof(h));
    h.src_cid = le64toh(h.src_cid);
    h.dst_cid = le64toh(h.dst_cid);
    h.src_port = le32toh(h.src_port);
    h.dst_port = le32toh(h.dst_port);
    h.len = le32toh(h.len);
    h.type = le16toh(h.type);
    h.op = le16toh(h.op);
    h.flags = le32toh(h.flags);
    h.buf_alloc = le32toh(h.buf_alloc);
    h.fwd_cnt = le32toh(h.fwd_cnt);
    if (h.len > chain->readable_bytes - VSOCK_HEADER_BYTES) {
        virtio_violation(&vs->dev, "packet says %u bytes and has %llu", h.len,
                         (unsigned long long)(chain->readable_bytes - VSOCK_HEADER_BYTES));
        return;
    }
    if (h.src_cid != vs->guest_cid || h.dst_cid != VSOCK_HOST_CID)
        return; /* forged, or for another machine: nobody to answer */
    if (h.type != VSOCK_TYPE_STREAM) {
        owe_reset(vs, &h);
        return;
    }
    struct vsock_conn *conn = vsock_conn_find(vs, h.dst_port, h.src_port);
    if (conn)
        vsock_conn_packet(conn, &h, chain->readable);
    else if (h.op == VSOCK_OP_REQUEST)
        guest_connects(vs, &h);
    else
        owe_reset(vs, &h);
}

static void drain_tx(struct vsock *vs)
{
    struct virtio_device *dev = &vs->dev;
    struct ring *ring = &dev->queues[VSOCK_TX].ring;
    struct ring_chain chain;
    unsigned budget = PACKETS_A_ROUND;

    while (budget > 0 && vs->reset_count < VSOCK_RESETS_MAX) {
        if (!virtio_pop(dev, VSOCK_TX, &chain, vs->iov, RING_SIZE_MAX)) {
            if (virtio_kicks_on(dev, VSOCK_TX))
                continue;
            break;
        }
        budget--;
        packet(vs, &chain);
        ring_push(ring, chain.head, 0);
    }
    if (budget == 0)
        vsock_wake(vs);
    virtio_interrupt(dev, VSOCK_TX);
}

/* Serve both queues. Packets that waited until some RSTs were gone are for a turn of their own: a guest
 * can make both queues feed each other. */
static void serve(struct vsock *vs)
{
    drain_tx(vs);
    bool full = vs->reset_count == VSOCK_RESETS_MAX;
    vsock_fill_rx(vs);
    if (full && vs->reset_count < VSOCK_RESETS_MAX)
        vsock_wake(vs);
}

static void kick(struct virtio_device *dev, unsigned queue)
{
    struct vsock *vs = to_vsock(dev);
    if (queue == VSOCK_EVENT)
        return; /* nothing to report until machines are restored from snapshots */
    if (loop_is_mine(dev->loop))
        serve(vs);
    else
        vsock_wake(vs);
}

/* -- life ------------------------------------------------------------------------------------- */

void vsock_wake(struct vsock *vs)
{
    const uint64_t one = 1;
    while (write(vs->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ; /* EAGAIN: it is awake */
}

/* The driver is gone, its connections with it. */
static void forget_guest(struct vsock *vs)
{
    struct vsock_conn *conn, *tmp;
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++)
        list_for_each (conn, tmp, &vs->buckets[i], node) {
            list_remove(&conn->ready);
            list_remove(&conn->node);
            list_append(&vs->doomed, &conn->node);
            conn->state = VSOCK_DOOMED; /* nothing of it is for the next driver */
        }
    vs->reset_count = 0;
}

static void end_doomed(struct vsock *vs)
{
    struct vsock_conn *conn, *tmp;
    list_for_each (conn, tmp, &vs->doomed, node)
        vsock_conn_end(conn);
}

static void reset(struct virtio_device *dev)
{
    struct vsock *vs = to_vsock(dev);
    forget_guest(vs);
    if (loop_is_mine(dev->loop))
        end_doomed(vs);
    else
        vsock_wake(vs);
}

/* Its sockets have no names; those that have are vsock_unix.c's. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL(sendmsg),
    ISOLATE_CALL(recvmsg),
    ISOLATE_CALL_IF(sendto, 4, UINT64_MAX, 0), /* send(2) */
    ISOLATE_CALL(poll),
    ISOLATE_CALL(shutdown),
    ISOLATE_CALL_UNIX_STREAM(socketpair),
};
static const struct isolate_calls table = ISOLATE_CALLS(calls);
static const struct isolate_calls *const ops_calls[] = {&table, NULL};

static const struct virtio_ops ops = {
    .name = "vsock",
    .id = VIRTIO_ID_VSOCK,
    .calls = ops_calls,
    .reset = reset,
    .kick = kick,
};

/* Hand accepted sockets to their listeners. The lock is held on entry and return, not in between. */
static void deliver_accepts(struct vsock *vs)
{
    while (!list_empty(&vs->accepts)) {
        struct accept *accept = list_entry(vs->accepts.next, struct accept, node);
        list_remove(&accept->node);
        vs->accept_count--;
        const struct vsock_listener *l = find_listener(vs, accept->port);
        struct vsock_listener listener = l ? *l : (struct vsock_listener){0};
        pthread_mutex_unlock(&vs->dev.lock);
        if (listener.accepted)
            listener.accepted(listener.opaque, accept->fd, accept->guest_port);
        else
            close(accept->fd); /* it stopped listening meanwhile */
        free(accept);
        pthread_mutex_lock(&vs->dev.lock);
    }
}

static void woken(struct loop_source *source, uint32_t events)
{
    struct vsock *vs = container_of(source, struct vsock, wake);
    uint64_t count;
    while (read(source->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&vs->dev.lock);
    end_doomed(vs);
    serve(vs);
    deliver_accepts(vs);
    pthread_mutex_unlock(&vs->dev.lock);
}

/* -- deadlines -------------------------------------------------------------------------------- */

void vsock_set_deadline(struct vsock *vs, uint64_t *deadline_ns, uint64_t in_ns)
{
    *deadline_ns = clock_ns() + in_ns;
    if (!vs->timer.loop || *deadline_ns < vs->timer.deadline_ns)
        loop_timer_set(vs->dev.loop, &vs->timer, *deadline_ns);
}

static void timer_fired(struct loop_timer *timer)
{
    struct vsock *vs = container_of(timer, struct vsock, timer);
    uint64_t now = clock_ns(), next = UINT64_MAX;
    struct vsock_conn *conn, *tmp;
    pthread_mutex_lock(&vs->dev.lock);
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++)
        list_for_each (conn, tmp, &vs->buckets[i], node) {
            if (conn->deadline_ns == 0)
                continue;
            if (conn->deadline_ns <= now)
                vsock_conn_expired(conn);
            else
                next = MIN(next, conn->deadline_ns);
        }
    vsock_unix_expire(vs, now, &next);
    if (next != UINT64_MAX)
        loop_timer_set(vs->dev.loop, &vs->timer, next);
    vsock_fill_rx(vs);
    pthread_mutex_unlock(&vs->dev.lock);
}

/* -- the host's side -------------------------------------------------------------------------- */

int virtio_vsock_listen(struct virtio_device *dev, uint32_t port, virtio_vsock_accepted *accepted,
                        void *opaque)
{
    struct vsock *vs = to_vsock(dev);
    int r = 0;
    pthread_mutex_lock(&dev->lock);
    struct vsock_listener *l = find_listener(vs, port);
    if (!accepted) {
        if (l) {
            list_remove(&l->node);
            free(l);
        }
    } else if (l) {
        r = -EADDRINUSE;
    } else if ((l = calloc(1, sizeof(*l)))) {
        *l = (struct vsock_listener){.port = port, .accepted = accepted, .opaque = opaque};
        list_append(&vs->listeners, &l->node);
    } else {
        r = -ENOMEM;
    }
    pthread_mutex_unlock(&dev->lock);
    return r;
}

struct vsock_conn *vsock_connect_fd(struct vsock *vs, int fd, uint32_t port)
{
    if (!vs->dev.active || vs->dev.needs_reset) {
        close(fd);
        return NULL;
    }
    do
        /* High ports, as programs on the host would get them. */
        vs->next_host_port = (vs->next_host_port + 1) | UINT32_C(0x40000000);
    while (vs->next_host_port == UINT32_MAX || vsock_conn_find(vs, vs->next_host_port, port));
    struct vsock_conn *conn = vsock_conn_new(vs, fd, vs->next_host_port, port, VSOCK_CONNECTING);
    if (conn)
        vsock_conn_owe(conn, OWE_REQUEST);
    return conn;
}

struct connect_call {
    struct vsock *vs;
    uint32_t port;
    int result;
};

static void connect_call(void *arg)
{
    struct connect_call *call = arg;
    struct vsock *vs = call->vs;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        call->result = -errno;
        return;
    }
    pthread_mutex_lock(&vs->dev.lock);
    bool active = vs->dev.active && !vs->dev.needs_reset;
    if (vsock_connect_fd(vs, pair[0], call->port)) {
        call->result = pair[1];
        vsock_fill_rx(vs);
    } else {
        close(pair[1]);
        call->result = active ? -ENOMEM : -ENOTCONN;
    }
    pthread_mutex_unlock(&vs->dev.lock);
}

int virtio_vsock_connect(struct virtio_device *dev, uint32_t port)
{
    struct connect_call call = {.vs = to_vsock(dev), .port = port};
    int r = loop_call(dev->loop, connect_call, &call);
    return r < 0 ? r : call.result;
}

bool virtio_vsock_isolate(struct virtio_device *dev, struct isolate_options *options)
{
    return vsock_unix_isolate(to_vsock(dev), options);
}

static void teardown(void *arg)
{
    struct vsock *vs = arg;
    struct vsock_conn *conn, *tmp;
    struct vsock_listener *l, *ltmp;
    struct accept *a, *atmp;
    pthread_mutex_lock(&vs->dev.lock);
    forget_guest(vs);
    list_for_each (conn, tmp, &vs->doomed, node)
        vsock_conn_free(conn);
    list_for_each (conn, tmp, &vs->draining, node)
        vsock_conn_free(conn);
    vsock_unix_close(vs);
    list_for_each (l, ltmp, &vs->listeners, node)
        free(l);
    list_for_each (a, atmp, &vs->accepts, node) {
        close(a->fd);
        free(a);
    }
    loop_timer_cancel(&vs->timer);
    loop_remove(&vs->wake);
    close_fd(&vs->wake.fd);
    pthread_mutex_unlock(&vs->dev.lock);
}

void virtio_vsock_free(struct virtio_device *dev)
{
    if (!dev)
        return;
    virtio_reset(dev);
    loop_call(dev->loop, teardown, to_vsock(dev));
    virtio_finish(dev);
    free(to_vsock(dev));
}

struct setup_call {
    struct vsock *vs;
    const struct virtio_vsock_options *options;
    struct dayfly_err *err;
    int result;
};

static void setup_call(void *arg)
{
    struct setup_call *call = arg;
    struct vsock *vs = call->vs;
    vs->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = vs->wake.fd < 0 ? -errno : loop_add(vs->dev.loop, &vs->wake);
    if (r < 0)
        call->result = err_errno(call->err, -r, "vsock device");
    else if (call->options->path)
        call->result = vsock_unix_listen(vs, call->options->path, call->err);
}

int virtio_vsock_new(struct virtio_device **out, const struct virtio_vsock_options *options,
                     struct loop *loop, const struct log *log, struct dayfly_err *err)
{
    if (options->guest_cid <= VSOCK_HOST_CID || options->guest_cid == UINT32_MAX)
        return err_set(err, EINVAL, "vsock: %u cannot be a guest's context id", options->guest_cid);
    struct vsock *vs = calloc(1, sizeof(*vs));
    if (!vs)
        return err_errno(err, ENOMEM, "vsock device");
    vs->guest_cid = options->guest_cid;
    vs->config_guest_cid = htole64(options->guest_cid);
    vs->wake = (struct loop_source){.fd = -1, .events = EPOLLIN, .ready = woken};
    vs->timer.fired = timer_fired;
    vs->unix_source.fd = vs->dir_fd = -1;
    for (unsigned i = 0; i < VSOCK_BUCKETS; i++)
        list_init(&vs->buckets[i]);
    struct list *lists[] = {&vs->draining,  &vs->doomed,  &vs->ready,
                            &vs->listeners, &vs->accepts, &vs->clients};
    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
        list_init(lists[i]);
    virtio_init(&vs->dev, &(struct virtio_init){
                              .ops = &ops,
                              .queue_count = VSOCK_QUEUES,
                              .queue_size = QUEUE_SIZE,
                              .config = &vs->config_guest_cid,
                              .config_bytes = sizeof(vs->config_guest_cid),
                              .loop = loop,
                              .log = log,
                          });
    struct setup_call call = {.vs = vs, .options = options, .err = err};
    int r = loop_call(loop, setup_call, &call);
    if (r < 0)
        err_errno(err, -r, "vsock device");
    if (r < 0 || call.result < 0) {
        virtio_vsock_free(&vs->dev);
        return r < 0 ? r : call.result;
    }
    *out = &vs->dev;
    return 0;
}
