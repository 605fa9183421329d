/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_SERVE_H
#define BORDER_SERVE_H

/* The helper's work, in one thread and one poll loop: connections, names, the report. */

#include "border/border_wire.h"
#include "isolate/isolate.h"

struct serve;

/* Everything that needs rights: certificates, trust, sockets. `setup` and `shared` are borrowed. */
int serve_new(struct serve **out, const struct border_setup *setup, struct border_shared *shared,
              struct dayfly_err *err);

/* Take the values from the control socket, into memory that is locked. */
int serve_take_values(struct serve *serve, struct dayfly_err *err);

/* Serve until the control socket ends. */
void serve_run(struct serve *serve);

/* The system calls that the latter two make. */
extern const struct isolate_calls serve_calls;

#endif
