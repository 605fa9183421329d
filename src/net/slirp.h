/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_SLIRP_H
#define NET_SLIRP_H

/* libslirp for the network that the guest sees: of the helper, and of what fuzzes it. */

#include <slirp/libslirp.h>

#include "net/policy.h"

/* NULL when it cannot be. `callbacks` are borrowed until slirp_cleanup. */
Slirp *slirp_of(const struct nat_addresses *addresses, const SlirpCb *callbacks, void *opaque);

#endif
