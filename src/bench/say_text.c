/* SPDX-License-Identifier: Apache-2.0 */
/* The table as text and as Markdown: medians with the least and the most, then the ratios. */
#include <math.h>
#include <string.h>

#include "bench/say.h"

#define CELL_BYTES (4 * BENCH_FIGURE_BYTES)

const char *bench_source_name(const struct bench *bench)
{
    const char *slash = strrchr(bench->source, '/');
    return slash && slash[1] ? slash + 1 : bench->source;
}

const char *bench_disk_text(const struct bench_row *row, char out[BENCH_DISK_BYTES])
{
    snprintf(out, BENCH_DISK_BYTES, "%s%s", row->info->disk,
             row->buffered ? ", no direct requests" : "");
    return out;
}

bool bench_column_has_figures(const struct bench *bench, enum bench_column column)
{
    for (size_t i = 0; i < bench->row_count; i++)
        if (bench_summary(bench, &bench->rows[i], column).count)
            return true;
    return false;
}

/* -- facts ------------------------------------------------------------------------------------ */

static void say_tools(const struct bench *bench,
                      void (*fact)(void *opaque, const char *name, const char *text), void *opaque)
{
    char text[512];
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        if (!row->works || !*row->compiler || !*bench->source)
            continue;
        char name[64];
        snprintf(name, sizeof(name), "compiler of %s", row->info->name);
        snprintf(text, sizeof(text), "%s, %s", row->compiler, *row->make ? row->make : "no make");
        fact(opaque, name, text);
    }
}

void bench_say_facts(const struct bench *bench,
                     void (*fact)(void *opaque, const char *name, const char *text), void *opaque)
{
    const struct bench_host *host = &bench->host;
    const struct bench_options *options = bench->options;
    char text[PATH_MAX + 256];
    snprintf(text, sizeof(text), "%u × %s%s", host->processors,
             *host->processor ? host->processor : "unknown",
             host->virtual ? ", a virtual machine" : "");
    fact(opaque, "processors", text);
    fact(opaque, "governor", *host->governor ? host->governor : "not shown");
    snprintf(text, sizeof(text), "%.1f GiB", (double)host->memory_bytes / (1 << 30));
    fact(opaque, "memory", text);
    snprintf(text, sizeof(text), "%s, Linux %s", *host->system ? host->system : "unknown system",
             host->kernel);
    fact(opaque, "system", text);
    fact(opaque, "dayfly", DAYFLY_VERSION);
    if (*host->qemu)
        fact(opaque, "QEMU", host->qemu);
    if (*host->podman)
        fact(opaque, "podman", host->podman);
    if (*host->docker)
        fact(opaque, "docker", host->docker);
    snprintf(text, sizeof(text), "%s; it took %.0f s", host->when, bench->seconds);
    fact(opaque, "measured", text);
    snprintf(text, sizeof(text), "%s before, %s after", bench->load_before, bench->load_after);
    fact(opaque, "load", text);
    if (!isnan(bench->others)) {
        snprintf(text, sizeof(text), "%.0f %% of the processors%s", 100 * bench->others,
                 bench->others > 0.05 ? ": this machine was not quiet" : "");
        fact(opaque, "used by others", text);
    }
    snprintf(text, sizeof(text), "%u of %u, each with %d starts (1 where it takes a second)",
             bench->rounds, options->rounds, BENCH_STARTS);
    fact(opaque, "rounds", text);
    fact(opaque, "image", options->image);
    fact(opaque, "network", options->network ? "each its own (bare metal: the host's)" : "none");
    if (*bench->source) {
        snprintf(text, sizeof(text), "%s, unpacked %s, by %s", bench_source_name(bench),
                 bench->source_digest, options->build);
        fact(opaque, "sources", text);
        say_tools(bench, fact, opaque);
    }
    if (*bench->disk_tool) {
        snprintf(text, sizeof(text), "%s, %u MiB, %u s each", bench->disk_tool, options->disk_mib,
                 options->disk_s);
        fact(opaque, "disk asked by", text);
    }
    if (*bench->lacks)
        fact(opaque, "not measured", bench->lacks);
}

