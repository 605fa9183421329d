/* SPDX-License-Identifier: Apache-2.0 */
#include "job/job_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/schema_rows.h"
#include "config/validate.h"
#include "job/artifact.h"
#include "job/cache.h"
#include "job/job.h"
#include "job/layer.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

const char *const job_file_engines[] = {"auto", "kvm", "tcg", "user", "none", NULL};

static const struct job_file_share blank_share;
static const struct schema_row share_rows[] = {
    {"source", PATH(struct job_file_share, source), .required = true, .example = "src",
     .help = "A directory of the host."},
    {"path", TEXT(struct job_file_share, path), .required = true, .example = "/src",
     .max = PROTO_PATH_BYTES - 1, .help = "Where the command sees it."},
    {"options", TEXT(struct job_file_share, options), .example = "ro,cache=always", .fallback = "rw",
     .help = "As behind the second colon of `--share`, with commas between them."},
    {0},
};

static const struct job_file_cache blank_cache;
static const struct schema_row cache_rows[] = {
    {"name", NAME(struct job_file_cache, name), .required = true, .max = CACHE_NAME_BYTES - 1,
     .example = "deps", .help = "Of all jobs of this data directory that say the same."},
    {"path", TEXT(struct job_file_cache, path), .required = true, .example = "/root/.cache",
     .max = PROTO_PATH_BYTES - 1, .help = "Where the command sees it."},
    {"policy", CHOICE(struct job_file_cache, policy, job_cache_policies), .example = "promote",
     .fallback = "private",
     .help = "What becomes of what is written: nothing can be (`ro`), it is dropped (`private`), or "
             "the next job finds it (`promote`): if this one succeeds, and if the run is marked with "
             "`--trusted`, which a file cannot say."},
    {0},
};

static const struct job_file_secret blank_secret;
static const struct schema_row secret_rows[] = {
    {"name", NAME(struct job_file_secret, name), .required = true, .max = PROTO_SECRET_NAME_BYTES - 1,
     .example = "TOKEN", .help = "The file /run/secrets/NAME, or the variable."},
    {"env", TEXT(struct job_file_secret, env), .example = "CI_TOKEN",
     .fallback = "the variable of the secret's name, when there is no `file`",
     .help = "The variable of dayfly's own environment that has the value."},
    {"file", PATH(struct job_file_secret, file), .example = "token.txt", .fallback = "none",
     .help = "The file that has the value, instead."},
    {"variable", BOOL(struct job_file_secret, variable), .example = "true", .fallback = "false",
     .help = "Whether the command finds it in its environment, instead of in a file."},
    {0},
};

static const struct job_file_artifact blank_artifact;
static const struct schema_row artifact_rows[] = {
    {"path", TEXT(struct job_file_artifact, path), .required = true, .example = "\"out/*.deb\"",
     .help = "A file, a directory or a pattern in the sandbox, relative to `workdir`."},
    {"to", PATH(struct job_file_artifact, to), .example = "packages/",
     .fallback = "the folder of the job file",
     .help = "What it is to be called on the host, or a directory, as behind the colon of "
             "`--artifact`."},
    {0},
};

static const struct job_file_step blank_step;
static const struct schema_row step_rows[] = {
    {"name", TEXT(struct job_file_step, name), .example = "build", .max = 100,
     .fallback = "the number of the step", .help = "What it is called in messages and the report."},
    {"run", TEXT(struct job_file_step, run), .lines = true, .max = JOB_FILE_MAX_SCRIPT,
     .example = "make -j4", .help = "A script for `/bin/sh -e`, perhaps of several lines (`run: |`)."},
    {"command", WORDS(struct job_file_step, command), .max = JOB_FILE_MAX_WORDS,
     .example = "[make, -j4]", .help = "Or a program and its arguments, without a shell."},
    {0},
};

