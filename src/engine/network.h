/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_NETWORK_H
#define ENGINE_NETWORK_H

/* From a description's network to the back end that it names. */

#include "config/config.h"
#include "net/net.h"
#include "util/mac.h"

/* Open it, for a guest of `cpus` processors, and settle the device's address. The caller destroys *out.
 * Returns 0 or -errno. */
int network_open(struct net **out, const struct config_network *network, unsigned cpus,
                 uint8_t mac[MAC_BYTES], struct dayfly_err *err);

#endif
