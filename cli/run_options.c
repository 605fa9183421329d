/* SPDX-License-Identifier: Apache-2.0 */
#include "run_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "util/err.h"

static int no_memory(struct dayfly_err *err)
{
    return err_set(err, ENOMEM, "out of memory");
}

/* -- lists --------------------------------------------------------------------------------------------
 */

/* Whether `words` has one for the NAME of NAME or NAME=..., with `end` for the sign behind it. */
static bool names(const struct word_list *words, const char *word, const char *end)
{
    size_t len = strcspn(word, end);
    for (size_t i = 0; i < words->count; i++)
        if (strcspn(words->words[i], end) == len && strncmp(words->words[i], word, len) == 0)
            return true;
    return false;
}

/* Put the file's words in front of the command line's; name_end: but for those that the latter name as
 * well, there or in `also`. The new array is kept at *made. */
static int add_words(struct word_list *list, const struct schema_words *words, const char *name_end,
                     const struct word_list *also, const char ***made)
{
    size_t n = 0;
    const char **all = calloc(words->count + list->count + 1, sizeof(*all));
    if (!all)
        return -ENOMEM;
    for (size_t i = 0; i < words->count; i++)
        if (!name_end || (!names(list, words->words[i], name_end) &&
                          !(also && names(also, words->words[i], name_end))))
            all[n++] = words->words[i];
    for (size_t i = 0; i < list->count; i++)
        all[n++] = list->words[i];
    *list = (struct word_list){all, n};
    free(*made);
    *made = all;
    return 0;
}

static int merge_lists(struct run_request *r, const struct job_file *file)
{
    struct run_options *o = &r->options;
    /* A secret is one by its name, whether as a file or as a variable. */
    const struct word_list secrets = o->secrets, env_secrets = o->env_secrets;
    bool ok = add_words(&o->env, &file->inherit, "=", NULL, &r->lists[0]) == 0;
    const char **inherited = r->lists[0];
    r->lists[0] = NULL;
    ok = ok && add_words(&o->env, &file->env, "=", NULL, &r->lists[0]) == 0;
    free(inherited);
    return ok && add_words(&o->shares, &file->share_words, NULL, NULL, &r->lists[1]) == 0 &&
                   add_words(&o->allow, &file->allow, NULL, NULL, &r->lists[2]) == 0 &&
                   add_words(&o->publish, &file->publish, NULL, NULL, &r->lists[3]) == 0 &&
                   add_words(&o->secrets, &file->secret_words, "=", &env_secrets, &r->lists[4]) == 0 &&
                   add_words(&o->env_secrets, &file->env_secret_words, "=", &secrets, &r->lists[5]) ==
                       0 &&
                   add_words(&o->caches, &file->cache_words, ":", NULL, &r->lists[6]) == 0
               ? 0
               : -ENOMEM;
}

static int merge_artifacts(struct run_request *r, const struct job_file *file)
{
    size_t own = file ? file->artifact_count : 0, given = r->options.artifacts.count;
    r->artifacts = calloc(own + given + 1, sizeof(*r->artifacts));
    if (!r->artifacts)
        return -ENOMEM;
    for (size_t i = 0; i < own; i++)
        r->artifacts[r->artifact_count++] = (struct job_artifact_word){
            file->artifacts[i].path, file->artifacts[i].to ? file->artifacts[i].to : file->folder};
    for (size_t i = 0; i < given; i++)
        r->artifacts[r->artifact_count++] =
            (struct job_artifact_word){r->options.artifacts.words[i], NULL};
    return 0;
}

/* -- single values ------------------------------------------------------------------------------------
 */