static const struct schema_row rows[] = {
    {"image", TEXT(struct job_file, image), .required = true, .example = "debian", .max = 255,
     .help = "The image that the job starts from."},
    {"kernel", TEXT(struct job_file, kernel), .example = "6.12.9-cloud-amd64", .max = 255,
     .fallback = "the default one of `dayfly kernel ls`", .help = "The kernel."},
    {"engine", CHOICE(struct job_file, engine, job_file_engines), .example = "tcg", .fallback = "auto",
     .help = "What separates the job from the host: a machine, namespaces and a user of its own, or "
             "nothing."},
    {"cpus", NUMBER(struct job_file, cpus), .zero_is_none = true, .min = 1, .max = CONFIG_MAX_CPUS,
     .example = "4", .fallback = "the host's, at most 8", .help = "Processors."},
    {"memory", SIZE(struct job_file, memory_bytes), .zero_is_none = true, .example = "4GiB",
     .fallback = "1GiB in a machine, else no limit", .help = "Memory."},
    {"disk", SIZE(struct job_file, disk_bytes), .zero_is_none = true, .example = "20GiB",
     .fallback = "10GiB; engine user: half of the free memory",
     .help = "Space for what the job writes."},
    {"timeout", DURATION(struct job_file, timeout_ns), .zero_is_none = true, .example = "30m",
     .fallback = "none",
     .help = "How long the command, or all steps together, may take. Then they are ended, with status "
             "124."},
    {"command", WORDS(struct job_file, command), .max = JOB_FILE_MAX_WORDS, .example = "[make, test]",
     .fallback = "the image's own",
     .help = "A program and its arguments, behind the image's entrypoint."},
    {"steps", LIST(struct job_file, steps, step_count, step_rows, blank_step),
     .max = JOB_FILE_MAX_STEPS, .fallback = "none",
     .help = "Commands in one sandbox, one after another, instead of `command`. The first that fails "
             "is the last, and its status the job's. What a step leaves running goes on through those "
             "behind it. Each has `run` or `command`; the image's entrypoint is not used."},
    {"entrypoint", TEXT(struct job_file, entrypoint), .example = "\"\"", .fallback = "the image's",
     .help = "A program to run with `command` as its arguments; empty: `command` itself."},
    {"workdir", TEXT(struct job_file, workdir), .example = "/src", .fallback = "the image's",
     .help = "The directory in which commands start."},
    {"user", TEXT(struct job_file, user), .example = "builder", .max = PROTO_USER_BYTES - 1,
     .fallback = "the image's", .help = "The user, and perhaps `:GROUP`, that runs them."},
    {"env", PAIRS(struct job_file, env), .max = JOB_FILE_MAX_WORDS, .example = "{CI: \"true\"}",
     .fallback = "none", .help = "Variables of their environment. In quotes what is no plain text."},
    {"inherit", WORDS(struct job_file, inherit), .max = JOB_FILE_MAX_WORDS, .example = "[LANG]",
     .fallback = "none",
     .help = "Variables that are taken from dayfly's own environment, when they are there."},
    {"shares", LIST(struct job_file, shares, share_count, share_rows, blank_share),
     .max = CONFIG_MAX_SHARES, .fallback = "none", .help = "Directories of the host (`--share`)."},
    {"caches", LIST(struct job_file, caches, cache_count, cache_rows, blank_cache),
     .max = CONFIG_MAX_SHARES, .fallback = "none",
     .help = "What earlier jobs left for later ones (`--cache`)."},
    {"net", TEXT(struct job_file, net), .example = "none", .fallback = "nat",
     .help = "The network, as behind `--net`."},
    {"allow", WORDS(struct job_file, allow), .max = JOB_FILE_MAX_WORDS,
     .example = "[example.org, \"198.51.100.0/24:443\"]", .fallback = "what `--net nat` allows",
     .help = "The only places that the job may reach, each as behind `--allow`."},
    {"publish", WORDS(struct job_file, publish), .max = JOB_FILE_MAX_WORDS, .example = "[\"8080:80\"]",
     .fallback = "none", .help = "Ports of the host that lead to it, each as behind `--publish`."},
    {"secrets", LIST(struct job_file, secrets, secret_count, secret_rows, blank_secret),
     .max = PROTO_SECRETS_MAX, .fallback = "none",
     .help =
         "What the job may know (`--secret`). Where a value comes from stands here, never the value."},
    {"artifacts", LIST(struct job_file, artifacts, artifact_count, artifact_rows, blank_artifact),
     .max = JOB_ARTIFACTS_MAX, .fallback = "none",
     .help = "What is copied out at the end, however the job ended (`--artifact`)."},
    {"artifact_limit", SIZE(struct job_file, artifact_limit_bytes), .zero_is_none = true,
     .example = "1GiB", .fallback = "10GiB",
     .help = "The most bytes that all artifacts together may have."},
    {"artifacts_required", BOOL(struct job_file, artifacts_required), .example = "true",
     .fallback = "false", .help = "Whether a missing one is a failure, with status 125."},
    {"report", PATH(struct job_file, report), .example = "report.json", .fallback = "none",
     .help = "Where the job's report is written, as JSON."},
    {"expect_state", TEXT(struct job_file, expect_state), .max = 71,
     .example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
     .fallback = "any",
     .help = "The digest of the only state that it may start from "
             "(`--expect-state`)."},
    {0},
};

const struct schema_file job_file_schema = {
    .rows = rows,
    .what = "job",
    .example = "`image: debian`, `command: [make, test]`",
};

/* -- checks -------------------------------------------------------------------------------------------
 */

/* A fault that a parser of words has found. */
static void tell(struct validator *v, const char *where, const struct dayfly_err *why)
{
    validate_fault(v, where, NULL, "%s", why->msg);
}

