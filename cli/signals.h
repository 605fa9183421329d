/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include "dayfly/error.h"

/*
 * Read the signals that end a command (SIGINT, SIGTERM, SIGHUP), and those in `more` (0 at its end;
 * NULL: none), from a descriptor that does not block. Called before any thread is made: they are
 * blocked in all of them from then on. Returns the descriptor, the caller's, or -errno.
 */
int signals_catch(const int *more, struct dayfly_err *err);

#endif
