/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_HELPER_H
#define UTIL_HELPER_H

/*
 * A program that the library carries in itself (blob.sh) and runs as a process of its own, beside the
 * machine: for work that is not to be done where the library's memory is. A fork would do for a caller
 * with one thread; a library does not know its threads, and a copy of its memory, with keys and secrets
 * in it, is the last thing to put behind what a guest sends. So the child makes async-signal-safe calls
 * alone and becomes another program, from memory: it needs no file, no path and no /proc.
 *
 * The helper has no environment, /dev/null as its first two descriptors, the caller's stderr, and
 * from HELPER_FD_CONTROL on what it is given. Every signal is blocked in it. It dies with the thread
 * that started it. helper_main.h is its own side.
 *
 * The control socket (SOCK_SEQPACKET) carries messages of at most HELPER_MESSAGE_BYTES from the helper,
 * a type and a text. What comes the other way is the two programs' affair.
 */

#include <stdint.h>
#include <sys/types.h>

#include "dayfly/error.h"
#include "util/log.h"

enum {
    HELPER_READY = 'R',  /* once: it serves */
    HELPER_FAILED = 'F', /* instead: "22 the text that says why" */
    HELPER_LOG = 'L',    /* a line for the log, its level as a letter in front */
};

#define HELPER_MESSAGE_BYTES 300

#define HELPER_FD_CONTROL 3
#define HELPER_FD_SHARED  4
#define HELPER_FD_OTHERS  5

#define HELPER_FDS_MAX 8

/* In front of what a helper and its library share: that both are of one build, and of one run. */
struct helper_head {
    uint32_t bytes; /* of all that is shared */
    int32_t parent;
};

struct helper_program {
    const char *name;  /* of the process */
    const char *what;  /* for messages: "the network's helper" */
    const char *needs; /* the library that is likely to be missing, when it does not start */
    const uint8_t *start, *end;
};

struct helper {
    const struct helper_program *program;
    pid_t pid;
    int pidfd; /* a number may be somebody else's by now, if the program reaped our child */
    int control;
    void *shared; /* NULL: none */
    size_t shared_bytes;
    int shared_fd; /* until the start */
};

/* What every struct helper begins as; helper_stop is then safe on it. */
#define HELPER_NONE                                                                                    \
    (struct helper)                                                                                    \
    {                                                                                                  \
        .pid = -1, .pidfd = -1, .control = -1, .shared_fd = -1                                         \
    }

/* A pair of SOCK_SEQPACKET sockets, close-on-exec and `flags`, with large buffers where that may be. */
int helper_pair(int fds[2], int flags, struct dayfly_err *err);

/* Memory to share with the helper, zeroes behind its head; nobody can make it shorter. The library
 * writes what is to be done into it before the start. Afterwards only the helper writes, and nothing
 * that it wrote is believed. */
int helper_share(struct helper *helper, size_t bytes, struct dayfly_err *err);

/* Start it, with copies of `fds` from HELPER_FD_OTHERS on. They stay the caller's. */
int helper_start(struct helper *helper, const struct helper_program *program, const int *fds,
                 size_t count, struct dayfly_err *err);

/* Wait until it says that it is ready. Its own words are the error when it failed. */
int helper_wait(struct helper *helper, const struct log *log, struct dayfly_err *err);

/* Once `control` is readable: give what it says to the log. Does not block. 0, or -EPIPE when there is
 * no helper any more. */
int helper_handle_events(struct helper *helper, const struct log *log);

/* End it at once, and give back what it held. Safe to call twice. */
void helper_stop(struct helper *helper);

#endif
