/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAYFLY_NET_H
#define DAYFLY_NET_H

/*
 * What a network of mode DAYFLY_NET_NAT is and what went through it: the addresses that the guest finds
 * (DHCP tells it, too), what it asked for, and what it was refused.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "dayfly/vm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A name that the guest looked up. */
struct dayfly_net_name {
    const char *name; /* lower case, without a dot at its end; printable ASCII */
    uint64_t asked;   /* how often */
    uint64_t refused; /* of those */
};

/* An address that a name was answered with. */
struct dayfly_net_named {
    const char *address;
    const char *name; /* the one that was asked for first; NULL when names were too many to list */
    bool open; /* the guest may use it; else no name may open it: it is private, the host's, ... */
};

/* What was refused, by where it was to go. */
struct dayfly_net_refusal {
    const char *protocol; /* "tcp", "udp" or "icmp" */
    const char *address;
    uint16_t port;      /* 0 for ICMP */
    const char *reason; /* a few words */
    uint64_t packets;
};

/* What the guest gets in the place of a secret. */
struct dayfly_net_placeholder {
    const char *name; /* the secret's, as the description has it */
    const char *placeholder;
};

/* A host that secrets are for. */
struct dayfly_net_host {
    const char *name;
    uint64_t requests; /* that went out */
    uint64_t replaced; /* of these, with a secret put in */
    uint64_t masked;   /* responses that had a secret in them */
    uint64_t refused;  /* requests that were not passed on */
    uint64_t failed;   /* it could not be reached, or did not prove who it is */
};

/* Lists are in the order of first appearance; what came when one was full is only counted. */
struct dayfly_net_report {
    size_t size; /* sizeof(struct dayfly_net_report) as the library was built */

    /* With the prefix of the network behind the guest's: "10.0.2.15/24". IPv6 is NULL where the host
     * has none. The gateway is also the host, for those of its ports that a rule names. */
    const char *guest4, *gateway4, *resolver4;
    const char *guest6, *gateway6, *resolver6;
    uint32_t mtu;

    uint64_t frames_sent, bytes_sent; /* by the guest */
    uint64_t frames_received, bytes_received;
    uint64_t frames_lost;      /* to the guest, which did not take them in time */
    uint64_t frames_invalid;   /* of a form that is not carried */
    uint64_t frames_dropped;   /* multicast and the like */
    uint64_t packets_refused;  /* by the rules */
    uint64_t names_unanswered; /* no server answered */

    const struct dayfly_net_name *names;
    const struct dayfly_net_named *addresses;
    const struct dayfly_net_refusal *refusals;
    size_t name_count, address_count, refusal_count;
    uint64_t names_unlisted, addresses_unlisted, refusals_unlisted;

    /* Where there are secrets: the certificate, as PEM, that the guest has to trust; else NULL. */
    const char *authority;
    const struct dayfly_net_placeholder *secrets; /* in the description's order */
    const struct dayfly_net_host *hosts;
    size_t secret_count, host_count;
    uint64_t hosts_unknown; /* connections and requests that were refused as they named none of them */
};

/*
 * The report of network `index` of the machine's description, as of now; legal until dayfly_vm_free, in
 * every state. The caller frees *out. Errors: ENOENT (there is no such network), ENOTSUP (it is of
 * another mode), ENOMEM. Any thread.
 */
int dayfly_vm_net_report(const struct dayfly_vm *vm, unsigned index, struct dayfly_net_report **out,
                         struct dayfly_err *err);

/* NULL is legal. */
void dayfly_net_report_free(struct dayfly_net_report *report);

#ifdef __cplusplus
}
#endif
#endif
