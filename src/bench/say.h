/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_SAY_H
#define BENCH_SAY_H

/* The table, for people and for programs. */

#include <jansson.h>
#include <stdio.h>

#include "bench/bench.h"

/* `command` is what was typed, for who wants to repeat it. */
void bench_say_text(const struct bench *bench, const char *command, FILE *out);
void bench_say_markdown(const struct bench *bench, const char *command, FILE *out);
/* One page in one file: no scripts, nothing from elsewhere; a table beside each chart. */
void bench_say_html(const struct bench *bench, const char *command, FILE *out);
/* NULL when memory runs out. */
json_t *bench_say_json(const struct bench *bench, const char *command);

/* ---- what they have in common ---- */

/* What has to be known of the machine and the run, as pairs of name and text, in order. */
void bench_say_facts(const struct bench *bench,
                     void (*fact)(void *opaque, const char *name, const char *text), void *opaque);

/* The sources' name without the folders, "" when nothing was built. */
const char *bench_source_name(const struct bench *bench);

/* What the job's disk is, and how it was asked. */
#define BENCH_DISK_BYTES 96
const char *bench_disk_text(const struct bench_row *row, char out[BENCH_DISK_BYTES]);

/* Whether somebody has a figure in that column. */
bool bench_column_has_figures(const struct bench *bench, enum bench_column column);

/* Text for HTML, in an element or in a quoted attribute. */
void html_text(FILE *out, const char *text);

/* chart.c: the column as a picture (SVG) with its caption, for a <figure>; nothing without figures. */
void bench_chart(const struct bench *bench, enum bench_column column, FILE *out);

#endif
