/* SPDX-License-Identifier: Apache-2.0 */
/* `dayfly bench`: the same work in every engine that runs here, and in what else is installed. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench/bench.h"
#include "bench/say.h"
#include "bench/work.h"
#include "signals.h"
#include "table.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/text.h"

struct options {
    const char *image, *rows, *columns, *net, *source, *build, *dir, *runtime, *html;
    uint64_t rounds, disk_time, timeout;
    bool json, markdown;
};

static const struct options defaults = {
    .image = "debian",
    .net = "none",
    .rounds = 5,
    .disk_time = 2 * NS_PER_S,
    .timeout = 30 * 60 * NS_PER_S,
};

static const struct option_row option_rows[] = {
    {"rows", 0, "ROW,...",
     "measure only these: none, user-host, user, kvm, tcg, podman, docker; then each of them has to "
     "run",
     OPTION_STRING(struct options, rows)},
    {"columns", 0, "COLUMN,...",
     "measure only this: start, build, cpu, read, write, memory, destroy; see above",
     OPTION_STRING(struct options, columns)},
    {"rounds", 'n', "N", "how often (default: 5)",
     OPTION_NUMBER(struct options, rounds, 1, BENCH_MAX_ROUNDS)},
    {"image", 0, "NAME", "the image of the rows that have one (default: debian)",
     OPTION_STRING(struct options, image)},
    {"net", 0, "none|nat", "the network that each place gets (default: none)",
     OPTION_CHOICE(struct options, net)},
    {"source", 0, "FILE|DIR",
     "what to build: a directory or an archive (default: Debian's source package of Lua, which apt "
     "fetches once)",
     OPTION_STRING(struct options, source)},
    {"build", 0, "COMMAND",
     "how to build it, for /bin/sh, with one folder of an archive as the working directory (default: "
     "'" WORK_BUILD "', of Lua '" WORK_SOURCE_BUILD "')",
     OPTION_STRING(struct options, build)},
    {"dir", 0, "DIR", "where bare metal builds and writes (default: below the data directory)",
     OPTION_STRING(struct options, dir)},
    {"runtime", 0, "NAME", "the runtime of podman and docker, such as runc (default: theirs)",
     OPTION_STRING(struct options, runtime)},
    {"disk-time", 0, "DURATION", "how long to read, and to write, each time (default: 2s)",
     OPTION_DURATION(struct options, disk_time)},
    {"timeout", 0, "DURATION", "the most that one run may take (default: 30m)",
     OPTION_DURATION(struct options, timeout)},
    {"json", 'j', NULL, "print the table as JSON, with every single run",
     OPTION_FLAG(struct options, json)},
    {"markdown", 0, NULL, "print the table as Markdown", OPTION_FLAG(struct options, markdown)},
    {"html", 0, "FILE", "write a page with charts there as well", OPTION_STRING(struct options, html)},
    {0},
};

static const struct example examples[] = {
    {"dayfly image build --debian bookworm --include gcc,libc6-dev,make,fio debian",
     "an image that has all that is asked for, once"},
    {"dayfly bench --html bench.html", "everything that runs here, and a page with charts"},
    {"dayfly bench --rows none,user,podman --columns start,destroy -n 25 --runtime runc",
     "how fast a place is there, and gone, beside podman with runc"},
    {"dayfly bench --rows none,user --columns build,cpu --source . --build 'make -j4'",
     "what the wall costs a build of one's own"},
    {0},
};

/* -- while it runs ---------------------------------------------------------------------------- */

void bench_tell(void *opaque, const char *text)
{
    const bool *on_terminal = opaque;
    if (!*on_terminal)
        return;
    fputs("\r\033[K", stderr);
    if (text)
        fprintf(stderr, "dayfly: %s...", text);
    fflush(stderr);
}

/* -- the command line again ------------------------------------------------------------------- */

static void print_word(FILE *out, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,:=@%+";
    if (*word && strspn(word, plain) == strlen(word)) {
        fprintf(out, " %s", word);
        return;
    }
    fputs(" '", out);
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", out);
        else
            fputc(*word, out);
    fputc('\'', out);
}

static unsigned disk_seconds(const struct options *options)
{
    return (unsigned)((options->disk_time + NS_PER_S - 1) / NS_PER_S);
}

/* What was asked for, with what was understood: defaults may change. The caller frees it. */
static char *spell(const struct options *options)
{
    char *text = NULL, number[3][32];
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    snprintf(number[0], sizeof(number[0]), "%llu", (unsigned long long)options->rounds);
    snprintf(number[1], sizeof(number[1]), "%us", disk_seconds(options));
    const struct {
        const char *name, *value;
    } words[] = {
        {"--rounds", number[0]},     {"--rows", options->rows}, {"--columns", options->columns},
        {"--image", options->image}, {"--net", options->net},   {"--source", options->source},
        {"--build", options->build}, {"--dir", options->dir},   {"--runtime", options->runtime},
        {"--disk-time", number[1]},
    };
    fputs("dayfly bench", out);
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (words[i].value) {
            fprintf(out, " %s", words[i].name);
            print_word(out, words[i].value);
        }
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    text_make_printable(text);
    return text;
}

/* -- the end ---------------------------------------------------------------------------------- */

/* Early: to measure for an hour and then have nowhere to write would be a pity. */
static int check_page(const char *path, struct dayfly_err *err)
{
    _cleanup_free_ char *copy = strdup(path);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    if (access(path, F_OK) == 0 ? access(path, W_OK) < 0 : access(dirname(copy), W_OK) < 0)
        return err_errno(err, errno, "--html %s", path);
    return 0;
}

