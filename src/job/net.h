/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_NET_H
#define JOB_NET_H

/*
 * A job's network: where the cable of its one device goes, and what the agent makes of the device
 * before the command starts.
 */

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "proto/message.h"

struct job_net {
    bool present;
    enum dayfly_net_mode mode;
    char cable[CONFIG_MAX_PATH + 1]; /* the interface's name, or the socket's path */
    struct proto_net guest;          /* its address is settled here: host and guest agree on it */
    struct proto_address servers[PROTO_SERVERS_MAX];
    uint32_t server_count;
    char search[PROTO_TEXT_BYTES];
    const char *options; /* of the word, borrowed: what the job's start state has of all this */
};

/*
 * Read `none`, `tap:INTERFACE[,OPTION...]` or `socket:PATH[,OPTION...]`; NULL is none. Options:
 * address=IP/PREFIX, gateway=IP, dns=IP, search=DOMAIN, each several times, mtu=N and mac=ADDRESS.
 * Without an address the device is brought up, and the rest is the job's. Returns 0 or -errno.
 */
int job_net_parse(const char *word, struct job_net *out, struct dayfly_err *err);

/* Add the device to a machine's description. */
int job_net_describe(const struct job_net *net, struct dayfly_config *config);

/* Have the agent set it up. */
void job_net_setup(const struct job_net *net, struct proto_setup *setup);

#endif
