/* SPDX-License-Identifier: Apache-2.0 */
/* `dayfly bench boot`: one start, phase by phase. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench/boot.h"
#include "engine/engine.h"
#include "engine_option.h"
#include "signals.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/units.h"

struct options {
    const char *engine, *image, *memory, *cpus;
    uint64_t rounds, timeout;
    bool json;
};

static const struct options defaults = {
    .engine = "auto",
    .image = "debian",
    .rounds = 9,
    .timeout = 5 * 60 * NS_PER_S,
};

static const struct option_row option_rows[] = {
    JOB_ENGINE_OPTION(struct options, engine),
    {"image", 0, "NAME", "the image, or 'host' (default: debian)",
     OPTION_STRING(struct options, image)},
    {"rounds", 'n', "N", "how often (default: 9)",
     OPTION_NUMBER(struct options, rounds, 1, BOOT_MAX_ROUNDS)},
    {"memory", 'm', "SIZE,...",
     "the place's memory; a second size and more are compared with the first",
     OPTION_STRING(struct options, memory)},
    {"cpus", 0, "N,...", "its processors; a second number and more are compared with the first",
     OPTION_STRING(struct options, cpus)},
    {"timeout", 0, "DURATION", "the most that one run may take (default: 5m)",
     OPTION_DURATION(struct options, timeout)},
    {"json", 'j', NULL, "print the table as JSON, with every single run",
     OPTION_FLAG(struct options, json)},
    {0},
};

static const struct example examples[] = {
    {"dayfly bench boot --engine user -n 50", "where the milliseconds of a sandbox go"},
    {"dayfly bench boot --engine kvm --cpus 1 --memory 128MiB,8GiB",
     "a machine's start, and how it grows with its memory"},
    {"dayfly bench boot --engine kvm --memory 512MiB --cpus 1,2,4,8", "and with its processors"},
    {0},
};

/* Call `take` with each word of a comma-separated list; NULL is one word that stands for the default.
 * Returns how many there were, or -errno. */
static int read_list(const char *list, const char *option, void *opaque,
                     int (*take)(void *opaque, size_t index, const char *word, struct dayfly_err *err),
                     struct dayfly_err *err)
{
    if (!list)
        return 1;
    _cleanup_free_ char *copy = strdup(list);
    char *rest = copy, *word;
    int n = 0;
    while (rest && (word = strsep(&rest, ","))) {
        if (n == BOOT_MAX_CASES)
            return err_set(err, E2BIG, "%s: more than %d", option, BOOT_MAX_CASES);
        if (take(opaque, (size_t)n++, word, err) < 0)
            return err_wrap(err, "%s", option);
    }
    return copy ? n : err_set(err, ENOMEM, "out of memory");
}

static int take_memory(void *opaque, size_t index, const char *word, struct dayfly_err *err)
{
    struct boot_options *options = opaque;
    return units_parse_size(word, &options->memory_bytes[index], err);
}

static int take_cpus(void *opaque, size_t index, const char *word, struct dayfly_err *err)
{
    struct boot_options *options = opaque;
    uint64_t cpus;
    int r = units_parse_number(word, 1, 254, &cpus, err);
    if (r == 0)
        options->cpus[index] = (unsigned)cpus;
    return r;
}

/* What auto comes to, so that each run need not find out, and the table says it. */
static int settle_engine(struct boot_options *options, struct dayfly_err *err)
{
    char why[ENGINE_WHY_BYTES];
    if (options->wall != JOB_IN_MACHINE)
        return 0;
    const struct engine_ops *engine = engine_choose(options->machine, why, err);
    if (!engine)
        return -ENOTSUP;
    options->engine = engine->name;
    options->machine = engine->id;
    return 0;
}

static int print(const struct options *options, const struct boot *boot, struct dayfly_err *err)
{
    if (!options->json) {
        boot_say_text(boot, stdout);
        return 0;
    }
    return bench_print_json(boot_say_json(boot), err);
}

static int run(const struct call *call)
{
    const struct options *options = call->options;
    struct dayfly_err err = {0};
    bool on_terminal = isatty(STDERR_FILENO);
    struct boot_options asked = {
        .image = options->image,
        .engine = options->engine,
        .wall = wall_option(options->engine),
        .machine = engine_option(options->engine),
        .rounds = (unsigned)options->rounds,
        .limit_ns = options->timeout,
        .say = bench_tell,
        .opaque = &on_terminal,
    };
    int memories = read_list(options->memory, "--memory", &asked, take_memory, &err);
    int cpus = memories < 0 ? memories : read_list(options->cpus, "--cpus", &asked, take_cpus, &err);
    if (cpus < 0 || settle_engine(&asked, &err) < 0)
        return command_fail(call, &err);
    asked.memory_count = (size_t)memories;
    asked.cpus_count = (size_t)cpus;
    _cleanup_close_ int signals = signals_catch(NULL, &err);
    if (signals < 0)
        return command_fail(call, &err);
    asked.signal_fd = signals;
    _cleanup_(boot_finish) struct boot boot;
    if (boot_run(&asked, &boot, &err) < 0 || print(options, &boot, &err) < 0)
        return command_fail(call, &err);
    return boot.interrupted ? EXIT_SIGNAL + boot.interrupted : 0;
}

const struct command bench_boot_command = {
    .name = "boot",
    .summary = "measure one start phase by phase",
    .description =
        "Runs a command that only says a word, again and again, each time by executing `dayfly run "
        "--net none` anew, and prints how long each phase of it took: loading the program, finding "
        "image and kernel, making the machine, its kernel's start, the agent, the command, and the "
        "end. Behind them stand the sums that matter, the memory of all processes of the place beside "
        "the guest's own (PSS), and what it takes to make a place and remove it again in which nothing "
        "ever runs, in a process that is there already. With engine kvm also how often the guest came "
        "out of its processor for us, and for what.\n\n"
        "Further words of --memory and --cpus are cases of their own, measured in turn; each differs "
        "from the first in this alone, and the ratio to it is printed.\n\n"
        "Each figure is a median, with the least and the most behind it. A first round is not counted. "
        "The moments come from `dayfly run --trace`; doc/bench.md says what they are.",
    .rows = option_rows,
    .options_size = sizeof(struct options),
    .defaults = &defaults,
    .examples = examples,
    .run = run,
};
