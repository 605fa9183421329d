/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_SECRETS_H
#define CONFIG_SECRETS_H

/* The secrets of one network of a description, values and all, as a copy in locked memory. */

#include "border/border.h"
#include "dayfly/config.h"

struct config_secrets {
    size_t count;
    const struct border_secret *all;
};

/* More of them, of hosts, or of a value than there may be: one too many is kept, for
 * dayfly_config_validate to find. NULL for none. Returns 0, -EINVAL (a struct that is none) or -ENOMEM.
 */
int config_secrets_copy(struct config_secrets **out, const struct dayfly_net_secret *given,
                        size_t count);

/* Wipes. NULL is legal. */
void config_secrets_free(struct config_secrets *secrets);

#endif
