/* SPDX-License-Identifier: Apache-2.0 */
#include "util/iov.h"

#include <stdbool.h>
#include <string.h>

#include "util/arith.h"

uint64_t iov_bytes(const struct iovec *iov, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += iov[i].iov_len;
    return sum;
}

static size_t copy(const struct iovec *iov, unsigned count, uint64_t offset, uint8_t *buf, size_t len,
                   bool out)
{
    size_t done = 0;
    for (unsigned i = 0; i < count && done < len; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        uint8_t *at = (uint8_t *)iov[i].iov_base + offset;
        size_t n = MIN(iov[i].iov_len - offset, len - done);
        memcpy(out ? buf + done : at, out ? at : buf + done, n);
        done += n;
        offset = 0;
    }
    return done;
}

size_t iov_copy_out(const struct iovec *iov, unsigned count, uint64_t offset, void *buf, size_t len)
{
    return copy(iov, count, offset, buf, len, true);
}

size_t iov_copy_in(const struct iovec *iov, unsigned count, uint64_t offset, const void *buf,
                   size_t len)
{
    return copy(iov, count, offset, (uint8_t *)(uintptr_t)buf, len, false);
}

unsigned iov_drop_front(struct iovec **iov, unsigned count, uint64_t bytes)
{
    struct iovec *v = *iov;
    while (count > 0 && bytes >= v->iov_len) {
        bytes -= v->iov_len;
        v++;
        count--;
    }
    if (count > 0) {
        v->iov_base = (uint8_t *)v->iov_base + bytes;
        v->iov_len -= bytes;
    }
    *iov = v;
    return count;
}

unsigned iov_drop_back(struct iovec *iov, unsigned count, uint64_t bytes)
{
    while (count > 0 && bytes >= iov[count - 1].iov_len) {
        bytes -= iov[count - 1].iov_len;
        count--;
    }
    if (count > 0)
        iov[count - 1].iov_len -= bytes;
    return count;
}
