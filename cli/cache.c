/* SPDX-License-Identifier: Apache-2.0 */
/* dayfly cache ls|inspect|rm|prune */
#include "command.h"

#include <inttypes.h>
#include <stdio.h>

#include "cache/cache.h"
#include "table.h"
#include "util/cleanup.h"
#include "util/json.h"

static void cleanup_caches(struct caches *caches)
{
    caches_close(caches);
}

struct json_options {
    bool json;
};

static const struct option_row json_rows[] = {
    {"json", 0, NULL, "print JSON", OPTION_FLAG(struct json_options, json)},
    {0},
};

static const char *number_of(const json_t *number, char out[24])
{
    snprintf(out, 24, "%lld", (long long)json_integer_value(number));
    return out;
}

/* -- ls --------------------------------------------------------------------------------------- */

static void print_list(const json_t *list)
{
    struct table table = {0};
    json_t *cache;
    size_t i;
    table_row(&table, "NAME", "GENERATION", "KEPT", "SIZE", "USED", NULL);
    json_array_foreach (list, i, cache) {
        char generation[24], kept[24], size[TABLE_SIZE_BYTES], used[TABLE_MINUTE_BYTES];
        table_row(&table, json_string_value(json_object_get(cache, "name")),
                  number_of(json_object_get(cache, "generation"), generation),
                  number_of(json_object_get(cache, "generations"), kept),
                  table_size(json_object_get(cache, "bytes"), size),
                  table_minute(json_object_get(cache, "used"), used), NULL);
    }
    table_print(&table, stdout);
}

static int ls_run(const struct call *call)
{
    const struct json_options *options = call->options;
    struct dayfly_err err = {0};
    _cleanup_(cleanup_caches) struct caches caches;
    if (caches_open(&caches, NULL, &err) < 0)
        return command_fail(call, &err);
    _cleanup_json_ json_t *list = cache_list(&caches, &err);
    if (!list)
        return command_fail(call, &err);
    if (options->json)
        table_json(list, stdout);
    else
        print_list(list);
    return 0;
}

static const struct command ls_command = {
    .name = "ls",
    .summary = "list the caches",
    .description = "GENERATION is the number of the current one, KEPT how many there are. SIZE is what "
                   "all of them take on the disk, a file that several have counted once.",
    .rows = json_rows,
    .options_size = sizeof(struct json_options),
    .run = ls_run,
};

/* -- inspect ---------------------------------------------------------------------------------- */

static void print_generations(const json_t *cache)
{
    struct table table = {0};
    json_t *row;
    size_t i;
    table_row(&table, "GENERATION", "MADE", "USED", "FILES", "SIZE", "OWN", "IN USE", "PATH", NULL);
    json_array_foreach (json_object_get(cache, "generations"), i, row) {
        char generation[24], made[TABLE_MINUTE_BYTES], used[TABLE_MINUTE_BYTES], files[24],
            size[TABLE_SIZE_BYTES], own[TABLE_SIZE_BYTES];
        table_row(&table, number_of(json_object_get(row, "generation"), generation),
                  table_minute(json_object_get(row, "made"), made),
                  table_minute(json_object_get(row, "used"), used),
                  number_of(json_object_get(row, "files"), files),
                  table_size(json_object_get(row, "bytes"), size),
                  table_size(json_object_get(row, "own_bytes"), own),
                  json_is_true(json_object_get(row, "in_use")) ? "yes" : "no",
                  json_string_value(json_object_get(row, "path")), NULL);
    }
    table_print(&table, stdout);
}

static int inspect_run(const struct call *call)
{
    const struct json_options *options = call->options;
    struct dayfly_err err = {0};
    _cleanup_(cleanup_caches) struct caches caches;
    if (caches_open(&caches, NULL, &err) < 0)
        return command_fail(call, &err);
    _cleanup_json_ json_t *cache = cache_describe(&caches, call->operands[0], &err);
    if (!cache)
        return command_fail(call, &err);
    if (options->json)
        table_json(cache, stdout);
    else
        print_generations(cache);
    return 0;
}

