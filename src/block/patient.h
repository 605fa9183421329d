/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_PATIENT_H
#define BLOCK_PATIENT_H

#include "block/block.h"
#include "util/log.h"

struct block_patient_options {
    struct block *lower;   /* taken, even on failure */
    const char *name;      /* of the disk, for the log; copied */
    const struct log *log; /* borrowed; may be NULL */
};

/*
 * The disk below, with patience when the host has no room for it: a write, a discard or a write of
 * zeroes that fails by ENOSPC or EDQUOT is held, and sent again after a while, until there is room. The
 * log says so when the first one is held, and when none is held any more; both are of LOG_ERROR, since
 * somebody has to know. What is not held goes on meanwhile; with STACK_JOBS held there is no room for
 * more (-EBUSY).
 *
 * A FLUSH is never held: when one fails, the kernel has dropped what it could not write, and the next
 * would succeed.
 *
 * block_drain does not wait for room: what is held, or comes to be held, is answered with its error.
 * So a device that is reset, or whose queue is stopped, does not hang.
 */
int block_patient_open(struct block **out, const struct block_patient_options *options,
                       struct dayfly_err *err);

/* Try again what is held, without waiting for its time. `block` is of block_patient_open. */
void block_patient_retry(struct block *block);

#endif
