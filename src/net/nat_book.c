/* SPDX-License-Identifier: Apache-2.0 */
#include "net/nat_book.h"

#include <stdio.h>
#include <string.h>

static void publish(uint32_t *count)
{
    __atomic_store_n(count, *count + 1, __ATOMIC_RELEASE);
}

uint32_t book_name(struct nat_report *r, const char *name, bool refused)
{
    uint32_t i = 0;
    while (i < r->name_count && strcmp(r->names[i].name, name) != 0)
        i++;
    if (i == NAT_NAMES_LISTED) {
        r->names_unlisted++;
        return i;
    }
    if (i == r->name_count) {
        snprintf(r->names[i].name, sizeof(r->names[i].name), "%s", name);
        publish(&r->name_count);
    }
    r->names[i].asked++;
    r->names[i].refused += refused;
    return i;
}

void book_addr(struct nat_report *r, uint32_t name, const struct net_addr *addr, bool open)
{
    for (uint32_t i = 0; i < r->addr_count; i++)
        if (r->addrs[i].name == name && net_addr_equal(&r->addrs[i].addr, addr)) {
            r->addrs[i].open = open;
            return;
        }
    if (r->addr_count == NAT_ADDRS_LISTED) {
        r->addrs_unlisted++;
        return;
    }
    r->addrs[r->addr_count] = (struct nat_named_addr){*addr, name, open};
    publish(&r->addr_count);
}

bool book_refusal(struct nat_report *r, const struct packet *packet, enum policy_reason reason)
{
    uint32_t i = 0;
    for (; i < r->refusal_count; i++) {
        struct nat_refusal *known = &r->refusals[i];
        if (known->kind == packet->kind && known->port == packet->dst_port && known->reason == reason &&
            net_addr_equal(&known->addr, &packet->dst)) {
            known->count++;
            return false;
        }
    }
    if (i == NAT_REFUSALS_LISTED) {
        r->refusals_unlisted++;
        return false;
    }
    r->refusals[i] =
        (struct nat_refusal){packet->dst, packet->dst_port, (uint8_t)packet->kind, (uint8_t)reason, 1};
    publish(&r->refusal_count);
    return true;
}
