/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name that is not allowed does not exist: NXDOMAIN, at once. REFUSED would be the truth, but musl
 * ignores it and waits until its time is up, and glibc calls it a temporary failure and asks again.
 */
#include "net/nat_dns.h"

#include <stdlib.h>
#include <string.h>

#include "net/dns_tcp.h"
#include "util/arith.h"

#define BORDER_TTL_S 60

struct nat_dns {
    struct nat_dns_options options;
    struct forwarder *forwarder;
    struct dns_tcp *tcp;
    uint64_t now_ns; /* of the call from outside that is being handled */
    uint8_t frame[PACKET_FRAME_MAX];
};

/* ---- answers to the guest ---- */

static size_t udp_room(const struct nat_dns *d, const struct dns_client *client,
                       const struct dns_query *query)
{
    size_t headers = net_addr_is_v4(&client->ends.guest) ? 28 : 48;
    return MIN((size_t)query->udp_bytes, d->options.mtu - headers);
}

static void reply(struct nat_dns *d, const struct dns_client *client, const uint8_t *message,
                  size_t len)
{
    if (client->tcp) {
        dns_tcp_answer(d->tcp, client->connection, message, len, d->now_ns);
        return;
    }
    size_t bytes = packet_udp(&client->ends, message, len, d->frame, sizeof(d->frame));
    if (bytes)
        d->options.send(d->options.opaque, d->frame, bytes);
}

static void reply_error(struct nat_dns *d, const struct dns_client *client,
                        const struct dns_query *query, int code, bool truncated)
{
    uint8_t message[DNS_QUERY_BYTES];
    reply(d, client, message, dns_make_error(query, code, truncated, message));
}

static void open_addresses(struct nat_dns *d, const struct dns_query *query,
                           const struct dns_answer *answer)
{
    struct nat_report *report = d->options.report;
    uint32_t name = 0;
    while (name < report->name_count && strcmp(report->names[name].name, query->name) != 0)
        name++;
    for (unsigned i = 0; i < answer->count; i++) {
        bool open = policy_open(d->options.policy, query->name, &answer->addrs[i].addr,
                                answer->addrs[i].ttl_s, d->now_ns);
        book_addr(report, name < report->name_count ? name : NAT_NAMES_LISTED, &answer->addrs[i].addr,
                  open);
    }
}

static void answered(void *opaque, const struct dns_client *client, const struct dns_query *query,
                     uint8_t *message, size_t len, const struct dns_answer *answer)
{
    struct nat_dns *d = opaque;
    if (!message) {
        book_count(d->options.report, NAT_NAMES_FAILED, 1);
        reply_error(d, client, query, DNS_SERVFAIL, false);
    } else if (answer->truncated || (!client->tcp && len > udp_room(d, client, query))) {
        reply_error(d, client, query, DNS_NOERROR, true);
    } else {
        open_addresses(d, query, answer);
        message[0] = (uint8_t)(query->id >> 8);
        message[1] = (uint8_t)query->id;
        reply(d, client, message, len);
    }
}

/* ---- questions ---- */

static bool is_border_host(const struct nat_dns *d, const char *name)
{
    for (unsigned i = 0; i < d->options.border_host_count; i++)
        if (strcmp(d->options.border_hosts[i], name) == 0)
            return true;
    return false;
}

/* The border has one address, of IPv4, and nothing else is to be known of such a host: another address
 * or a hint in an HTTPS record would lead past the border. */
static void answer_for_border(struct nat_dns *d, const struct dns_client *client,
                              const struct dns_query *query)
{
    uint8_t message[DNS_ADDRESS_BYTES];
    if (query->type != DNS_TYPE_A) {
        reply_error(d, client, query, DNS_NOERROR, false);
        return;
    }
    reply(d, client, message, dns_make_address(query, &d->options.border, BORDER_TTL_S, message));
}

static void ask(struct nat_dns *d, const struct dns_client *client, const uint8_t *message, size_t len)
{
    struct dns_query query;
    int code = dns_parse_query(message, len, &query);
    if (code < 0)
        return;
    if (code != DNS_NOERROR) {
        reply_error(d, client, &query, code, false);
        return;
    }
    bool of_border = is_border_host(d, query.name);
    bool allowed = of_border || policy_allows_name(d->options.policy, query.name);
    book_count(d->options.report, NAT_NAMES_ASKED, 1);
    book_name(d->options.report, query.name, !allowed);
    if (of_border) {
        answer_for_border(d, client, &query);
    } else if (!allowed) {
        book_count(d->options.report, NAT_NAMES_REFUSED, 1);
        reply_error(d, client, &query, DNS_NXDOMAIN, false);
        d->options.refused(d->options.opaque, query.name);
    } else if (!forwarder_ask(d->forwarder, client, &query, d->now_ns)) {
        reply_error(d, client, &query, DNS_SERVFAIL, false);
    }
}

static void tcp_query(void *opaque, uint32_t connection, const uint8_t *message, size_t len)
{
    const struct dns_client client = {.tcp = true, .connection = connection};
    ask(opaque, &client, message, len);
}

static void tcp_send(void *opaque, const uint8_t *frame, size_t len)
{
    struct nat_dns *d = opaque;
    d->options.send(d->options.opaque, frame, len);
}

void nat_dns_input(struct nat_dns *d, const struct packet *p, uint64_t now_ns)
{
    d->now_ns = now_ns;
    if (!packet_checksum_ok(p))
        return;
    if (p->kind == PACKET_TCP) {
        dns_tcp_input(d->tcp, p, now_ns);
        return;
    }
    const struct dns_client client = {.ends = packet_ends_of(p)};
    ask(d, &client, p->frame + p->payload, p->len - p->payload);
}

unsigned nat_dns_fill(struct nat_dns *d, struct pollfd *fds, uint64_t *deadline_ns)
{
    dns_tcp_tick(d->tcp, d->now_ns, deadline_ns);
    return forwarder_fill(d->forwarder, fds, deadline_ns);
}

void nat_dns_poll(struct nat_dns *d, const struct pollfd *fds, uint64_t now_ns)
{
    d->now_ns = now_ns;
    forwarder_poll(d->forwarder, fds, now_ns);
}

struct nat_dns *nat_dns_new(const struct nat_dns_options *options)
{
    static const struct forwarder_ops forwarder_ops = {.answered = answered};
    static const struct dns_tcp_ops tcp_ops = {.send = tcp_send, .query = tcp_query};
    struct nat_dns *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->options = *options;
    d->forwarder = forwarder_new(options->servers, options->server_count, &forwarder_ops, d);
    d->tcp = dns_tcp_new(options->mtu, &tcp_ops, d);
    if (!d->forwarder || !d->tcp) {
        nat_dns_free(d);
        return NULL;
    }
    return d;
}

void nat_dns_free(struct nat_dns *d)
{
    if (!d)
        return;
    forwarder_free(d->forwarder);
    dns_tcp_free(d->tcp);
    free(d);
}
