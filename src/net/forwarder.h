/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_FORWARDER_H
#define NET_FORWARDER_H

/*
 * Asking the host's DNS servers. Each question goes out in words of our own (dns_make_query), from a
 * socket of its own, which gives it a port that the kernel draws, and with an id that we draw. The
 * socket is connected, so that only the server's answers arrive. A server that says nothing is followed
 * by the next one; what does not fit into a datagram is asked for by TCP where that helps.
 */

#include <poll.h>

#include "net/dns.h"
#include "net/packet.h"

/* Who asked. */
struct dns_client {
    bool tcp;
    struct packet_ends ends; /* UDP */
    uint32_t connection;     /* TCP */
};

struct forwarder_ops {
    /* The end of a question: `message` is a well-formed answer to it under any id, `answer` what is in
     * it; or message is NULL, and no server gave one. It may ask again. */
    void (*answered)(void *opaque, const struct dns_client *client, const struct dns_query *query,
                     uint8_t *message, size_t len, const struct dns_answer *answer);
};

#define FORWARDER_QUESTIONS_MAX 128

struct forwarder;

/* `servers` are copied. NULL without memory. */
struct forwarder *forwarder_new(const struct sockaddr_storage *servers, unsigned server_count,
                                const struct forwarder_ops *ops, void *opaque);
void forwarder_free(struct forwarder *forwarder);

/* False when too many questions are open. The same client's same question, still open, is not asked
 * twice. */
bool forwarder_ask(struct forwarder *forwarder, const struct dns_client *client,
                   const struct dns_query *query, uint64_t now_ns);

/* Fill in what to wait for, at most FORWARDER_QUESTIONS_MAX; *deadline_ns is lowered to when it wants
 * to be called without. Then, with the same array: */
unsigned forwarder_fill(struct forwarder *forwarder, struct pollfd *fds, uint64_t *deadline_ns);
void forwarder_poll(struct forwarder *forwarder, const struct pollfd *fds, uint64_t now_ns);

#endif
