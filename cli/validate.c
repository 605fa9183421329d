/* SPDX-License-Identifier: Apache-2.0 */
/* `dayfly validate`: every fault of a machine or job file, in the order of the file. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "dayfly/config.h"
#include "fault.h"
#include "job/job_file.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/text.h"

struct validate_options {
    bool json;
};

struct faults {
    struct dayfly_fault *found; /* copies, which own their where, message and hint */
    size_t count;
    unsigned errors;
    bool incomplete; /* no memory for one of them */
};

static void fault_finish(struct dayfly_fault *fault)
{
    free((char *)fault->where);
    free((char *)fault->message);
    free((char *)fault->hint);
}

static void collect(void *opaque, const struct dayfly_fault *fault)
{
    struct faults *faults = opaque;
    struct dayfly_fault *bigger = reallocarray(faults->found, faults->count + 1, sizeof(*bigger));
    faults->errors += fault->severity == DAYFLY_FAULT_ERROR;
    if (bigger)
        faults->found = bigger;
    struct dayfly_fault copy = {
        .size = sizeof(copy),
        .severity = fault->severity,
        .line = fault->line,
        .column = fault->column,
        .where = strdup(fault->where),
        .message = strdup(fault->message),
        .hint = fault->hint ? strdup(fault->hint) : NULL,
    };
    if (!bigger || !copy.where || !copy.message) {
        faults->incomplete = true;
        fault_finish(&copy);
        return;
    }
    faults->found[faults->count++] = copy;
}

static void faults_finish(struct faults *faults)
{
    for (size_t i = 0; i < faults->count; i++)
        fault_finish(&faults->found[i]);
    free(faults->found);
}

static int by_place(const void *a, const void *b)
{
    const struct dayfly_fault *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

static void print_human(const char *file, const struct faults *faults)
{
    for (size_t i = 0; i < faults->count; i++)
        fault_print(&faults->found[i], file);
    if (faults->errors)
        fprintf(stderr, "%s: %u error%s\n", file, faults->errors, faults->errors == 1 ? "" : "s");
    else
        fprintf(stderr, "%s: no errors\n", file);
}

static int print_json(const char *file, const struct faults *faults, struct dayfly_err *err)
{
    _cleanup_free_ char *name = strdup(file);
    json_t *list = json_array();
    int rc = !name || !list ? -1 : 0;
    if (name)
        text_make_printable(name); /* JSON is UTF-8, a file's name need not be */
    for (size_t i = 0; i < faults->count && !rc; i++) {
        const struct dayfly_fault *f = &faults->found[i];
        rc = json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:i, s:s, s:s?}", "severity",
                                                   fault_severity_name(f->severity), "where", f->where,
                                                   "line", (int)f->line, "column", (int)f->column,
                                                   "message", f->message, "hint", f->hint));
    }
    json_t *all =
        rc ? NULL
           : json_pack("{s:s, s:b, s:O}", "file", name, "valid", faults->errors == 0, "faults", list);
    if (!all)
        rc = err_set(err, ENOMEM, "the faults cannot be written as JSON");
    else if (json_dumpf(all, stdout, JSON_INDENT(2)) == 0)
        putchar('\n'); /* a failing stdout is told by the frame */
    json_decref(all);
    json_decref(list);
    return rc;
}

static int check_machine(const char *file, struct faults *faults, struct dayfly_err *err)
{
    struct dayfly_config *config;
    int rc = dayfly_config_new(&config);
    if (rc)
        return err_errno(err, -rc, "%s", file);
    rc = dayfly_config_load_yaml(config, file, collect, faults, err);
    if (rc == 0 || rc == -EINVAL)
        rc = dayfly_config_validate(config, collect, faults, err);
    dayfly_config_free(config);
    return rc;
}

static int check_job(const char *file, struct faults *faults, struct dayfly_err *err)
{
    struct job_file *job;
    int rc = job_file_load(file, &job, collect, faults, err);
    job_file_free(job);
    return rc;
}

static int validate_run(const struct call *call)
{
    const struct validate_options *options = call->options;
    const char *file = call->operands[0];
    struct dayfly_err err = {0};
    _cleanup_(faults_finish) struct faults faults = {0};

    int rc =
        job_file_is_one(file) ? check_job(file, &faults, &err) : check_machine(file, &faults, &err);
    if (faults.incomplete)
        rc = err_errno(&err, ENOMEM, "%s", file);
    if (rc && rc != -EINVAL)
        return command_fail(call, &err);

    if (faults.count) /* qsort may not be given a null pointer */
        qsort(faults.found, faults.count, sizeof(*faults.found), by_place);
    if (options->json && print_json(file, &faults, &err))
        return command_fail(call, &err);
    if (!options->json)
        print_human(file, &faults);
    return faults.errors ? EXIT_DAYFLY : 0;
}

static const struct option_row rows[] = {
    {"json", 0, NULL, "print the faults as JSON, on standard output",
     OPTION_FLAG(struct validate_options, json)},
    {0},
};

const struct command validate_command = {
    .name = "validate",
    .summary = "name every fault of a machine or job file, and change nothing",
    .description =
        "Reads FILE, looks at the files that it names and at this host, and prints every fault "
        "with line, column and what to do about it. Nothing is created, started or kept open.\n\n"
        "`dayfly help machine-file` and `dayfly help job-file` say what may stand in it. A file is a "
        "job's when it names an image, steps or the like, and nothing that a machine alone has.",
    .operands = "FILE",
    .min_operands = 1,
    .max_operands = 1,
    .rows = rows,
    .options_size = sizeof(struct validate_options),
    .run = validate_run,
    .examples =
        (const struct example[]){{"dayfly validate machine.yaml", "check a machine"},
                                 {"dayfly validate job.yaml", "check a job"},
                                 {"dayfly validate --json machine.yaml | jq .faults", "for a program"},
                                 {0}},
};
