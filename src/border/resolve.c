/* SPDX-License-Identifier: Apache-2.0 */
#include "border/resolve.h"

#include <assert.h>
#include <stdlib.h>

#include "net/forwarder.h"
#include "util/arith.h"
#include "util/clock.h"

#define TTL_MIN_S 5
#define TTL_MAX_S POLICY_TTL_MIN_S /* what the policy opens lasts as long at least */
#define FAILED_S  2

static_assert(RESOLVE_FDS_MAX <= FORWARDER_QUESTIONS_MAX, "a question for each address of each host");

/* A question is known by its client's number: host and type. */
static const uint16_t types[] = {DNS_TYPE_A, DNS_TYPE_AAAA};

struct host {
    unsigned pending;  /* questions */
    uint64_t until_ns; /* 0: never asked */
    uint32_t ttl_s;
    unsigned count;
    struct net_addr addrs[RESOLVE_ADDRS_MAX];
};

struct resolve {
    struct resolve_options options;
    struct forwarder *forwarder;
    uint64_t now_ns;
    struct host hosts[SWAP_HOSTS_MAX];
};

static void take_answer(struct resolve *r, struct host *h, const char *name,
                        const struct dns_answer *answer)
{
    for (unsigned i = 0; i < answer->count && h->count < RESOLVE_ADDRS_MAX; i++) {
        policy_open(r->options.policy, name, &answer->addrs[i].addr, answer->addrs[i].ttl_s, r->now_ns);
        h->addrs[h->count++] = answer->addrs[i].addr;
        h->ttl_s = MIN(h->ttl_s, answer->addrs[i].ttl_s);
    }
}

static void answered(void *opaque, const struct dns_client *client, const struct dns_query *query,
                     uint8_t *message, size_t len, const struct dns_answer *answer)
{
    struct resolve *r = opaque;
    struct host *h = &r->hosts[client->connection / ARRAY_SIZE(types)];
    (void)len;
    if (message)
        take_answer(r, h, query->name, answer);
    if (--h->pending)
        return;
    uint32_t seconds = h->count ? MAX(h->ttl_s, (uint32_t)TTL_MIN_S) : FAILED_S;
    h->until_ns = r->now_ns + seconds * NS_PER_S;
}

static void ask(struct resolve *r, unsigned host)
{
    struct host *h = &r->hosts[host];
    *h = (struct host){.ttl_s = TTL_MAX_S, .until_ns = r->now_ns + FAILED_S * NS_PER_S};
    h->pending = ARRAY_SIZE(types);
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        struct dns_query query;
        const struct dns_client client = {.tcp = true, .connection = host * ARRAY_SIZE(types) + i};
        if (!dns_question(r->options.swap->hosts[host], types[i], &query) ||
            !forwarder_ask(r->forwarder, &client, &query, r->now_ns))
            h->pending--;
    }
}

enum resolve_state resolve_host(struct resolve *r, unsigned host, uint16_t port, uint64_t now_ns,
                                struct net_addr addrs[static RESOLVE_ADDRS_MAX], unsigned *count)
{
    struct host *h = &r->hosts[host];
    r->now_ns = now_ns;
    *count = 0;
    if (!h->pending && now_ns >= h->until_ns)
        ask(r, host);
    if (h->pending)
        return RESOLVE_ASKING;
    for (unsigned i = 0; i < h->count; i++)
        if (policy_reaches(r->options.policy, &h->addrs[i], port, now_ns))
            addrs[(*count)++] = h->addrs[i];
    return h->count ? RESOLVE_KNOWN : RESOLVE_FAILED;
}

unsigned resolve_fill(struct resolve *r, struct pollfd *fds, uint64_t *deadline_ns)
{
    return forwarder_fill(r->forwarder, fds, deadline_ns);
}

void resolve_poll(struct resolve *r, const struct pollfd *fds, uint64_t now_ns)
{
    r->now_ns = now_ns;
    forwarder_poll(r->forwarder, fds, now_ns);
}

struct resolve *resolve_new(const struct resolve_options *options)
{
    static const struct forwarder_ops ops = {.answered = answered};
    struct resolve *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->options = *options;
    r->forwarder = forwarder_new(options->servers, options->server_count, &ops, r);
    if (!r->forwarder) {
        free(r);
        return NULL;
    }
    return r;
}
