/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CACHE_CACHE_IMPL_H
#define CACHE_CACHE_IMPL_H

/* Between the files of src/cache. */

#include "cache/cache.h"

#define CACHE_TREE    "tree"
#define CACHE_LOCK    ".lock"
#define CACHE_EMPTY   ".empty"
#define CACHE_WORK    ".work"
#define CACHE_CHANGES "changes" /* in a view's work: as fs/changes.h has them */
#define CACHE_NEXT    "next"    /* in a view's work: the generation that is being made */
#define CACHE_FIRST   "first"   /* and, with the first one in it, the cache */

/* "18446744073709551615-" and an id. */
#define CACHE_DIR_BYTES 64

/* Names below caches/ are given and taken under this lock. */
int caches_lock(struct caches *caches, struct dayfly_err *err);
void caches_unlock(struct caches *caches);

/* Make and lock a directory in .work, under the lock. `name` gets its name. A descriptor or -errno. */
int caches_work(struct caches *caches, char name[40], struct dayfly_err *err);
/* A name that nothing in .work has, of 40 bytes. */
int caches_work_name(char name[40], struct dayfly_err *err);

void cache_dir_name(const struct cache_generation *generation, char out[CACHE_DIR_BYTES]);
bool cache_dir_parse(const char *name, struct cache_generation *out);
/* The empty one. */
struct cache_generation cache_generation_none(void);

/* The generations of a cache, the current one first. `fd` is the cache's directory. A count or -errno;
 * the caller frees *out. */
int cache_generations(int fd, struct cache_generation **out);
/* The current one of `name`; the empty one where there is none. Under the lock. */
int cache_current(struct caches *caches, const char *name, struct cache_generation *out,
                  struct dayfly_err *err);

/* Lock a directory for itself; -EBUSY when another process uses it. A descriptor or -errno. */
int cache_claim(int dir_fd, const char *name);

/* What was claimed and moved to .work, to be removed there. */
struct cache_gone {
    int fd;
    char name[40];
};

/* Take a name away that nobody uses: -EBUSY when somebody does. Under the lock. */
int cache_move_away(struct caches *caches, int dir_fd, const char *name, struct cache_gone *gone);
/* And then, without the lock, as it may take long, what it was of. */
int cache_remove_gone(struct caches *caches, struct cache_gone *gone);

/* The names of caches, sorted. A count or -errno; the caller frees each and *out. */
int cache_names(struct caches *caches, char ***out);
void cache_free_names(char **names, int count);

/* -- merge.c ---------------------------------------------------------------------------------- */

struct merge_result {
    uint64_t left_out;
};

/* Whether an overlay's upper directory shows anything that the base does not have. 0, 1 or -errno. */
int merge_differs(int upper_fd, int base_fd);

/*
 * Build in the empty directory next_fd what the two show together: links to the base's files, and the
 * upper's, which move. All three are on one file system.
 */
int merge_trees(int upper_fd, int base_fd, int next_fd, struct merge_result *result,
                struct dayfly_err *err);

/* -- measure.c -------------------------------------------------------------------------------- */

/* What trees take on the disk. Zero-initialised is of none. */
struct measure {
    struct measure_link *links; /* of files with several names: one each time one is met */
    size_t count, room;
    uint64_t files, bytes; /* of files that were met once, and of directories */
};

/* Add a tree. 0 or -errno; what is removed meanwhile is not counted. */
int measure_tree(struct measure *measure, int dir_fd, const char *name);
/* Bytes in all, each file once; and those of them whose every name was met. */
uint64_t measure_bytes(struct measure *measure, uint64_t *own);
void measure_finish(struct measure *measure);

#endif
