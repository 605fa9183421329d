/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_CACHE_H
#define JOB_CACHE_H

/*
 * The caches of a job (cache/cache.h): each is shown to it as a share is, by whatever its place has for
 * shares, and what becomes of it is decided when nothing of the job is left.
 *
 * A generation is made only of what a run left that was marked as trusted and in which every command
 * succeeded. The mark is the caller's to give, by hand: nothing that a guest says and nothing in a job
 * file sets it. What others write to a cache lies in memory and is dropped, so that a job which is not
 * trusted changes nothing that another reads, and makes no cache either.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "cache/cache.h"
#include "job/share.h"

enum job_cache_policy {
    JOB_CACHE_PRIVATE, /* written to as the job likes, and dropped */
    JOB_CACHE_RO,
    JOB_CACHE_PROMOTE, /* the next generation, if the job may and succeeds; else as private */
};
extern const char *const job_cache_policies[]; /* the words for them, up to NULL */

struct job_cache {
    char name[CACHE_NAME_BYTES];
    char path[PROTO_PATH_BYTES]; /* in the guest, as a share's */
    enum job_cache_policy policy;
};

/* Read NAME:PATH[:POLICY], one a word; private unless said. The caller frees *out. */
int job_caches_parse(const char *const *words, size_t count, struct job_cache **out,
                     struct dayfly_err *err);

/* Caches in use by one job. */
struct job_caches;

/*
 * Use the current generation of each. `trusted`: a promote that is to be kept gets a directory for it.
 * `shares`, borrowed, are those of the job besides; -EINVAL when two things have one place. With no
 * caches nothing on the host is looked at.
 */
int job_caches_open(struct job_caches **out, const struct job_cache *list, size_t count, bool trusted,
                    const struct job_share *shares, size_t share_count, struct dayfly_err *err);
/* What was not promoted is dropped. NULL is legal. */
void job_caches_free(struct job_caches *caches);

/* The job's shares and caches, as shares sorted by path. */
const struct job_share *job_caches_shares(const struct job_caches *caches, size_t *count);

/* Show all files as those of `user`, where that is a number or two (UID[:GID]); NULL: root. */
void job_caches_show_to(struct job_caches *caches, const char *user);

/* For the start state: [{name, path, generation, writable, uid, gid}], sorted by path; the generation
 * is its id. A new reference, or NULL when memory runs out or there are none. */
json_t *job_caches_state(const struct job_caches *caches);

/*
 * The job is over and its place gone: promote what is to be. Returns rows for the report, NULL when
 * memory runs out or there are none:
 *
 *   {name, path, policy, generation, id}: what the job saw, and
 *   outcome    "read" (ro), "dropped" (private); of promote "promoted", "unchanged", "superseded",
 *              "untrusted", "unsuccessful" or "failed"
 *   made       {generation, id}, of "promoted"
 *   why        of "failed"
 *   left_out   sockets, pipes and devices, where there were some
 *   ms         how long promotion took
 */
json_t *job_caches_end(struct job_caches *caches, bool succeeded);

#endif
