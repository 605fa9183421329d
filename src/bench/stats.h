/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

/*
 * What a list of measurements says. A measurement that is missing is NAN, and stays where it is: the
 * same index in two lists means the same moment, which is what ratios are made of.
 */

#include <stddef.h>

struct summary {
    size_t count; /* of those that are there; 0: the others are NAN */
    double median, least, most;
};

struct summary stats_summarize(const double *values, size_t count);

/*
 * The ratios values[i] / base[i] of those that both have, summarized: what else went on at that moment
 * hit both alike, so their median is steadier than the ratio of the two medians. A base of 0 has no
 * ratio.
 */
struct summary stats_ratio(const double *values, const double *base, size_t count);

#endif
