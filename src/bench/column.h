/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_COLUMN_H
#define BENCH_COLUMN_H

/* What is measured, and how a figure of it is written. */

#include <stdbool.h>
#include <stddef.h>

#include "dayfly/error.h"

enum bench_column {
    BENCH_START,
    BENCH_BUILD,
    BENCH_CPU,
    BENCH_READ,
    BENCH_WRITE,
    BENCH_MEMORY,
    BENCH_DESTROY,
    BENCH_COLUMNS,
};

struct bench_column_info {
    const char *name; /* on the command line and in JSON */
    const char *title, *unit;
    bool more_is_better;
    bool has_ratio; /* to bare metal */
    const char *meaning;
};

extern const struct bench_column_info bench_columns[BENCH_COLUMNS];

/* The words of a comma-separated list, as bits; all of them for NULL. `what` they are is for the
 * message: "there is no column 'x'; there are a, b and c". */
int bench_choose(const char *list, const char *what, const char *(*name)(size_t index), size_t count,
                 unsigned *out, struct dayfly_err *err);
const char *bench_column_name(size_t index);

/* "18.4", "12 300": three digits that count, or "-" for what is not there. */
#define BENCH_FIGURE_BYTES 32
const char *bench_figure(double value, char out[BENCH_FIGURE_BYTES]);
/* "1.02", "0.51", "233" */
const char *bench_ratio(double value, char out[BENCH_FIGURE_BYTES]);

#endif
