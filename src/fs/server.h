/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SERVER_H
#define FS_SERVER_H

/*
 * The inside of a file server: what its operations (ops_*.c) share. One operation is a function and one
 * row of the table in session.c; the row says what the dispatcher checks before it calls.
 *
 * An operation returns 0 (its reply's body is written), -errno, or REQUEST_LATER or REQUEST_WAITS. It
 * runs with the session lock held for reading: INIT, DESTROY and fs_reset, which end a session, hold it
 * for writing, so no operation sees tables that are being emptied.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/foresight.h"
#include "fs/fresh.h"
#include "fs/fs.h"
#include "fs/implicit.h"
#include "fs/inode.h"
#include "fs/locks.h"
#include "fs/open_table.h"
#include "fs/request.h"
#include "fs/thread.h"
#include "fs/window.h"

struct fs {
    enum fs_cache cache;
    bool writeback, no_xattr;
    const struct log *log;
    int fds_fd; /* /proc/thread-self/fd of the thread that was locked up; -1: none was */
    struct inode_table *inodes;
    struct open_table files;
    struct lock_table locks;
    struct fresh fresh;
    struct foresight foresight;
    struct implicit_opens implicit;
    struct window window;
    bool window_shown; /* to the guest; set while nobody serves */
    atomic_uint_least64_t requests;
    atomic_uint_least64_t unlocked;

    pthread_rwlock_t session;
    struct log_limit refused;
    atomic_bool record_locks; /* the guest has used some in this session */
    bool started;             /* by INIT; what follows is agreed there */
    uint64_t flags;           /* FUSE_INIT's, as answered */
    bool without_opens;       /* implicit.h */
};

/* What a row of the table says. */
enum row_flags {
    ROW_NODE = 1,      /* in.nodeid is an inode: filled into r->node, else ESTALE */
    ROW_CHANGES = 2,   /* changes what is shared: EROFS in a read-only directory and the made-up root */
    ROW_CREATES = 4,   /* as the guest's user; otherwise as anyone who may */
    ROW_BY_HANDLE = 8, /* works on an open file alone: whoever the thread is will do */
    ROW_MAY_BLOCK = 16, /* waits by its nature: for a worker */
    ROW_NO_REPLY = 32,
    ROW_SESSION = 64,    /* ends a session: alone, with the session lock held for writing */
    ROW_UNAWAITED = 128, /* nobody in the guest waits for its end */
};

struct row {
    const char *name;
    int (*serve)(struct request *r);
    uint16_t in;  /* bytes of the smallest arguments, names not counted */
    uint16_t out; /* bytes of the smallest reply body */
    uint16_t flags;
};

/* NULL for an opcode that is not served. */
const struct row *session_row(uint32_t opcode);

/* Close, unlock and forget everything. Nobody else is serving. */
void session_end(struct fs *fs);

/* Give up capabilities for the rest of the request where this inode's owner or group has no guest id,
 * as in user_namespaces(7). Costs a system call, with a map alone. */
int act_on(struct request *r, struct inode_ref *ref);

/* -- attributes and entries (attr.c) ------------------------------------------------------------- */

void attr_fill(const struct export *export, const struct statx *stx, struct fuse_attr *attr);

/* Whether the guest should map this file into the window: not where it is small, since a range for it
 * costs more than a copy. */
bool attr_wants_window(const struct fs *fs, const struct export *export, const struct statx *stx);

/* The reply of GETATTR and SETATTR. */
int attr_reply(struct request *r, const struct statx *stx);

/* How long a name or attribute may be believed, in seconds. */
uint64_t attr_seconds(const struct fs *fs);

/* Where `ref` was found in `dir`. */
void entry_fill(struct request *r, const struct inode_ref *dir, const struct inode_ref *ref,
                const struct statx *stx, struct fuse_entry_out *entry);

/* Look `name` up in r->node and reply with the entry. */
int entry_reply(struct request *r, const char *name);

/* The device numbers of the protocol: Linux' 32-bit encoding. */
uint32_t device_to_wire(uint32_t major, uint32_t minor);
dev_t device_from_wire(uint32_t wire);

/* -- shared between operations ------------------------------------------------------------------- */

/* The open file `fh`, which must be one of in.nodeid's; without opens and 0, one that is made now. Put
 * it with open_put. -EBADF. */
int request_file(struct request *r, uint64_t fh, struct open_file **file);

/* Open flags of the host for those of the guest (ops_file.c). */
int host_open_flags(const struct request *r, uint32_t guest);

/* Take an opened descriptor into the table and fill the reply. `fd` is taken, also on failure. */
int open_reply_fill(struct request *r, struct inode_ref *ref, int fd, uint32_t guest_flags,
                    bool keep_cache, struct fuse_open_out *out);

/* Open r->node, a regular file or a directory, to be read. The reference is the caller's. */
int file_open_to_read(struct request *r, struct open_file **file);
int dir_open(struct request *r, struct open_file **file);

/* An entry of a directory on its way to the guest (ops_dir.c). */
struct dir_entry {
    const char *name;
    size_t name_bytes;
    uint64_t ino;
    uint64_t next;
    uint32_t type; /* DT_* */
};

enum dir_form {
    DIR_ENTRY,      /* READDIR's */
    DIR_ENTRY_BARE, /* READDIRPLUS's, without what a look-up says */
    DIR_ENTRY_PLUS,
};

/* Append it to the reply, which may grow to `limit` bytes. 0: done, or left out, since it is gone or
 * its name is too long for the protocol's guests. 1: it does not fit. */
int dir_put(struct request *r, const struct dir_entry *e, enum dir_form form, uint64_t limit);

/* Store a new file's security label; `fd` is O_PATH or open. */
int xattr_set_label(struct request *r, int fd, const struct request_extensions *ext);

/* As inode_stat, also for the made-up root. */
int node_stat(struct request *r, struct inode_ref *ref, struct statx *stx);

/* True where the export stores set-id bits. */
bool keeps_setid(const struct export *export);

/* -- operations ---------------------------------------------------------------------------------- */

int op_access(struct request *r);
int op_batch_forget(struct request *r);
int op_copy_file_range(struct request *r);
int op_create(struct request *r);
int op_fallocate(struct request *r);
int op_flush(struct request *r);
int op_forget(struct request *r);
int op_fsync(struct request *r);
int op_getattr(struct request *r);
int op_getlk(struct request *r);
int op_getxattr(struct request *r);
int op_link(struct request *r);
int op_listxattr(struct request *r);
int op_lookup(struct request *r);
int op_lseek(struct request *r);
int op_mkdir(struct request *r);
int op_mknod(struct request *r);
int op_open(struct request *r);
int op_opendir(struct request *r);
int op_read(struct request *r);
int op_readdir(struct request *r);
int op_readdirplus(struct request *r);
int op_readlink(struct request *r);
int op_release(struct request *r);
int op_removemapping(struct request *r);
int op_removexattr(struct request *r);
int op_rename(struct request *r);
int op_rename2(struct request *r);
int op_rmdir(struct request *r);
int op_setattr(struct request *r);
int op_setlk(struct request *r);
int op_setlkw(struct request *r);
int op_setupmapping(struct request *r);
int op_setxattr(struct request *r);
int op_statfs(struct request *r);
int op_statx(struct request *r);
int op_symlink(struct request *r);
int op_syncfs(struct request *r);
int op_tmpfile(struct request *r);
int op_unlink(struct request *r);
int op_write(struct request *r);

#endif
