/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_LAYER_H
#define JOB_LAYER_H

/*
 * What the writable disk of a job begins as: an empty ext4. It is never written to, so one for each
 * size is made by mke2fs when it is first asked for, and kept as templates/ in the data directory:
 * sparse, some hundred KiB for 8 GiB, 6 MB for 512 GiB, at most LAYER_TEMPLATES_MAX of them. What the
 * job writes goes elsewhere (block/ephemeral.h).
 */

#include <stdint.h>

#include "dayfly/error.h"

#define LAYER_MIN_BYTES     (UINT64_C(16) << 20)
#define LAYER_MAX_BYTES     (UINT64_C(16) << 40) /* ext4's own limit at 4 KiB blocks */
#define LAYER_TEMPLATES_MAX 32

/*
 * Open one of `bytes` (rounded down to 4 KiB). The same size gives the same bytes, whenever and
 * wherever it is made. `home` is the data directory, `home_fd` the same; where nothing can be kept in
 * it, the file is made for this once, without a name. Two processes may ask at once. Returns a
 * descriptor for reading, or -errno; -ENOENT when mke2fs is missing, with the remedy.
 */
int layer_open(int home_fd, const char *home, uint64_t bytes, struct dayfly_err *err);

#endif
