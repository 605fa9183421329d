/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_BARE_H
#define SANDBOX_BARE_H

#include <sys/types.h>

#include "dayfly/error.h"

/* The agent's program in a sealed memfd. A descriptor, or -errno. */
int bare_agent(struct dayfly_err *err);

/* Start the agent as an ordinary child, for engine none. Its process, to be waited for when *link_fd,
 * the stream to it, is closed; or -errno. */
pid_t bare_start(int *link_fd, struct dayfly_err *err);

#endif
