/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TESTING_CLIENT_H
#define FS_TESTING_CLIENT_H

/*
 * The other end of a file server, for tests: what a guest's kernel sends, and a check of each reply's
 * form. It shares no code with the server and is written from the protocol.
 *
 * A client has a serving thread of its own, since one that has entered a server (fs_thread_enter) is no
 * longer who it was. Several clients of one server serve at the same time.
 *
 * Requests and replies are cut into segments that are heap blocks of their own size, so that a
 * sanitizer sees one byte too many; what the server must not write is filled and compared. A reply of a
 * wrong form (length, unique, a write outside) ends the program: assert.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/fs.h"
#include "fs/wire.h"

struct client;

/* How requests and replies are cut. */
enum client_cut {
    CLIENT_WHOLE,  /* one segment each way */
    CLIENT_LINUX,  /* header, each argument and the data apart, as Linux' driver does */
    CLIENT_BYTES,  /* the first 64 bytes one by one */
    CLIENT_RANDOM, /* lengths by chance, zero among them */
    CLIENT_CUTS,
};

/* Results that are no errno. */
#define CLIENT_LATER    (-10000)
#define CLIENT_BROKEN   (-10001)
#define CLIENT_NO_REPLY (-10002)
#define CLIENT_WAITS    (-10003)

/* Assertion failures if there is no memory or no thread. */
struct client *client_new(struct fs *fs);
/* One that serves in the calling thread, which enters the server and is good for nothing else then. */
struct client *client_new_here(struct fs *fs);
void client_free(struct client *c);
void client_cut(struct client *c, enum client_cut cut);
/* fs_request's field, from now on; false at first. */
void client_at_once(struct client *c, bool at_once);
/* As whom requests are made from now on; root at first. */
void client_user(struct client *c, uint32_t uid, uint32_t gid);
/* fuse_in_header's total_extlen for the next call, in bytes. */
void client_extensions(struct client *c, size_t bytes);

struct client_part {
    const void *bytes;
    size_t len;
};

/*
 * One request of up to 4 parts behind its header. `reply` has room for *reply_bytes, as much as the
 * server is given; the body is copied there and *reply_bytes set. reply may be NULL for none. Returns
 * 0, the reply's error, or one of the results above.
 */
int client_call(struct client *c, uint32_t opcode, uint64_t nodeid, const struct client_part *parts,
                unsigned count, void *reply, size_t *reply_bytes);

#define CLIENT_PART(x)    ((struct client_part){(x), sizeof(*(x))})
#define CLIENT_TEXT(s)    ((struct client_part){(s), strlen(s) + 1})
#define CLIENT_PARTS(...) ((struct client_part[]){__VA_ARGS__})
#define CLIENT_COUNT(...) (sizeof(CLIENT_PARTS(__VA_ARGS__)) / sizeof(struct client_part))

/* A request whose reply has no body. */
#define client_send(c, opcode, nodeid, ...)                                                            \
    client_call(c, opcode, nodeid, CLIENT_PARTS(__VA_ARGS__), CLIENT_COUNT(__VA_ARGS__), NULL, NULL)

/* A request whose reply has just the size of *reply. */
#define client_ask(c, opcode, nodeid, reply, ...)                                                      \
    client_call_exact(c, opcode, nodeid, CLIENT_PARTS(__VA_ARGS__), CLIENT_COUNT(__VA_ARGS__), reply,  \
                      sizeof(*(reply)))
int client_call_exact(struct client *c, uint32_t opcode, uint64_t nodeid,
                      const struct client_part *parts, unsigned count, void *reply, size_t size);

/* Bytes as they are, header included: nothing is checked but what is written. `out_room` counts the
 * reply's header. Returns what fs_serve did. */
ssize_t client_raw(struct client *c, const void *in, size_t in_bytes, size_t out_room);

/* -- requests as Linux makes them ---------------------------------------------------------------- */

int client_init(struct client *c, uint64_t flags, struct fuse_init_out *out);
int client_lookup(struct client *c, uint64_t dir, const char *name, struct fuse_entry_out *out);
void client_forget(struct client *c, uint64_t nodeid, uint64_t lookups);
int client_getattr(struct client *c, uint64_t nodeid, struct fuse_attr *attr);
int client_setattr(struct client *c, uint64_t nodeid, const struct fuse_setattr_in *in,
                   struct fuse_attr *attr);
int client_create(struct client *c, uint64_t dir, const char *name, uint32_t flags, uint32_t mode,
                  struct fuse_entry_out *entry, struct fuse_open_out *open);
int client_mkdir(struct client *c, uint64_t dir, const char *name, uint32_t mode,
                 struct fuse_entry_out *entry);
int client_mknod(struct client *c, uint64_t dir, const char *name, uint32_t mode, uint32_t rdev,
                 struct fuse_entry_out *entry);
int client_symlink(struct client *c, uint64_t dir, const char *name, const char *target,
                   struct fuse_entry_out *entry);
int client_link(struct client *c, uint64_t old, uint64_t dir, const char *name,
                struct fuse_entry_out *entry);
int client_unlink(struct client *c, uint64_t dir, const char *name);
int client_rmdir(struct client *c, uint64_t dir, const char *name);
int client_rename(struct client *c, uint64_t dir, const char *name, uint64_t newdir,
                  const char *newname, uint32_t flags);
int client_open(struct client *c, uint64_t nodeid, uint32_t flags, struct fuse_open_out *out);
int client_release(struct client *c, uint64_t nodeid, uint64_t fh);
int client_opendir(struct client *c, uint64_t nodeid, struct fuse_open_out *out);
int client_releasedir(struct client *c, uint64_t nodeid, uint64_t fh);
int client_flush(struct client *c, uint64_t nodeid, uint64_t fh, uint64_t owner);

/* Bytes, or the error. */
ssize_t client_read(struct client *c, uint64_t nodeid, uint64_t fh, void *buf, size_t len,
                    uint64_t offset);
ssize_t client_write(struct client *c, uint64_t nodeid, uint64_t fh, const void *buf, size_t len,
                     uint64_t offset, uint32_t write_flags);
ssize_t client_readdir(struct client *c, uint64_t nodeid, uint64_t fh, uint64_t offset, void *buf,
                       size_t len, bool plus);
ssize_t client_getxattr(struct client *c, uint64_t nodeid, const char *name, void *buf, size_t len);
int client_setxattr(struct client *c, uint64_t nodeid, const char *name, const void *value, size_t len,
                    uint32_t flags, uint32_t ext_flags);
int client_lock(struct client *c, uint32_t opcode, uint64_t nodeid, const struct fuse_lk_in *in,
                struct fuse_lk_out *out);

#endif
