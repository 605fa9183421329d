/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_ROW_H
#define BENCH_ROW_H

/* What is measured against what: our engines, and container engines where they are installed. */

#include <stdbool.h>
#include <stddef.h>

#include "dayfly/error.h"

enum bench_row_kind {
    ROW_NONE,      /* bare metal: what the others are compared with */
    ROW_USER_HOST, /* engine user with the host's own programs: the wall alone, on the same files */
    ROW_USER,
    ROW_KVM,
    ROW_TCG,
    ROW_PODMAN,
    ROW_DOCKER,
    ROW_KINDS,
};

struct bench_row_info {
    const char *name; /* on the command line and in JSON */
    const char *title;
    const char *engine;                   /* of dayfly run; NULL: a container engine */
    const char *program;                  /* the container engine's */
    const char *transport;                /* where `dayfly image push` finds its store */
    bool on_host;                         /* no image: the host's own programs */
    const char *disk;                     /* what the job's disk is */
    int (*probe)(struct dayfly_err *why); /* can this host run it? as dayfly doctor asks */
};

extern const struct bench_row_info bench_rows[ROW_KINDS];
const char *bench_row_name(size_t index);

struct bench_command {
    const char *image;   /* the container engine's, or ours */
    const char *runtime; /* of the container engine; NULL: its default */
    const char *workdir;
    const char *name; /* of a container */
    bool low_limits;  /* 1024 files and 4096 processes, instead of what a container engine takes */
    const char *script, *args[2];
    bool network;
};

#define BENCH_MAX_WORDS 32
/* The command line that runs `script` in such a row, in `words` and ended by NULL; the words are
 * borrowed. For ours the first one is "dayfly". */
void bench_row_words(const struct bench_row_info *row, const struct bench_command *command,
                     const char *words[BENCH_MAX_WORDS]);

#endif
