/* SPDX-License-Identifier: Apache-2.0 */
/* dayfly changes ls|promote|drop */
#include "command.h"

#include <errno.h>
#include <string.h>

#include "fs/changes.h"
#include "table.h"
#include "util/cleanup.h"
#include "util/text.h"

static const char *const kind_words[] = {
    [CHANGE_ADDED] = "added", [CHANGE_MODIFIED] = "modified", [CHANGE_DELETED] = "deleted"};

/* ---- ls ---- */

struct ls_options {
    bool json, null;
};

static const struct option_row ls_rows[] = {
    {"json", 0, NULL, "print a JSON array", OPTION_FLAG(struct ls_options, json)},
    {"null", '0', NULL, "end each entry with a NUL, and print names as they are",
     OPTION_FLAG(struct ls_options, null)},
    {0},
};

static int print_entry(void *opaque, enum change_kind kind, const char *path)
{
    const struct ls_options *options = opaque;
    if (options->null)
        return printf("%c %s", "AMD"[kind], path) < 0 || putchar('\0') < 0 ? -EIO : 0;
    _cleanup_free_ char *text = strdup(path);
    if (!text)
        return -ENOMEM;
    text_make_printable(text);
    return printf("%c %s\n", "AMD"[kind], text) < 0 ? -EIO : 0;
}

static int append_entry(void *opaque, enum change_kind kind, const char *path)
{
    _cleanup_free_ char *text = strdup(path);
    if (!text)
        return -ENOMEM;
    text_make_printable(text);
    json_t *entry = json_pack("{s:s, s:s}", "change", kind_words[kind], "path", text);
    return json_array_append_new(opaque, entry) < 0 ? -ENOMEM : 0;
}

static int ls_run(const struct call *call)
{
    const struct ls_options *options = call->options;
    struct changes changes;
    struct dayfly_err err = {0};
    if (changes_open(&changes, call->operands[0], &err) < 0)
        return command_fail(call, &err);
    json_t *list = options->json ? json_array() : NULL;
    int r = list ? changes_list(&changes, append_entry, list, &err)
                 : changes_list(&changes, print_entry, (void *)options, &err);
    changes_close(&changes);
    if (r == 0 && list)
        table_json(list, stdout);
    json_decref(list);
    return r < 0 ? command_fail(call, &err) : 0;
}

static const struct command ls_command = {
    .name = "ls",
    .summary = "list what was changed",
    .description =
        "One entry a line, by path: A for added, M for modified (content, attributes, or another "
        "kind of file in its place), D for deleted. A deleted directory is one entry.",
    .operands = "CHANGES",
    .min_operands = 1,
    .max_operands = 1,
    .rows = ls_rows,
    .options_size = sizeof(struct ls_options),
    .run = ls_run,
};

/* ---- promote, drop ---- */

static int finish(const struct call *call, int (*how)(struct changes *, struct dayfly_err *))
{
    struct dayfly_err err = {0};
    int status = 0;
    for (unsigned i = 0; i < call->operand_count; i++) {
        struct changes changes;
        if (changes_open(&changes, call->operands[i], &err) < 0 || how(&changes, &err) < 0)
            status = command_fail(call, &err);
        changes_close(&changes);
    }
    return status;
}

static int promote_run(const struct call *call)
{
    return finish(call, changes_promote);
}

static const struct command promote_command = {
    .name = "promote",
    .summary = "make the shared directory what the guest saw",
    .description = "Every file appears whole or not at all. When promotion is interrupted, do it again "
                   "and it goes on: "
                   "nothing is lost. Nothing else may use the directory meanwhile.",
    .operands = "CHANGES...",
    .min_operands = 1,
    .max_operands = OPERANDS_ANY,
    .run = promote_run,
};

static int drop_run(const struct call *call)
{
    return finish(call, changes_drop);
}

static const struct command drop_command = {
    .name = "drop",
    .summary = "forget what was changed",
    .operands = "CHANGES...",
    .min_operands = 1,
    .max_operands = OPERANDS_ANY,
    .run = drop_run,
};

static const struct command *const children[] = {&ls_command, &promote_command, &drop_command, NULL};

const struct command changes_command = {
    .name = "changes",
    .summary = "list, promote or drop what a guest changed in a copy-on-write share",
    .children = children,
};
