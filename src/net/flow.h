/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_FLOW_H
#define NET_FLOW_H

/*
 * The conversations that the guest has: which were allowed once, and how many there are. A conversation
 * that was allowed goes on when the name's addresses that allowed it have expired.
 *
 * Memory is fixed when the table is made. A full table takes a new connection in place of one that both
 * ends have closed, of which only stragglers may come, and else no new conversation: none that lives is
 * thrown out for it.
 */

#include "net/packet.h"

struct flow_table;

struct flow_key {
    enum packet_kind kind;
    struct net_addr guest, peer;
    uint16_t guest_port, peer_port; /* ICMP: the echo's identifier, 0 */
};

/* Silence after which a conversation is over: libslirp's own times and a little. A TCP connection that
 * both ends closed, one that never came about, one that lives. */
#define FLOW_UDP_S         245
#define FLOW_DNS_S         12
#define FLOW_TCP_CLOSED_S  60
#define FLOW_TCP_OPENING_S 120
#define FLOW_TCP_S         (2 * 3600 + 300)

/* Room for `tcp_max` connections and `other_max` conversations of UDP and ICMP. NULL without memory. */
struct flow_table *flow_table_new(unsigned tcp_max, unsigned other_max);
void flow_table_free(struct flow_table *table);

struct flow_key flow_key_from_guest(const struct packet *packet);
struct flow_key flow_key_to_guest(const struct packet *packet);

/* Whether the conversation is known; it is then as fresh as `now_ns`. */
bool flow_known(struct flow_table *table, const struct flow_key *key, uint64_t now_ns);

/* Note a new one, or the same one begun anew. False when there is no room. */
bool flow_begin(struct flow_table *table, const struct flow_key *key, uint64_t now_ns);

/* What a TCP segment of it does to it. */
void flow_tcp(struct flow_table *table, const struct flow_key *key, uint8_t tcp_flags, bool from_guest);

/* Forget what is over. Call it about once a second. */
void flow_sweep(struct flow_table *table, uint64_t now_ns);

unsigned flow_count(const struct flow_table *table, bool tcp);

/* Of those of TCP: the ones that both ends have closed. */
unsigned flow_closed_count(const struct flow_table *table);

#endif
