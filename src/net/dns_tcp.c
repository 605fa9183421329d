/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_tcp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/arith.h"
#include "util/clock.h"

#define QUERY_MAX  1024 /* a name, a type and some options: a question is never longer */
#define IN_BYTES   (2 + QUERY_MAX)
#define IDLE_NS    (15 * NS_PER_S)
#define RESEND_NS  (200 * NS_PER_MS)
#define RESEND_MAX 6 /* times, each twice as long after the one before */

struct connection {
    bool used, opening, busy, fin_received, fin_sent;
    uint32_t number;
    struct packet_ends ends;
    uint32_t received; /* next sequence number from the guest */
    uint32_t acked;    /* first of ours that the guest has not acknowledged: where `out` begins */
    uint32_t sent;     /* how many from there on were sent */
    uint32_t window;
    uint16_t mss;
    unsigned resends;
    uint64_t resend_ns; /* while something is under way */
    uint64_t idle_ns;
    uint8_t in[IN_BYTES];
    size_t in_len;
    uint8_t *out; /* the answer with its length in front, less what was acknowledged */
    size_t out_at, out_len;
};

struct dns_tcp {
    const struct dns_tcp_ops *ops;
    void *opaque;
    uint16_t mtu;
    uint32_t next_number;
    struct connection connections[DNS_TCP_CONNECTIONS];
    uint8_t frame[PACKET_FRAME_MAX];
};

struct dns_tcp *dns_tcp_new(uint16_t mtu, const struct dns_tcp_ops *ops, void *opaque)
{
    struct dns_tcp *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->ops = ops;
    t->opaque = opaque;
    t->mtu = mtu;
    return t;
}

static void end(struct connection *c)
{
    free(c->out);
    *c = (struct connection){0};
}

void dns_tcp_free(struct dns_tcp *t)
{
    for (unsigned i = 0; t && i < DNS_TCP_CONNECTIONS; i++)
        end(&t->connections[i]);
    free(t);
}

static void emit(struct dns_tcp *t, const struct connection *c, uint8_t flags, uint32_t offset,
                 const void *payload, size_t len)
{
    const struct packet_tcp tcp = {.seq = c->acked + offset,
                                   .ack = c->received,
                                   .flags = flags,
                                   .window = (uint16_t)(IN_BYTES - c->in_len),
                                   .mss = flags & PACKET_TCP_SYN ? (uint16_t)(t->mtu - 60) : 0};
    size_t bytes = packet_tcp(&c->ends, &tcp, payload, len, t->frame, sizeof(t->frame));
    t->ops->send(t->opaque, t->frame, bytes);
}

static void give_up(struct dns_tcp *t, struct connection *c)
{
    emit(t, c, PACKET_TCP_RST | PACKET_TCP_ACK, c->sent, NULL, 0);
    end(c);
}

static void refuse(struct dns_tcp *t, const struct packet *p)
{
    size_t bytes = packet_refuse(p, t->frame, sizeof(t->frame));
    if (bytes)
        t->ops->send(t->opaque, t->frame, bytes);
}

/* Send of the answer what the guest's window has room for; behind the last answer to a guest that says
 * no more, the end. Returns whether anything went. */
static bool push(struct dns_tcp *t, struct connection *c, uint64_t now_ns)
{
    bool any = false;
    size_t left = c->out_len - c->out_at;
    while (c->sent < left && c->sent < c->window) {
        size_t n = MIN(MIN(left, c->window) - c->sent, (size_t)c->mss);
        emit(t, c, PACKET_TCP_ACK | PACKET_TCP_PSH, c->sent, c->out + c->out_at + c->sent, n);
        c->sent += (uint32_t)n;
        any = true;
    }
    if (c->fin_received && !c->busy && !c->fin_sent && left == 0) {
        emit(t, c, PACKET_TCP_ACK | PACKET_TCP_FIN, 0, NULL, 0);
        c->fin_sent = any = true;
        c->sent = 1;
    }
    if (any && !c->resend_ns)
        c->resend_ns = now_ns + RESEND_NS;
    return any;
}

