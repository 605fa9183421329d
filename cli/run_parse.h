/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_RUN_PARSE_H
#define CLI_RUN_PARSE_H

/* From the words of `dayfly run`'s options to a job. */

#include "run_options.h"
#include "util/log.h"

/* What they say, as a job takes it. */
struct run_words {
    const char **env;
    char **env_strings; /* those of env that were made */
    struct job_secret *secrets;
    size_t secret_count;
    struct job_share *shares;
    size_t share_count;
    struct job_cache *caches;
    struct job_net net;
    struct job_artifact *artifacts;
    size_t artifact_count;
};

/* Read them: before anything is started, which would inherit a variable that is a secret; and before
 * signals are caught, as a pipe that is a source may let us wait. Finish `out` in any case. */
int run_words_read(const struct run_request *request, const struct log *log, struct run_words *out,
                   struct dayfly_err *err);
void run_words_finish(struct run_words *words);

/* The job, but for what tells of it. It borrows both. */
struct job_options run_job_of(const struct run_request *request, const struct run_words *words);

#endif
