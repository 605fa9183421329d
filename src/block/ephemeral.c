/* SPDX-License-Identifier: Apache-2.0 */
#include "block/ephemeral.h"

#include <errno.h>
#include <unistd.h>

#include "block/crypt.h"
#include "block/overlay.h"
#include "util/arith.h"
#include "util/err.h"
#include "util/nameless.h"

/* The encrypted disk below, of `bytes` or a little more. */
static int open_delta(struct block **out, uint64_t bytes, const struct block_ephemeral_options *options,
                      struct dayfly_err *err)
{
    struct block_raw_options raw = {
        .io = BLOCK_IO_AUTO, .direct = options->direct, .unsynced = options->unsynced};
    struct block_crypt_options crypt = {.log = options->log};
    raw.fd = nameless_file_open(options->dir, "what is written to a disk", err);
    if (raw.fd < 0)
        return raw.fd;
    if (ftruncate(raw.fd, (off_t)align_up(bytes, BLOCK_OVERLAY_CLUSTER_BYTES)) < 0) {
        int rc = err_errno(err, errno, "a file of %llu bytes for what is written to a disk",
                           (unsigned long long)bytes);
        close(raw.fd);
        return rc;
    }
    int rc = block_raw_open(&crypt.lower, &raw, err);
    return rc < 0 ? rc : block_crypt_open(out, &crypt, err);
}

int block_ephemeral_open(struct block **out, const struct block_ephemeral_options *options,
                         struct dayfly_err *err)
{
    const struct block_raw_options raw = {
        .fd = options->base_fd, .read_only = true, .io = BLOCK_IO_AUTO, .direct = options->direct};
    struct block_overlay_options overlay = {0};
    int rc = block_raw_open(&overlay.base, &raw, err);
    if (rc < 0)
        return rc;
    if ((rc = open_delta(&overlay.delta, overlay.base->size_bytes, options, err)) < 0) {
        block_destroy(overlay.base);
        return rc;
    }
    return block_overlay_open(out, &overlay, err);
}
