/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_DISK_H
#define ENGINE_DISK_H

/* A disk of a description, attached: the layers of block/ that its options ask for. */

#include "block/block.h"
#include "config/config.h"
#include "dayfly/error.h"
#include "util/log.h"

struct attached_disk {
    struct block *block;   /* the caller's */
    struct block *patient; /* the same, where it waits for room (block/patient.h); else NULL */
};

/* Open what `disk` names. log is borrowed for as long as the block lives. Returns 0 or -errno. */
int disk_attach(struct attached_disk *out, const struct config_disk *disk, const struct log *log,
                struct dayfly_err *err);

#endif
