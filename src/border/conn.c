/* SPDX-License-Identifier: Apache-2.0 */
#include "border/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/secret.h"
#include "util/arith.h"
#include "util/clock.h"

/* Between two looks at other connections. */
#define TURNS 16

/* Nothing has moved for so long: */
#define SHAKE_LIMIT_NS   (30 * NS_PER_S)      /* the guest's TLS */
#define WAIT_LIMIT_NS    (120 * NS_PER_S)     /* before its next request */
#define CONNECT_LIMIT_NS (10 * NS_PER_S)      /* to one address, and the host's TLS */
#define STREAM_LIMIT_NS  (15 * 60 * NS_PER_S) /* in an exchange */
#define LINGER_LIMIT_NS  (2 * NS_PER_S)       /* after the last word */
#define LINGER_BYTES     (1 << 20)

enum server_state { SERVER_NONE, SERVER_RESOLVING, SERVER_CONNECTING, SERVER_SHAKING, SERVER_READY };

struct conn {
    struct secret memory; /* this very struct */
    const struct conn_shared *shared;
    bool begun, lingers;
    struct peer client, server;
    enum server_state server_state;
    struct net_addr addrs[RESOLVE_ADDRS_MAX];
    unsigned addr_count, addr_next;
    size_t lingered;
    uint64_t moved_ns;  /* when something last did */
    uint64_t server_ns; /* when server_state began */
    bool again;         /* there is more to do without waiting */
    struct exchange x;
};

struct conn *conn_new(const struct conn_shared *shared, int fd, bool tls, uint64_t now_ns)
{
    struct secret memory;
    SSL *ssl = tls ? tls_accept(shared->tls, fd) : NULL;
    if ((tls && !ssl) || secret_new(&memory, sizeof(struct conn), NULL, NULL) < 0) {
        SSL_free(ssl);
        close(fd);
        return NULL;
    }
    struct conn *c = memory.bytes;
    c->memory = memory;
    c->shared = shared;
    c->server = PEER_NONE;
    c->moved_ns = now_ns;
    peer_begin(&c->client, fd, ssl);
    return c;
}

void conn_free(struct conn *c)
{
    if (!c)
        return;
    struct secret memory = c->memory;
    peer_close(&c->client);
    peer_close(&c->server);
    secret_finish(&memory);
}

/* ---- the host ---- */

static void enter(struct conn *c, enum server_state state, uint64_t now_ns)
{
    c->server_state = state;
    c->server_ns = now_ns;
}

static void drop_server(struct conn *c)
{
    if (c->server_state == SERVER_READY)
        peer_end(&c->server);
    peer_close(&c->server);
    c->server_state = SERVER_NONE;
    exchange_dropped(&c->x);
}

static void server_fails(struct conn *c, int status, const char *why)
{
    exchange_server_fails(&c->x, status, why);
    drop_server(c);
}

static uint16_t port_of(const struct conn *c)
{
    return c->x.tls ? POLICY_BORDER_HTTPS : POLICY_BORDER_HTTP;
}

/* To the next address. False when there is none left. */
static bool connect_next(struct conn *c, uint64_t now_ns)
{
    peer_close(&c->server);
    while (c->addr_next < c->addr_count) {
        struct sockaddr_storage at;
        socklen_t len = net_addr_sockaddr(&c->addrs[c->addr_next++], port_of(c), &at);
        int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            continue;
        if (connect(fd, (struct sockaddr *)&at, len) == 0 || errno == EINPROGRESS) {
            peer_begin(&c->server, fd, NULL);
            enter(c, SERVER_CONNECTING, now_ns);
            return true;
        }
        close(fd);
    }
    return false;
}

static void resolve(struct conn *c, uint64_t now_ns)
{
    enum resolve_state state = resolve_host(c->shared->resolve, (unsigned)c->x.host, port_of(c), now_ns,
                                            c->addrs, &c->addr_count);
    c->addr_next = 0;
    if (state == RESOLVE_ASKING)
        return;
    if (state == RESOLVE_FAILED)
        server_fails(c, 502, "the host's name does not resolve");
    else if (!c->addr_count)
        server_fails(c, 502, "the host's addresses are private, and no rule allows them");
    else if (!connect_next(c, now_ns))
        server_fails(c, 502, "the host cannot be connected to");
}

