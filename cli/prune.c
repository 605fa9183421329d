/* SPDX-License-Identifier: Apache-2.0 */
/* dayfly prune: what killed processes left, all of it, at once. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "cache/cache.h"
#include "command.h"
#include "image/prune.h"
#include "job/artifact_place.h"
#include "sandbox/sweep.h"
#include "table.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/nameless.h"
#include "util/sweep.h"
#include "util/text.h"

struct prune_cli {
    bool dry_run, json;
};

static const struct option_row rows[] = {
    {"dry-run", 0, NULL, "only say what would be removed", OPTION_FLAG(struct prune_cli, dry_run)},
    {"json", 0, NULL, "print a JSON array", OPTION_FLAG(struct prune_cli, json)},
    {0},
};

/* ---- who leaves what ---- */

static int sweep_sockets(const struct sweep *sweep, struct dayfly_err *err)
{
    (void)err;
    nameless_sweep(sweep);
    return 0;
}

/* A row for each part of the library that something can be left of. What runs goes first: it may hold
 * what comes behind it. */
static int (*const sweeps[])(const struct sweep *sweep, struct dayfly_err *err) = {
    sandbox_sweep, /* processes and what else a dead job's user has */
    sweep_sockets, /* folders of sockets that were to lose their names */
    image_sweep,   /* files of the store, and what broken-off pulls fetched */
    caches_sweep,  /* generations that were not finished, or half removed */
    bench_sweep,   /* what a bench builds in */
};

/* ---- telling ---- */

struct found {
    json_t *list; /* NULL: lines */
    unsigned count, stays;
};

static void tell(void *opaque, const char *kind, const char *name, int error)
{
    struct found *found = opaque;
    _cleanup_free_ char *shown = strdup(name);
    found->count++;
    found->stays += error != 0;
    if (!shown)
        return;
    text_make_printable(shown);
    const char *why = error ? strerror(-error) : NULL;
    if (found->list)
        json_array_append_new(found->list,
                              json_pack("{s:s, s:s, s:s*}", "kind", kind, "name", shown, "stays", why));
    else
        printf("%s %s%s%s\n", kind, shown, why ? ": stays: " : "", why ? why : "");
}

static void summarize(const struct found *found, bool dry_run, bool all_seen)
{
    unsigned gone = found->count - found->stays;
    if (found->count == 0 && all_seen)
        fputs("nothing was left\n", stderr);
    else if (found->count)
        fprintf(stderr, "%s %u thing%s\n", dry_run ? "would remove" : "removed", gone,
                gone == 1 ? "" : "s");
}

static int prune_run(const struct call *call)
{
    const struct prune_cli *options = call->options;
    struct found found = {.list = options->json ? json_array() : NULL};
    const struct sweep sweep = {.dry_run = options->dry_run, .tell = tell, .opaque = &found};
    struct dayfly_err err = {0};
    int status = 0;
    for (size_t i = 0; i < ARRAY_SIZE(sweeps); i++)
        if (sweeps[i](&sweep, &err) < 0)
            status = command_fail(call, &err);
    for (unsigned i = 0; i < call->operand_count; i++)
        if (artifact_place_sweep(call->operands[i], &sweep, &err) < 0)
            status = command_fail(call, &err);
    if (found.list)
        table_json(found.list, stdout);
    json_decref(found.list);
    summarize(&found, options->dry_run, status == 0);
    if (found.stays) {
        err_set(&err, EBUSY, "%u of what was left could not be removed", found.stays);
        status = command_fail(call, &err);
    }
    return status;
}

static const struct example examples[] = {
    {"dayfly prune", "for a timer, or after a machine that jobs run on was in trouble"},
    {"dayfly prune --dry-run --json", "for monitoring: [] where nothing was left"},
    {"dayfly prune ~/build/out", "artifacts that were half copied to this directory, as well"},
    {0},
};

const struct command prune_command = {
    .name = "prune",
    .summary = "remove what killed runs left",
    .description =
        "A run that ends, however its job ends, leaves nothing. One that is killed (SIGKILL, the "
        "kernel's for want of memory) leaves little, and the next run of its kind removes that. This "
        "command removes all of it at once: control groups, processes, keys, IPC objects and temporary "
        "files of jobs' users that no run has; folders of sockets that were to lose their names; files "
        "of the image store that were not finished or that no image has, and what broken-off pulls "
        "have fetched; generations of caches that were half made or half removed; folders of a bench. "
        "Images and caches "
        "stay: see 'dayfly image prune' and 'dayfly cache prune'.\n\n"
        "Artifacts are copied to directories that only their run knows: those named as DIRECTORY are "
        "looked into, too, for what was half copied.\n\n"
        "What living runs have is theirs, and stays: it may be called at any time. Only what belongs "
        "to "
        "the caller is removed; jobs of engine user are root's.\n\n"
        "Of each thing it prints a line: its kind, a space, and its name.\n\n"
        "Exit status: 0, whether there was something or not; 125 when something could not be looked at "
        "or removed.",
    .operands = "[DIRECTORY...]",
    .max_operands = OPERANDS_ANY,
    .rows = rows,
    .options_size = sizeof(struct prune_cli),
    .examples = examples,
    .run = prune_run,
};
