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

/* Cut `bytes` off the front (back), in place. Returns the new count; *iov moves to the new first one.
 */
unsigned iov_drop_front(struct iovec **iov, unsigned count, uint64_t bytes);
unsigned iov_drop_back(struct iovec *iov, unsigned count, uint64_t bytes);

#endif
