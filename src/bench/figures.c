/* SPDX-License-Identifier: Apache-2.0 */
/* What a table says once it has been measured; see bench.h. */
#include <stdlib.h>

#include "bench/bench.h"

void bench_finish(struct bench *bench)
{
    for (size_t i = 0; i < bench->row_count; i++)
        for (size_t c = 0; c < BENCH_COLUMNS; c++)
            free(bench->rows[i].values[c]);
    bench->row_count = 0;
}

const struct bench_row *bench_base(const struct bench *bench)
{
    for (size_t i = 0; i < bench->row_count; i++)
        if (bench->rows[i].info == &bench_rows[ROW_NONE])
            return &bench->rows[i];
    return NULL;
}

struct summary bench_summary(const struct bench *bench, const struct bench_row *row,
                             enum bench_column column)
{
    return stats_summarize(row->values[column], bench->slots);
}

struct summary bench_row_ratio(const struct bench *bench, const struct bench_row *row,
                               enum bench_column column)
{
    const struct bench_row *base = bench_base(bench);
    if (!base || !bench_columns[column].has_ratio)
        return stats_summarize(NULL, 0);
    return stats_ratio(row->values[column], base->values[column], bench->slots);
}
