/* SPDX-License-Identifier: Apache-2.0 */
/* See boot.h: the runs, and what their moments are made of. */
#include "bench/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "bench/process.h"
#include "bench/run.h"
#include "bench/work.h"
#include "job/place.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/io.h"
#include "util/units.h"

#define TRACE_MAX_BYTES 4096 /* less than a pipe takes, so that its writer never waits */
#define MAX_WORDS       24

/* -- one run ---------------------------------------------------------------------------------- */

struct times {
    uint64_t at_ns[BOOT_MOMENTS]; /* 0: not reached */
};

static void take_moments(const struct trace *trace, const struct run_figures *figures,
                         struct times *out)
{
    *out = (struct times){0};
    out->at_ns[BOOT_BEGIN] = figures->start_ns;
    for (size_t i = 0; i <= TRACE_STARTED; i++)
        out->at_ns[BOOT_TRACE + i] = atomic_load(&trace->at_ns[i]);
    out->at_ns[BOOT_WORDS] = figures->begun_ns;
    out->at_ns[BOOT_RELEASED] = figures->released_ns;
    out->at_ns[BOOT_ENDED] = atomic_load(&trace->at_ns[TRACE_ENDED]);
    out->at_ns[BOOT_DESTROYED] = atomic_load(&trace->at_ns[TRACE_DESTROYED]);
    out->at_ns[BOOT_GONE] = figures->gone_ns;
}

static double between(const struct times *times, enum boot_moment from, enum boot_moment to)
{
    uint64_t a = times->at_ns[from], b = times->at_ns[to];
    return a && b ? ((double)b - (double)a) / 1e6 : NAN;
}

static void keep_times(struct boot_case *c, unsigned round, const struct times *times)
{
    enum boot_moment last = BOOT_BEGIN;
    for (enum boot_moment m = BOOT_BEGIN + 1; m < BOOT_MOMENTS; m++) {
        c->phases[m][round] = between(times, last, m);
        c->since[m][round] = between(times, BOOT_BEGIN, m);
        if (times->at_ns[m])
            last = m;
    }
    c->sums[BOOT_TO_ENTERED][round] =
        between(times, BOOT_BEGIN, (enum boot_moment)(BOOT_TRACE + TRACE_ENTERED));
    c->sums[BOOT_TO_HELLO][round] =
        between(times, BOOT_BEGIN, (enum boot_moment)(BOOT_TRACE + TRACE_HELLO));
    c->sums[BOOT_TO_WORDS][round] = between(times, BOOT_BEGIN, BOOT_WORDS);
    c->sums[BOOT_TO_GONE][round] = between(times, BOOT_RELEASED, BOOT_GONE);
}

static int read_trace(int fd, struct trace *out, struct dayfly_err *err)
{
    char text[TRACE_MAX_BYTES];
    ssize_t n = io_read_full(fd, text, sizeof(text));
    json_t *json = n < 0 ? NULL : json_loadb(text, (size_t)n, 0, NULL);
    int r = json ? trace_from_json(json, out) : -EPROTO;
    json_decref(json);
    return r < 0 ? err_set(err, EIO, "dayfly run wrote no trace that can be read") : 0;
}

static int run_once(struct boot *boot, struct boot_case *c, bool counts, struct dayfly_err *err)
{
    const struct boot_options *options = boot->options;
    const char *words[MAX_WORDS];
    char memory[UNITS_FORMAT_BYTES], cpus[16], path[40];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_errno(err, errno, "prepare a run");
    _cleanup_close_ int reader = ends[0];
    /* This one is inherited. */
    _cleanup_close_ int writer = fcntl(ends[1], F_DUPFD, STDERR_FILENO + 1);
    close(ends[1]);
    if (writer < 0)
        return err_errno(err, errno, "prepare a run");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", writer);
    snprintf(cpus, sizeof(cpus), "%u", c->cpus);
    units_format_size(c->memory_bytes, memory);
    size_t n = 0;
    for (const char *const *word =
             (const char *const[]){"dayfly", "run", "--quiet", "--interactive", "--engine",
                                   options->engine, "--trace", path, "--env", PROCESS_JOB_MARK,
                                   "--entrypoint", "", NULL};
         *word; word++)
        words[n++] = *word;
    if (options->wall != JOB_BARE) { /* which separates nothing */
        words[n++] = "--net";
        words[n++] = "none";
    }
    if (c->cpus) {
        words[n++] = "--cpus";
        words[n++] = cpus;
    }
    if (c->memory_bytes) {
        words[n++] = "--memory";
        words[n++] = memory;
    }
    for (const char *const *word =
             (const char *const[]){options->image, "--", "/bin/sh", "-c", work_start, NULL};
         *word; word++)
        words[n++] = *word;
    words[n] = NULL;

    const struct run_request request = {
        .file = "/proc/self/exe",
        .argv = words,
        .stdin_fd = -1,
        .wants_memory = true,
        .limit_ns = options->limit_ns,
        .signal_fd = options->signal_fd,
    };
    struct run_figures figures;
    struct trace trace;
    int r = run_measure(&request, &figures, err);
    close_fd(&writer);
    if (r < 0 || (r = read_trace(reader, &trace, err)) < 0 || !counts)
        return r;
    struct times times;
    take_moments(&trace, &figures, &times);
    keep_times(c, boot->rounds, &times);
    if (figures.overhead_bytes >= 0)
        c->sums[BOOT_MEMORY_MIB][boot->rounds] = (double)figures.overhead_bytes / (1 << 20);
    c->has_exits = trace.has_exits;
    c->booted = trace.booted;
    c->ended = trace.ended;
    return 0;
}

