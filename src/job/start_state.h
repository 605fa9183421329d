/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_START_STATE_H
#define JOB_START_STATE_H

/*
 * What a job starts from, as digests: the same digest starts the same. The whole is the SHA-256 of the
 * parts as one JSON object with sorted keys and no white space.
 *
 * Of a job's shares the description counts (where they are in the guest, and how), not where they come
 * from and not what is in them; of its caches their generations, which never change; of its network
 * what was said of the guest's end of the cable.
 */

#include <jansson.h>

#include "dayfly/error.h"
#include "image/digest.h"
#include "job/net.h"
#include "job/share.h"

struct start_state {
    const char *kernel; /* "sha256:...", of vmlinux and its modules */
    const char *image;  /* of the root file system's bytes */
    const char *command_line;
    uint64_t cpus, memory_bytes, disk_bytes;
    const struct job_share *shares; /* sorted by path */
    size_t share_count;
    const struct job_net *net; /* NULL: none */
    json_t *caches;            /* from job_caches_state, borrowed; NULL: none */
};

/* {"digest", "kernel", "image", "agent", "machine"}, and "caches" where there are some; NULL when
 * memory runs out. */
json_t *start_state_json(const struct start_state *state);

/* 0 when `digest` is this state's; -ESTALE when it is another's, with both in err; -EINVAL for a text
 * that is none; -ENOMEM. */
int start_state_expect(const struct start_state *state, const char *digest, struct dayfly_err *err);

#endif
