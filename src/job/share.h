/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_SHARE_H
#define JOB_SHARE_H

/*
 * Directories of the host that a job sees, each at a place of its own: one share device with a tag
 * each, mounted by the agent before the command starts. In the guest they are mounted nosuid and
 * nodev, and read-only where they are; that they are is held to on the host.
 */

#include <stddef.h>
#include <stdint.h>

#include "dayfly/config.h"
#include "proto/message.h"

struct job_share {
    char *source;                /* on the host */
    char path[PROTO_PATH_BYTES]; /* in the guest: absolute, without ".", ".." and doubled slashes */
    enum dayfly_share_mode mode;
    char *changes; /* with COW: a directory that keeps the difference; NULL: in memory */
    bool is_cache; /* made by job/cache.h, and not by words */
    enum dayfly_share_cache cache;
    enum dayfly_share_ids ids; /* not MAP */
    uint32_t shown_uid, shown_gid;
    bool writeback;
    bool xattr;
    uint64_t window_bytes;
};

/*
 * Read SOURCE:PATH[:OPTION,...], one a word. The last colon before a "/" ends the source, which may
 * have colons of its own; PATH has none. Options: ro, rw, cow, changes=DIR, cache=WORD, writeback,
 * xattr, dax=SIZE, ids=WORD, shown_uid=N, shown_gid=N; the last one counts.
 *
 * They come back sorted by their paths: so a share within another's place is mounted after it, and the
 * order in which they were given does not matter. -EINVAL also for a path that is another's, or that
 * would hide what the system lives by. The caller frees *out with job_shares_free.
 */
int job_shares_parse(const char *const *words, size_t count, struct job_share **out,
                     struct dayfly_err *err);
void job_shares_free(struct job_share *shares, size_t count);

/* Read a place in the guest: absolute, and not one that the system lives by. */
int job_share_parse_place(const char *text, char out[PROTO_PATH_BYTES], struct dayfly_err *err);

/* The source, open O_PATH, or -errno: it has to be a directory that allows what the mode promises. */
int job_share_open(const struct job_share *share, struct dayfly_err *err);

/* Add them to a machine's description; fds are borrowed for as long as that is used. */
int job_shares_describe(const struct job_share *shares, const int *fds, size_t count,
                        struct dayfly_config *config, struct dayfly_err *err);

/* Have the agent mount them. At most CONFIG_MAX_SHARES. */
void job_shares_mount(const struct job_share *shares, size_t count, struct proto_setup *setup);

#endif
