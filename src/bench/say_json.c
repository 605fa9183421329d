/* SPDX-License-Identifier: Apache-2.0 */
/* The table as JSON; doc/bench.md has the fields. */
#include <math.h>
#include <string.h>

#include "bench/say.h"
#include "util/cleanup.h"
#include "util/text.h"

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* JSON is UTF-8; what was typed need not be. */
static json_t *text_json(const char *text)
{
    _cleanup_free_ char *printable = strdup(text);
    if (!printable)
        return NULL;
    text_make_printable(printable);
    return json_string(printable);
}

static json_t *text_or_null(const char *text)
{
    return *text ? text_json(text) : json_null();
}

static json_t *summary_json(struct summary s)
{
    if (!s.count)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:I}", "median", number(s.median), "least", number(s.least),
                     "most", number(s.most), "count", (json_int_t)s.count);
}

/* The runs in the order in which they were made; null: there was none at that moment. */
static json_t *runs_json(const struct bench *bench, const struct bench_row *row,
                         enum bench_column column)
{
    bool many = column == BENCH_START || column == BENCH_MEMORY || column == BENCH_DESTROY;
    size_t count = many ? bench->slots : bench->options->rounds;
    json_t *runs = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(runs, number(row->values[column][i]));
    return runs;
}

static json_t *figures_json(const struct bench *bench, const struct bench_row *row)
{
    json_t *figures = json_object();
    for (int c = 0; c < BENCH_COLUMNS; c++) {
        enum bench_column column = (enum bench_column)c;
        struct summary s = bench_summary(bench, row, column);
        if (!(bench->columns & 1u << c) || !s.count)
            continue;
        json_t *figure = summary_json(s);
        json_object_set_new(figure, "ratio", summary_json(bench_row_ratio(bench, row, column)));
        json_object_set_new(figure, "runs", runs_json(bench, row, column));
        json_object_set_new(figures, bench_columns[c].name, figure);
    }
    return figures;
}

static json_t *row_json(const struct bench *bench, const struct bench_row *row)
{
    char disk[BENCH_DISK_BYTES];
    return json_pack("{s:s, s:s, s:b, s:o, s:o, s:s, s:o, s:o, s:o}", "name", row->info->name, "title",
                     row->info->title, "works", row->works, "why", text_or_null(row->why), "note",
                     text_or_null(row->note), "disk", bench_disk_text(row, disk), "compiler",
                     text_or_null(row->compiler), "make", text_or_null(row->make), "figures",
                     figures_json(bench, row));
}

static json_t *host_json(const struct bench *bench)
{
    const struct bench_host *host = &bench->host;
    return json_pack("{s:o, s:i, s:b, s:o, s:I, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:o}", "processor",
                     text_or_null(host->processor), "processors", (int)host->processors, "virtual",
                     host->virtual, "governor", text_or_null(host->governor), "memory_bytes",
                     (json_int_t)host->memory_bytes, "system", host->system, "kernel", host->kernel,
                     "qemu", text_or_null(host->qemu), "podman", text_or_null(host->podman), "docker",
                     text_or_null(host->docker), "load_before", bench->load_before, "load_after",
                     bench->load_after, "others", number(bench->others));
}

static json_t *settings_json(const struct bench *bench)
{
    const struct bench_options *options = bench->options;
    return json_pack("{s:i, s:i, s:o, s:s, s:o, s:o, s:o, s:o, s:i, s:i}", "rounds",
                     (int)options->rounds, "starts", BENCH_STARTS, "image", text_json(options->image),
                     "net", options->network ? "nat" : "none", "source",
                     text_or_null(bench_source_name(bench)), "source_digest",
                     text_or_null(bench->source_digest), "build", text_json(options->build),
                     "disk_tool", text_or_null(bench->disk_tool), "disk_mib", (int)options->disk_mib,
                     "disk_s", (int)options->disk_s);
}

static json_t *columns_json(const struct bench *bench)
{
    json_t *columns = json_array();
    for (int c = 0; c < BENCH_COLUMNS; c++)
        if (bench->columns & 1u << c)
            json_array_append_new(
                columns, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", bench_columns[c].name, "title",
                                   bench_columns[c].title, "unit", bench_columns[c].unit, "better",
                                   bench_columns[c].more_is_better ? "more" : "less", "meaning",
                                   bench_columns[c].meaning));
    return columns;
}

json_t *bench_say_json(const struct bench *bench, const char *command)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < bench->row_count; i++)
        json_array_append_new(rows, row_json(bench, &bench->rows[i]));
    return json_pack("{s:s, s:o, s:s, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "dayfly",
                     DAYFLY_VERSION, "command", text_json(command), "measured", bench->host.when,
                     "seconds", number(bench->seconds), "rounds_done", (int)bench->rounds,
                     "interrupted", bench->interrupted ? json_integer(bench->interrupted) : json_null(),
                     "lacks", text_or_null(bench->lacks), "host", host_json(bench), "settings",
                     settings_json(bench), "columns", columns_json(bench), "rows", rows);
}
