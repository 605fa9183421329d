/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_DNS_TCP_H
#define NET_DNS_TCP_H

/*
 * The resolver's TCP port (RFC 7766), for answers that no datagram holds: as much of TCP (RFC 9293) as
 * a server needs on a link that keeps the order of what it does not lose. Segments out of order are
 * asked for again, there is no congestion control, and one question of a connection is answered at a
 * time.
 *
 * Everything has a bound: connections, what a client has sent and nobody has read, and the time that a
 * connection is silent. Only an answer that is under way takes more memory, at most 64 KiB.
 */

#include "net/packet.h"

#define DNS_TCP_CONNECTIONS 16

struct dns_tcp_ops {
    void (*send)(void *opaque, const uint8_t *frame, size_t len);
    /* A message from a client. dns_tcp_answer with the same number answers it, now or later. */
    void (*query)(void *opaque, uint32_t connection, const uint8_t *message, size_t len);
};

struct dns_tcp;

/* `mtu` is the guest's. NULL without memory. */
struct dns_tcp *dns_tcp_new(uint16_t mtu, const struct dns_tcp_ops *ops, void *opaque);
void dns_tcp_free(struct dns_tcp *tcp);

/* A TCP packet for the resolver's port, its checksum checked. */
void dns_tcp_input(struct dns_tcp *tcp, const struct packet *packet, uint64_t now_ns);

/* A number of a connection that is gone is legal. */
void dns_tcp_answer(struct dns_tcp *tcp, uint32_t connection, const uint8_t *message, size_t len,
                    uint64_t now_ns);

/* Send again, and give up, what is due; *deadline_ns is lowered to when to call it next. */
void dns_tcp_tick(struct dns_tcp *tcp, uint64_t now_ns, uint64_t *deadline_ns);

#endif
