/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/request.h"

#include <errno.h>
#include <string.h>

#include "util/arith.h"
#include "util/iov.h"

/* -- what was sent ------------------------------------------------------------------------------- */

int request_open(struct request *r, struct fs *fs, struct fs_thread *thread, struct fs_request *raw)
{
    *r = (struct request){.fs = fs, .thread = thread, .raw = raw, .node.fd = -1};
    if (iov_copy_out(raw->in, raw->in_count, 0, &r->in, sizeof(r->in)) != sizeof(r->in))
        return -EINVAL;
    if (r->in.len < sizeof(r->in) || r->in.len > raw->in_bytes)
        return -EINVAL;
    r->at = sizeof(r->in);
    r->end = r->in.len;
    return 0;
}

int request_bytes(struct request *r, void *buf, size_t len)
{
    if (len > request_left(r) || iov_copy_out(r->raw->in, r->raw->in_count, r->at, buf, len) != len)
        return -EINVAL;
    r->at += len;
    return 0;
}

int request_text(struct request *r, char *buf, size_t size)
{
    size_t want = MIN(request_left(r), size);
    size_t got = iov_copy_out(r->raw->in, r->raw->in_count, r->at, buf, want);
    size_t len = strnlen(buf, got);
    if (len == got)
        return got == size ? -ENAMETOOLONG : -EINVAL;
    if (len == 0)
        return -EINVAL;
    r->at += len + 1;
    return 0;
}

int request_name(struct request *r, char name[static FS_NAME_MAX + 1])
{
    int rc = request_text(r, name, FS_NAME_MAX + 1);
    if (rc < 0)
        return rc;
    if (strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    return 0;
}

/* -- extensions ---------------------------------------------------------------------------------- */

/* The body of a fuse_ext_header, `left` bytes. Only the first group counts; the protocol sends one. */
static int read_groups(struct request *r, uint64_t left, struct request_extensions *ext)
{
    uint32_t head[2];
    if (left < sizeof(head))
        return left < sizeof(head[0]) ? -EINVAL : 0; /* no group: legal */
    int rc = request_bytes(r, head, sizeof(head));
    if (rc == 0 && head[0] > 0)
        ext->group = head[1];
    return rc;
}

/* Of several labels (one for each security module) the first is kept. */
static int read_label(struct request *r, uint32_t count, uint64_t left, struct request_extensions *ext)
{
    struct fuse_secctx head;
    if (count == 0)
        return 0;
    uint64_t start = r->at;
    int rc = left < sizeof(head) ? -EINVAL : request_args(r, &head);
    if (rc == 0)
        rc = request_text(r, ext->label_name, sizeof(ext->label_name));
    if (rc < 0)
        return rc;
    if (head.size > left - MIN(left, r->at - start))
        return -EINVAL;
    if (head.size > sizeof(ext->label))
        return -E2BIG;
    ext->label_bytes = head.size;
    return request_bytes(r, ext->label, head.size);
}

int request_extensions(struct request *r, struct request_extensions *ext)
{
    ext->group = UINT32_MAX;
    ext->label_bytes = 0;
    while (request_left(r) >= sizeof(struct fuse_ext_header)) {
        struct fuse_ext_header head;
        uint64_t start = r->at;
        int rc = request_args(r, &head);
        if (rc < 0)
            return rc;
        if (head.size < sizeof(head) || head.size > r->end - start)
            return -EINVAL;
        uint64_t body = head.size - sizeof(head);
        if (head.type <= FUSE_MAX_NR_SECCTX)
            rc = read_label(r, head.type, body, ext);
        else if (head.type == FUSE_EXT_GROUPS)
            rc = read_groups(r, body, ext);
        if (rc < 0)
            return rc;
        r->at = MIN(start + FUSE_REC_ALIGN((uint64_t)head.size), r->end);
    }
    return 0;
}

/* -- data, without a copy ------------------------------------------------------------------------ */

int request_data_in(struct request *r, size_t len, struct iovec **iov)
{
    if (len > request_left(r))
        return -EINVAL;
    *iov = r->raw->in;
    unsigned count = iov_drop_front(iov, r->raw->in_count, r->at);
    count = iov_drop_back(*iov, count, r->raw->in_bytes - r->at - len);
    r->at = r->end;
    return (int)count;
}

unsigned request_data_out(struct request *r, size_t len, struct iovec **iov, size_t *bytes)
{
    uint64_t room = request_room(r);
    uint64_t front = sizeof(struct fuse_out_header);
    unsigned count = r->raw->out_count;
    *bytes = MIN(len, room);
    *iov = r->raw->out;
    while (count > 0 && front >= (*iov)->iov_len) {
        front -= (*iov)->iov_len;
        (*iov)++;
        count--;
    }
    if (count == 0)
        return 0;
    /* The header's place may end within this segment: request_finish needs it as it was. */
    r->cut = *iov;
    r->uncut = **iov;
    count = iov_drop_front(iov, count, front);
    return iov_drop_back(*iov, count, room - *bytes);
}

/* -- the reply ----------------------------------------------------------------------------------- */

uint64_t request_room(const struct request *r)
{
    return r->raw->out_bytes - MIN(r->raw->out_bytes, sizeof(struct fuse_out_header));
}

int request_reply(struct request *r, const void *buf, size_t len)
{
    if (len > request_room(r) - r->reply_bytes)
        return -EINVAL;
    iov_copy_in(r->raw->out, r->raw->out_count, sizeof(struct fuse_out_header) + r->reply_bytes, buf,
                len);
    r->reply_bytes += len;
    return 0;
}

ssize_t request_finish(struct request *r, int result)
{
    struct fuse_out_header out = {.error = result, .unique = r->in.unique};
    if (r->cut)
        *r->cut = r->uncut;
    if (result < 0)
        r->reply_bytes = 0;
    out.len = (uint32_t)(sizeof(out) + r->reply_bytes);
    iov_copy_in(r->raw->out, r->raw->out_count, 0, &out, sizeof(out));
    return out.len;
}