static int write_page(const struct bench *bench, const char *command, const char *path,
                      struct dayfly_err *err)
{
    FILE *out = fopen(path, "we");
    if (!out)
        return err_errno(err, errno, "--html %s", path);
    bench_say_html(bench, command, out);
    bool failed = ferror(out);
    return fclose(out) || failed ? err_errno(err, errno, "--html %s", path) : 0;
}

int bench_print_json(json_t *table, struct dayfly_err *err)
{
    if (!table)
        return err_set(err, ENOMEM, "out of memory");
    table_json(table, stdout);
    json_decref(table);
    return 0;
}

static int print_table(const struct options *options, const struct bench *bench, const char *command,
                       struct dayfly_err *err)
{
    if (options->json) {
        int r = bench_print_json(bench_say_json(bench, command), err);
        if (r < 0)
            return r;
    } else if (options->markdown) {
        bench_say_markdown(bench, command, stdout);
    } else {
        bench_say_text(bench, command, stdout);
    }
    return options->html ? write_page(bench, command, options->html, err) : 0;
}

/* What was asked for by name has to be there, and what was begun has to succeed; what a host lacks of
 * all that there is, is no failure. */
static int status_of(const struct options *options, const struct bench *bench)
{
    bool any = false, all = !options->columns || !*bench->lacks;
    if (bench->interrupted)
        return EXIT_SIGNAL + bench->interrupted;
    for (size_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        for (int c = 0; c < BENCH_COLUMNS; c++)
            any |= bench_summary(bench, row, (enum bench_column)c).count > 0;
        all &= row->works ? !*row->why : !options->rows;
    }
    return any && all ? 0 : EXIT_DAYFLY;
}

static int run(const struct call *call)
{
    struct options options = *(const struct options *)call->options;
    struct dayfly_err err = {0};
    bool on_terminal = isatty(STDERR_FILENO);
    unsigned rows, columns;
    if (!options.build)
        options.build = options.source ? WORK_BUILD : WORK_SOURCE_BUILD;
    if (bench_choose(options.rows, "row", bench_row_name, ROW_KINDS, &rows, &err) < 0 ||
        bench_choose(options.columns, "column", bench_column_name, BENCH_COLUMNS, &columns, &err) < 0 ||
        (options.html && check_page(options.html, &err) < 0))
        return command_fail(call, &err);
    _cleanup_close_ int signals = signals_catch(NULL, &err);
    if (signals < 0)
        return command_fail(call, &err);
    const struct bench_options asked = {
        .image = options.image,
        .rows = rows,
        .columns = columns,
        .rounds = (unsigned)options.rounds,
        .network = strcmp(options.net, "nat") == 0,
        .source = options.source,
        .build = options.build,
        .dir = options.dir,
        .runtime = options.runtime,
        .disk_mib = 64,
        .disk_s = disk_seconds(&options),
        .limit_ns = options.timeout,
        .signal_fd = signals,
        .say = bench_tell,
        .opaque = &on_terminal,
    };
    _cleanup_free_ char *command = spell(&options);
    if (!command) {
        err_set(&err, ENOMEM, "out of memory");
        return command_fail(call, &err);
    }
    _cleanup_(bench_finish) struct bench bench;
    if (bench_run(&asked, &bench, &err) < 0 || print_table(&options, &bench, command, &err) < 0)
        return command_fail(call, &err);
    return status_of(&options, &bench);
}

static const struct command *const children[] = {&bench_boot_command, NULL};

const struct command bench_command = {
    .name = "bench",
    .summary = "measure the engines of this host, and what else is installed",
    .description =
        "Does the same work on bare metal (row none), in each engine that runs here, and in podman and "
        "docker where they are installed, in turn, and prints a table: medians, the least and the "
        "most, "
        "and the ratio to bare metal. doc/bench.md says more.\n\n"
        "Every figure is a whole run of the program that a person would call: `dayfly run`, executed "
        "anew, or `podman run`, with the image already in its store. Times are taken by dayfly bench, "
        "on "
        "the host's clock, and not from what those programs say of themselves. A round has every row "
        "once, and begins with another row than the one before. Before the first, each row runs once "
        "without being measured.\n\n"
        "Columns: start, from the start of the program to the first words of the command (ms); build, "
        "of "
        "a real C project on the job's own disk (s); cpu, the processor time of that build (s); read "
        "and "
        "write, 4 KiB at random places of a file there, direct, four at a time (by fio where all rows "
        "have it, else by a program of our own); memory, of all processes that the place needs on the "
        "host (PSS, MiB), without the guest's and the command's; destroy, from the end of the "
        "command's "
        "input until nothing runs any more (ms).\n\n"
        "Rows: none; user-host, engine user with the host's own programs; user; kvm; tcg; podman; "
        "docker. "
        "A row that cannot run here says why. The image needs a compiler and make for build and "
        "cpu.\n\n"
        "Ctrl-C ends it: what was measured until then is printed, and nothing is left running.\n\n"
        "Exit status: 0; 125 when a measurement failed, nothing could be measured, or a row or column "
        "that "
        "was asked for by name could not; 128+N when signal N ended it.",
    .rows = option_rows,
    .options_size = sizeof(struct options),
    .defaults = &defaults,
    .examples = examples,
    .run = run,
    .children = children,
};
