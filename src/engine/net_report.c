/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/net_report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX_BYTES 4 /* "/64" */

typedef char address_text[NET_ADDR_TEXT_BYTES + PREFIX_BYTES];

/* The public struct, and all that it points to. */
struct whole {
    struct dayfly_net_report report; /* first: it is what the caller frees */
    struct nat_report raw;
    struct dayfly_net_name names[NAT_NAMES_LISTED];
    struct dayfly_net_named addresses[NAT_ADDRS_LISTED];
    struct dayfly_net_refusal refusals[NAT_REFUSALS_LISTED];
    address_text own[6], named[NAT_ADDRS_LISTED], refused[NAT_REFUSALS_LISTED];
    struct border_report border;
    char authority[BORDER_CA_PEM_BYTES];
    struct dayfly_net_placeholder secrets[BORDER_SECRETS_MAX];
    char secret_names[BORDER_SECRETS_MAX][BORDER_NAME_BYTES];
    char placeholders[BORDER_SECRETS_MAX][BORDER_PLACEHOLDER_BYTES];
    struct dayfly_net_host hosts[BORDER_HOSTS_MAX];
    char host_names[BORDER_HOSTS_MAX][NET_NAME_BYTES];
};

static const char *write_address(address_text text, const struct net_addr *addr)
{
    net_addr_text(addr, text);
    return text;
}

static const char *write_network(address_text text, const struct net_addr *addr, unsigned bits)
{
    char plain[NET_ADDR_TEXT_BYTES];
    net_addr_text(addr, plain);
    snprintf(text, sizeof(address_text), "%s/%u", plain, bits % 1000);
    return text;
}

static void fill_own(struct whole *w, const struct nat_addresses *a)
{
    struct dayfly_net_report *r = &w->report;
    r->guest4 = write_network(w->own[0], &a->guest4, a->bits4);
    r->gateway4 = write_address(w->own[1], &a->gateway4);
    r->resolver4 = write_address(w->own[2], &a->resolver4);
    r->mtu = a->mtu;
    if (!a->ipv6)
        return;
    r->guest6 = write_network(w->own[3], &a->guest6, a->bits6);
    r->gateway6 = write_address(w->own[4], &a->gateway6);
    r->resolver6 = write_address(w->own[5], &a->resolver6);
}

static void fill_counts(struct whole *w)
{
    struct dayfly_net_report *r = &w->report;
    const uint64_t *n = w->raw.counters;
    r->frames_sent = n[NAT_FRAMES_FROM_GUEST];
    r->bytes_sent = n[NAT_BYTES_FROM_GUEST];
    r->frames_received = n[NAT_FRAMES_TO_GUEST];
    r->bytes_received = n[NAT_BYTES_TO_GUEST];
    r->frames_lost = n[NAT_FRAMES_LOST];
    r->frames_invalid = n[NAT_FRAMES_INVALID];
    r->frames_dropped = n[NAT_FRAMES_DROPPED];
    r->packets_refused = n[NAT_REFUSED];
    r->names_unanswered = n[NAT_NAMES_FAILED];
    r->names_unlisted = w->raw.names_unlisted;
    r->addresses_unlisted = w->raw.addrs_unlisted;
    r->refusals_unlisted = w->raw.refusals_unlisted;
}

static void fill_lists(struct whole *w)
{
    static const char *const protocols[] = {
        [PACKET_ARP] = "arp", [PACKET_TCP] = "tcp", [PACKET_UDP] = "udp", [PACKET_ICMP] = "icmp"};
    struct dayfly_net_report *r = &w->report;
    r->names = w->names;
    for (; r->name_count < w->raw.name_count; r->name_count++) {
        const struct nat_name *from = &w->raw.names[r->name_count];
        w->names[r->name_count] = (struct dayfly_net_name){from->name, from->asked, from->refused};
    }
    r->addresses = w->addresses;
    for (; r->address_count < w->raw.addr_count; r->address_count++) {
        size_t i = r->address_count;
        const struct nat_named_addr *from = &w->raw.addrs[i];
        w->addresses[i] = (struct dayfly_net_named){
            .address = write_address(w->named[i], &from->addr),
            .name = from->name < r->name_count ? w->names[from->name].name : NULL,
            .open = from->open,
        };
    }
    r->refusals = w->refusals;
    for (; r->refusal_count < w->raw.refusal_count; r->refusal_count++) {
        size_t i = r->refusal_count;
        const struct nat_refusal *from = &w->raw.refusals[i];
        w->refusals[i] = (struct dayfly_net_refusal){
            .protocol = protocols[from->kind & 3],
            .address = write_address(w->refused[i], &from->addr),
            .port = from->port,
            .reason = policy_reason_text(from->reason),
            .packets = from->count,
        };
    }
}

static void fill_border(struct whole *w, const struct border *border)
{
    struct dayfly_net_report *r = &w->report;
    border_read_report(border, &w->border);
    snprintf(w->authority, sizeof(w->authority), "%s", border_ca_pem(border));
    r->authority = w->authority;
    r->hosts_unknown = w->border.refused;
    r->secrets = w->secrets;
    for (; r->secret_count < border_secret_count(border); r->secret_count++) {
        size_t i = r->secret_count;
        snprintf(w->secret_names[i], sizeof(w->secret_names[i]), "%s", border_name(border, i));
        snprintf(w->placeholders[i], sizeof(w->placeholders[i]), "%s", border_placeholder(border, i));
        w->secrets[i] = (struct dayfly_net_placeholder){w->secret_names[i], w->placeholders[i]};
    }
    r->hosts = w->hosts;
    for (; r->host_count < border_host_count(border); r->host_count++) {
        size_t i = r->host_count;
        const struct border_host_report *from = &w->border.hosts[i];
        snprintf(w->host_names[i], sizeof(w->host_names[i]), "%s", border_host(border, i));
        w->hosts[i] = (struct dayfly_net_host){.name = w->host_names[i],
                                               .requests = from->requests,
                                               .replaced = from->replaced,
                                               .masked = from->masked,
                                               .refused = from->refused,
                                               .failed = from->failed};
    }
}

int net_report_make(const struct nat *nat, const struct border *border, struct dayfly_net_report **out)
{
    struct whole *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->report.size = sizeof(w->report);
    nat_read_report(nat, &w->raw);
    fill_own(w, nat_addresses(nat));
    fill_counts(w);
    fill_lists(w);
    if (border)
        fill_border(w, border);
    *out = &w->report;
    return 0;
}

void dayfly_net_report_free(struct dayfly_net_report *report)
{
    free(report);
}
