/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_LAYER_H
#define JOB_LAYER_H

/*
 * The writable layer of a job: an ext4 file system on a file without a name. It is sparse, so that it
 * costs what the job writes; it is gone when the last descriptor is closed, however the process ends.
 */

#include <stdint.h>

#include "dayfly/error.h"

#define LAYER_MIN_BYTES (UINT64_C(16) << 20)
#define LAYER_MAX_BYTES (UINT64_C(16) << 40) /* ext4's own limit at 4 KiB blocks */

/*
 * Make one of `bytes` (rounded down to 4 KiB) below `dir`, an existing directory, or, when its file
 * system has no unnamed files, in $TMPDIR or /var/tmp or /tmp. The same size gives the same bytes,
 * whenever it is made. Returns the descriptor, or -errno; -ENOENT when mke2fs is missing, with the
 * remedy.
 */
int layer_make(const char *dir, uint64_t bytes, struct dayfly_err *err);

#endif