/* Keep an entry as the word that says the same on the command line, which is returned; NULL when there
 * is no memory for it, which is reported. */
__attribute__((format(printf, 4, 5))) static const char *
keep_word(struct validator *v, const char *where, struct schema_words *words, const char *format, ...)
{
    _cleanup_free_ char *word = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&word, format, args) < 0)
        word = NULL;
    va_end(args);
    if (word && schema_append_word(words, word) == 0)
        return words->words[words->count - 1];
    validate_fault(v, where, NULL, "out of memory");
    return NULL;
}

static void check_step(struct validator *v, const struct job_file *file, size_t i)
{
    const struct job_file_step *step = &file->steps[i];
    place where;
    snprintf(where, sizeof(where), "steps[%zu]", i);
    if (step->run && step->command.count)
        validate_fault(v, where, "leave out one of the two", "it has both run and command");
    else if (!step->run && !step->command.count)
        validate_fault(v, where, "write `run: make`, or `command: [make]`",
                       "it has neither run nor command");
}

static void make_share(struct validator *v, struct job_file *file, size_t i)
{
    const struct job_file_share *share = &file->shares[i];
    struct dayfly_err err = {0};
    struct job_share *parsed;
    place where;
    snprintf(where, sizeof(where), "shares[%zu]", i);
    if (!share->source || !share->path)
        return; /* reported: they are required */
    const char *word = keep_word(v, where, &file->share_words, "%s:%s%s%s", share->source, share->path,
                                 share->options ? ":" : "", share->options ? share->options : "");
    if (!word)
        return;
    if (job_shares_parse(&word, 1, &parsed, &err) < 0)
        tell(v, where, &err);
    else
        job_shares_free(parsed, 1);
}

static void make_cache(struct validator *v, struct job_file *file, size_t i)
{
    const struct job_file_cache *cache = &file->caches[i];
    struct dayfly_err err = {0};
    struct job_cache *parsed;
    place where;
    snprintf(where, sizeof(where), "caches[%zu]", i);
    if (!cache->name || !cache->path)
        return; /* reported: they are required */
    if (!keep_word(v, where, &file->cache_words, "%s:%s:%s", cache->name, cache->path,
                   job_cache_policies[cache->policy]))
        return;
    /* With those before it: a name is there once. */
    if (job_caches_parse((const char *const *)file->cache_words.words, file->cache_words.count, &parsed,
                         &err) < 0)
        tell(v, where, &err);
    free(parsed);
}

static void make_secret(struct validator *v, struct job_file *file, size_t i)
{
    const struct job_file_secret *secret = &file->secrets[i];
    place where;
    snprintf(where, sizeof(where), "secrets[%zu]", i);
    if (!secret->name)
        return;
    if (secret->env && secret->file)
        validate_fault(v, where, "leave out one of the two", "it has both env and file");
    const char *source = secret->file ? secret->file : secret->env ? secret->env : secret->name;
    keep_word(v, where, secret->variable ? &file->env_secret_words : &file->secret_words, "%s=%s:%s",
              secret->name, secret->file ? "file" : "env", source);
}

static void check_artifact(struct validator *v, struct job_file *file, size_t i)
{
    const struct job_artifact_word word = {
        file->artifacts[i].path, file->artifacts[i].to ? file->artifacts[i].to : file->folder};
    struct job_artifact *parsed;
    struct dayfly_err err = {0};
    place where;
    snprintf(where, sizeof(where), "artifacts[%zu]", i);
    if (!word.word)
        return;
    if (job_artifacts_parse(&word, 1, &parsed, &err) < 0)
        tell(v, where, &err);
    else
        job_artifacts_free(parsed, 1);
}

static void check_rest(void *opaque, struct validator *v)
{
    struct job_file *file = opaque;
    struct dayfly_err err = {0};
    struct job_net net;
    const struct job_net_words words = {
        .net = file->net,
        .allow = (const char *const *)file->allow.words,
        .allow_count = file->allow.count,
        .publish = (const char *const *)file->publish.words,
        .publish_count = file->publish.count,
    };
    if (file->step_count && file->command.count)
        validate_fault(v, "steps", "make the command a step", "there are both steps and a command");
    if (file->disk_bytes && (file->disk_bytes < LAYER_MIN_BYTES || file->disk_bytes > LAYER_MAX_BYTES))
        validate_fault(v, "disk", "from 16MiB to 16TiB is possible", "it is out of range");
    if (file->memory_bytes && file->memory_bytes < CONFIG_MIN_MEMORY)
        validate_fault(v, "memory", "at least 16MiB; a number without a unit is bytes",
                       "it is too little");
    for (size_t i = 0; i < file->step_count; i++)
        check_step(v, file, i);
    for (size_t i = 0; i < file->share_count; i++)
        make_share(v, file, i);
    for (size_t i = 0; i < file->cache_count; i++)
        make_cache(v, file, i);
    for (size_t i = 0; i < file->secret_count; i++)
        make_secret(v, file, i);
    for (size_t i = 0; i < file->artifact_count; i++)
        check_artifact(v, file, i);
    if (job_net_parse(&words, &net, &err) < 0)
        tell(v, file->net ? "net" : file->allow.count ? "allow" : "publish", &err);
}