/* -- a place in which nothing runs ------------------------------------------------------------ */

static double ms_since(uint64_t *last_ns)
{
    uint64_t now = clock_ns();
    double ms = (double)(now - *last_ns) / 1e6;
    *last_ns = now;
    return ms;
}

/* In this very process, as a service would that has its machines in one. */
static int idle_once(struct boot *boot, struct boot_case *c, bool counts, struct dayfly_err *err)
{
    static const struct place_ops *const places[] = {
        [JOB_IN_MACHINE] = &place_machine, [JOB_AS_USER] = &place_user, [JOB_BARE] = &place_none};
    const struct boot_options *options = boot->options;
    const struct place_ops *ops = places[options->wall];
    const struct job_options job = {
        .image = options->image,
        .wall = options->wall,
        .engine = options->machine,
        .cpus = c->cpus,
        .memory_bytes = c->memory_bytes,
        .in_fd = -1,
        .out_fd = -1,
        .err_fd = -1,
        .signal_fd = -1,
        .tty_fd = -1,
    };
    struct place *place = ops->alloc();
    if (!place)
        return err_set(err, ENOMEM, "out of memory");
    place->ops = ops;
    place->options = &job;
    uint64_t last_ns = clock_ns();
    double ms[3] = {NAN, NAN, NAN};
    int r = ops->open(place, err);
    ms[0] = ms_since(&last_ns);
    if (r == 0)
        r = ops->create(place, err);
    ms[1] = ms_since(&last_ns);
    ops->free(place);
    ms[2] = ms_since(&last_ns);
    if (r == 0 && counts)
        for (unsigned i = 0; i < ARRAY_SIZE(ms); i++)
            c->sums[BOOT_IDLE_OPEN + i][boot->rounds] = ms[i];
    return r;
}

/* -- all of them ------------------------------------------------------------------------------ */

static bool signalled(const struct boot_options *options)
{
    struct pollfd fd = {options->signal_fd, POLLIN, 0};
    return options->signal_fd >= 0 && poll(&fd, 1, 0) > 0;
}

static int measure(struct boot *boot, size_t index, bool counts, struct dayfly_err *err)
{
    struct boot_case *c = &boot->cases[index];
    int r = run_once(boot, c, counts, err);
    if (r == 0 && !signalled(boot->options))
        r = idle_once(boot, c, counts, err);
    return signalled(boot->options) ? -EINTR : r;
}

static void say(const struct boot *boot, const char *what, size_t index)
{
    char text[160], name[64];
    if (!boot->options->say)
        return;
    snprintf(text, sizeof(text), "%s, round %u of %u: %s", what, boot->rounds + 1,
             boot->options->rounds, boot_case_text(&boot->cases[index], name));
    boot->options->say(boot->options->opaque, text);
}

/* Each case once, and begun with another one each time. The first time does not count: after it all
 * that can be in the page cache is there. */
static int measure_all(struct boot *boot, struct dayfly_err *err)
{
    int r = 0;
    for (size_t i = 0; i < boot->case_count && r == 0; i++) {
        say(boot, "warming up", i);
        r = measure(boot, i, false, err);
    }
    for (; r == 0 && boot->rounds < boot->options->rounds; boot->rounds += r == 0)
        for (size_t i = 0; i < boot->case_count && r == 0; i++) {
            size_t index = (i + boot->rounds) % boot->case_count;
            say(boot, boot->options->engine, index);
            r = measure(boot, index, true, err);
        }
    return r;
}

static int take_signal(const struct boot_options *options)
{
    struct signalfd_siginfo info;
    return options->signal_fd >= 0 && read(options->signal_fd, &info, sizeof(info)) == sizeof(info)
               ? (int)info.ssi_signo
               : 0;
}

int boot_run(const struct boot_options *options, struct boot *out, struct dayfly_err *err)
{
    *out = (struct boot){.options = options};
    int r = process_adopt();
    r = r < 0 ? err_errno(err, -r, "become the reaper of what is measured") : boot_make_cases(out, err);
    if (r < 0)
        return r;
    bench_host_look(&out->host);
    bench_host_load(out->load_before);
    r = measure_all(out, err);
    bench_host_load(out->load_after);
    out->interrupted = take_signal(options);
    if (options->say)
        options->say(options->opaque, NULL);
    return out->interrupted ? 0 : r;
}
