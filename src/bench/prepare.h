/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_PREPARE_H
#define BENCH_PREPARE_H

/*
 * What the rows need before they are measured: the image, in our store and in the container engines';
 * the sources; a folder for bare metal; and one unmeasured run of each row, which says what programs
 * are there, and brings into the page cache what a second run would find there.
 */

#include <limits.h>

#include "bench/bench.h"
#include "bench/run.h"

/* How to make an image that has all that is asked for; its name goes behind. */
#define PREPARED_IMAGE_HINT "dayfly image build --debian bookworm --include gcc,libc6-dev,make,fio"

/* How a container engine can be called here. */
struct prepared_way {
    const char *runtime; /* NULL: the default one */
    bool low_limits;     /* on files and processes: its own may be above the caller's */
};

struct prepared {
    char folder[PATH_MAX]; /* below which bare metal works; "": there is none */
    int folder_fd;
    int source_fd, disk_fd;        /* archives; -1: not wanted */
    char fio[MARKS_VERSION_BYTES]; /* "": not every row has it */
    char container[40];            /* the name of ours */
    char pushed[64];               /* the image in container engines' stores */
    bool has_pushed[ROW_KINDS];
    struct prepared_way ways[ROW_KINDS];
};

/* Fills in the rows of `bench` (works, why, the programs) and what is said of sources and tools. On
 * failure, too, prepared_finish is called. -EINTR: a signal came. */
int prepare(struct prepared *out, struct bench *bench, struct dayfly_err *err);
void prepared_finish(struct prepared *prepared);

struct prepared_job {
    const char *script, *args[2];
    int stdin_fd; /* as in struct run_request */
    bool wants_memory;
};

/* Run a job in a row that works, and clear away what it left. Errors are run_measure's. */
int prepared_run(const struct prepared *prepared, const struct bench_options *options,
                 const struct bench_row *row, const struct prepared_job *job,
                 struct run_figures *figures, struct dayfly_err *err);

#endif