/* -- reading ------------------------------------------------------------------------------------------
 */

int job_file_load(const char *path, struct job_file **out, dayfly_report_fn *report, void *opaque,
                  struct dayfly_err *err)
{
    struct dayfly_config *marks = NULL;
    struct dayfly_err later;
    struct job_file *file = calloc(1, sizeof(*file));
    const char *slash = strrchr(path, '/');
    *out = NULL;
    if (file)
        file->folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("");
    if (!file || !file->folder || dayfly_config_new(&marks) < 0) {
        job_file_free(file);
        return err_set(err, ENOMEM, "out of memory");
    }
    int r = schema_load_yaml(&job_file_schema, file, marks, path, report, opaque, err);
    if (r == 0 || r == -EINVAL) {
        /* The first fault is the one that counts. */
        int checked =
            validate_rows(marks, rows, file, check_rest, file, report, opaque, r == 0 ? err : &later);
        r = r < 0 ? r : checked;
    }
    dayfly_config_free(marks);
    if (r < 0)
        job_file_free(file);
    else
        *out = file;
    return r;
}

void job_file_free(struct job_file *file)
{
    if (!file)
        return;
    schema_free(file, rows);
    static const struct schema_row made[] = {
        {"share_words", WORDS(struct job_file, share_words)},
        {"cache_words", WORDS(struct job_file, cache_words)},
        {"secret_words", WORDS(struct job_file, secret_words)},
        {"env_secret_words", WORDS(struct job_file, env_secret_words)},
        {0},
    };
    schema_free(file, made);
    free(file->folder);
    free(file);
}

static const char *const theirs[] = {"linux", "disks", "vsock", "consoles", NULL};

bool job_file_is_one(const char *path)
{
    static const char *const ours[] = {"image",   "steps",  "command", "artifacts",
                                       "secrets", "caches", NULL};
    return schema_file_has_key(path, ours, theirs);
}

bool job_file_is_machine(const char *path)
{
    static const char *const none[] = {NULL};
    return schema_file_has_key(path, theirs, none);
}

/* -- the reference ------------------------------------------------------------------------------------
 */

static const char head[] =
    "# The job file\n"
    "\n"
    "A job file says what `dayfly run` would be told, in YAML, and in which steps the job is done. "
    "`dayfly run -f FILE`\n"
    "runs it; `dayfly validate FILE` names every fault of it with line and column, and changes "
    "nothing.\n"
    "\n"
    "This text is made from the table that the reader works by (`dayfly help job-file`).\n"
    "\n"
    "```yaml\n"
    "image: debian\n"
    "cpus: 4\n"
    "memory: 4GiB\n"
    "timeout: 30m\n"
    "workdir: /src\n"
    "shares:\n"
    "  - {source: ., path: /src, options: cow}\n"
    "env: {CI: \"true\"}\n"
    "secrets:\n"
    "  - {name: SIGNING_KEY, file: release.pem}\n"
    "steps:\n"
    "  - name: build\n"
    "    run: make -j4\n"
    "  - name: test\n"
    "    run: |\n"
    "      make check\n"
    "      ./sign --key /run/secrets/SIGNING_KEY out/*.deb\n"
    "artifacts:\n"
    "  - {path: \"out/*.deb\", to: packages/}\n"
    "report: report.json\n"
    "```\n"
    "\n"
    "- **Options of the command line come on top**: a single value replaces the file's; variables, "
    "secrets, "
    "shares,\n"
    "  caches, artifacts and rules of the network are added, and a variable, secret or cache of the "
    "same name replaces\n"
    "  the file's.\n"
    "  Words behind the options are the command, instead of `command` and `steps`: `dayfly run -f "
    "job.yaml "
    "-- make test`.\n"
    "- A **size** is bytes, or a whole number with `K`, `M`, `G`, `T`, `KiB`, `MiB`, `GiB` or `TiB` "
    "behind it; a\n"
    "  **duration** is `500ms`, `90s`, `30m`, `1h30m`, `2d`.\n"
    "- A **path** of the host that does not begin with `/` is relative to the folder of the job file.\n"
    "- A job file is one YAML document of at most 256 KiB, without anchors, aliases and tags.\n"
    "\n"
    "## Keys\n";

void job_file_print_reference(FILE *out)
{
    fputs(head, out);
    schema_print_rows(out, rows);
}
