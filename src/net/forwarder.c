/* SPDX-License-Identifier: Apache-2.0 */
#include "net/forwarder.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SERVERS_MAX  3
#define TRIES_MAX    4
#define FORGERIES    16 /* datagrams that are no answer, of which so many are looked at in one turn */
#define STREAM_BYTES (2 + DNS_MESSAGE_MAX)

static const uint64_t patience_ns[TRIES_MAX] = {1000 * NS_PER_MS, 2000 * NS_PER_MS, 2000 * NS_PER_MS,
                                                3000 * NS_PER_MS};

struct question {
    bool used, stream;
    int fd;
    int poll_index;
    unsigned tries;
    uint16_t id;
    uint64_t deadline_ns;
    struct dns_client client;
    struct dns_query query;
    uint8_t out[2 + DNS_QUERY_BYTES]; /* with TCP's length in front */
    size_t out_len, out_done;
    uint8_t *in; /* TCP: STREAM_BYTES */
    size_t in_done;
};

struct forwarder {
    const struct forwarder_ops *ops;
    void *opaque;
    unsigned server_count;
    struct sockaddr_storage servers[SERVERS_MAX];
    struct question questions[FORWARDER_QUESTIONS_MAX];
    uint8_t buffer[STREAM_BYTES];
};

struct forwarder *forwarder_new(const struct sockaddr_storage *servers, unsigned server_count,
                                const struct forwarder_ops *ops, void *opaque)
{
    struct forwarder *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->ops = ops;
    f->opaque = opaque;
    f->server_count = MIN(server_count, SERVERS_MAX);
    memcpy(f->servers, servers, f->server_count * sizeof(*servers));
    return f;
}

static void forget(struct question *q)
{
    if (q->used)
        close_fd(&q->fd);
    free(q->in);
    q->in = NULL;
    q->used = false;
}

void forwarder_free(struct forwarder *f)
{
    if (!f)
        return;
    for (unsigned i = 0; i < FORWARDER_QUESTIONS_MAX; i++)
        forget(&f->questions[i]);
    free(f);
}

/* The question's place is free before anybody is told. */
static void finish(struct forwarder *f, struct question *q, uint8_t *message, size_t len,
                   const struct dns_answer *answer)
{
    const struct dns_client client = q->client;
    const struct dns_query query = q->query;
    forget(q);
    f->ops->answered(f->opaque, &client, &query, message, len, answer);
}

/* ---- asking ---- */

