/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

/*
 * Caches: trees of files with a name, which a job finds and which it may leave changed for the next
 * one. A cache is a row of generations. A generation never changes once it is there: a job sees one as
 * it is (read-only), or a copy-on-write view of it (fs/cow.h), and a view becomes a generation of its
 * own, or nothing.
 *
 *     caches/.lock              locked (flock) for moments: by whoever gives or takes a name below
 *     caches/.empty/tree/       generation 0 of every cache, which has no files
 *     caches/.work/RANDOM/      a view's changes and what is made of them, or what is to be removed;
 *                               locked by the process that it is of, hence debris when it is not
 *     caches/NAME/N-ID/         generation N, from 1; locked (shared) by each process that uses it
 *     caches/NAME/N-ID/tree/    its files
 *
 * The generation of the highest number is the current one. It appears by one rename, when all of it is
 * on the disk; so at any moment each NAME/N-ID is whole, whoever is killed, and everything else lies in
 * .work, which whoever comes next cleans. ID is drawn at random when a generation is made: since none
 * ever changes, the same ID is the same tree.
 *
 * Unchanged files are hard links into the generation before: a new generation costs what was changed,
 * and a directory entry for the rest. That is safe because nothing writes below a generation:
 * overlayfs writes to its upper layer only, read-only shares are held to on the host, and what a
 * promotion changes of a file (owner, mode, attributes) it changes in the view's own files alone.
 *
 * Of a view, promotion keeps regular files (hard links among the changed ones included), directories
 * and symbolic links; sockets, pipes and devices are left out and counted. Owner and group become
 * those of the data directory's user, set-id bits are cleared, extended attributes (and with them ACLs
 * and file capabilities) removed, directories made readable for their owner. Names are any bytes; links
 * are never followed. Limits: CACHE_DEPTH_MAX, CACHE_ENTRIES_MAX.
 *
 * A `struct caches` is used by one thread; any number of processes may work on one directory.
 */

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "util/sweep.h"

#define CACHE_NAME_BYTES  65 /* with its NUL */
#define CACHE_ID_BYTES    33
#define CACHE_DEPTH_MAX   128      /* directories within directories */
#define CACHE_ENTRIES_MAX 4000000u /* files and directories of a generation */
#define CACHE_KEPT        2        /* generations that stay when nobody uses them: one to go back to */

struct caches {
    char path[PATH_MAX];
    int fd, work_fd, lock_fd;
};
#define CACHES_INIT                                                                                    \
    {                                                                                                  \
        .fd = -1, .work_fd = -1, .lock_fd = -1                                                         \
    }

/* Open (and make) the caches of `home` (NULL: the user's data directory), and remove what killed
 * processes left in .work. 0 or -errno. */
int caches_open(struct caches *caches, const char *home, struct dayfly_err *err);
void caches_close(struct caches *caches); /* safe on CACHES_INIT and twice */

/* Only that, and told of, in the user's data directory. */
int caches_sweep(const struct sweep *sweep, struct dayfly_err *err);

/* A letter or digit, then up to 63 of these and "._-". */
bool cache_name_is_valid(const char *name);

struct cache_generation {
    uint64_t number; /* 0: the empty one, whose id is all zeroes */
    char id[CACHE_ID_BYTES];
};

/* -- views ------------------------------------------------------------------------------------ */

/* A generation in use. */
struct cache_view {
    char name[CACHE_NAME_BYTES];
    struct cache_generation base;
    int base_fd;   /* holds the shared lock */
    char *tree;    /* the path of its files, absolute */
    int work_fd;   /* -1: changes are nobody's to keep */
    char work[40]; /* its name in .work */
    char *changes; /* where a copy-on-write mount is to keep them, for cow_options; NULL: nowhere */
};
#define CACHE_VIEW_INIT                                                                                \
    {                                                                                                  \
        .base_fd = -1, .work_fd = -1                                                                   \
    }

/*
 * Use the current generation of `name`, generation 0 where there is none: that makes nothing on the
 * disk. `keep`: give it a directory for changes, which cache_view_promote may make a generation of.
 */
int cache_view_open(struct caches *caches, const char *name, bool keep, struct cache_view *out,
                    struct dayfly_err *err);

/* The generation may go, and what was not promoted goes. Safe on CACHE_VIEW_INIT and twice. */
void cache_view_close(struct caches *caches, struct cache_view *view);

enum cache_outcome {
    CACHE_PROMOTED,
    CACHE_UNCHANGED,  /* nothing was written: the generation stays the current one */
    CACHE_SUPERSEDED, /* another has become current meanwhile: what was made from an older one is
                         dropped, or it would take back what the other brought */
};

struct cache_promotion {
    enum cache_outcome outcome;
    struct cache_generation made; /* CACHE_PROMOTED */
    uint64_t left_out;            /* sockets, pipes, devices */
};

/*
 * Make the next generation of what was written to the view; nobody may write to it any more. On
 * failure (a full disk, limits) nothing has changed. Older generations than CACHE_KEPT go, unless they
 * are in use.
 */
int cache_view_promote(struct caches *caches, struct cache_view *view, struct cache_promotion *out,
                       struct dayfly_err *err);

/* -- housekeeping ----------------------------------------------------------------------------- */

/*
 * [{name, generation, id, generations, bytes, used}], sorted by name; bytes are those on the disk, each
 * file counted once, `used` is a time ("2026-01-02T03:04:05Z"). NULL: err says why.
 */
json_t *cache_list(struct caches *caches, struct dayfly_err *err);

/* {name, bytes, generations: [{generation, id, current, in_use, made, used, path, files, bytes,
 * own_bytes}]}, the current one first; own_bytes are those that are free when it is removed. */
json_t *cache_describe(struct caches *caches, const char *name, struct dayfly_err *err);

/* Remove NAME, or NAME@N alone: then the one before is current again. -EBUSY when a job uses it. */
int cache_remove(struct caches *caches, const char *what, struct dayfly_err *err);

struct cache_sweep_options {
    bool by_age; /* also remove caches that no job used for so long, whole */
    uint64_t older_than_ns;
    bool dry_run; /* say it, do nothing */
    /* Told of each generation that goes (0: all of the cache), and of what that makes free. May be
     * NULL. */
    void (*tell)(void *opaque, const char *name, uint64_t generation, uint64_t freed_bytes);
    void *opaque;
};

struct cache_sweep_result {
    unsigned generations;             /* that went */
    uint64_t freed_bytes, kept_bytes; /* of caches */
};

/* Remove all generations but the current ones and those in use. (What killed processes left went when
 * `caches` was opened.) */
int cache_sweep(struct caches *caches, const struct cache_sweep_options *options,
                struct cache_sweep_result *result, struct dayfly_err *err);

#endif
