/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_NET_H
#define JOB_NET_H

/*
 * A job's network: where the cable of its one device goes, and what the agent makes of the device
 * before the command starts.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "dayfly/net.h"
#include "net/rule.h"
#include "proto/message.h"
#include "util/cleanup.h"

/* What the person said; strings are borrowed for good. */
struct job_net_words {
    const char *net; /* NULL: nat */
    const char *const *allow, *const *publish;
    size_t allow_count, publish_count;
};

struct job_net {
    bool present;
    enum dayfly_net_mode mode;
    char cable[CONFIG_MAX_PATH + 1]; /* the interface's name, or the socket's path */
    const char *allow[CONFIG_MAX_RULES + 1], *publish[CONFIG_MAX_PUBLISHED + 1]; /* NULL behind */
    struct proto_net guest; /* its address is settled here: host and guest agree on it */
    struct proto_address servers[PROTO_SERVERS_MAX];
    uint32_t server_count;
    char search[PROTO_TEXT_BYTES];
    const char *options; /* of the word, borrowed: what the job's start state has of all this */
};

/*
 * Read `none`, or `nat`, `tap:INTERFACE` or `socket:PATH` with [,OPTION...], and the rules and ports of
 * a nat. Options: mtu=N and mac=ADDRESS; but for nat, which has its own, address=IP/PREFIX, gateway=IP,
 * dns=IP, search=DOMAIN, each several times. Without an address the device is brought up, and the rest
 * is the job's. Returns 0 or -errno.
 */
int job_net_parse(const struct job_net_words *words, struct job_net *out, struct dayfly_err *err);

/* Add the device, and the secrets that are for hosts, to a machine's description. */
int job_net_describe(const struct job_net *net, const struct dayfly_net_secret *secrets,
                     size_t secret_count, struct dayfly_config *config);

/* The rules and ports of a nat, for CONFIG_MAX_RULES and CONFIG_MAX_PUBLISHED of them. */
int job_net_rules(const struct job_net *net, struct net_rule *rules, size_t *rule_count,
                  struct net_publish *publish, size_t *publish_count, struct dayfly_err *err);

/* Have the agent set it up. `nat` is what the network says of itself, for its addresses; only of a nat.
 */
int job_net_setup(const struct job_net *net, const struct dayfly_net_report *nat,
                  struct proto_setup *setup, struct dayfly_err *err);

/* What became of it, for the job's report: {mode} and, of a nat, names, refused, published and counts.
 * NULL when memory runs out. */
json_t *job_net_report(const struct job_net *net, const struct dayfly_net_report *nat);

/* Scope-bound ownership, as in util/cleanup.h. NULL is legal. */
static inline void cleanup_net_report(struct dayfly_net_report **report)
{
    dayfly_net_report_free(*report);
}

#define _cleanup_net_report_ _cleanup_(cleanup_net_report)

#endif