static void begin_tls(struct conn *c, uint64_t now_ns)
{
    int fd = c->server.fd;
    SSL *ssl = c->x.tls ? tls_connect(c->shared->tls, fd, (unsigned)c->x.host) : NULL;
    if (c->x.tls && !ssl) {
        server_fails(c, 502, "no memory for TLS");
        return;
    }
    peer_begin(&c->server, fd, ssl);
    enter(c, SERVER_SHAKING, now_ns);
}

static void finish_connecting(struct conn *c, uint64_t now_ns)
{
    struct pollfd p = {c->server.fd, POLLOUT, 0};
    int error = 0;
    socklen_t len = sizeof(error);
    if (poll(&p, 1, 0) == 0)
        return;
    if (getsockopt(c->server.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (!error)
        begin_tls(c, now_ns);
    else if (!connect_next(c, now_ns))
        server_fails(c, 502, "the host cannot be connected to");
}

static void shake_server(struct conn *c, uint64_t now_ns)
{
    int r = peer_shake(&c->server);
    if (r < 0) {
        server_fails(c, 502, tls_why(c->server.ssl));
    } else if (r > 0) {
        enter(c, SERVER_READY, now_ns);
        c->x.connected = true;
    }
}

/* One that waits for the next request has nothing to say. */
static void watch_idle_server(struct conn *c)
{
    peer_read(&c->server, &c->x.server_in);
    if (c->server.ended || buffer_len(&c->x.server_in))
        drop_server(c);
}

static bool talk_to_server(struct conn *c)
{
    struct exchange *x = &c->x;
    bool moved = peer_write(&c->server, &x->server_out);
    if (exchange_takes_server(x) && !c->server.ended)
        moved |= peer_read(&c->server, &x->server_in);
    if (c->server.ended)
        exchange_server_ended(x, c->server.clean);
    return moved;
}

/* Whether anything changed. */
static bool run_server(struct conn *c, uint64_t now_ns)
{
    struct exchange *x = &c->x;
    enum server_state before = c->server_state;
    bool moved = false;
    if (x->drop_server) {
        drop_server(c);
        moved = true;
    }
    if (x->state == EXCHANGE_BUSY && c->server_state == SERVER_NONE && !x->response_begun)
        enter(c, SERVER_RESOLVING, now_ns);
    switch (c->server_state) {
    case SERVER_NONE:
        break;
    case SERVER_RESOLVING:
        resolve(c, now_ns);
        break;
    case SERVER_CONNECTING:
        finish_connecting(c, now_ns);
        break;
    case SERVER_SHAKING:
        shake_server(c, now_ns);
        break;
    case SERVER_READY:
        if (x->state == EXCHANGE_WAITS)
            watch_idle_server(c);
        else
            moved |= talk_to_server(c);
        break;
    }
    return moved || c->server_state != before;
}

/* ---- the guest ---- */

/* 1 it is done, 0 not yet, -1 it failed. */
static int begin(struct conn *c)
{
    int r = peer_shake(&c->client);
    if (r <= 0) {
        if (r < 0)
            c->shared->exchange.event(c->shared->exchange.opaque, EXCHANGE_REFUSED, -1,
                                      "TLS with the guest failed");
        return r;
    }
    exchange_begin(&c->x, &c->shared->exchange, c->client.ssl ? tls_host(c->client.ssl) : -1);
    c->begun = true;
    return 1;
}

/* What is closed with bytes unread is broken off, and the guest would not read our last words. */
static bool linger(struct conn *c)
{
    struct buffer *in = &c->x.client_in;
    while (c->lingered < LINGER_BYTES) {
        buffer_clear(in);
        bool some = peer_read(&c->client, in);
        c->lingered += buffer_len(in);
        if (c->client.ended)
            return false;
        if (!some)
            return true;
    }
    return false;
}

static bool step(struct conn *c, uint64_t now_ns)
{
    struct exchange *x = &c->x;
    bool moved = false;
    if (exchange_takes_client(x)) {
        moved |= peer_read(&c->client, &x->client_in);
        if (c->client.ended)
            exchange_client_ended(x);
    }
    exchange_run(x);
    moved |= run_server(c, now_ns);
    exchange_run(x);
    return moved | peer_write(&c->client, &x->client_out);
}

static uint64_t limit_of(const struct conn *c)
{
    if (!c->begun)
        return c->moved_ns + SHAKE_LIMIT_NS;
    if (c->lingers)
        return c->moved_ns + LINGER_LIMIT_NS;
    if (c->server_state == SERVER_CONNECTING || c->server_state == SERVER_SHAKING)
        return c->server_ns + CONNECT_LIMIT_NS;
    return c->moved_ns + (c->x.state == EXCHANGE_WAITS ? WAIT_LIMIT_NS : STREAM_LIMIT_NS);
}

/* The limit is over: what is still to be said. False when nothing is. */
static bool time_out(struct conn *c, uint64_t now_ns)
{
    if (!c->begun || c->lingers || c->x.state != EXCHANGE_BUSY)
        return false;
    if (c->server_state == SERVER_CONNECTING && connect_next(c, now_ns))
        return true;
    server_fails(c, 504, "the host does not answer");
    return c->x.state == EXCHANGE_ENDS;
}

static bool run(struct conn *c, uint64_t now_ns)
{
    c->again = false;
    if (now_ns >= limit_of(c) && !time_out(c, now_ns))
        return false;
    int shaken = c->begun ? 1 : begin(c);
    if (shaken <= 0)
        return shaken == 0;
    bool moved = true;
    for (int i = 0; i < TURNS && moved && !c->lingers; i++) {
        moved = step(c, now_ns);
        if (moved)
            c->moved_ns = now_ns;
        if (c->client.broken || c->x.state == EXCHANGE_BREAKS)
            return false;
        if (c->x.state == EXCHANGE_ENDS && !buffer_len(&c->x.client_out)) {
            peer_end(&c->client);
            drop_server(c);
            c->lingers = true;
        }
    }
    if (c->lingers)
        return linger(c);
    c->again = moved;
    return true;
}

/* ---- waiting ---- */

static short server_events(const struct conn *c)
{
    const struct exchange *x = &c->x;
    switch (c->server_state) {
    case SERVER_NONE:
    case SERVER_RESOLVING:
        return 0;
    case SERVER_CONNECTING:
        return POLLOUT;
    case SERVER_SHAKING:
        return peer_events(&c->server, true, true);
    case SERVER_READY:
        break;
    }
    bool reading = exchange_takes_server(x) || x->state == EXCHANGE_WAITS;
    return peer_events(&c->server, reading, buffer_len(&x->server_out) > 0);
}

void conn_fill(const struct conn *c, struct pollfd *fds, uint64_t *deadline_ns)
{
    bool reading = !c->begun || c->lingers || exchange_takes_client(&c->x);
    short server = server_events(c);
    fds[0] = (struct pollfd){
        c->client.fd, peer_events(&c->client, reading, c->begun && buffer_len(&c->x.client_out)), 0};
    /* One that has ended would be reported without end. */
    fds[1] = (struct pollfd){server && !c->server.ended ? c->server.fd : -1, server, 0};
    *deadline_ns = MIN(*deadline_ns, c->again ? 0 : limit_of(c));
}

bool conn_poll(struct conn *c, const struct pollfd *fds, uint64_t now_ns)
{
    if (fds[0].revents & (POLLHUP | POLLERR)) /* of a Unix socket: the guest has closed both ways */
        return false;
    bool due = fds[0].revents || fds[1].revents || c->again || now_ns >= limit_of(c) ||
               c->server_state == SERVER_RESOLVING;
    return !due || run(c, now_ns);
}

uint64_t conn_idle_since(const struct conn *c)
{
    return c->begun && !c->lingers && exchange_is_idle(&c->x) ? c->moved_ns : UINT64_MAX;
}