static void merge_values(struct run_options *o, const struct job_file *file)
{
    const struct {
        const char **option;
        const char *value;
    } texts[] = {
        {&o->image, file->image},
        {&o->kernel, file->kernel},
        {&o->entrypoint, file->entrypoint},
        {&o->workdir, file->workdir},
        {&o->user, file->user},
        {&o->net, file->net},
        {&o->report, file->report},
        {&o->expect_state, file->expect_state},
        {&o->engine, job_file_engines[file->engine]},
    };
    const struct {
        uint64_t *option;
        uint64_t value;
    } numbers[] = {
        {&o->cpus, file->cpus},
        {&o->memory, file->memory_bytes},
        {&o->disk, file->disk_bytes},
        {&o->timeout, file->timeout_ns},
        {&o->artifact_limit, file->artifact_limit_bytes},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (!*texts[i].option)
            *texts[i].option = texts[i].value;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        if (!*numbers[i].option)
            *numbers[i].option = numbers[i].value;
    o->artifact_required |= file->artifacts_required;
}

static void fill_in(struct run_options *o)
{
    if (!o->engine)
        o->engine = "auto";
    if (!o->artifact_limit)
        o->artifact_limit = JOB_ARTIFACT_DEFAULT_LIMIT;
}

/* -- steps --------------------------------------------------------------------------------------------
 */

#define STEP_NAME_BYTES 32

static int make_steps(struct run_request *r, const struct job_file *file)
{
    enum { SHELL_WORDS = 5 };
    r->steps = calloc(file->step_count + 1, sizeof(*r->steps));
    r->step_words = calloc(file->step_count * SHELL_WORDS + 1, sizeof(*r->step_words));
    r->step_names = calloc(file->step_count + 1, STEP_NAME_BYTES);
    if (!r->steps || !r->step_words || !r->step_names)
        return -ENOMEM;
    for (size_t i = 0; i < file->step_count; i++) {
        const struct job_file_step *step = &file->steps[i];
        const char **shell = r->step_words + i * SHELL_WORDS;
        char *number = r->step_names + i * STEP_NAME_BYTES;
        shell[0] = "/bin/sh";
        shell[1] = "-e";
        shell[2] = "-c";
        shell[3] = step->run;
        snprintf(number, STEP_NAME_BYTES, "step %zu", i + 1);
        r->steps[i] = (struct job_step){
            .name = step->name ? step->name : number,
            .argv = step->run ? shell : (const char *const *)step->command.words,
        };
    }
    r->step_count = file->step_count;
    return 0;
}

/* -- all of it ----------------------------------------------------------------------------------------
 */

static int merge_file(struct run_request *r, const struct call *call, struct dayfly_err *err)
{
    static const char *const none[] = {NULL};
    struct run_options *o = &r->options;
    struct fault_teller faults = {.file = o->file};
    if (job_file_is_machine(o->file))
        return err_set(err, EINVAL, "%s is a machine: `dayfly vm run -f %s`", o->file, o->file);
    int rc = job_file_load(o->file, &r->file, fault_tell, &faults, err);
    if (rc < 0)
        return fault_told(&faults, rc, err);
    merge_values(o, r->file);
    if (merge_lists(r, r->file) < 0)
        return no_memory(err);
    if (call->operand_count)
        return 0;
    r->argv = r->file->command.count ? (const char *const *)r->file->command.words : none;
    return make_steps(r, r->file) < 0 ? no_memory(err) : 0;
}

int run_request_make(const struct call *call, struct run_request *out, struct dayfly_err *err)
{
    *out = (struct run_request){.options = *(const struct run_options *)call->options,
                                .argv = call->operands};
    struct run_options *o = &out->options;
    if (o->file) {
        int rc = merge_file(out, call, err);
        if (rc < 0)
            return rc;
    } else if (!o->image) {
        if (!call->operand_count)
            return err_set(err, EINVAL, "which image? Name it behind the options, or a job by -f FILE");
        o->image = *out->argv++;
    }
    fill_in(o);
    return merge_artifacts(out, out->file) < 0 ? no_memory(err) : 0;
}

void run_request_finish(struct run_request *r)
{
    for (size_t i = 0; i < sizeof(r->lists) / sizeof(*r->lists); i++)
        free(r->lists[i]);
    free(r->artifacts);
    free(r->steps);
    free(r->step_words);
    free(r->step_names);
    job_file_free(r->file);
}
