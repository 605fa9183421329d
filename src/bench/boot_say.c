/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `dayfly bench boot` as text and as JSON; doc/bench.md has the fields. */
#include "bench/boot.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/column.h"
#include "util/arith.h"
#include "util/units.h"

/* -- names ------------------------------------------------------------------------------------ */

#define TRACED(point) [BOOT_TRACE + (point)]

static const struct {
    const char *name, *title;
} moments[] = {
    [BOOT_BEGIN] = {"begin", ""},
    TRACED(TRACE_MAIN) = {"main", "load the program, read its command line"},
    TRACED(TRACE_OPENED) = {"opened", "find image, kernel, shares"},
    TRACED(TRACE_ENGINE) = {"engine", "try the engine"},
    TRACED(TRACE_DEVICES) = {"devices", "make the devices"},
    TRACED(TRACE_VM) = {"vm", "make the virtual machine"},
    TRACED(TRACE_LOADED) = {"loaded", "memory, chipset, kernel and tables"},
    TRACED(TRACE_CREATED) = {"created", "the rest of the place"},
    TRACED(TRACE_ENTERED) = {"entered", "to the guest's first instruction"},
    TRACED(TRACE_KERNEL) = {"kernel", "the kernel, until it has a clock"},
    TRACED(TRACE_AGENT) = {"agent", "to the agent's first instruction"},
    TRACED(TRACE_HELLO) = {"hello", "the agent's way to the host"},
    TRACED(TRACE_READY) = {"ready", "root file system, network, clock"},
    TRACED(TRACE_STARTED) = {"started", "start the command"},
    [BOOT_WORDS] = {"words", "to the command's first words"},
    [BOOT_RELEASED] = {"released", "(the job waits while it is looked at)"},
    [BOOT_ENDED] = {"ended", "end the command"},
    [BOOT_DESTROYED] = {"destroyed", "remove the place"},
    [BOOT_GONE] = {"gone", "end the program"},
};
static_assert(ARRAY_SIZE(moments) == BOOT_MOMENTS, "a name for each");

static const struct {
    const char *name, *title, *unit;
} sums[] = {
    [BOOT_TO_ENTERED] = {"to_first_instruction", "start to the guest's first instruction", "ms"},
    [BOOT_TO_HELLO] = {"to_agent", "start to the agent's answer", "ms"},
    [BOOT_TO_WORDS] = {"to_command", "start to the command's first words", "ms"},
    [BOOT_TO_GONE] = {"destroy", "end of the input until all is gone", "ms"},
    [BOOT_MEMORY_MIB] = {"memory", "processes' memory beside the guest's (PSS)", "MiB"},
    [BOOT_IDLE_OPEN] = {"idle_open", "nothing runs: find image and kernel", "ms"},
    [BOOT_IDLE_CREATE] = {"idle_create", "nothing runs: create", "ms"},
    [BOOT_IDLE_DESTROY] = {"idle_destroy", "nothing runs: destroy", "ms"},
};
static_assert(ARRAY_SIZE(sums) == BOOT_SUMS, "a name for each");

const char *boot_moment_name(enum boot_moment moment)
{
    return moments[moment].name;
}

const char *boot_sum_name(enum boot_sum sum)
{
    return sums[sum].name;
}

const char *boot_case_text(const struct boot_case *c, char out[64])
{
    char memory[UNITS_FORMAT_BYTES], cpus[24];
    snprintf(cpus, sizeof(cpus), "%u processor%s", c->cpus, c->cpus == 1 ? "" : "s");
    snprintf(out, 64, "%s, %s",
             c->memory_bytes ? units_format_size(c->memory_bytes, memory) : "the usual memory",
             c->cpus ? cpus : "the usual processors");
    return out;
}

/* -- text ------------------------------------------------------------------------------------- */

static void print_figures(FILE *out, struct summary s)
{
    char median[BENCH_FIGURE_BYTES], least[BENCH_FIGURE_BYTES], most[BENCH_FIGURE_BYTES];
    fprintf(out, "%10s  (%s to %s)", bench_figure(s.median, median), bench_figure(s.least, least),
            bench_figure(s.most, most));
}

static void print_exits(FILE *out, const char *until, const struct trace_exits *e)
{
    fprintf(out,
            "exits until %s: %llu of ports, %llu of registers in memory, %llu kicks, %llu others\n",
            until, (unsigned long long)e->port, (unsigned long long)e->memory,
            (unsigned long long)e->kick, (unsigned long long)e->other);
}

static void print_case(const struct boot *boot, const struct boot_case *c, FILE *out)
{
    char text[64], since[BENCH_FIGURE_BYTES];
    fprintf(out, "\n%s\n%-11s  %-42s  %10s  %10s\n", boot_case_text(c, text), "moment",
            "what was done until then", "since, ms", "phase, ms: median (least to most)");
    for (size_t m = BOOT_BEGIN + 1; m < BOOT_MOMENTS; m++) {
        struct summary phase = stats_summarize(c->phases[m], boot->rounds);
        if (!phase.count)
            continue;
        fprintf(out, "%-11s  %-42s  %10s", moments[m].name, moments[m].title,
                bench_figure(stats_summarize(c->since[m], boot->rounds).median, since));
        print_figures(out, phase);
        fputc('\n', out);
    }
    fputc('\n', out);
    for (size_t s = 0; s < BOOT_SUMS; s++) {
        struct summary sum = stats_summarize(c->sums[s], boot->rounds);
        if (!sum.count)
            continue;
        fprintf(out, "%-55s  %10s", sums[s].title, sums[s].unit);
        print_figures(out, sum);
        fputc('\n', out);
    }
    if (c->has_exits) {
        print_exits(out, "the agent's answer", &c->booted);
        print_exits(out, "the end", &c->ended);
    }
}