/* A whole question goes to the owner; the next one waits until this one was answered. */
static void read_query(struct dns_tcp *t, struct connection *c)
{
    if (c->busy || c->out || c->in_len < 2)
        return;
    size_t len = (size_t)c->in[0] << 8 | c->in[1];
    if (len == 0 || len > QUERY_MAX) {
        give_up(t, c);
        return;
    }
    if (c->in_len < 2 + len)
        return;
    uint8_t message[QUERY_MAX];
    memcpy(message, c->in + 2, len);
    c->in_len -= 2 + len;
    memmove(c->in, c->in + 2 + len, c->in_len);
    c->busy = true;
    t->ops->query(t->opaque, c->number, message, len); /* may have answered by now */
}

/* ---- segments ---- */

/* The largest segment that the guest takes (RFC 9293, 3.7.1), and no less than any host must take. */
static uint16_t guest_mss(const struct dns_tcp *t, const struct packet *p)
{
    uint16_t least = 536, most = (uint16_t)(t->mtu - 60), mss = least;
    const uint8_t *at = p->frame + p->l4 + 20, *behind = p->frame + p->payload;
    while (behind - at >= 4 && *at != 0) {
        if (*at == 1) {
            at++;
            continue;
        }
        if (at[0] == 2 && at[1] == 4)
            mss = (uint16_t)(at[2] << 8 | at[3]);
        if (at[1] < 2 || at[1] > behind - at)
            break;
        at += at[1];
    }
    return MIN(MAX(mss, least), most);
}

static bool same_ends(const struct packet_ends *a, const struct packet_ends *b)
{
    return a->guest_port == b->guest_port && net_addr_equal(&a->guest, &b->guest) &&
           net_addr_equal(&a->ours, &b->ours);
}

static struct connection *find(struct dns_tcp *t, const struct packet_ends *ends)
{
    for (unsigned i = 0; i < DNS_TCP_CONNECTIONS; i++)
        if (t->connections[i].used && same_ends(&t->connections[i].ends, ends))
            return &t->connections[i];
    return NULL;
}

static void open_connection(struct dns_tcp *t, struct connection *c, const struct packet *p,
                            uint64_t now_ns)
{
    if (c && c->opening && c->received == p->seq + 1) { /* it did not get our answer */
        emit(t, c, PACKET_TCP_SYN | PACKET_TCP_ACK, 0, NULL, 0);
        return;
    }
    for (unsigned i = 0; !c && i < DNS_TCP_CONNECTIONS; i++)
        if (!t->connections[i].used)
            c = &t->connections[i];
    if (!c) {
        refuse(t, p);
        return;
    }
    end(c);
    *c = (struct connection){.used = true,
                             .opening = true,
                             .number = ++t->next_number,
                             .ends = packet_ends_of(p),
                             .received = p->seq + 1,
                             .sent = 1, /* the SYN */
                             .mss = guest_mss(t, p),
                             .resend_ns = now_ns + RESEND_NS,
                             .idle_ns = now_ns + IDLE_NS};
    if (getrandom(&c->acked, sizeof(c->acked), 0) != sizeof(c->acked)) {
        end(c);
        return;
    }
    emit(t, c, PACKET_TCP_SYN | PACKET_TCP_ACK, 0, NULL, 0);
}

/* False when it ended the connection. */
static bool take_ack(struct connection *c, const struct packet *p, uint64_t now_ns)
{
    uint32_t n = p->ack - c->acked;
    if (n > c->sent) /* old, or of what was never sent */
        return true;
    c->window = p->tcp_window;
    if (n == 0)
        return true;
    c->acked += n;
    c->sent -= n;
    c->resends = 0;
    c->resend_ns = c->sent ? now_ns + RESEND_NS : 0;
    if (c->opening) {
        c->opening = false;
        return true;
    }
    if (c->fin_sent) {
        end(c);
        return false;
    }
    c->out_at += n;
    if (c->out_at == c->out_len) {
        free(c->out);
        c->out = NULL;
        c->out_at = c->out_len = 0;
    }
    return true;
}

