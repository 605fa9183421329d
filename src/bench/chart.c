/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A column as a picture: for each row a line from the least to the most, a small dot for each run, a
 * large one for the median, and the median in figures. Colours are the page's (say_page.c), so that it
 * can be read on light and dark; nothing is said by colour alone. For those who do not see it, the
 * picture has a title and a text, and the table beside it has all of its figures.
 */
#include <math.h>

#include "bench/axis.h"
#include "bench/say.h"

enum { WIDTH = 720, LEFT = 96, RIGHT = 620, TOP = 12, ROW = 34, FOOT = 26 };

static double x_of(const struct axis *axis, double value)
{
    return LEFT + axis_place(axis, value) * (RIGHT - LEFT);
}

static bool make_axis(const struct bench *bench, enum bench_column column, struct axis *axis,
                      size_t *rows)
{
    double least = INFINITY, most = -INFINITY;
    *rows = 0;
    for (size_t i = 0; i < bench->row_count; i++) {
        struct summary s = bench_summary(bench, &bench->rows[i], column);
        if (!s.count)
            continue;
        (*rows)++;
        least = fmin(least, s.least);
        most = fmax(most, s.most);
    }
    if (!*rows || least < 0)
        return false;
    axis_make(axis, least, most);
    return true;
}

static void draw_grid(const struct axis *axis, size_t rows, FILE *out)
{
    int bottom = TOP + (int)rows * ROW;
    for (size_t i = 0; i < axis->tick_count; i++) {
        char text[BENCH_FIGURE_BYTES];
        double x = x_of(axis, axis->ticks[i]), tick = axis->ticks[i];
        fprintf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", x, x, TOP,
                bottom);
        /* Round numbers as they are. */
        if (tick < 100 && tick == rint(tick))
            snprintf(text, sizeof(text), "%.0f", tick);
        else
            bench_figure(tick, text);
        fprintf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x,
                bottom + 17);
        html_text(out, text);
        fputs("</text>\n", out);
    }
}

static void draw_row(const struct bench *bench, const struct bench_row *row, enum bench_column column,
                     const struct axis *axis, double y, FILE *out)
{
    struct summary s = bench_summary(bench, row, column);
    char text[BENCH_FIGURE_BYTES];
    const char *kind = row == bench_base(bench) ? "base" : row->info->engine ? "ours" : "peer";
    fprintf(out, "<g class=\"%s\">\n<text x=\"0\" y=\"%.1f\">", kind, y + 4);
    html_text(out, row->info->name);
    fprintf(out, "</text>\n<line class=\"range\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
            x_of(axis, s.least), x_of(axis, s.most), y, y);
    for (size_t i = 0; i < bench->slots; i++)
        if (isfinite(row->values[column][i]))
            fprintf(out, "<circle class=\"run\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n",
                    x_of(axis, row->values[column][i]), y);
    fprintf(out, "<circle class=\"median\" cx=\"%.1f\" cy=\"%.1f\" r=\"6\"/>\n", x_of(axis, s.median),
            y);
    fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", WIDTH, y + 4);
    html_text(out, bench_figure(s.median, text));
    fputc(' ', out);
    html_text(out, bench_columns[column].unit);
    fputs("</text>\n</g>\n", out);
}

void bench_chart(const struct bench *bench, enum bench_column column, FILE *out)
{
    const struct bench_column_info *info = &bench_columns[column];
    struct axis axis;
    size_t rows, drawn = 0;
    if (!make_axis(bench, column, &axis, &rows))
        return;
    int height = TOP + (int)rows * ROW + FOOT;
    fprintf(out,
            "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"chart-%s-title "
            "chart-%s-text\">\n<title id=\"chart-%s-title\">",
            WIDTH, height, info->name, info->name, info->name);
    html_text(out, info->title);
    fprintf(out, "</title>\n<desc id=\"chart-%s-text\">In ", info->name);
    html_text(out, info->unit);
    fprintf(out, ", on a %s scale; %s is better. The table beside it has the figures.</desc>\n",
            axis.logarithmic ? "logarithmic" : "linear", info->more_is_better ? "more" : "less");
    draw_grid(&axis, rows, out);
    for (size_t i = 0; i < bench->row_count; i++)
        if (bench_summary(bench, &bench->rows[i], column).count)
            draw_row(bench, &bench->rows[i], column, &axis, TOP + ROW * ((double)drawn++ + 0.5), out);
    fprintf(out, "</svg>\n<figcaption class=\"soft\">%s scale</figcaption>\n",
            axis.logarithmic ? "logarithmic" : "linear");
}
