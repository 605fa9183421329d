/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/column.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "util/err.h"

const struct bench_column_info bench_columns[BENCH_COLUMNS] = {
    [BENCH_START] = {"start", "to first command", "ms", false, true,
                     "from the start of the program (dayfly run, podman run) to the first words of the "
                     "command in the new place: all that its user waits for"},
    [BENCH_BUILD] = {"build", "build", "s", false, true,
                     "a build of a real C project on the job's own disk, with all processors, on the "
                     "host's clock; unpacking the sources is not part of it"},
    [BENCH_CPU] = {"cpu", "build, processor time", "s", false, true,
                   "user and system time of the same build, as the shell in the place counts it: less "
                   "disturbed by what else runs on the host"},
    [BENCH_READ] = {"read", "4 KiB random reads", "/s", true, true,
                    "direct reads of 4 KiB at random places of a file on the job's own disk, four at a "
                    "time"},
    [BENCH_WRITE] = {"write", "4 KiB random writes", "/s", true, true,
                     "the same with writes, and with the flush behind them"},
    [BENCH_MEMORY] = {"memory", "memory beside the guest's", "MiB", false, false,
                      "of all processes that the place needs on the host, while the command waits "
                      "(PSS); neither a guest's own memory nor the command's"},
    [BENCH_DESTROY] = {"destroy", "destroy", "ms", false, true,
                       "from the end of the command's input until the last process of the place is "
                       "gone"},
};

const char *bench_column_name(size_t index)
{
    return bench_columns[index].name;
}

static int no_such(const char *word, size_t len, const char *what, const char *(*name)(size_t index),
                   size_t count, struct dayfly_err *err)
{
    char all[128] = "";
    for (size_t i = 0; i < count; i++)
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s",
                 i == 0           ? ""
                 : i + 1 == count ? " and "
                                  : ", ",
                 name(i));
    return err_set(err, EINVAL, "there is no %s '%.*s'; there are %s", what, (int)(len < 40 ? len : 40),
                   word, all);
}

int bench_choose(const char *list, const char *what, const char *(*name)(size_t index), size_t count,
                 unsigned *out, struct dayfly_err *err)
{
    *out = 0;
    if (!list)
        *out = (1u << count) - 1;
    for (const char *word = list; word;) {
        size_t len = strcspn(word, ","), i = 0;
        while (i < count && (strlen(name(i)) != len || strncmp(name(i), word, len) != 0))
            i++;
        if (i == count)
            return no_such(word, len, what, name, count, err);
        *out |= 1u << i;
        word = word[len] ? word + len + 1 : NULL;
    }
    return 0;
}

/* Thousands apart, for numbers that people compare. */
static void grouped(double value, char out[BENCH_FIGURE_BYTES])
{
    char digits[BENCH_FIGURE_BYTES];
    int len = snprintf(digits, sizeof(digits), "%.0f", value);
    size_t n = 0;
    for (int i = 0; i < len && n + 3 < BENCH_FIGURE_BYTES; i++) {
        if (i && (len - i) % 3 == 0 && len > 4)
            out[n++] = ' ';
        out[n++] = digits[i];
    }
    out[n] = '\0';
}

const char *bench_figure(double value, char out[BENCH_FIGURE_BYTES])
{
    if (!isfinite(value) || fabs(value) > 1e15)
        strcpy(out, "-");
    else if (fabs(value) >= 99.95)
        grouped(value, out);
    else
        snprintf(out, BENCH_FIGURE_BYTES, "%.*f", fabs(value) >= 9.995 ? 1 : 2, value);
    return out;
}

const char *bench_ratio(double value, char out[BENCH_FIGURE_BYTES])
{
    /* Within 2 % is what is asked of a build: that must be seen. */
    if (isfinite(value) && fabs(value) < 9.9995)
        snprintf(out, BENCH_FIGURE_BYTES, "%.*f", fabs(value) < 1.9995 ? 3 : 2, value);
    else
        bench_figure(value, out);
    return out;
}
