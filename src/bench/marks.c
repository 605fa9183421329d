/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/marks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/text.h"

/* Above that, it is no figure but a fault. */
#define MOST 1e12

/* fio's terse output, version 3: fields from 1. */
enum { FIO_READ_IOPS = 8, FIO_WRITE_IOPS = 49 };

void marks_start(struct marks *marks)
{
    *marks = (struct marks){.read_per_s = NAN, .write_per_s = NAN};
}

/* A plain number and then `end`; NAN for anything else. *rest is behind it. */
static double take_number(const char *text, const char *end, const char **rest)
{
    char *stop;
    size_t digits = strspn(text, "0123456789."), len = strlen(end);
    double value = strtod(text, &stop);
    if (!digits || stop != text + digits || value > MOST || strncmp(stop, end, len) != 0)
        return NAN;
    *rest = stop + len;
    return value;
}

static double number(const char *text)
{
    const char *rest;
    double value = take_number(text, "", &rest);
    return *text && !isnan(value) && !*rest ? value : NAN;
}

static void take_program(struct marks *marks, const char *word)
{
    const struct {
        const char *name;
        char *version;
    } programs[] = {{"cc ", marks->compiler}, {"make ", marks->make}, {"fio ", marks->fio}};
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        size_t len = strlen(programs[i].name);
        if (strncmp(word, programs[i].name, len) == 0) {
            snprintf(programs[i].version, MARKS_VERSION_BYTES, "%s", word + len);
            text_make_printable(programs[i].version);
        }
    }
}

/* "1m2.50s 0m0.25s": user and system. */
static bool take_times(struct marks *marks, const char *line)
{
    const char *rest = line;
    double total = 0;
    for (int i = 0; i < 2; i++) {
        double minutes = take_number(rest, "m", &rest);
        double seconds = isnan(minutes) ? NAN : take_number(rest, i ? "s" : "s ", &rest);
        if (isnan(seconds))
            return false;
        total += minutes * 60 + seconds;
    }
    if (*rest)
        return false;
    if (marks->times_lines < ARRAY_SIZE(marks->times_s))
        marks->times_s[marks->times_lines++] = total;
    return true;
}

static double fio_field(const char *line, int field)
{
    const char *rest;
    while (--field && line)
        line = (line = strchr(line, ';')) ? line + 1 : NULL;
    return line ? take_number(line, ";", &rest) : NAN;
}

static void take_fio(struct marks *marks, const char *line)
{
    double read = fio_field(line, FIO_READ_IOPS), write = fio_field(line, FIO_WRITE_IOPS);
    /* A run of one kind has 0 for the other. */
    if (read > 0)
        marks->read_per_s = read;
    if (write > 0)
        marks->write_per_s = write;
}

static void take_line(struct marks *marks)
{
    static const char prefix[] = "@dayfly ";
    const char *line = marks->line, *word = line + strlen(prefix);
    if (strncmp(line, "3;fio-", 6) == 0)
        take_fio(marks, line);
    else if (strncmp(line, prefix, strlen(prefix)) != 0)
        take_times(marks, line);
    else if (strcmp(word, "begin") == 0)
        marks->begun = true;
    else if (strcmp(word, "end") == 0)
        marks->ended = true;
    else if (strcmp(word, "buffered") == 0)
        marks->buffered = true;
    else if (strncmp(word, "have ", 5) == 0)
        take_program(marks, word + 5);
    else if (strncmp(word, "read ", 5) == 0)
        marks->read_per_s = number(word + 5);
    else if (strncmp(word, "write ", 6) == 0)
        marks->write_per_s = number(word + 6);
}

void marks_take(struct marks *marks, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != '\n') {
            if (marks->len < MARKS_LINE_BYTES - 1)
                marks->line[marks->len++] = bytes[i];
            continue;
        }
        marks->line[marks->len] = '\0';
        take_line(marks);
        marks->len = 0;
    }
}

double marks_cpu_s(const struct marks *marks)
{
    return marks->times_lines == 4 ? marks->times_s[3] - marks->times_s[1] : NAN;
}
