/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NAT_DNS_H
#define NET_NAT_DNS_H

/* The resolver that the guest sees: questions by UDP and TCP, the policy, the report and the forwarder
 * brought together. */

#include "net/forwarder.h"
#include "net/nat_book.h"

struct nat_dns_options {
    struct policy *policy; /* borrowed, as the others */
    struct nat_report *report;
    uint16_t mtu;
    const struct sockaddr_storage *servers;
    unsigned server_count;
    const char (
        *border_hosts)[NET_NAME_BYTES]; /* names for which `border` stands, and nobody is asked */
    unsigned border_host_count;
    struct net_addr border;
    void (*send)(void *opaque, const uint8_t *frame, size_t len); /* to the guest */
    void (*refused)(void *opaque, const char *name);              /* for the log */
    void *opaque;
};

struct nat_dns;

struct nat_dns *nat_dns_new(const struct nat_dns_options *options);
void nat_dns_free(struct nat_dns *dns);

/* A packet of verdict POLICY_DNS. */
void nat_dns_input(struct nat_dns *dns, const struct packet *packet, uint64_t now_ns);

/* As the forwarder's, which they include. */
unsigned nat_dns_fill(struct nat_dns *dns, struct pollfd *fds, uint64_t *deadline_ns);
void nat_dns_poll(struct nat_dns *dns, const struct pollfd *fds, uint64_t now_ns);

#endif
