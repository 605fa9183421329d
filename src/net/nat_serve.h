/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NAT_SERVE_H
#define NET_NAT_SERVE_H

/* The helper's work: frames, policy, libslirp and DNS in one thread and one poll loop. */

#include "isolate/isolate.h"
#include "net/nat_wire.h"

struct nat_serve;

/* Everything that needs rights: sockets, ports, memory. `setup` and `report` are borrowed. */
int nat_serve_new(struct nat_serve **out, const struct nat_setup *setup, struct nat_report *report,
                  struct dayfly_err *err);

/* Serve until the frame socket or the control socket ends. Returns 0 then. */
int nat_serve_run(struct nat_serve *serve);

/* The system calls that nat_serve_run makes. */
extern const struct isolate_calls nat_serve_calls;

#endif
