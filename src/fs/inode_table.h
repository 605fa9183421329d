/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_INODE_TABLE_H
#define FS_INODE_TABLE_H

/*
 * What inode.c (operations), inode_table.c (memory), inode_open.c (descriptors) and export.c share;
 * nobody else includes it.
 *
 * Everything below is protected by table->lock, but for what never changes while somebody holds a
 * reference: an inode's export, identity, node id, type and births. "Locked" in a comment: the caller
 * holds the lock.
 *
 * An inode lives as long as its refs: one for each inode_ref, one for each inode whose place is in it,
 * one while the guest knows it (lookups > 0), and one that the table has on each root. Its memory goes
 * with the last.
 */

#include <fcntl.h>
#include <pthread.h>

#include "fs/inode.h"
#include "util/list.h"

/* Room for a handle, as name_to_handle_at(2) fills it. */
union handle {
    struct file_handle fh;
    uint8_t room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

/* How far up an inode's place is followed. Deeper ones are reached from descriptors that are cached. */
#define DEPTH_MAX 4096

#define IDENTITY_MASK (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)

/* Why a descriptor is kept: it has one pin for them together. */
#define KEPT_OPEN 1 /* the guest has the inode open: the host may rename over it, or remove it */
#define KEPT_GONE 2 /* it has no name, or the guest is removing it */

/* An O_PATH descriptor of an inode; see inode_open.c. */
struct held {
    struct list node; /* in table->idle while nobody pins it, in table->dead before it is closed */
    struct inode *inode;
    int fd;
    uint32_t pins;
};

struct inode {
    struct inode *next_by_id, *next_by_identity, *next_by_place;
    struct inode *parent; /* with name, the place: where it was last seen. NULL: not known, or a root */
    char *name;
    struct held *held;           /* NULL: no descriptor */
    struct file_handle *handle;  /* NULL: none, or of no use */
    const struct export *export; /* NULL: the made-up root */
    struct inode_identity identity;
    uint64_t nodeid;
    uint64_t lookups; /* that the guest has not forgotten */
    uint32_t refs;
    uint32_t opens; /* by the guest */
    mode_t type;
    bool births;  /* birth times are part of identities on this file system */
    uint8_t kept; /* KEPT_*; never without `held` */
};

struct inode_table {
    pthread_mutex_t lock;
    struct export *exports;
    unsigned export_count;
    struct inode *root; /* node id 1: the only export's, or made up */

    /* Chained hash tables with as many buckets each; count is that of inodes. */
    struct inode **by_id, **by_identity, **by_place;
    uint32_t buckets; /* a power of two */
    uint32_t count;
    uint32_t inodes_max;
    bool shrunk; /* table_unlock gives memory back to the host */
    uint64_t next_nodeid;
    uint64_t secret; /* so that a guest cannot choose names that share a bucket */

    struct list idle; /* of struct held, least recently used first */
    struct list dead; /* closed by table_unlock */
    unsigned held_count;
    unsigned kept_count;
    bool writeback;    /* the guest tells the times of a file after it removed it */
    unsigned fds_max;  /* above it idle descriptors are closed, and no more are kept */
    unsigned fds_hard; /* above it there are no more, pinned or not */
    int proc_fd;       /* /proc/self/fd */
};

/* -- export.c ----------------------------------------------------------------------------------------
 */

int export_init(struct export *export, const struct fs_directory *directory, struct dayfly_err *err);
void export_finish(struct export *export);

/* -- inode_table.c -----------------------------------------------------------------------------------
 */

void table_lock(struct inode_table *table);
/* Also closes what became dead, after the unlock: the last close of a removed file can take long. */
void table_unlock(struct inode_table *table);

struct inode_identity identity_of(const struct statx *stx, bool births);
bool identity_equal(const struct inode_identity *a, const struct inode_identity *b);

/* Make an inode that is in no table yet, without a reference. NULL: no memory. */
struct inode *inode_make(const struct export *export, const struct inode_identity *identity,
                         mode_t type, bool births);
/* Locked: give it a node id and let it be found. -ENOMEM at the table's limit. */
int table_insert(struct inode_table *table, struct inode *inode);

/* Locked. NULL: none. */
struct inode *table_by_id(struct inode_table *table, uint64_t nodeid);
struct inode *table_by_identity(struct inode_table *table, const struct export *export,
                                const struct inode_identity *identity, mode_t type);
struct inode *table_by_place(struct inode_table *table, const struct inode *parent, const char *name);

/* Locked. `name` is taken. The caller has a reference to `parent`; `inode` may go when it has none, as
 * breaking a circle can take its last one. */
void place_set(struct inode_table *table, struct inode *inode, struct inode *parent, char *name);
void place_clear(struct inode_table *table, struct inode *inode);

/* Locked. inode_unref may free the inode, and directories above it that only it kept. */
void inode_unref(struct inode_table *table, struct inode *inode);

static inline bool inode_is_root(const struct inode *inode)
{
    return !inode->export || inode->export->root == inode;
}

/* -- inode_open.c ------------------------------------------------------------------------------------
 */

/* Not locked. Open `inode` if needed and pin its descriptor. The caller has a reference. */
int held_pin(struct inode_table *table, struct inode *inode, int *fd);

/* Locked: the same if no system call is needed. False: it is. */
bool held_pin_cached(struct inode *inode, int *fd);

/* Locked. No-op for roots, whose descriptors are the exports'. */
void held_unpin(struct inode_table *table, struct inode *inode);

/* Not locked: keep a descriptor of an inode without a name; `fd` is any one of it, and stays the
 * caller's. */
int held_adopt(struct inode_table *table, struct inode *inode, int fd);

/* Locked: close it, whoever pinned it: idle, or the inode goes, or the guest did. */
void held_drop(struct inode_table *table, struct inode *inode);

/* Locked: keep what it has, for this reason, until held_release. False: it has nothing, or too many are
 * kept; to what is not `urgent` only half of the room is open. */
bool held_keep(struct inode_table *table, struct inode *inode, unsigned reason, bool urgent);
void held_release(struct inode_table *table, struct inode *inode, unsigned reason);

/* `name` in `dirfd`, O_PATH, not followed, no ".."; -errno. */
int open_beneath(int dirfd, const char *name);

/* Whether birth times stay as they are where fd is: not on overlayfs, where the first write moves a
 * file to another layer, which is a birth. */
bool births_reliable(int fd);

#endif
