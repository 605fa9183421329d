/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_NET_REPORT_H
#define ENGINE_NET_REPORT_H

#include "border/border.h"
#include "dayfly/net.h"
#include "net/nat.h"

/* What a NAT and its border (or NULL) know by now, in the public form (dayfly/net.h). 0 or -ENOMEM. */
int net_report_make(const struct nat *nat, const struct border *border, struct dayfly_net_report **out);

#endif
