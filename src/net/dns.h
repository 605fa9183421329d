/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_DNS_H
#define NET_DNS_H

/*
 * DNS messages (RFC 1035, RFC 6891), as far as a forwarder needs them: reading a client's query, asking
 * the same of a server in words of our own, and finding the addresses in its answer. Pure.
 *
 * Names are read without recursion. A compression pointer must lead to before the labels that it stands
 * behind, so each one leads further back, there are at most 127, and a name ends at 255 bytes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/addr.h"
#include "net/rule.h"

#define DNS_MESSAGE_MAX   65535
#define DNS_WIRE_NAME_MAX 255
#define DNS_ADDRS_MAX     64

enum { DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_NOTIMP = 4 };

enum { DNS_TYPE_A = 1, DNS_TYPE_AAAA = 28 };

struct dns_query {
    uint16_t id;
    uint16_t type, class;
    bool recursion_desired, checking_disabled, authentic_data;
    bool edns, dnssec_ok;
    uint16_t udp_bytes;              /* that the client takes over UDP: at least 512 */
    uint8_t wire[DNS_WIRE_NAME_MAX]; /* the name as it was asked, with its case */
    size_t wire_bytes;
    char name[NET_NAME_BYTES]; /* lower case, no dot at the end; what is no letter, digit, '-' or '_' is
                                  '?' */
};

/* Read a query. DNS_NOERROR; DNS_FORMERR or DNS_NOTIMP, with which it is to be answered (`out` then
 * serves dns_make_error); or -1: no query at all, to which nothing is said. */
int dns_parse_query(const uint8_t *message, size_t len, struct dns_query *out);

/* As big as what the next two make, and dns_make_error for any query. */
#define DNS_QUERY_BYTES (12 + DNS_WIRE_NAME_MAX + 4 + 11)

/* The same question under another id, with no more of the client's than its meaning. */
size_t dns_make_query(const struct dns_query *query, uint16_t id, uint8_t out[static DNS_QUERY_BYTES]);

/* An answer with nothing but a code; with `truncated`, one that says "ask again by TCP". */
size_t dns_make_error(const struct dns_query *query, int code, bool truncated,
                      uint8_t out[static DNS_QUERY_BYTES]);

/* An answer with one address of IPv4, for DNS_TYPE_A. */
#define DNS_ADDRESS_BYTES (DNS_QUERY_BYTES + 16)
size_t dns_make_address(const struct dns_query *query, const struct net_addr *addr, uint32_t ttl_s,
                        uint8_t out[static DNS_ADDRESS_BYTES]);

/* A question for the addresses of a name, DNS_TYPE_A or DNS_TYPE_AAAA. False when it is no host's
 * name. */
bool dns_question(const char *name, uint16_t type, struct dns_query *out);

struct dns_answer {
    bool truncated;
    int code;
    unsigned count;
    struct {
        struct net_addr addr;
        uint32_t ttl_s;
    } addrs[DNS_ADDRS_MAX]; /* of the name that was asked for, or of what it is an alias of */
};

/* Read the answer to dns_make_query(asked, id, ...). False when it is no well-formed answer to that. */
bool dns_parse_answer(const uint8_t *message, size_t len, const struct dns_query *asked, uint16_t id,
                      struct dns_answer *out);

#endif
