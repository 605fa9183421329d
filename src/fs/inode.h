/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_INODE_H
#define FS_INODE_H

/*
 * The inodes that a guest knows, by node id, and how the server gets at them again.
 *
 * Identity is what the host says a file is: mount, device, inode number and, against reuse of the
 * number, birth time (statx). The same file under two names, or after a rename, keeps its node id for
 * as long as the guest holds a reference. Node ids are never used twice.
 *
 * A guest may know millions of inodes, so knowing one costs no descriptor. An inode remembers where it
 * was last seen (its directory's inode, and a name) and, once it was opened and where the thread may
 * use it, a file handle (name_to_handle_at). An O_PATH descriptor is opened at the first use, kept in a
 * bounded cache (least recently used goes first), and opened anew when needed: by handle, or by name,
 * in which case it is the inode only if the identity still agrees; else -ESTALE, and the guest looks
 * its name up again. What is removed while the guest has it open keeps its descriptor
 * (inode_unlinking).
 *
 * Identities belong to an export: a file that lies in two exports is two inodes. On overlayfs birth
 * times are left out, since a file that is written for the first time is born again.
 *
 * What opens or looks does it as the calling thread: after fs_thread_act (thread.h) for ref's export.
 *
 * Threads: the table has a lock of its own, held only for look-ups in memory, never around a system
 * call that can wait for a disk. All functions may be called from any serving thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/fs.h"

struct inode;
struct inode_table;

/* A shared directory as the table keeps it. */
struct export
{
    char *name;
    int fd; /* O_PATH, owned */
    bool read_only;
    bool by_handle; /* open_by_handle_at works here */
    int mount_fd;   /* O_RDONLY, for open_by_handle_at; -1 */
    bool mappable;  /* shared mappings of files of its device are the files */
    bool local;     /* a close of a file that was written cannot fail, as it may over a network */
    uint32_t dev_major, dev_minor;
    struct fs_idmap idmap;
    struct inode *root;
};

/* What makes two looks at a file looks at the same file. */
struct inode_identity {
    uint64_t mount; /* stx_mnt_id */
    uint64_t dev;
    uint64_t ino;
    uint64_t born_ns; /* 0 where the file system does not say */
};

/*
 * An inode in use: the reference keeps it and its descriptor from going away. Every inode_ref that was
 * filled must be put, once, by the thread that got it.
 */
struct inode_ref {
    struct inode *inode;
    const struct export *export; /* NULL for the made-up root */
    uint64_t nodeid;
    mode_t type; /* S_IFMT bits; an inode never changes its type */
    int fd;      /* O_PATH; -1 until inode_open, and for the made-up root */
};

int inode_table_new(struct inode_table **out, const struct fs_options *options, struct dayfly_err *err);
void inode_table_free(struct inode_table *table);

/* Forget all but the roots. */
void inode_table_reset(struct inode_table *table);

/* One component: 0, -EINVAL (empty, ".", "..", a '/'), or -ENAMETOOLONG. */
int inode_check_name(const char *name);

/* The made-up root's directories; also the single one. */
const struct export *inode_exports(const struct inode_table *table, unsigned *count);

/* The inode with this node id. Returns 0 or -ESTALE (the guest does not know such a one). FUSE_ROOT_ID
 * is the root. */
int inode_get(struct inode_table *table, uint64_t nodeid, struct inode_ref *ref);
/* Safe on a zeroed ref and safe to call twice. */
void inode_put(struct inode_table *table, struct inode_ref *ref);

/* Make ref->fd a descriptor, valid until inode_put. Returns 0, -ESTALE, -ENFILE (too many in use), or
 * another -errno; -EPERM for the made-up root, which has none. */
int inode_open(struct inode_table *table, struct inode_ref *ref);

/* Attributes by one system call where possible, without opening the inode. -EPERM for the made-up root.
 */
int inode_stat(struct inode_table *table, struct inode_ref *ref, struct statx *stx);

/*
 * Find `name` (one checked component, not "." or "..") in a directory and count one look-up for the
 * guest. Fills *ref and the attributes. A mount point below is entered. In the made-up root the names
 * are those of the directories. Returns 0, -ENOENT, -ENOTDIR, -ENOMEM (inodes_max), -ELOOP ... The
 * directory's ref gets opened.
 */
int inode_lookup(struct inode_table *table, struct inode_ref *dir, const char *name,
                 struct inode_ref *ref, struct statx *stx);

/* The directory that holds this one, for ".." (file systems exported again by the guest's NFS server).
 * The root's parent is the root. Not counted; count it with inode_count. -ESTALE where that is a
 * directory the guest does not know. */
int inode_parent(struct inode_table *table, struct inode_ref *dir, struct inode_ref *ref);

/* One look-up more for the guest. */
void inode_count(struct inode_table *table, struct inode_ref *ref);

/* As inode_lookup for an inode the guest was given in another way (create, link, tmpfile): `fd` is any
 * descriptor of it and stays the caller's. name is NULL for what has none (O_TMPFILE); dir then says
 * where it was made. */
int inode_adopt(struct inode_table *table, struct inode_ref *dir, const char *name, int fd,
                struct inode_ref *ref, struct statx *stx);

/* FUSE_FORGET. Unknown ids and too large counts are legal and bounded: the guest's fault harms itself.
 */
void inode_forget(struct inode_table *table, uint64_t nodeid, uint64_t lookups);

/* The guest opened (closed) this inode. While it is open its descriptor is kept, if `ref` has one, so
 * that fstat works whatever becomes of its name. With very many open, only inode_unlinking does that.
 */
void inode_opened(struct inode_table *table, struct inode_ref *ref);
void inode_closed(struct inode_table *table, uint64_t nodeid);

/* `name` in `dir` is about to go (unlink, rmdir, rename over it): what is open behind it, and in any
 * case what is no regular file (a working directory, a FIFO: the guest opens those by itself), keeps a
 * descriptor from here on, until it is forgotten or seen elsewhere. With a write-back cache all does:
 * the guest still sends a removed file's times, and takes an error for one of the disk's. Call before
 * the system call. Costs no system call for a file that is not open. */
void inode_unlinking(struct inode_table *table, struct inode_ref *dir, const char *name);

/* That system call failed with `error` (-errno): take it back. */
void inode_unlink_failed(struct inode_table *table, struct inode_ref *dir, const char *name, int error);

/* A rename succeeded: whatever the guest knows under the old name is under the new one. Both
 * directories are of one export: the caller refuses others with EXDEV, as each export has rights of its
 * own. */
void inode_renamed(struct inode_table *table, struct inode_ref *from, const char *from_name,
                   struct inode_ref *to, const char *to_name, bool exchanged);

/* True for a directory on another mount or device than the one it was found in: announced to the guest
 * as a submount. */
bool inode_is_submount(struct inode_table *table, const struct inode_ref *dir,
                       const struct inode_ref *ref);

void inode_table_stats(struct inode_table *table, struct fs_stats *stats);

#endif
