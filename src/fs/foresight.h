/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_FORESIGHT_H
#define FS_FORESIGHT_H

/*
 * Whether the names of a directory should come with what a LOOKUP of each would say. Who goes on to
 * look at the files is then spared a request for each (`ls -l`, `rm -r`, rsync); who only wants names
 * has the host and the guest's kernel make inodes for nothing (find by name, make).
 *
 * A guest's kernel may guess by itself (FUSE_READDIRPLUS_AUTO), but it does so anew in each directory,
 * and has mostly read a directory to its end before anybody looks at the first file. The server sees
 * more: a few names of each listing, the probes, are given bare. When one is looked up, attributes are
 * wanted; when it was not by the time that its place is needed for another, they are not. The last few
 * outcomes decide.
 *
 * Limits: one guess for all of a guest's processes; directories of fewer than FORESIGHT_FIRST entries
 * teach nothing. A wrong guess costs time alone.
 *
 * Threads: any.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORESIGHT_PROBES 64
/* Probes are the entries at this place and at each four times as far back: 8, 32, 128 ... */
#define FORESIGHT_FIRST 8u
#define FORESIGHT_SURE  8

struct foresight {
    atomic_int wanted; /* from -FORESIGHT_SURE to FORESIGHT_SURE; above 0 attributes are given */
    atomic_uint_least64_t probes[FORESIGHT_PROBES]; /* digests of directory and name; 0: none */
};

/* A session begins: give attributes, until it turns out that nobody wants them. */
void foresight_init(struct foresight *f);

/* Whether the entry at `place` of a listing comes with its attributes. */
bool foresight_gives(struct foresight *f, uint64_t directory, uint64_t place, const char *name,
                     size_t name_bytes);

/* A name was looked up. */
void foresight_looked_up(struct foresight *f, uint64_t directory, const char *name, size_t name_bytes);

#endif