/* -- cells ------------------------------------------------------------------------------------ */

/* "MEDIAN (LEAST to MOST)", each as `show` has it. */
static const char *spread(const struct summary *s, const char *(*show)(double, char *),
                          char out[CELL_BYTES])
{
    char median[BENCH_FIGURE_BYTES], least[BENCH_FIGURE_BYTES], most[BENCH_FIGURE_BYTES];
    if (!s->count)
        return strcpy(out, "-");
    snprintf(out, CELL_BYTES, "%s (%s to %s)", show(s->median, median), show(s->least, least),
             show(s->most, most));
    return out;
}

static const char *cell(const struct bench *bench, const struct bench_row *row,
                        enum bench_column column, char out[CELL_BYTES])
{
    struct summary s = bench_summary(bench, row, column);
    return spread(&s, bench_figure, out);
}

static const char *ratio_cell(const struct bench *bench, const struct bench_row *row,
                              enum bench_column column, char out[CELL_BYTES])
{
    struct summary s = bench_row_ratio(bench, row, column);
    return spread(&s, bench_ratio, out);
}

/* -- text ------------------------------------------------------------------------------------- */

static int name_width(const struct bench *bench)
{
    size_t width = 0;
    for (size_t i = 0; i < bench->row_count; i++)
        if (strlen(bench->rows[i].info->name) > width)
            width = strlen(bench->rows[i].info->name);
    return (int)width;
}

static void print_fact(void *opaque, const char *name, const char *text)
{
    fprintf(opaque, "  %-20s %s\n", name, text);
}

/* Everything at a glance: medians, and their ratios. */
static void print_overview(const struct bench *bench, FILE *out)
{
    enum { COLUMN = 17 };
    int last = 31 - __builtin_clz(bench->columns | 1);
    fprintf(out, "%-*s", name_width(bench) + 2, "");
    for (int c = 0; c < BENCH_COLUMNS; c++)
        if (bench->columns & 1u << c) {
            char head[64];
            snprintf(head, sizeof(head), "%s, %s", bench_columns[c].name, bench_columns[c].unit);
            fprintf(out, "  %-*s", c == last ? 0 : COLUMN, head);
        }
    fputc('\n', out);
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        fprintf(out, "  %-*s", name_width(bench), row->info->name);
        for (int c = 0; c < BENCH_COLUMNS && row->works; c++) {
            char figure[BENCH_FIGURE_BYTES], ratio[BENCH_FIGURE_BYTES], text[CELL_BYTES];
            struct summary r = bench_row_ratio(bench, row, (enum bench_column)c);
            if (!(bench->columns & 1u << c))
                continue;
            bench_figure(bench_summary(bench, row, (enum bench_column)c).median, figure);
            snprintf(text, sizeof(text), "%s%s%s", figure, r.count ? " x" : "",
                     r.count ? bench_ratio(r.median, ratio) : "");
            fprintf(out, "  %-*s", c == last ? 0 : COLUMN, text);
        }
        fputs(row->works ? "\n" : "  cannot run here, see below\n", out);
    }
}

/* A block for each column, as the figures are compared within one. */
static void print_column(const struct bench *bench, enum bench_column column, FILE *out)
{
    const struct bench_column_info *info = &bench_columns[column];
    fprintf(out, "\n%s, %s (--columns %s)\n", info->title, info->unit, info->name);
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        char text[CELL_BYTES], ratio[CELL_BYTES], disk[BENCH_DISK_BYTES];
        if (!row->works)
            continue;
        fprintf(out, "  %-*s  %-*s", name_width(bench), row->info->name, info->has_ratio ? 28 : 0,
                cell(bench, row, column, text));
        if (info->has_ratio)
            fprintf(out, "  x %s", ratio_cell(bench, row, column, ratio));
        if (column == BENCH_READ || column == BENCH_WRITE)
            fprintf(out, "  %s", bench_disk_text(row, disk));
        fputc('\n', out);
    }
}

