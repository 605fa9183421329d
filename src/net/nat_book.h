/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NAT_BOOK_H
#define NET_NAT_BOOK_H

/*
 * Writing struct nat_report, which another process may read at any time: an entry is complete before
 * its list's count covers it, and is changed afterwards only in its counts.
 */

#include "net/nat.h"

static inline void book_count(struct nat_report *report, enum nat_counter counter, uint64_t n)
{
    __atomic_store_n(&report->counters[counter], report->counters[counter] + n, __ATOMIC_RELAXED);
}

/* A name was asked for. Returns its index, or NAT_NAMES_LISTED. */
uint32_t book_name(struct nat_report *report, const char *name, bool refused);

void book_addr(struct nat_report *report, uint32_t name, const struct net_addr *addr, bool open);

/* A packet was refused. Whether it is the first of its kind. */
bool book_refusal(struct nat_report *report, const struct packet *packet, enum policy_reason reason);

#endif
