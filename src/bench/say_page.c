/* SPDX-License-Identifier: Apache-2.0 */
/* The table as a page. Whatever stands in it that a file, a program or a person has said goes through
 * html_text. */
#include <math.h>

#include "bench/say.h"

static const char head[] =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
    "'unsafe-inline'\">\n"
    "<title>dayfly bench</title>\n"
    "<style>\n"
    ":root { --ink: #1c2430; --soft: #5a6675; --paper: #ffffff; --line: #d5dbe3; --panel: #f5f7fa;\n"
    "        --base: #4d5866; --ours: #1f5fbf; --peer: #a34a00; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    ":root { --ink: #e6eaf0; --soft: #a3afbf; --paper: #12161c; --line: #333d4a; --panel: #1a2029;\n"
    "        --base: #b4bfcc; --ours: #7db1ff; --peer: #f0a35e; }\n"
    "}\n"
    "body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; font: 1rem/1.5 system-ui, sans-serif;\n"
    "       color: var(--ink); background: var(--paper); }\n"
    "h1 { margin-bottom: 0; } h2 { margin: 2.5rem 0 .25rem; }\n"
    "p, dd { max-width: 46rem; } .soft { color: var(--soft); }\n"
    "section > div { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }\n"
    "figure { flex: 3 1 26rem; margin: 0; padding: .75rem; background: var(--panel); border-radius: "
    ".5rem; }\n"
    ".scroll { flex: 2 1 20rem; overflow-x: auto; }\n"
    "svg { display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif; }\n"
    "svg text { fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 11px; }\n"
    ".grid { stroke: var(--line); } .range { stroke: currentColor; stroke-width: 2; }\n"
    ".run { fill: currentColor; opacity: .35; }\n"
    ".median { fill: currentColor; stroke: var(--panel); stroke-width: 1.5; }\n"
    ".base { color: var(--base); } .ours { color: var(--ours); } .peer { color: var(--peer); }\n"
    "table { border-collapse: collapse; width: 100%; }\n"
    "caption { text-align: left; color: var(--soft); }\n"
    "th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;\n"
    "         font-variant-numeric: tabular-nums; white-space: nowrap; }\n"
    "th:first-child, td.text { text-align: left; } td.text { white-space: normal; }\n"
    "dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }\n"
    "dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }\n"
    "pre { padding: .75rem; background: var(--panel); border-radius: .5rem; overflow-x: auto; }\n"
    "</style>\n"
    "</head>\n"
    "<body>\n"
    "<main>\n";

static void say(FILE *out, const char *before, const char *text, const char *behind)
{
    fputs(before, out);
    html_text(out, text);
    fputs(behind, out);
}

static void figure(FILE *out, double value)
{
    char text[BENCH_FIGURE_BYTES];
    say(out, "<td>", bench_figure(value, text), "</td>");
}

static void ratio(FILE *out, double value)
{
    char text[BENCH_FIGURE_BYTES];
    say(out, "<td>", bench_ratio(value, text), "</td>");
}

static void column_table(const struct bench *bench, enum bench_column column, FILE *out)
{
    const struct bench_column_info *info = &bench_columns[column];
    say(out, "<div class=\"scroll\"><table>\n<caption>", info->title, ", ");
    say(out, "", info->unit, "</caption>\n");
    fputs(
        "<thead><tr><th scope=\"col\">row</th><th scope=\"col\">median</th><th scope=\"col\">least</th>"
        "<th scope=\"col\">most</th><th scope=\"col\">runs</th>",
        out);
    if (info->has_ratio)
        fputs("<th scope=\"col\">× bare metal</th>", out);
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        struct summary s = bench_summary(bench, row, column);
        if (!s.count)
            continue;
        say(out, "<tr><th scope=\"row\">", row->info->name, "</th>");
        figure(out, s.median);
        figure(out, s.least);
        figure(out, s.most);
        fprintf(out, "<td>%zu</td>", s.count);
        if (info->has_ratio)
            ratio(out, bench_row_ratio(bench, row, column).median);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

static void column_section(const struct bench *bench, enum bench_column column, FILE *out)
{
    const struct bench_column_info *info = &bench_columns[column];
    fprintf(out, "<section aria-labelledby=\"%s\">\n", info->name);
    fprintf(out, "<h2 id=\"%s\">", info->name);
    say(out, "", info->title, "</h2>\n<p class=\"soft\">In ");
    say(out, "", info->unit, info->more_is_better ? "; more is better: " : "; less is better: ");
    say(out, "", info->meaning, ".</p>\n<div>\n<figure>\n");
    bench_chart(bench, column, out);
    fputs("</figure>\n", out);
    column_table(bench, column, out);
    fputs("</div>\n</section>\n", out);
}

static void row_section(const struct bench *bench, FILE *out)
{
    fputs("<section aria-labelledby=\"rows\">\n<h2 id=\"rows\">The rows</h2>\n<div "
          "class=\"scroll\"><table>\n"
          "<thead><tr><th scope=\"col\">row</th><th scope=\"col\">what it is</th><th scope=\"col\">its "
          "disk</th><th scope=\"col\">remarks</th></tr></thead>\n<tbody>\n",
          out);
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        char disk[BENCH_DISK_BYTES];
        say(out, "<tr><th scope=\"row\">", row->info->name, "</th>");
        say(out, "<td class=\"text\">", row->info->title, "</td>");
        say(out, "<td class=\"text\">", bench_disk_text(row, disk), "</td><td class=\"text\">");
        say(out,
            row->works ? "" : "cannot run here: ", *row->why || row->works ? row->why : "not tried",
            *row->why && *row->note ? "; " : "");
        say(out, "", row->note, "</td></tr>\n");
    }
    fputs("</tbody></table></div>\n</section>\n", out);
}

static void fact(void *opaque, const char *name, const char *text)
{
    say(opaque, "<dt>", name, "</dt>");
    say(opaque, "<dd>", text, "</dd>\n");
}

void bench_say_html(const struct bench *bench, const char *command, FILE *out)
{
    fputs(head, out);
    fputs("<h1>dayfly bench</h1>\n<p class=\"soft\">The same work in several places of one machine, in "
          "turn. Large dots are medians, small ones single runs, lines go from the least to the most. "
          "The ratio to bare metal is the median of the rounds' ratios.</p>\n",
          out);
    if (bench->interrupted)
        fputs("<p><strong>This was cut off by a signal.</strong></p>\n", out);
    for (int c = 0; c < BENCH_COLUMNS; c++)
        if (bench->columns & 1u << c && bench_column_has_figures(bench, (enum bench_column)c))
            column_section(bench, (enum bench_column)c, out);
    row_section(bench, out);
    fputs("<section aria-labelledby=\"how\">\n<h2 id=\"how\">The machine, and how to repeat "
          "it</h2>\n<dl>\n",
          out);
    bench_say_facts(bench, fact, out);
    say(out, "</dl>\n<pre>", command, "</pre>\n</section>\n</main>\n</body>\n</html>\n");
}
