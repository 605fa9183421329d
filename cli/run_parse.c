/* SPDX-License-Identifier: Apache-2.0 */
#include "run_parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine_option.h"
#include "util/cleanup.h"
#include "util/err.h"

/* NAME=VALUE as given; NAME takes the caller's value, and is left out when there is none. The strings
 * are in `made`, for the caller to free. */
static const char **environment(const struct word_list *words, bool tty, char ***made)
{
    const char **env = calloc(words->count + 2, sizeof(*env));
    char **strings = calloc(words->count + 2, sizeof(*strings));
    size_t n = 0, m = 0;
    *made = strings;
    if (!env || !strings) {
        free(env);
        return NULL;
    }
    const char *term = getenv("TERM");
    if (tty && term && asprintf(&strings[m], "TERM=%s", term) >= 0)
        env[n++] = strings[m++];
    for (size_t i = 0; i < words->count; i++) {
        const char *word = words->words[i], *value;
        if (strchr(word, '='))
            env[n++] = word;
        else if ((value = getenv(word)) && asprintf(&strings[m], "%s=%s", word, value) >= 0)
            env[n++] = strings[m++];
    }
    return env;
}

static void free_strings(char **strings)
{
    for (char **s = strings; s && *s; s++)
        free(*s);
    free(strings);
}

void run_words_finish(struct run_words *words)
{
    free(words->env);
    free_strings(words->env_strings);
    job_secrets_free(words->secrets, words->secret_count);
    job_shares_free(words->shares, words->share_count);
    free(words->caches);
    job_artifacts_free(words->artifacts, words->artifact_count);
}

static int load_secrets(const struct run_options *options, const struct log *log, struct run_words *out,
                        struct dayfly_err *err)
{
    size_t files = options->secrets.count, count = files + options->env_secrets.count;
    _cleanup_free_ struct job_secret_word *given = calloc(count + 1, sizeof(*given));
    if (!given)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < files; i++)
        given[i] = (struct job_secret_word){options->secrets.words[i], false};
    for (size_t i = files; i < count; i++)
        given[i] = (struct job_secret_word){options->env_secrets.words[i - files], true};
    out->secret_count = count;
    int r = job_secrets_load(given, count, log, &out->secrets, err);
    return r < 0 ? r
                 : job_secrets_for_hosts(out->secrets, count, options->for_hosts.words,
                                         options->for_hosts.count, err);
}

int run_words_read(const struct run_request *request, const struct log *log, struct run_words *out,
                   struct dayfly_err *err)
{
    const struct run_options *options = &request->options;
    const struct job_net_words network = {
        .net = options->net,
        .allow = options->allow.words,
        .allow_count = options->allow.count,
        .publish = options->publish.words,
        .publish_count = options->publish.count,
    };
    *out = (struct run_words){.share_count = options->shares.count,
                              .artifact_count = request->artifact_count};
    out->env = environment(&options->env, options->tty, &out->env_strings);
    int r = out->env ? load_secrets(options, log, out, err) : err_set(err, ENOMEM, "out of memory");
    if (r == 0)
        r = job_shares_parse(options->shares.words, out->share_count, &out->shares, err);
    if (r == 0)
        r = job_caches_parse(options->caches.words, options->caches.count, &out->caches, err);
    if (r == 0)
        r = job_net_parse(&network, &out->net, err);
    if (r == 0)
        r = job_artifacts_parse(request->artifacts, out->artifact_count, &out->artifacts, err);
    return r;
}

struct job_options run_job_of(const struct run_request *request, const struct run_words *words)
{
    const struct run_options *options = &request->options;
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
    return (struct job_options){
        .image = options->image,
        .kernel = options->kernel,
        .argv = request->argv,
        .steps = request->steps,
        .step_count = request->step_count,
        .expect_state = options->expect_state,
        .env = words->env,
        .entrypoint = options->entrypoint,
        .workdir = options->workdir,
        .user = options->user,
        .shares = words->shares,
        .share_count = words->share_count,
        .caches = words->caches,
        .cache_count = options->caches.count,
        .trusted = options->trusted,
        .net = &words->net,
        .secrets = words->secrets,
        .secret_count = words->secret_count,
        .artifacts = words->artifacts,
        .artifact_count = words->artifact_count,
        .artifact_limit_bytes = options->artifact_limit,
        .wall = wall_option(options->engine),
        .engine = engine_option(options->engine),
        .jail = jail_option(options->jail),
        .cpus = (unsigned)options->cpus,
        .memory_bytes = options->memory,
        .disk_bytes = options->disk,
        .timeout_ns = options->timeout,
        .tty = options->tty,
        .rows = size.ws_row,
        .cols = size.ws_col,
        .want_report = options->report != NULL,
        .in_fd = options->interactive || options->tty ? STDIN_FILENO : -1,
        .out_fd = STDOUT_FILENO,
        .err_fd = STDERR_FILENO,
        .tty_fd = options->tty ? STDIN_FILENO : -1,
    };
}
