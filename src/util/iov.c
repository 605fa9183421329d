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

void iov_fill(const struct iovec *iov, unsigned count, uint64_t offset, uint8_t byte, uint64_t len)
{
    for (unsigned i = 0; i < count && len > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t n = MIN(iov[i].iov_len - offset, len);
        memset((uint8_t *)iov[i].iov_base + offset, byte, n);
        len -= n;
        offset = 0;
    }
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

unsigned iov_slice(const struct iovec *iov, unsigned count, uint64_t offset, uint64_t bytes,
                   struct iovec *out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count && bytes > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t len = MIN(iov[i].iov_len - offset, bytes);
        out[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, len};
        bytes -= len;
        offset = 0;
    }
    return n;
}

/* Go on to a segment in which something is left. */
static bool settle(struct iov_cursor *cursor)
{
    while (cursor->count > 0 && cursor->at >= cursor->iov->iov_len) {
        cursor->at -= cursor->iov->iov_len;
        cursor->iov++;
        cursor->count--;
    }
    return cursor->count > 0;
}

void *iov_next(struct iov_cursor *cursor, size_t bytes)
{
    if (!settle(cursor) || cursor->iov->iov_len - cursor->at < bytes)
        return NULL;
    void *found = (uint8_t *)cursor->iov->iov_base + cursor->at;
    cursor->at += bytes;
    return found;
}

void iov_next_out(struct iov_cursor *cursor, void *buf, size_t len)
{
    iov_copy_out(cursor->iov, cursor->count, cursor->at, buf, len);
    iov_skip(cursor, len);
}

void iov_next_in(struct iov_cursor *cursor, const void *buf, size_t len)
{
    iov_copy_in(cursor->iov, cursor->count, cursor->at, buf, len);
    iov_skip(cursor, len);
}

void iov_skip(struct iov_cursor *cursor, uint64_t bytes)
{
    cursor->at += bytes;
    settle(cursor);
}
