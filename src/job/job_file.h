/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_JOB_FILE_H
#define JOB_JOB_FILE_H

/*
 * A job as a file: what `dayfly run` can be told, and steps. One table (config/schema.h) gives the
 * reader, its faults with line and column, and the reference, doc/job-file.md.
 *
 * What the file says is kept in the words of the command line wherever there are such, so that each has
 * one parser. Numbers that are 0 and texts that are NULL were not said.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/schema.h"

enum {
    JOB_FILE_MAX_STEPS = 64,
    JOB_FILE_MAX_WORDS = 1024,
    JOB_FILE_MAX_SCRIPT = 32 * 1024, /* it is an argument of /bin/sh */
};

struct job_file_share {
    char *source, *path, *options;
};

struct job_file_cache {
    char *name, *path;
    unsigned policy; /* of job_cache_policies */
};

struct job_file_secret {
    char *name, *env, *file;
    bool variable;
};

struct job_file_artifact {
    char *path, *to;
};

struct job_file_step {
    char *name, *run;
    struct schema_words command;
};

struct job_file {
    char *image, *kernel;
    unsigned engine; /* of job_file_engines */
    uint32_t cpus;
    uint64_t memory_bytes, disk_bytes, timeout_ns;
    struct schema_words command;
    struct job_file_step *steps;
    size_t step_count;
    char *entrypoint, *workdir, *user;
    struct schema_words env, inherit;
    struct job_file_share *shares;
    size_t share_count;
    struct job_file_cache *caches;
    size_t cache_count;
    char *net;
    struct schema_words allow, publish;
    struct job_file_secret *secrets;
    size_t secret_count;
    struct job_file_artifact *artifacts;
    size_t artifact_count;
    uint64_t artifact_limit_bytes;
    bool artifacts_required;
    char *report, *expect_state;

    char *folder; /* of the file, "" or with a slash at its end */
    struct schema_words share_words, cache_words;
    struct schema_words secret_words, env_secret_words;
};

extern const char *const job_file_engines[];

/* Read the file and check what can be known without starting anything. -EINVAL: it has faults, which
 * were reported and of which the first is in err; another -errno: it cannot be read. The caller frees
 * *out with job_file_free. */
int job_file_load(const char *path, struct job_file **out, dayfly_report_fn *report, void *opaque,
                  struct dayfly_err *err);
void job_file_free(struct job_file *file);

/* Whether a file is meant as a job's, and not as a machine's. */
bool job_file_is_one(const char *path);
/* Whether it has what a machine alone has. */
bool job_file_is_machine(const char *path);

extern const struct schema_file job_file_schema;

/* The reference, in Markdown. */
void job_file_print_reference(FILE *out);

#endif