/* Against the usual case: the median of the rounds' ratios. */
static void print_growth(const struct boot *boot, FILE *out)
{
    static const enum boot_sum grows[] = {BOOT_TO_ENTERED, BOOT_TO_HELLO, BOOT_TO_WORDS, BOOT_TO_GONE};
    char text[64];
    const struct boot_case *base = &boot->cases[0];
    fprintf(out, "\nagainst %s\n", boot_case_text(base, text));
    for (size_t i = 1; i < boot->case_count; i++) {
        const struct boot_case *c = &boot->cases[i];
        fprintf(out, "%s\n", boot_case_text(c, text));
        for (size_t g = 0; g < ARRAY_SIZE(grows); g++) {
            struct summary s = stats_ratio(c->sums[grows[g]], base->sums[grows[g]], boot->rounds);
            if (s.count)
                fprintf(out, "    %-48s  %6.2f  (%.2f to %.2f)\n", sums[grows[g]].title, s.median,
                        s.least, s.most);
        }
    }
}

void boot_say_text(const struct boot *boot, FILE *out)
{
    const struct boot_options *options = boot->options;
    fprintf(out, "engine %s, image %s, %u round%s\n", options->engine, options->image, boot->rounds,
            boot->rounds == 1 ? "" : "s");
    fprintf(out, "host %u × %s%s, Linux %s, %s; load %s before, %s after\n", boot->host.processors,
            *boot->host.processor ? boot->host.processor : "unknown",
            boot->host.virtual ? ", a virtual machine" : "", boot->host.kernel, boot->host.when,
            boot->load_before, boot->load_after);
    for (size_t i = 0; i < boot->case_count && boot->rounds; i++)
        print_case(boot, &boot->cases[i], out);
    if (boot->case_count > 1 && boot->rounds)
        print_growth(boot, out);
}

/* -- JSON ------------------------------------------------------------------------------------- */

static json_t *figures_json(const double *values, unsigned rounds)
{
    struct summary s = stats_summarize(values, rounds);
    if (!s.count)
        return json_null();
    json_t *runs = json_array();
    for (unsigned i = 0; i < rounds; i++)
        json_array_append_new(runs, isfinite(values[i]) ? json_real(values[i]) : json_null());
    return json_pack("{s:f, s:f, s:f, s:I, s:o}", "median", s.median, "least", s.least, "most", s.most,
                     "count", (json_int_t)s.count, "runs", runs);
}

static json_t *exits_json(const struct trace_exits *e)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "port", (json_int_t)e->port, "memory",
                     (json_int_t)e->memory, "kick", (json_int_t)e->kick, "other", (json_int_t)e->other);
}

static json_t *case_json(const struct boot *boot, const struct boot_case *c)
{
    json_t *phases = json_array(), *figures = json_object();
    for (size_t m = BOOT_BEGIN + 1; m < BOOT_MOMENTS; m++)
        if (stats_summarize(c->phases[m], boot->rounds).count)
            json_array_append_new(
                phases, json_pack("{s:s, s:s, s:o, s:o}", "until", moments[m].name, "title",
                                  moments[m].title, "ms", figures_json(c->phases[m], boot->rounds),
                                  "since_ms", figures_json(c->since[m], boot->rounds)));
    for (size_t s = 0; s < BOOT_SUMS; s++) {
        json_t *figure = figures_json(c->sums[s], boot->rounds);
        if (json_is_object(figure))
            json_object_set_new(figure, "unit", json_string(sums[s].unit));
        json_object_set_new(figures, sums[s].name, figure);
    }
    json_t *exits = c->has_exits ? json_pack("{s:o, s:o}", "boot", exits_json(&c->booted), "all",
                                             exits_json(&c->ended))
                                 : json_null();
    return json_pack("{s:I, s:I, s:o, s:o, s:o}", "cpus", (json_int_t)c->cpus, "memory_bytes",
                     (json_int_t)c->memory_bytes, "phases", phases, "figures", figures, "exits", exits);
}

json_t *boot_say_json(const struct boot *boot)
{
    json_t *cases = json_array();
    for (size_t i = 0; i < boot->case_count; i++)
        json_array_append_new(cases, case_json(boot, &boot->cases[i]));
    json_t *all = json_pack(
        "{s:s, s:s, s:I, s:o, s:o, s:{s:s, s:s, s:I, s:s, s:s, s:s}}", "engine", boot->options->engine,
        "image", boot->options->image, "rounds", (json_int_t)boot->rounds, "interrupted",
        boot->interrupted ? json_integer(boot->interrupted) : json_null(), "cases", cases, "host",
        "processor", boot->host.processor, "kernel", boot->host.kernel, "processors",
        (json_int_t)boot->host.processors, "measured", boot->host.when, "load_before",
        boot->load_before, "load_after", boot->load_after);
    return all;
}
