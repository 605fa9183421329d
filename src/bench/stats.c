/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts what it is given, which has no NAN. */
static struct summary summarize_all(double *values, size_t count)
{
    if (!count)
        return (struct summary){.median = NAN, .least = NAN, .most = NAN};
    qsort(values, count, sizeof(*values), by_size);
    double middle = values[count / 2];
    if (count % 2 == 0)
        middle = (values[count / 2 - 1] + middle) / 2;
    return (struct summary){count, middle, values[0], values[count - 1]};
}

struct summary stats_summarize(const double *values, size_t count)
{
    _cleanup_free_ double *there = calloc(count + 1, sizeof(*there));
    size_t n = 0;
    for (size_t i = 0; there && i < count; i++)
        if (isfinite(values[i]))
            there[n++] = values[i];
    return summarize_all(there, n);
}

struct summary stats_ratio(const double *values, const double *base, size_t count)
{
    _cleanup_free_ double *there = calloc(count + 1, sizeof(*there));
    size_t n = 0;
    for (size_t i = 0; there && i < count; i++)
        if (isfinite(values[i]) && isfinite(base[i]) && base[i] > 0)
            there[n++] = values[i] / base[i];
    return summarize_all(there, n);
}
