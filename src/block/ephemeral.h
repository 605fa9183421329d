/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_EPHEMERAL_H
#define BLOCK_EPHEMERAL_H

#include "block/block.h"
#include "util/log.h"

struct block_ephemeral_options {
    int base_fd;     /* what the disk begins as, open for reading; taken, even on failure */
    const char *dir; /* where what is written is kept, if it can be: util/nameless.h; may be NULL */
    const struct log *log; /* used by block_ephemeral_open alone */
    bool direct, unsynced; /* of both files, as for a raw image */
};

/*
 * A disk that leaves nothing: overlay.h over a file that others may read at the same time, and over
 * crypt.h, with a key of its own, on a file without a name. Making one writes nothing, so it takes as
 * long for a disk of any size; what was written is space that comes back, and cannot be read, when the
 * back end is destroyed or the process ends.
 */
int block_ephemeral_open(struct block **out, const struct block_ephemeral_options *options,
                         struct dayfly_err *err);

#endif
