/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_NETWORK_H
#define ENGINE_NETWORK_H

/* From a description's network to the back end that it names, and what keeps that going. */

#include "border/border.h"
#include "config/config.h"
#include "machine/loop.h"
#include "net/nat.h"
#include "net/net.h"
#include "util/log.h"
#include "util/mac.h"

struct network;

/*
 * Open it, for a guest of `cpus` processors, and settle the device's address. The caller destroys *net,
 * and then closes *out, whose helper, if it has one, speaks in the loop. Returns 0 or -errno.
 */
int network_open(struct network **out, struct net **net, const struct config_network *config,
                 unsigned cpus, uint8_t mac[MAC_BYTES], struct loop *loop, const struct log *log,
                 struct dayfly_err *err);

/* In the loop's thread or after it. NULL is legal. */
void network_close(struct network *network);

/* The system calls with which the loop hears what helpers say. */
extern const struct isolate_calls network_loop_calls;

/* The stages of being locked up that its helper went without; 0 where there is none. */
unsigned network_lacks(const struct network *network);

/* The network's NAT, and the border of its secrets; or NULL. */
const struct nat *network_nat(const struct network *network);
const struct border *network_border(const struct network *network);

#endif
