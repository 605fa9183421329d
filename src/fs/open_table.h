/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_OPEN_TABLE_H
#define FS_OPEN_TABLE_H

/*
 * What the guest has open, by the handle (`fh`) that it was given. A handle is a slot and a number that
 * changes each time the slot is used again, so one that was released, or made up, finds nothing.
 *
 * References keep an open file: RELEASE takes the handle away at once, and the descriptor is closed
 * when the last request that uses it is through.
 *
 * Threads: any.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Entries of a directory that were read from the host and not yet given to the guest. */
struct open_dir {
    pthread_mutex_t lock; /* of all here, and of the descriptor's position */
    uint64_t next;        /* the offset of what comes next; where a request starts that goes on */
    uint64_t place;       /* how many came before it, from the last seek on */
    uint32_t at, end;     /* of `entries` */
    uint8_t *entries; /* NULL until the first read */
};

struct open_file {
    atomic_uint refs;
    struct open_table *table;
    int fd; /* -1 for the made-up root */
    uint64_t fh;
    uint64_t nodeid;
    bool writable;
    atomic_bool has_locks; /* something in the lock table came by this handle, or flock was used */
    struct open_dir *dir;  /* NULL for a file */
};

struct open_table {
    pthread_mutex_t lock;
    struct open_slot *slots;
    uint32_t slot_count;
    uint32_t free_head; /* slot + 1; 0: none */
    uint32_t used;      /* handles */
    atomic_uint files;  /* open_file objects, those included that are released but in use */
    uint32_t max;
};

int open_table_init(struct open_table *t, uint32_t max);
/* Safe on a zeroed table. Nobody holds a reference. */
void open_table_finish(struct open_table *t);

/*
 * Whether one more may be opened: asked before something is created or opened, so that the host keeps
 * no descriptors beyond `max`. -ENFILE.
 */
int open_table_check(struct open_table *t);

/* A new handle for `fd`, which is taken in any case. The reference is the caller's. -ENFILE, -ENOMEM.
 */
int open_add(struct open_table *t, int fd, uint64_t nodeid, bool is_dir, struct open_file **out);

/* The file behind a handle, with a reference, or NULL. */
struct open_file *open_get(struct open_table *t, uint64_t fh);
/* Whether it is a file that is open for reading, and for writing as well if `writable`. */
bool open_can_map(const struct open_file *file, bool writable);

/* Some file of this inode that can be mapped so, with a reference; NULL: none. It looks at all handles.
 */
struct open_file *open_find(struct open_table *t, uint64_t nodeid, bool writable);

/* NULL is legal. */
void open_put(struct open_file *file);

/* Take the handle away: open_get finds it no more. The caller holds a reference. False when another
 * was quicker. */
bool open_remove(struct open_table *t, struct open_file *file);

/* Take all handles away. `closed` is called for each, without a lock. */
void open_table_clear(struct open_table *t, void (*closed)(void *opaque, struct open_file *file),
                      void *opaque);

uint32_t open_table_count(struct open_table *t);

#endif