void bench_say_text(const struct bench *bench, const char *command, FILE *out)
{
    fputs("Medians; x is the ratio to bare metal, the median of the rounds' ratios.\n\n", out);
    print_overview(bench, out);
    fputs("\nThe same with the least and the most:\n", out);
    for (int c = 0; c < BENCH_COLUMNS; c++)
        if (bench->columns & 1u << c && bench_column_has_figures(bench, (enum bench_column)c))
            print_column(bench, (enum bench_column)c, out);
    fputs("\nrows\n", out);
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        char disk[BENCH_DISK_BYTES];
        fprintf(out, "  %-*s  ", name_width(bench), row->info->name);
        if (row->works)
            fprintf(out, "%s; its disk: %s%s%s%s%s\n", row->info->title, bench_disk_text(row, disk),
                    *row->note ? "; " : "", row->note, *row->why ? "; not measured: " : "", row->why);
        else
            fprintf(out, "cannot run here: %s\n", *row->why ? row->why : "not tried");
    }
    fputs("\nhow\n", out);
    bench_say_facts(bench, print_fact, out);
    print_fact(out, "again", command);
}

/* -- Markdown --------------------------------------------------------------------------------- */

/* A bar would end the cell, and < begin an element. */
static void markdown_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("|<>&*_`[]\\", *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void markdown_fact(void *opaque, const char *name, const char *text)
{
    fprintf(opaque, "* %s: ", name);
    markdown_text(opaque, text);
    fputc('\n', opaque);
}

static void markdown_row(const struct bench *bench, const struct bench_row *row, FILE *out)
{
    fprintf(out, "| %s |", row->info->title);
    for (int c = 0; c < BENCH_COLUMNS; c++) {
        char text[CELL_BYTES], ratio[BENCH_FIGURE_BYTES];
        struct summary s = bench_row_ratio(bench, row, (enum bench_column)c);
        if (!(bench->columns & 1u << c))
            continue;
        fprintf(out, " %s", cell(bench, row, (enum bench_column)c, text));
        if (s.count)
            fprintf(out, " ×%s", bench_ratio(s.median, ratio));
        fputs(" |", out);
    }
    fputc('\n', out);
}

void bench_say_markdown(const struct bench *bench, const char *command, FILE *out)
{
    fputs("Medians, with the least and the most in brackets; × is the ratio to bare metal, of the same "
          "rounds.\n\n| |",
          out);
    for (int c = 0; c < BENCH_COLUMNS; c++)
        if (bench->columns & 1u << c)
            fprintf(out, " %s, %s |", bench_columns[c].title, bench_columns[c].unit);
    fputs("\n|---|", out);
    for (int c = 0; c < BENCH_COLUMNS; c++)
        if (bench->columns & 1u << c)
            fputs("---|", out);
    fputc('\n', out);
    for (size_t i = 0; i < bench->row_count; i++)
        if (bench->rows[i].works)
            markdown_row(bench, &bench->rows[i], out);
    fputc('\n', out);
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        char disk[BENCH_DISK_BYTES];
        if (row->works)
            fprintf(out, "* the disk of %s: %s%s%s\n", row->info->title, bench_disk_text(row, disk),
                    *row->note ? "; " : "", row->note);
        if (!row->works || *row->why) {
            fprintf(out, "* %s was not measured%s: ", row->info->title, row->works ? " in all" : "");
            markdown_text(out, *row->why ? row->why : "not tried");
            fputc('\n', out);
        }
    }
    bench_say_facts(bench, markdown_fact, out);
    fprintf(out, "\nAgain:\n\n    %s\n", command);
}
