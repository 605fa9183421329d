/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_FAIL_H
#define AGENT_FAIL_H

/* A failure that the host is to read: what was tried, on what, and why not. */

#include "proto/message.h"

/* Fill f with the formatted text and, when code is not 0, ": <strerror(code)>". Returns -code (-EIO for
 * 0). */
int fail(struct proto_fail *f, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
