/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TESTING_INODE_H
#define FS_TESTING_INODE_H

/*
 * A shared directory for tests of inode.h, on several file systems of the host, by name (squash) and by
 * handle (identity, which needs root). The test is both the host, which changes the directory behind
 * the table's back (host_*), and the guest, which knows node ids.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/inode.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

#define ROOT 1 /* FUSE_ROOT_ID */

enum place { PLACE_DISK, PLACE_TMPFS, PLACE_OVERLAY };

struct variant {
    const char *name;
    enum place place;
    enum fs_idmap_kind kind;
};

#define VARIANTS 5
extern const struct variant variants[VARIANTS];

struct fixture {
    const struct variant *variant;
    struct fs_options options;
    struct fs_directory directories[3];
    struct inode_table *table;
    char base[64];   /* all of the test's files */
    char share[128]; /* what is shared */
    int dir;         /* the same, open */
};

/* begin skips the test where the variant cannot be had. */
void begin(struct fixture *f, const struct variant *v, struct fs_options options);
void end(struct fixture *f);

/* Mounts from here on are this process's own. False: not allowed. */
bool private_mounts(void);

void host_write(struct fixture *f, const char *path, const char *text);
void host_mkdir(struct fixture *f, const char *path);
void host_rename(struct fixture *f, const char *from, const char *to);
void host_unlink(struct fixture *f, const char *path);
struct statx host_stat(struct fixture *f, const char *path);

/* One look-up. */
int look_in(struct fixture *f, uint64_t dir, const char *name, uint64_t *nodeid);
/* As a guest's kernel walks, with a look-up of each directory. 0: there is none. */
uint64_t look(struct fixture *f, const char *path);
int stat_node(struct fixture *f, uint64_t nodeid, struct statx *stx);
/* Open by node id. Returns the file's size, or -errno. */
int64_t size_of(struct fixture *f, uint64_t nodeid);
void guest_open(struct fixture *f, uint64_t nodeid);
int guest_unlink(struct fixture *f, uint64_t dir, const char *name, int flags);
void guest_rename(struct fixture *f, uint64_t from, const char *from_name, uint64_t to,
                  const char *to_name, unsigned flags);

struct fs_stats stats(struct fixture *f);

/* Close every idle descriptor, by looking at as many other files. Needs fds_max FDS_FEW. */
#define FDS_FEW 16
void drop_cache(struct fixture *f);

/* Forget all of the tree but what is still in use, and say how many inodes are left: the root alone,
 * unless something leaks. */
uint32_t forget_all(struct fixture *f);

unsigned open_descriptors(void);

/* Runs each case with each variant. */
struct variant_case {
    const char *name;
    void (*run)(const struct variant *v);
};
int run_cases(const char *group, const struct variant_case *cases, size_t count);

#endif