static void take_data(struct dns_tcp *t, struct connection *c, const struct packet *p)
{
    size_t len = p->len - p->payload;
    bool fin = p->tcp_flags & PACKET_TCP_FIN;
    if (!len && !fin)
        return;
    if (p->seq == c->received && !c->fin_received) {
        size_t n = MIN(len, IN_BYTES - c->in_len);
        memcpy(c->in + c->in_len, p->frame + p->payload, n);
        c->in_len += n;
        c->received += (uint32_t)n;
        if (fin && n == len) {
            c->received++;
            c->fin_received = true;
        }
    }
    emit(t, c, PACKET_TCP_ACK, c->sent, NULL, 0);
}

void dns_tcp_input(struct dns_tcp *t, const struct packet *p, uint64_t now_ns)
{
    const struct packet_ends ends = packet_ends_of(p);
    struct connection *c = find(t, &ends);
    if ((p->tcp_flags & (PACKET_TCP_SYN | PACKET_TCP_ACK | PACKET_TCP_RST)) == PACKET_TCP_SYN) {
        open_connection(t, c, p, now_ns);
        return;
    }
    if (!c) {
        refuse(t, p);
        return;
    }
    if (p->tcp_flags & PACKET_TCP_RST) {
        if (p->seq == c->received)
            end(c);
        return;
    }
    if (!(p->tcp_flags & PACKET_TCP_ACK) || !take_ack(c, p, now_ns) || c->opening)
        return;
    c->idle_ns = now_ns + IDLE_NS;
    take_data(t, c, p);
    read_query(t, c);
    if (c->used)
        push(t, c, now_ns);
}

void dns_tcp_answer(struct dns_tcp *t, uint32_t number, const uint8_t *message, size_t len,
                    uint64_t now_ns)
{
    struct connection *c = NULL;
    for (unsigned i = 0; i < DNS_TCP_CONNECTIONS && !c; i++)
        if (t->connections[i].used && t->connections[i].number == number)
            c = &t->connections[i];
    if (!c || !c->busy || len > UINT16_MAX)
        return;
    c->busy = false;
    c->out = malloc(2 + len);
    if (!c->out) {
        give_up(t, c);
        return;
    }
    c->out[0] = (uint8_t)(len >> 8);
    c->out[1] = (uint8_t)len;
    memcpy(c->out + 2, message, len);
    c->out_at = 0;
    c->out_len = 2 + len;
    push(t, c, now_ns);
}

static void resend(struct dns_tcp *t, struct connection *c, uint64_t now_ns)
{
    if (c->resends++ == RESEND_MAX) {
        give_up(t, c);
        return;
    }
    c->resend_ns = now_ns + (RESEND_NS << c->resends);
    if (c->opening) {
        emit(t, c, PACKET_TCP_SYN | PACKET_TCP_ACK, 0, NULL, 0);
        return;
    }
    c->sent = 0;
    c->fin_sent = false;
    c->window = MAX(c->window, 1u); /* a closed window is tried with a byte */
    push(t, c, now_ns);
}

void dns_tcp_tick(struct dns_tcp *t, uint64_t now_ns, uint64_t *deadline_ns)
{
    for (unsigned i = 0; i < DNS_TCP_CONNECTIONS; i++) {
        struct connection *c = &t->connections[i];
        if (c->used && now_ns >= c->idle_ns)
            give_up(t, c);
        else if (c->used && c->resend_ns && now_ns >= c->resend_ns)
            resend(t, c, now_ns);
        if (!c->used)
            continue;
        *deadline_ns = MIN(*deadline_ns, c->idle_ns);
        if (c->resend_ns)
            *deadline_ns = MIN(*deadline_ns, c->resend_ns);
    }
}
