/* SPDX-License-Identifier: Apache-2.0 */
/* dayfly kernel ls|import|rm */
#include "command.h"

#include "image/kernel.h"
#include "listing.h"
#include "util/log.h"

static const struct log progress = {.write = log_to_stderr, .level = LOG_INFO};

/* ---- ls, rm ---- */

static void fill_table(struct table *table, const json_t *kernels)
{
    json_t *kernel;
    size_t i;
    table_row(table, "NAME", "RELEASE", "DIGEST", "VMLINUX", "DEFAULT", NULL);
    json_array_foreach (kernels, i, kernel) {
        char size[TABLE_SIZE_BYTES], digest[TABLE_DIGEST_BYTES];
        const char *release = json_string_value(json_object_get(kernel, "release"));
        table_row(table, json_string_value(json_object_get(kernel, "name")),
                  release ? release : "(damaged)",
                  table_digest(json_object_get(kernel, "digest"), digest),
                  table_size(json_object_get(json_object_get(kernel, "vmlinux"), "size"), size),
                  json_is_true(json_object_get(kernel, "default")) ? "yes" : "", NULL);
    }
}

static const struct listing kernels = {
    .list = kernel_list,
    .fill = fill_table,
    .remove = kernel_remove,
};

static int ls_run(const struct call *call)
{
    return listing_print(call, &kernels);
}

static const struct command ls_command = {
    .name = "ls",
    .summary = "list the kernels",
    .rows = listing_rows,
    .options_size = sizeof(struct listing_options),
    .run = ls_run,
};

static int rm_run(const struct call *call)
{
    return listing_remove(call, &kernels);
}

static const struct command rm_command = {
    .name = "rm",
    .summary = "remove kernels",
    .description = "A sandbox that runs on a kernel is not disturbed: it has what it needs open.",
    .operands = "KERNEL...",
    .min_operands = 1,
    .max_operands = OPERANDS_ANY,
    .run = rm_run,
};

/* ---- import ---- */

struct import_options {
    const char *name;
    bool mark_default;
};

static const struct option_row import_rows[] = {
    {"name", 'n', "NAME", "call it NAME instead of its release",
     OPTION_STRING(struct import_options, name)},
    {"default", 0, NULL, "make it the default", OPTION_FLAG(struct import_options, mark_default)},
    {0},
};

static const struct example import_examples[] = {
    {"dayfly kernel import linux-image-6.12.*-cloud-amd64_*.deb", "a Debian kernel, under its release"},
    {"dayfly kernel import linux-image-6.12.*-dayfly_*.deb", "Dayfly's own, built on another machine"},
    {0},
};

static int import_run(const struct call *call)
{
    const struct import_options *options = call->options;
    struct store store;
    struct dayfly_err err = {0};
    char name[KERNEL_NAME_BYTES];
    if (store_open(&store, NULL, STORE_WRITE, &err))
        return command_fail(call, &err);
    int rc = kernel_import_deb(&store, call->operands[0], options->name, options->mark_default, name,
                               &progress, &err);
    store_close(&store);
    if (rc)
        return command_fail(call, &err);
    printf("%s\n", name);
    return 0;
}

static const struct command import_command = {
    .name = "import",
    .summary = "take a kernel from a Debian package",
    .description =
        "Reads a package linux-image-*: unpacks its kernel to what boots fastest and keeps the modules "
        "that a guest needs before its root is there. Prints the kernel's name.\n\n"
        "Without a kernel being named or marked by --default, the newest of Dayfly's own is used "
        "(`make kernel` in the sources builds it: no modules, the shortest boot), else the newest "
        "6.12, else the newest.",
    .operands = "FILE.deb",
    .min_operands = 1,
    .max_operands = 1,
    .rows = import_rows,
    .options_size = sizeof(struct import_options),
    .examples = import_examples,
    .run = import_run,
};

static const struct command *const children[] = {&ls_command, &import_command, &rm_command, NULL};

const struct command kernel_command = {
    .name = "kernel",
    .summary = "import, list and remove guest kernels",
    .children = children,
};
