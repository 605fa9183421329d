/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_NET_REPORT_H
#define ENGINE_NET_REPORT_H

#include "dayfly/net.h"
#include "net/nat.h"

/* What a NAT knows by now, in the public form (dayfly/net.h). 0 or -ENOMEM. */
int net_report_make(const struct nat *nat, struct dayfly_net_report **out);

#endif
