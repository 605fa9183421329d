/* SPDX-License-Identifier: Apache-2.0 */
/* See bench.h: the order of things. What each row needs is made before (prepare.h). */
#include "bench/bench.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bench/prepare.h"
#include "bench/process.h"
#include "bench/run.h"
#include "bench/work.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

/* One run can give several columns. */
enum kind { KIND_START, KIND_BUILD, KIND_DISK, KINDS };

static const struct {
    const char *name;
    unsigned columns;
    unsigned times; /* a round */
} kinds[KINDS] = {
    [KIND_START] = {"start", 1u << BENCH_START | 1u << BENCH_MEMORY | 1u << BENCH_DESTROY,
                    BENCH_STARTS},
    [KIND_BUILD] = {"build", 1u << BENCH_BUILD | 1u << BENCH_CPU, 1},
    [KIND_DISK] = {"disk", 1u << BENCH_READ | 1u << BENCH_WRITE, 1},
};

struct session {
    struct bench *bench;
    struct prepared prepared;
    bool failed[ROW_KINDS][KINDS]; /* by the row's index: not tried again */
    char disk_words[2][16];
    uint64_t start_ns;
};

static void say(const struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(const struct session *s, const char *fmt, ...)
{
    char text[256];
    va_list args;
    if (!s->bench->options->say)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    s->bench->options->say(s->bench->options->opaque, text);
}

/* -- one run ---------------------------------------------------------------------------------- */

static void keep(struct bench_row *row, enum bench_column column, size_t slot, double value)
{
    row->values[column][slot] = value;
}

static void keep_figures(const struct session *s, struct bench_row *row, enum kind kind, size_t slot,
                         const struct run_figures *figures)
{
    switch (kind) {
    case KIND_START:
        row->slow = figures->begin_ms > BENCH_SLOW_MS;
        keep(row, BENCH_START, slot, figures->begin_ms);
        keep(row, BENCH_DESTROY, slot, figures->end_ms);
        if (figures->overhead_bytes >= 0)
            keep(row, BENCH_MEMORY, slot, (double)figures->overhead_bytes / (1 << 20));
        break;
    case KIND_BUILD:
        keep(row, BENCH_BUILD, slot, figures->work_s);
        keep(row, BENCH_CPU, slot, marks_cpu_s(&figures->marks));
        break;
    case KIND_DISK:
        keep(row, BENCH_READ, slot, figures->marks.read_per_s);
        keep(row, BENCH_WRITE, slot, figures->marks.write_per_s);
        if (figures->marks.buffered)
            row->buffered = true;
        break;
    case KINDS:
        break;
    }
}

static int run_one(struct session *s, struct bench_row *row, enum kind kind,
                   struct run_figures *figures, struct dayfly_err *err)
{
    const struct bench_options *options = s->bench->options;
    struct prepared_job job = {.wants_memory = s->bench->columns & 1u << BENCH_MEMORY, .stdin_fd = -1};
    switch (kind) {
    case KIND_START:
        job.script = work_start;
        break;
    case KIND_BUILD:
        job.script = work_build;
        job.args[0] = options->build;
        job.stdin_fd = s->prepared.source_fd;
        break;
    default:
        job.script = *s->prepared.fio ? work_disk_fio : work_disk_own;
        job.args[0] = s->disk_words[0];
        job.args[1] = s->disk_words[1];
        job.stdin_fd = s->prepared.disk_fd;
    }
    return prepared_run(&s->prepared, options, row, &job, figures, err);
}

/* What went wrong the first time will again: it is said once, and left. */
static void give_up(struct session *s, size_t index, enum kind kind, const struct dayfly_err *err)
{
    struct bench_row *row = &s->bench->rows[index];
    s->failed[index][kind] = true;
    if (kind == KIND_BUILD && !*row->compiler && !s->bench->options->source)
        snprintf(row->why, sizeof(row->why), "build: no compiler there%s%s",
                 row->info->on_host ? ": apt-get install " : "; for an image with one: ",
                 row->info->on_host ? "gcc libc6-dev make" : PREPARED_IMAGE_HINT " NAME");
    else
        snprintf(row->why, sizeof(row->why), "%s: %s", kinds[kind].name, err->msg);
    say(s, "%s cannot be measured: %s", row->info->name, row->why);
}

static int measure(struct session *s, size_t index, enum kind kind, size_t slot)
{
    struct dayfly_err err = {0};
    struct run_figures figures;
    struct bench_row *row = &s->bench->rows[index];
    int r = run_one(s, row, kind, &figures, &err);
    if (r == 0)
        keep_figures(s, row, kind, slot, &figures);
    else if (r != -EINTR)
        give_up(s, index, kind, &err);
    return r == -EINTR ? r : 0;
}

/* -- all of them ------------------------------------------------------------------------------ */

/* Every row once for each kind; begun with another row each time. */
static int one_round(struct session *s, unsigned round)
{
    struct bench *bench = s->bench;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        if (!(bench->columns & kinds[kind].columns))
            continue;
        for (unsigned time = 0; time < kinds[kind].times; time++)
            for (size_t i = 0; i < bench->row_count; i++) {
                size_t index = (i + round + time) % bench->row_count;
                if (!bench->rows[index].works || s->failed[index][kind] ||
                    (time && bench->rows[index].slow))
                    continue;
                say(s, "round %u of %u: %s, %s (%.0f s so far)", round + 1, bench->options->rounds,
                    bench->rows[index].info->name, kinds[kind].name,
                    (double)(clock_ns() - s->start_ns) / 1e9);
                int r = measure(s, index, kind, round * kinds[kind].times + time);
                if (r < 0)
                    return r;
            }
    }
    return 0;
}

