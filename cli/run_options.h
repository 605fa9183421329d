/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_RUN_OPTIONS_H
#define CLI_RUN_OPTIONS_H

/* What `dayfly run` was told, on the command line and by a job file. */

#include "command.h"
#include "job/artifact.h"
#include "job/job.h"
#include "job/job_file.h"

/* Numbers that are 0 and texts that are NULL were not given. */
struct run_options {
    const char *file, *engine, *jail, *image;
    uint64_t cpus, memory, disk, timeout, artifact_limit;
    struct word_list env, shares, caches, allow, publish, secrets, env_secrets, for_hosts, artifacts;
    const char *entrypoint, *workdir, *user, *kernel, *report, *trace, *net, *expect_state;
    bool interactive, tty, verbose, quiet, audit, artifact_required;
    bool trusted; /* the command line's alone */
};

/* The two put together. */
struct run_request {
    struct run_options options;
    const char *const *argv; /* the command; NULL-terminated */
    struct job_file *file;   /* NULL: there is none */

    /* Made here; the strings are the command line's and the file's. */
    const char **lists[7]; /* which options' lists point to */
    struct job_artifact_word *artifacts;
    size_t artifact_count;
    struct job_step *steps;
    size_t step_count;
    const char **step_words;
    char *step_names;
};

/* Returns 0 or -errno; a job file's faults have been printed, and err says how many. */
int run_request_make(const struct call *call, struct run_request *out, struct dayfly_err *err);
void run_request_finish(struct run_request *request);

#endif
