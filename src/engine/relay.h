/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_RELAY_H
#define ENGINE_RELAY_H

/*
 * Moves bytes between a socket of QEMU's (a serial port or a console) and the descriptors that the
 * description names, in the loop's thread. Bounded: output that its reader does not take in time is
 * dropped, as a real serial line would; input waits in its own pipe.
 */

#include "dayfly/error.h"
#include "machine/loop.h"

struct relay;

struct relay_options {
    struct loop *loop;
    int socket;    /* stream; taken, even on failure */
    int output_fd; /* what comes out of the socket goes here; borrowed; -1: dropped */
    int input_fd;  /* what is read here goes into the socket; borrowed; -1: none */
};

int relay_new(struct relay **out, const struct relay_options *options, struct dayfly_err *err);

/* Passes on what the socket still holds, then closes it. NULL is legal. */
void relay_free(struct relay *relay);

#endif