static int make_rows(struct bench *bench, struct dayfly_err *err)
{
    const struct bench_options *options = bench->options;
    bench->slots = (size_t)options->rounds * BENCH_STARTS;
    for (size_t kind = 0; kind < ROW_KINDS; kind++) {
        if (!(options->rows & 1u << kind))
            continue;
        struct bench_row *row = &bench->rows[bench->row_count++];
        row->info = &bench_rows[kind];
        for (size_t c = 0; c < BENCH_COLUMNS; c++) {
            row->values[c] = calloc(bench->slots, sizeof(double));
            if (!row->values[c])
                return err_set(err, ENOMEM, "out of memory");
            for (size_t i = 0; i < bench->slots; i++)
                row->values[c][i] = NAN;
        }
    }
    return 0;
}

static double own_busy_s(void)
{
    struct rusage own, children;
    getrusage(RUSAGE_SELF, &own);
    getrusage(RUSAGE_CHILDREN, &children);
    return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec + children.ru_utime.tv_sec +
                    children.ru_stime.tv_sec) +
           (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec + children.ru_utime.tv_usec +
                    children.ru_stime.tv_usec) /
               1e6;
}

static void measure_all(struct session *s)
{
    struct bench *bench = s->bench;
    double busy_s = bench_host_busy_s(), own_s = own_busy_s();
    uint64_t begin_ns = clock_ns();
    int r = 0;
    while (r == 0 && bench->rounds < bench->options->rounds)
        r = one_round(s, bench->rounds++);
    double all_s = (double)(clock_ns() - begin_ns) / 1e9 * bench->host.processors;
    double others_s = bench_host_busy_s() - busy_s - (own_busy_s() - own_s);
    bench->others = all_s > 0 ? fmax(others_s / all_s, 0) : NAN;
}

static int take_signal(const struct bench_options *options)
{
    struct signalfd_siginfo info;
    return options->signal_fd >= 0 && read(options->signal_fd, &info, sizeof(info)) == sizeof(info)
               ? (int)info.ssi_signo
               : 0;
}

int bench_run(const struct bench_options *options, struct bench *out, struct dayfly_err *err)
{
    *out = (struct bench){.options = options, .columns = options->columns, .others = NAN};
    struct session session = {.bench = out, .start_ns = clock_ns()};
    int r = process_adopt();
    r = r < 0 ? err_errno(err, -r, "become the reaper of what is measured") : make_rows(out, err);
    if (r < 0)
        return r;
    snprintf(session.disk_words[0], sizeof(session.disk_words[0]), "%u", options->disk_mib);
    snprintf(session.disk_words[1], sizeof(session.disk_words[1]), "%u", options->disk_s);
    say(&session, "looking at the host");
    bench_host_look(&out->host);
    bench_host_load(out->load_before);
    r = prepare(&session.prepared, out, err);
    if (r == 0)
        measure_all(&session);
    prepared_finish(&session.prepared);
    bench_host_load(out->load_after);
    out->seconds = (double)(clock_ns() - session.start_ns) / 1e9;
    out->interrupted = take_signal(options);
    if (options->say)
        options->say(options->opaque, NULL);
    return out->interrupted ? 0 : r;
}
