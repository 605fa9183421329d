/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_AXIS_H
#define BENCH_AXIS_H

/*
 * The scale of a chart: from 0 where all values are of one order, else by powers of ten, since a start
 * takes a container two hundred milliseconds, and a translated machine four thousand.
 */

#include <stdbool.h>
#include <stddef.h>

#define AXIS_MAX_TICKS 12

struct axis {
    bool logarithmic;
    double from, to; /* of the values; from < to */
    double ticks[AXIS_MAX_TICKS];
    size_t tick_count;
};

/* For values from least to most; they are finite, and 0 <= least <= most. */
void axis_make(struct axis *axis, double least, double most);

/* Where a value is: 0.0 to 1.0. */
double axis_place(const struct axis *axis, double value);

#endif
