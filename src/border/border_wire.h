/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_BORDER_WIRE_H
#define BORDER_BORDER_WIRE_H

/*
 * Between border.c and the helper, which are of one build, beside util/helper.h. Values do not go by
 * the shared memory, whose pages may be written to a disk, but by the control socket: one message for
 * each secret, in order, its bytes. The helper reads them when it is locked up, into locked memory.
 */

#include <assert.h>

#include "border/border.h"
#include "border/swap.h"
#include "util/helper.h"

static_assert(BORDER_SECRETS_MAX == SWAP_SECRETS_MAX && BORDER_HOSTS_MAX == SWAP_HOSTS_MAX &&
                  BORDER_VALUE_MIN == SWAP_VALUE_MIN && BORDER_VALUE_MAX == SWAP_VALUE_MAX &&
                  BORDER_PLACEHOLDER_BYTES == SWAP_PLACEHOLDER_LEN + 1,
              "what is promised is what is done");

#define BORDER_FD_LISTEN HELPER_FD_OTHERS /* NAT_BORDER_PORTS of them */

#define BORDER_RESOLVERS_MAX 3

/* The machine's rules, or "*" for none, and each host's name at the two ports. */
#define BORDER_RULES_MAX (NAT_RULES_MAX + 1 + 2 * BORDER_HOSTS_MAX)

struct border_setup_secret {
    char placeholder[SWAP_PLACEHOLDER_LEN + 1];
    bool allow_http, no_query;
    uint64_t hosts; /* bits */
    uint32_t value_bytes;
};

struct border_setup {
    int32_t peer;
    uint32_t secret_count, host_count, resolver_count, rule_count;
    char trust_file[4096]; /* "": the system's */
    struct border_setup_secret secrets[BORDER_SECRETS_MAX];
    char hosts[BORDER_HOSTS_MAX][NET_NAME_BYTES];
    struct sockaddr_storage resolvers[BORDER_RESOLVERS_MAX];
    struct net_rule rules[BORDER_RULES_MAX];
};

struct border_shared {
    struct helper_head head;
    struct border_setup setup;
    char ca_pem[BORDER_CA_PEM_BYTES]; /* once it is ready */
    struct border_report report;
};

#endif
