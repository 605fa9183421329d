/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

/*
 * The table of `dayfly bench`: the same work in several places, in turn.
 *
 * Each figure is one whole run of a program that a person would call: `dayfly run` (this very program,
 * executed anew), `podman run`. Nothing is taken from what those say of themselves; the times are this
 * process's own, and so is the look at their memory. A round runs every row once, and the next one
 * begins with another row, so that what else happens on the host hits all of them alike.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/column.h"
#include "bench/host.h"
#include "bench/marks.h"
#include "bench/row.h"
#include "bench/stats.h"
#include "dayfly/error.h"
#include "util/sweep.h"

#define BENCH_MAX_ROUNDS 1000
/* Starts are short, so that noise counts more in them: as many a round, unless one is as slow as that.
 */
#define BENCH_STARTS  3
#define BENCH_SLOW_MS 1000

struct bench_options {
    const char *image;
    unsigned rows, columns; /* bits of enum bench_row_kind and bench_column */
    unsigned rounds;
    bool network;
    const char *source;  /* a directory or an archive; NULL: Debian's, fetched once */
    const char *build;   /* the command that builds it */
    const char *dir;     /* where bare metal works; NULL: the data directory */
    const char *runtime; /* of podman and docker; NULL: theirs */
    unsigned disk_mib, disk_s;
    uint64_t limit_ns; /* of one run */
    int signal_fd;     /* a signal there ends it: what was measured until then stays */
    /* What goes on, for people; NULL at the end. */
    void (*say)(void *opaque, const char *text);
    void *opaque;
};

struct bench_row {
    const struct bench_row_info *info;
    bool works;     /* and then it was measured */
    bool slow;      /* its last start took more than BENCH_SLOW_MS */
    bool buffered;  /* its disk takes no direct requests */
    char why[320];  /* why not, or why not all of it */
    char note[256]; /* what has to be known of its figures; "" */
    char compiler[MARKS_VERSION_BYTES], make[MARKS_VERSION_BYTES], fio[MARKS_VERSION_BYTES];
    double *values[BENCH_COLUMNS]; /* `slots` of each; NAN: missing */
};

struct bench {
    const struct bench_options *options;
    struct bench_host host;
    char load_before[HOST_TEXT_BYTES], load_after[HOST_TEXT_BYTES];
    double others;  /* processors that others kept busy meanwhile, of all: 0.0 to 1.0; NAN: not known */
    double seconds; /* how long it took */
    char source[PATH_MAX], source_digest[80]; /* what was built; "": nothing */
    char disk_tool[MARKS_VERSION_BYTES];      /* what asked the disk; "": nothing did */
    unsigned columns;                         /* that were measured, of those that were asked for */
    char lacks[320];                          /* why the others were not; "" */
    struct bench_row rows[ROW_KINDS];
    size_t row_count, slots;
    unsigned rounds; /* that were done, the last perhaps in part */
    int interrupted; /* the signal, or 0 */
};

/*
 * Measure. 0: *out is the table, perhaps with rows that could not run, or cut off by a signal; the
 * caller finishes it. -errno: there is none, and err says why.
 */
int bench_run(const struct bench_options *options, struct bench *out, struct dayfly_err *err);
void bench_finish(struct bench *bench); /* safe on a zeroed one */

/* The row that the others are compared with, or NULL. */
const struct bench_row *bench_base(const struct bench *bench);
/* How many runs of a column there can be: `slots` or one a round. */
struct summary bench_summary(const struct bench *bench, const struct bench_row *row,
                             enum bench_column column);
/* Of a row to bare metal; a count of 0: there is none. */
struct summary bench_row_ratio(const struct bench *bench, const struct bench_row *row,
                               enum bench_column column);

/* Remove the folders that killed benches left in the data directory (util/sweep.h). Returns 0 or
 * -errno. */
int bench_sweep(const struct sweep *sweep, struct dayfly_err *err);

#endif
