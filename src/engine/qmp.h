/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_QMP_H
#define ENGINE_QMP_H

/*
 * A client of the QEMU Machine Protocol over a connected stream socket: JSON objects, one a line.
 *
 * Threads: the socket is read in the loop's thread, where `event` and `closed` are called too;
 * qmp_execute is for any other thread, one at a time.
 */

#include "dayfly/error.h"
#include "machine/loop.h"

struct qmp;

struct qmp_options {
    int fd; /* taken, even on failure */
    struct loop *loop;
    /* An asynchronous event: its name ("SHUTDOWN") and the "reason" in its data, "" when it has none.
     */
    void (*event)(void *opaque, const char *name, const char *reason);
    void *opaque;
};

int qmp_new(struct qmp **out, const struct qmp_options *options, struct dayfly_err *err);

/* NULL is legal. The loop may run. */
void qmp_free(struct qmp *qmp);

/* Run a command without arguments and wait for its answer. -EPIPE when QEMU closed the socket,
 * -ETIMEDOUT when it does not answer, -EIO when it answers with an error. */
int qmp_execute(struct qmp *qmp, const char *command, int timeout_ms, struct dayfly_err *err);

#endif
