/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking I/O on a raw image: what worker threads do, and what io_uring leaves over (the rest of a
 * short transfer, discards, zeroes).
 *
 * Discarding is advice, so a file system that cannot do it has done it. Writing zeroes is an order: it
 * goes from the cheapest way that keeps the promise to the plain one.
 */
#include "block/raw_sync.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "util/arith.h"

#define VEC_MAX 64u

/* The segments from byte `from` of the request on, at most VEC_MAX of them. Returns how many. */
static unsigned rest_of(const struct block_request *request, uint64_t from, struct iovec *vec)
{
    unsigned n = 0;
    for (unsigned i = 0; i < request->iov_count && n < VEC_MAX; i++) {
        const struct iovec *iov = &request->iov[i];
        if (from >= iov->iov_len) {
            from -= iov->iov_len;
            continue;
        }
        vec[n++] = (struct iovec){(uint8_t *)iov->iov_base + from, iov->iov_len - from};
        from = 0;
    }
    return n;
}

static int transfer(int fd, const struct block_request *request, uint64_t from)
{
    struct iovec vec[VEC_MAX];
    while (from < request->length_bytes) {
        unsigned count = rest_of(request, from, vec);
        off_t at = (off_t)(request->offset_bytes + from);
        ssize_t n = request->op == BLOCK_READ ? preadv(fd, vec, (int)count, at)
                                              : pwritev(fd, vec, (int)count, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO; /* someone truncated the file */
        from += (uint64_t)n;
    }
    return 0;
}

int raw_read_cached(int fd, const struct block_request *request)
{
    struct iovec vec[VEC_MAX];
    for (uint64_t from = 0; from < request->length_bytes;) {
        unsigned count = rest_of(request, from, vec);
        ssize_t n = preadv2(fd, vec, (int)count, (off_t)(request->offset_bytes + from), RWF_NOWAIT);
        if (n <= 0)
            return -EAGAIN; /* who waits is told what is wrong, if anything is */
        from += (uint64_t)n;
    }
    return 0;
}

static int flush(int fd)
{
    while (fdatasync(fd) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int allocate(int fd, int mode, const struct block_request *request)
{
    while (fallocate(fd, mode, (off_t)request->offset_bytes, (off_t)request->length_bytes) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static bool unsupported(int rc)
{
    return rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENOTTY;
}

static int discard(int fd, bool is_device, const struct block_request *request)
{
    int rc;
    if (is_device) {
        uint64_t range[2] = {request->offset_bytes, request->length_bytes};
        rc = ioctl(fd, BLKDISCARD, range) < 0 ? -errno : 0;
    } else {
        rc = allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, request);
    }
    return unsupported(rc) ? 0 : rc;
}

static int write_plain_zeroes(int fd, const struct block_request *request)
{
    static const uint8_t zeroes[64 * 1024] __attribute__((aligned(4096))); /* for direct I/O */
    uint64_t at = request->offset_bytes, left = request->length_bytes;
    while (left > 0) {
        ssize_t n = pwrite(fd, zeroes, MIN(left, sizeof(zeroes)), (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        at += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return 0;
}

static int write_zeroes(int fd, const struct block_request *request)
{
    int rc = -EOPNOTSUPP;
    if (request->unmap)
        rc = allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, request);
    if (unsupported(rc))
        rc = allocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, request);
    return unsupported(rc) ? write_plain_zeroes(fd, request) : rc;
}

int raw_sync(int fd, bool is_device, const struct block_request *request, uint64_t from)
{
    if (request->op != BLOCK_FLUSH && request->length_bytes == 0)
        return 0;
    switch (request->op) {
    case BLOCK_READ:
    case BLOCK_WRITE:
        return transfer(fd, request, from);
    case BLOCK_FLUSH:
        return flush(fd);
    case BLOCK_DISCARD:
        return discard(fd, is_device, request);
    case BLOCK_WRITE_ZEROES:
        return write_zeroes(fd, request);
    }
    return -EINVAL;
}

/* On what is open: to read and write at an offset, flush, zero and discard. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL(preadv),
    ISOLATE_CALL(preadv2), /* from the page cache alone */
    ISOLATE_CALL(pwritev),
    ISOLATE_CALL(pwrite64),
    ISOLATE_CALL(fdatasync),
    ISOLATE_CALL(fallocate),
    ISOLATE_CALL_IF(ioctl, 1, UINT32_MAX, BLKDISCARD),
};

const struct isolate_calls raw_sync_calls = ISOLATE_CALLS(calls);
