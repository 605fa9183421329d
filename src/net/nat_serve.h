/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NAT_SERVE_H
#define NET_NAT_SERVE_H

/* The helper's work: frames, policy, libslirp and DNS in one thread and one poll loop. */

#include "isolate/isolate.h"
#include "net/nat_wire.h"

/* That the helper may have: the buffers of 2,048 connections, and as much again for frames. */
#define NAT_MEMORY_BYTES (UINT64_C(1) << 30)

struct nat_serve;

/* Everything that needs rights: sockets, ports, memory. `setup` and `report` are borrowed. */
int nat_serve_new(struct nat_serve **out, const struct nat_setup *setup, struct nat_report *report,
                  struct dayfly_err *err);

/* Connections to this port of the border go to the Unix socket at `path`, as it is seen when they
 * come. */
int nat_serve_border(struct nat_serve *serve, uint16_t port, const char *path, struct dayfly_err *err);

/* Serve until the frame socket or the control socket ends. Returns 0 then. */
int nat_serve_run(struct nat_serve *serve);

/* The system calls that nat_serve_run makes, and makes beside them where there is a border. */
extern const struct isolate_calls nat_serve_calls, nat_serve_border_calls;

#endif
