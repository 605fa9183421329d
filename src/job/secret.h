/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_SECRET_H
#define JOB_SECRET_H

/*
 * What a job may know and nobody else: values that it finds in files on a tmpfs, or in its environment
 * when that was asked for. On the host a value is in memory of util/secret.h alone, from where it was
 * read until it has been sent.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dayfly/config.h"
#include "job/share.h"
#include "proto/message.h"
#include "util/log.h"
#include "util/secret.h"

#define JOB_SECRETS_MAX PROTO_SECRETS_MAX

struct job_secret {
    char name[PROTO_SECRET_NAME_BYTES];
    bool in_env;     /* a variable of this name; else the file /run/secrets/NAME */
    char *source;    /* "env:VAR" or "file:PATH" on the host */
    char **hosts;    /* NULL: the command gets the value; else a placeholder for it, and requests to
                        these hosts get the value. NULL behind the last */
    bool allow_http; /* requests without TLS as well */
    struct secret value;
    size_t len;
};

/* One of `words` for job_secrets_load. */
struct job_secret_word {
    const char *word; /* NAME[=env:VAR|file:PATH]; without a source it is the variable NAME */
    bool in_env;
};

/*
 * Read the words, and the values from their sources. A variable that was a source is wiped and taken
 * out of this process's environment: its children and /proc do not have it any more. No message quotes
 * what could be a value.
 *
 * -EINVAL for a name that is none, that comes twice, for a value that is too short to be masked or too
 * long, and for one with a NUL byte that is to be a variable. The caller frees *out with
 * job_secrets_free.
 */
int job_secrets_load(const struct job_secret_word *words, size_t count, const struct log *log,
                     struct job_secret **out, struct dayfly_err *err);

/* Wipe the values and forget them; they have been sent. */
void job_secrets_wipe(struct job_secret *secrets, size_t count);
void job_secrets_free(struct job_secret *secrets, size_t count);

/* Read `words`, NAME=HOST[,http] each: the secrets of that name are for that host alone, and for the
 * others that are said; with ",http" also in requests without TLS. */
int job_secrets_for_hosts(struct job_secret *secrets, size_t count, const char *const *words,
                          size_t word_count, struct dayfly_err *err);

/* The secrets that are for hosts, as a machine's network takes them; values are borrowed. A file's
 * value is without the line break at its end, which no header can have. Returns how many. */
size_t job_secrets_of_hosts(const struct job_secret *secrets, size_t count,
                            struct dayfly_net_secret out[static JOB_SECRETS_MAX]);

/* Refuse shares that are mounted where secrets go. */
int job_secrets_check(const struct job_secret *secrets, size_t count, const struct job_share *shares,
                      size_t share_count, struct dayfly_err *err);

/* What hides them in a job's output; *out is NULL when there is nothing to hide. Returns 0 or -errno.
 */
struct mask;
int job_secrets_mask(const struct job_secret *secrets, size_t count, const struct log *log,
                     struct mask **out, struct dayfly_err *err);

#endif