static bool send_out(struct question *q)
{
    size_t skip = q->stream ? 0 : 2;
    ssize_t n = send(q->fd, q->out + skip + q->out_done, q->out_len - skip - q->out_done, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    q->out_done += (size_t)n;
    return true;
}

static bool connect_to(struct question *q, const struct sockaddr_storage *server)
{
    socklen_t len =
        server->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    close_fd(&q->fd);
    q->fd = socket(server->ss_family,
                   (q->stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return q->fd >= 0 &&
           (connect(q->fd, (const struct sockaddr *)server, len) == 0 || errno == EINPROGRESS);
}

static bool ask_once(struct forwarder *f, struct question *q)
{
    if (getrandom(&q->id, sizeof(q->id), 0) != sizeof(q->id))
        return false;
    size_t len = dns_make_query(&q->query, q->id, q->out + 2);
    q->out[0] = (uint8_t)(len >> 8);
    q->out[1] = (uint8_t)len;
    q->out_len = 2 + len;
    q->out_done = q->in_done = 0;
    const struct sockaddr_storage *server = &f->servers[(q->tries - 1) % f->server_count];
    return connect_to(q, server) && (q->stream || send_out(q));
}

/* Ask the next server; with none left that is the end of it. */
static void try_next(struct forwarder *f, struct question *q, uint64_t now_ns)
{
    while (f->server_count && q->tries < TRIES_MAX) {
        q->deadline_ns = now_ns + patience_ns[q->tries++];
        if (ask_once(f, q))
            return;
    }
    finish(f, q, NULL, 0, NULL);
}

/* The same server by TCP. */
static void try_stream(struct forwarder *f, struct question *q, uint64_t now_ns)
{
    q->stream = true;
    q->deadline_ns = now_ns + patience_ns[TRIES_MAX - 1];
    q->in = malloc(STREAM_BYTES);
    if (!q->in || !ask_once(f, q))
        try_next(f, q, now_ns);
}

static bool same_client(const struct dns_client *a, const struct dns_client *b)
{
    if (a->tcp != b->tcp)
        return false;
    if (a->tcp)
        return a->connection == b->connection;
    return a->ends.guest_port == b->ends.guest_port && net_addr_equal(&a->ends.guest, &b->ends.guest);
}

bool forwarder_ask(struct forwarder *f, const struct dns_client *client, const struct dns_query *query,
                   uint64_t now_ns)
{
    struct question *free_one = NULL;
    for (unsigned i = 0; i < FORWARDER_QUESTIONS_MAX; i++) {
        struct question *q = &f->questions[i];
        if (!q->used)
            free_one = q;
        else if (q->query.id == query->id && q->query.type == query->type &&
                 same_client(&q->client, client) && strcmp(q->query.name, query->name) == 0)
            return true;
    }
    if (!free_one)
        return false;
    *free_one =
        (struct question){.used = true, .fd = -1, .poll_index = -1, .client = *client, .query = *query};
    try_next(f, free_one, now_ns);
    return true;
}

/* ---- answers ---- */

static void read_datagrams(struct forwarder *f, struct question *q, uint64_t now_ns)
{
    struct dns_answer answer;
    for (int i = 0; i < FORGERIES; i++) {
        ssize_t n = recv(q->fd, f->buffer, sizeof(f->buffer), 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            try_next(f, q, now_ns); /* nobody listens there */
            return;
        }
        if (!dns_parse_answer(f->buffer, (size_t)n, &q->query, q->id, &answer))
            continue;
        if (answer.truncated && q->client.tcp)
            try_stream(f, q, now_ns);
        else
            finish(f, q, f->buffer, (size_t)n, &answer);
        return;
    }
}

static void read_stream(struct forwarder *f, struct question *q, uint64_t now_ns)
{
    struct dns_answer answer;
    size_t wanted = q->in_done < 2 ? 2 : 2u + ((size_t)q->in[0] << 8 | q->in[1]);
    ssize_t n = recv(q->fd, q->in + q->in_done, wanted - q->in_done, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        try_next(f, q, now_ns);
        return;
    }
    q->in_done += (size_t)n;
    if (q->in_done < 2 || q->in_done < 2u + ((size_t)q->in[0] << 8 | q->in[1]))
        return;
    size_t len = q->in_done - 2;
    memcpy(f->buffer, q->in + 2, len);
    if (dns_parse_answer(f->buffer, len, &q->query, q->id, &answer) && !answer.truncated)
        finish(f, q, f->buffer, len, &answer);
    else
        try_next(f, q, now_ns);
}

static void handle(struct forwarder *f, struct question *q, short events, uint64_t now_ns)
{
    if (!q->stream) {
        read_datagrams(f, q, now_ns);
    } else if (q->out_done < q->out_len) {
        if (!send_out(q)) /* also when the connection failed */
            try_next(f, q, now_ns);
    } else if (events & (POLLIN | POLLERR | POLLHUP)) {
        read_stream(f, q, now_ns);
    }
}

unsigned forwarder_fill(struct forwarder *f, struct pollfd *fds, uint64_t *deadline_ns)
{
    unsigned count = 0;
    for (unsigned i = 0; i < FORWARDER_QUESTIONS_MAX; i++) {
        struct question *q = &f->questions[i];
        q->poll_index = -1;
        if (!q->used)
            continue;
        bool sending = q->stream && q->out_done < q->out_len;
        q->poll_index = (int)count;
        fds[count++] = (struct pollfd){q->fd, sending ? POLLOUT : POLLIN, 0};
        *deadline_ns = MIN(*deadline_ns, q->deadline_ns);
    }
    return count;
}

void forwarder_poll(struct forwarder *f, const struct pollfd *fds, uint64_t now_ns)
{
    for (unsigned i = 0; i < FORWARDER_QUESTIONS_MAX; i++) {
        struct question *q = &f->questions[i];
        if (!q->used || q->poll_index < 0)
            continue;
        short events = fds[q->poll_index].revents;
        q->poll_index = -1;
        if (events)
            handle(f, q, events, now_ns);
        else if (now_ns >= q->deadline_ns)
            try_next(f, q, now_ns);
    }
}
