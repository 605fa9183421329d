/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_MARKS_H
#define BENCH_MARKS_H

/*
 * What a measured job prints, as it comes. It is from a place that nobody vouches for: lines that are
 * too long or are not understood are passed over, and no figure is taken that is not a plain number.
 *
 *   @dayfly begin                what came before was the place's making; now the job runs
 *   @dayfly end                  the work is done
 *   @dayfly have NAME VERSION    a program that is there
 *   @dayfly read N, write N      requests a second
 *   @dayfly buffered             the disk takes no direct requests: the page cache has a part in it
 *   0m1.20s 0m0.30s              two lines of the shell's `times`, of which the second counts
 *   3;fio-3.33;...               fio's terse output
 */

#include <stdbool.h>
#include <stddef.h>

#define MARKS_LINE_BYTES    1024
#define MARKS_VERSION_BYTES 80

struct marks {
    bool begun, ended, buffered;
    char compiler[MARKS_VERSION_BYTES], make[MARKS_VERSION_BYTES],
        fio[MARKS_VERSION_BYTES];   /* "": none */
    double read_per_s, write_per_s; /* NAN: not said */
    unsigned times_lines;
    double times_s[4];

    char line[MARKS_LINE_BYTES];
    size_t len; /* of the line so far; at the limit the rest is dropped */
};

void marks_start(struct marks *marks);
void marks_take(struct marks *marks, const char *bytes, size_t len);

/* Processor time of the work's children between the two `times`; NAN when they were not both there. */
double marks_cpu_s(const struct marks *marks);

#endif
