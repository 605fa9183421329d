/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_REQUEST_H
#define FS_REQUEST_H

/*
 * One FUSE request while it is served: a cursor over what the guest sent and a builder of the reply.
 *
 * The request lies in guest memory, cut into segments in any way, and may change at any time. The
 * header is copied when the request is opened, arguments and names as the cursor passes them, each byte
 * once; nobody looks at the segments again. File data alone is not copied: request_data_in and
 * request_data_out hand the segments themselves to pwritev and preadv.
 *
 * The reply's body is written behind the place of its header as it is made; request_finish then writes
 * the header. Nothing is written outside `out`, and what does not fit is refused by request_reply.
 */

#include "fs/fs.h"
#include "fs/inode.h"
#include "fs/wire.h"

struct request {
    struct fs *fs;
    struct fs_thread *thread;
    struct fs_request *raw;
    struct fuse_in_header in;
    struct inode_ref node; /* of in.nodeid, where the opcode has one; put by the dispatcher */
    uint64_t at;           /* the cursor, from the start of raw->in */
    uint64_t end;          /* in.len */
    uint64_t reply_bytes;  /* of the body, so far */
    struct iovec *cut;     /* the segment that request_data_out cut, and as it was before */
    struct iovec uncut;
};

/* A handler's other answers, beside 0 and -errno. */
#define REQUEST_LATER 1
#define REQUEST_WAITS 2

/* Copies and checks the header. Returns 0, or -EINVAL: too short, or longer than what was sent. */
int request_open(struct request *r, struct fs *fs, struct fs_thread *thread, struct fs_request *raw);

/* Bytes not yet passed by the cursor. */
static inline uint64_t request_left(const struct request *r)
{
    return r->end - r->at;
}

/* Copy the next `len` bytes. -EINVAL when there are fewer. */
int request_bytes(struct request *r, void *buf, size_t len);
#define request_args(r, args) request_bytes(r, args, sizeof(*(args)))

/* The next text with its NUL, at most `size` bytes with it. -ENAMETOOLONG, or -EINVAL where the NUL is
 * missing or the text is empty. */
int request_text(struct request *r, char *buf, size_t size);

/* A request_text that is one name in a directory: no '/', and neither "." nor "..", else -EINVAL. */
int request_name(struct request *r, char name[static FS_NAME_MAX + 1]);

/*
 * What may stand behind the arguments of a request that creates: one supplementary group, one security
 * label. Unknown kinds are passed over.
 */
struct request_extensions {
    uint32_t group; /* UINT32_MAX: none */
    char label_name[FS_NAME_MAX + 1];
    size_t label_bytes; /* 0: none */
    uint8_t label[1024];
};

int request_extensions(struct request *r, struct request_extensions *ext);

/* The segments from the cursor on, cut to `len` bytes, and moves the cursor. Returns their number, or
 * -EINVAL when there are fewer bytes. The segments are raw->in's own, changed in place. */
int request_data_in(struct request *r, size_t len, struct iovec **iov);

/* The reply's segments behind the header, cut to at most `len` bytes: *bytes says how many. The reply
 * has no other body; the caller sets reply_bytes to what was filled. */
unsigned request_data_out(struct request *r, size_t len, struct iovec **iov, size_t *bytes);

/* Room for the reply's body. */
uint64_t request_room(const struct request *r);

/* Append to the reply's body. -EINVAL when it does not fit; then nothing is written. */
int request_reply(struct request *r, const void *buf, size_t len);

/* Writes the header for `result` (0 or -errno; an error drops the body). Returns the reply's bytes. */
ssize_t request_finish(struct request *r, int result);

#endif
