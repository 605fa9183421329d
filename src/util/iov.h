/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_IOV_H
#define UTIL_IOV_H

/*
 * Bytes in scattered segments. A device must not assume how a driver cuts its headers and data into
 * buffers; with these it need not look. The segments' memory may be a guest's: copy once, use the copy.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* The sum of the lengths. The caller knows that it fits. */
uint64_t iov_bytes(const struct iovec *iov, unsigned count);

/* Copy len bytes from, or to, byte `offset` of the segments. Returns the bytes copied: less than len
 * only where the segments end. */
size_t iov_copy_out(const struct iovec *iov, unsigned count, uint64_t offset, void *buf, size_t len);
size_t iov_copy_in(const struct iovec *iov, unsigned count, uint64_t offset, const void *buf,
                   size_t len);

/* Set len bytes from `offset` on, all of which are there, to `byte`. */
void iov_fill(const struct iovec *iov, unsigned count, uint64_t offset, uint8_t byte, uint64_t len);

/* Cut `bytes` off the front (back), in place. Returns the new count; *iov moves to the new first one.
 */
unsigned iov_drop_front(struct iovec **iov, unsigned count, uint64_t bytes);
unsigned iov_drop_back(struct iovec *iov, unsigned count, uint64_t bytes);

/* The segments that hold bytes [offset, offset + bytes), in out, which has room for count of them.
 * Returns how many; the caller knows that the bytes are there. */
unsigned iov_slice(const struct iovec *iov, unsigned count, uint64_t offset, uint64_t bytes,
                   struct iovec *out);

/* A place in the segments that moves forward only: for going through many of them piece by piece. */
struct iov_cursor {
    const struct iovec *iov;
    unsigned count; /* from iov on */
    size_t at;      /* in the first of them */
};

/* `bytes` in one segment, and go behind them; NULL, without going, where they are cut. bytes > 0. */
void *iov_next(struct iov_cursor *cursor, size_t bytes);

/* Copy as iov_copy_out and iov_copy_in do, and go behind it. */
void iov_next_out(struct iov_cursor *cursor, void *buf, size_t len);
void iov_next_in(struct iov_cursor *cursor, const void *buf, size_t len);
void iov_skip(struct iov_cursor *cursor, uint64_t bytes);

#endif