static const struct command inspect_command = {
    .name = "inspect",
    .summary = "show a cache's generations",
    .description = "The current one first. OWN is what would be free without a generation: the files "
                   "that no other has. PATH is where its files are; to change them there breaks what "
                   "is promised of them.",
    .operands = "NAME",
    .min_operands = 1,
    .max_operands = 1,
    .rows = json_rows,
    .options_size = sizeof(struct json_options),
    .run = inspect_run,
};

/* -- rm --------------------------------------------------------------------------------------- */

static int rm_run(const struct call *call)
{
    struct dayfly_err err = {0};
    int status = 0;
    _cleanup_(cleanup_caches) struct caches caches;
    if (caches_open(&caches, NULL, &err) < 0)
        return command_fail(call, &err);
    for (unsigned i = 0; i < call->operand_count; i++)
        if (cache_remove(&caches, call->operands[i], &err) < 0)
            status = command_fail(call, &err);
    return status;
}

static const struct example rm_examples[] = {
    {"dayfly cache rm deps", "the next job with deps begins from nothing"},
    {"dayfly cache rm deps@7", "and here from generation 6, if 7 was the current one"},
    {0},
};

static const struct command rm_command = {
    .name = "rm",
    .summary = "remove caches, or single generations",
    .description = "What a job uses is not removed.",
    .operands = "NAME[@GENERATION]...",
    .min_operands = 1,
    .max_operands = OPERANDS_ANY,
    .examples = rm_examples,
    .run = rm_run,
};

/* -- prune ------------------------------------------------------------------------------------ */

struct prune_cli {
    uint64_t older_than;
    bool dry_run;
};

/* No option stands for "not given". */
static const struct prune_cli prune_defaults = {.older_than = UINT64_MAX};

static const struct option_row prune_rows[] = {
    {"older-than", 0, "DURATION", "also remove caches that no job used for so long, such as 30d",
     OPTION_DURATION(struct prune_cli, older_than)},
    {"dry-run", 0, NULL, "only say what would be removed", OPTION_FLAG(struct prune_cli, dry_run)},
    {0},
};

static void say_gone(void *opaque, const char *name, uint64_t generation, uint64_t freed_bytes)
{
    if (generation)
        printf("%s@%" PRIu64 "\t%" PRIu64 "\n", name, generation, freed_bytes);
    else
        printf("%s\t%" PRIu64 "\n", name, freed_bytes);
}

static int prune_run(const struct call *call)
{
    const struct prune_cli *options = call->options;
    const struct cache_sweep_options sweep = {.by_age = options->older_than != UINT64_MAX,
                                              .older_than_ns = options->older_than,
                                              .dry_run = options->dry_run,
                                              .tell = say_gone};
    struct cache_sweep_result result;
    struct dayfly_err err = {0};
    _cleanup_(cleanup_caches) struct caches caches;
    if (caches_open(&caches, NULL, &err) < 0 || cache_sweep(&caches, &sweep, &result, &err) < 0)
        return command_fail(call, &err);
    fprintf(stderr, "%s %.1f MiB; caches take %.1f MiB\n", options->dry_run ? "would free" : "freed",
            (double)result.freed_bytes / (1 << 20), (double)result.kept_bytes / (1 << 20));
    return 0;
}

static const struct example prune_examples[] = {
    {"dayfly cache prune --older-than 30d", "for a timer"},
    {0},
};

static const struct command prune_command = {
    .name = "prune",
    .summary = "remove generations that are not needed",
    .description =
        "Of each cache all generations go but the current one and those that jobs use; and what killed "
        "runs left, which any use of caches removes. Of each it prints NAME@GENERATION, or NAME for "
        "all "
        "of a cache, a tab, and how many bytes its going makes free: files that the current one has as "
        "well stay.",
    .rows = prune_rows,
    .options_size = sizeof(struct prune_cli),
    .defaults = &prune_defaults,
    .examples = prune_examples,
    .run = prune_run,
};

static const struct command *const children[] = {&ls_command, &inspect_command, &rm_command,
                                                 &prune_command, NULL};

const struct command cache_command = {
    .name = "cache",
    .summary = "list, show and remove caches",
    .children = children,
};
