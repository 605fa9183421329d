/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SHARE_H
#define ENGINE_SHARE_H

/*
 * A share of a description, opened: the directories, and the server of their files. Everything that
 * needs a path of the host is done here; what comes after (virtio/fs.h) works on what is open.
 */

#include "config/config.h"
#include "dayfly/error.h"
#include "fs/fs.h"
#include "util/log.h"

struct share;

/*
 * Open what `config` names and make the server, which is the caller's to free; *out is closed after
 * that. log is borrowed by the server. `shares`: how many there are in all; together they take at most
 * half of the descriptors that the process may have. Returns 0 or -errno.
 */
int share_open(struct share **out, struct fs **server, const struct config_share *config, size_t shares,
               const struct log *log, struct dayfly_err *err);

/* NULL is legal. */
void share_close(struct share *share);

#endif
