/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table with chains, over a pool. Bucket and chain hold indexes, one more than the pool's. */
#include "net/flow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/clock.h"

enum { FIN_GUEST = 1, FIN_PEER = 2, ANSWERED = 4, USED = 8 };

struct flow {
    struct flow_key key;
    uint64_t last_ns;
    uint32_t next; /* in its chain, or in the list of free ones */
    uint8_t state;
};

struct flow_table {
    struct flow *pool;
    uint32_t *buckets;
    uint32_t size, mask, free;
    unsigned max[2], count[2]; /* [true]: TCP */
    unsigned closed;           /* of TCP's: those that both ends have closed */
    uint64_t seed;
};

struct flow_table *flow_table_new(unsigned tcp_max, unsigned other_max)
{
    struct flow_table *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->size = tcp_max + other_max;
    t->max[true] = tcp_max;
    t->max[false] = other_max;
    for (t->mask = 64; t->mask < t->size; t->mask *= 2)
        ;
    t->pool = calloc(t->size, sizeof(*t->pool));
    t->buckets = calloc(t->mask--, sizeof(*t->buckets));
    /* The guest chooses the keys: it must not be able to choose one chain. */
    if (!t->pool || !t->buckets || getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed)) {
        flow_table_free(t);
        return NULL;
    }
    for (uint32_t i = 0; i < t->size; i++)
        t->pool[i].next = i + 1 < t->size ? i + 2 : 0;
    t->free = t->size ? 1 : 0;
    return t;
}

void flow_table_free(struct flow_table *t)
{
    if (!t)
        return;
    free(t->pool);
    free(t->buckets);
    free(t);
}

struct flow_key flow_key_from_guest(const struct packet *p)
{
    bool icmp = p->kind == PACKET_ICMP;
    return (struct flow_key){p->kind, p->src, p->dst, icmp ? p->icmp_id : p->src_port,
                             icmp ? 0 : p->dst_port};
}

struct flow_key flow_key_to_guest(const struct packet *p)
{
    bool icmp = p->kind == PACKET_ICMP;
    return (struct flow_key){p->kind, p->dst, p->src, icmp ? p->icmp_id : p->dst_port,
                             icmp ? 0 : p->src_port};
}

/* Keys are hashed and compared as bytes. */
static_assert(sizeof(struct flow_key) == 40, "no padding");

static uint32_t *bucket(struct flow_table *t, const struct flow_key *key)
{
    uint64_t hash = t->seed, word;
    for (size_t i = 0; i < sizeof(*key); i += sizeof(word)) {
        memcpy(&word, (const uint8_t *)key + i, sizeof(word));
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return &t->buckets[hash & t->mask];
}

static struct flow *find(struct flow_table *t, const struct flow_key *key)
{
    for (uint32_t i = *bucket(t, key); i; i = t->pool[i - 1].next)
        if (memcmp(&t->pool[i - 1].key, key, sizeof(*key)) == 0)
            return &t->pool[i - 1];
    return NULL;
}

static bool is_closed(const struct flow *flow)
{
    return (flow->state & (FIN_GUEST | FIN_PEER)) == (FIN_GUEST | FIN_PEER);
}

static void set_state(struct flow_table *t, struct flow *flow, uint8_t state)
{
    t->closed -= is_closed(flow);
    flow->state = state;
    t->closed += is_closed(flow);
}

static void forget(struct flow_table *t, struct flow *flow)
{
    uint32_t number = (uint32_t)(flow - t->pool) + 1, *link = bucket(t, &flow->key);
    while (*link != number)
        link = &t->pool[*link - 1].next;
    *link = flow->next;
    t->count[flow->key.kind == PACKET_TCP]--;
    set_state(t, flow, 0);
    flow->next = t->free;
    t->free = number;
}

static uint64_t limit_ns(const struct flow *flow)
{
    if (flow->key.kind != PACKET_TCP)
        return (flow->key.peer_port == 53 ? FLOW_DNS_S : FLOW_UDP_S) * NS_PER_S;
    if (is_closed(flow))
        return FLOW_TCP_CLOSED_S * NS_PER_S;
    return (flow->state & ANSWERED ? FLOW_TCP_S : FLOW_TCP_OPENING_S) * NS_PER_S;
}

static bool over(const struct flow *flow, uint64_t now_ns)
{
    return now_ns - flow->last_ns > limit_ns(flow);
}

bool flow_known(struct flow_table *t, const struct flow_key *key, uint64_t now_ns)
{
    struct flow *flow = find(t, key);
    if (!flow)
        return false;
    if (over(flow, now_ns)) {
        forget(t, flow);
        return false;
    }
    flow->last_ns = now_ns;
    return true;
}

/* Room for a connection in place of the one that has been closed for the longest time. */
static bool make_room(struct flow_table *t)
{
    struct flow *oldest = NULL;
    for (uint32_t i = 0; t->closed && i < t->size; i++) {
        struct flow *flow = &t->pool[i];
        if (is_closed(flow) && (!oldest || flow->last_ns < oldest->last_ns))
            oldest = flow;
    }
    if (oldest)
        forget(t, oldest);
    return oldest;
}

bool flow_begin(struct flow_table *t, const struct flow_key *key, uint64_t now_ns)
{
    bool tcp = key->kind == PACKET_TCP;
    struct flow *flow = find(t, key);
    if (!flow) {
        if (t->count[tcp] >= t->max[tcp] && !(tcp && make_room(t)))
            return false;
        uint32_t number = t->free, *link = bucket(t, key);
        flow = &t->pool[number - 1];
        t->free = flow->next;
        flow->key = *key;
        flow->next = *link;
        *link = number;
        t->count[tcp]++;
    }
    set_state(t, flow, USED);
    flow->last_ns = now_ns;
    return true;
}

void flow_tcp(struct flow_table *t, const struct flow_key *key, uint8_t tcp_flags, bool from_guest)
{
    struct flow *flow = find(t, key);
    if (!flow)
        return;
    if (tcp_flags & PACKET_TCP_RST)
        forget(t, flow);
    else if (tcp_flags & PACKET_TCP_FIN)
        set_state(t, flow, flow->state | (from_guest ? FIN_GUEST : FIN_PEER));
    else if (tcp_flags & PACKET_TCP_ACK)
        flow->state |= ANSWERED;
}

void flow_sweep(struct flow_table *t, uint64_t now_ns)
{
    for (uint32_t i = 0; i < t->size; i++)
        if (t->pool[i].state && over(&t->pool[i], now_ns))
            forget(t, &t->pool[i]);
}

unsigned flow_count(const struct flow_table *t, bool tcp)
{
    return t->count[tcp];
}

unsigned flow_closed_count(const struct flow_table *t)
{
    return t->closed;
}
