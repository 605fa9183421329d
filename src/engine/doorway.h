/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_DOORWAY_H
#define ENGINE_DOORWAY_H

#include "dayfly/error.h"

/*
 * For a program that insists on connecting to a socket by its path: one that has none. It is made in a
 * folder of its own, which is gone when this returns; who is given the descriptor `*door` connects to
 * /proc/self/fd/N. Returns the socket, which listens, or -errno; both are the caller's to close.
 */
int doorway_open(int *door, struct dayfly_err *err);

#endif
