/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_CABLE_H
#define SANDBOX_CABLE_H

/*
 * The cable between a sandbox's network device and a NAT: a thread that carries frames from one to the
 * other, and what the NAT's helper has to say to the log.
 *
 * A frame that one end does not take waits; the other end then is not read, and loses frames or slows
 * down as networks do. Nothing is kept but one frame in each direction.
 */

#include "dayfly/error.h"
#include "net/nat.h"

struct cable;

/* Both descriptors are taken, also on failure. The nat is borrowed until cable_free. */
int cable_new(struct cable **out, struct nat *nat, int frames_fd, int tap_fd, struct dayfly_err *err);

/* End it. NULL is legal. */
void cable_free(struct cable *cable);

#endif
