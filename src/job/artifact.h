/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_ARTIFACT_H
#define JOB_ARTIFACT_H

/*
 * What a job made, copied out of its machine by the agent when the command has ended, however it ended.
 *
 * The guest is hostile: a name is one that stays below its match, or the guest is lost; nothing that it
 * says is resolved through a symbolic link; only files, directories and links that stay within their
 * directory are made, with permission bits and no others, as the caller's; bytes and entries have a
 * limit. Nothing stands under its name before it is whole (job/artifact_place.h).
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "job/guest.h"

#define JOB_ARTIFACTS_MAX          64
#define JOB_ARTIFACT_ENTRIES_MAX   100000
#define JOB_ARTIFACT_TEXT_MAX      (UINT64_C(32) << 20) /* bytes of all names in the report */
#define JOB_ARTIFACT_DEFAULT_LIMIT (UINT64_C(10) << 30)

struct job_artifact {
    char *pattern; /* in the guest; glob(7), relative to the command's working directory */
    char *dir;     /* of the host, in which it is to appear, as it was said */
    char *firm;    /* the same (util/firm.h) */
    char *name;    /* NULL: what it is called in the guest */
};

struct job_artifact_word {
    const char *word; /* GUEST[:HOST] */
    const char *host; /* then the word is GUEST alone; NULL: it is not */
};

/*
 * Read GUEST[:HOST], one a word; the last colon ends GUEST. HOST is what the file or directory is to be
 * called. It is a directory for it to appear in when it ends with a slash, is one already, or GUEST has
 * one of * ? [ in it; without HOST that is the current directory. Checks that it can be written to. The
 * caller frees *out with job_artifacts_free.
 */
int job_artifacts_parse(const struct job_artifact_word *words, size_t count, struct job_artifact **out,
                        struct dayfly_err *err);
void job_artifacts_free(struct job_artifact *artifacts, size_t count);

struct job_artifact_result {
    /*
     * A row for each file: {guest, host, bytes, sha256}; link: {guest, host, link}; for what did not
     * come: {guest, missing: true} of a pattern, {guest, skipped: WHY} of a file. NULL: nothing was
     * asked for. The caller decrefs it.
     */
    json_t *rows;
    bool missing;             /* of a pattern nothing was found */
    bool skipped;             /* something could not be read, or is of a kind that is not copied */
    struct dayfly_err failed; /* code != 0: not all that was found is here */
};

struct job_artifact_options {
    const char *cwd;
    const char *user; /* who looks for them, in the guest; NULL: root */
    uint64_t limit_bytes;
    int cancel_fd; /* as in guest_wait */
};

/*
 * Copy them out. 0 also when something is missing or could not be written: *result says so. -errno when
 * the guest failed; -ECANCELED when cancel_fd became readable and `cancelled` (its argument is
 * `opaque`) said so by not returning 0.
 */
int job_artifacts_collect(struct guest *g, const struct job_artifact *artifacts, size_t count,
                          const struct job_artifact_options *options, int (*cancelled)(void *opaque),
                          void *opaque, struct job_artifact_result *result, struct dayfly_err *err);

#endif
