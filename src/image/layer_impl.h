/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_LAYER_IMPL_H
#define IMAGE_LAYER_IMPL_H

/* What layer.c, layer_read.c, layer_tree.c, layer_walk.c and layer_extract.c share; nobody else
 * includes it. */

#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
#include <locale.h>

#include "image/layer.h"

#define LAYER_READ_BYTES (1u << 20)

/* Work in C.UTF-8 (this thread) until the end: see layer.c. */
locale_t layer_utf8_begin(locale_t *saved);
void layer_utf8_end(locale_t utf8, locale_t saved);

/* Put libarchive's message behind "what: ". Returns -errno, -EINVAL where libarchive has none. */
int layer_archive_fail(struct dayfly_err *err, struct archive *a, const char *what);

struct layer_tally {
    struct layer_limits limits;
    uint64_t entries, bytes;
};

/* Count an entry and bring its names into form ("." for the root). Returns 1 when it is to be left out
 * (a socket, or something else that a file system image cannot hold). */
int layer_entry_check(struct archive_entry *entry, struct layer_tally *tally, struct dayfly_err *err);

/* As much of a name as a message can bear. */
#define LAYER_NAME_CUT "%.60s"

/* ---- layer_read.c: the tar of a layer, proved by its digests while it is read ---- */

struct layer_reader {
    struct archive *tar; /* to read the entries from */
    const struct layer_source *source;
    struct archive *unpack;
    struct hasher blob, diff;
    uint64_t tar_bytes, tar_max; /* uncompressed, headers and padding included */
    char *buffer;
};

/* Begin at the source's first byte, whatever was read before. layer_reader_free it, also on failure. */
int layer_reader_open(struct layer_reader *reader, const struct layer_source *source,
                      const struct layer_limits *limits, struct dayfly_err *err);

/* When there are no more entries: read what is behind them and compare the digests. */
int layer_reader_check(struct layer_reader *reader, struct dayfly_err *err);

/* When something failed: was the blob not what it should be? Then that is the reason: *err is replaced.
 * Returns the code of *err, or rc. */
int layer_reader_blame(struct layer_reader *reader, int rc, struct dayfly_err *err);

void layer_reader_free(struct layer_reader *reader);

/* ---- layer_tree.c: names in the tree that layers are extracted to ---- */

/* Directories and their times, to be set when nothing is made in them any more; in the order in which
 * they were said, for the last one counts. */
struct layer_dirs {
    struct layer_dir *items;
    size_t count, room, bytes;
};

/* A directory of the tree. */
struct layer_place {
    int fd;              /* readable from its first entry on; -1: none */
    char path[PATH_MAX]; /* its name, which leads through no link; "" for the root */
};

struct layer_tree {
    int root_fd; /* the working directory */
    int64_t epoch;
    struct layer_dirs dirs;
    /* The directory of the entry before, which most entries share, and what the entry called it. */
    char *parent; /* NULL: none is kept */
    struct layer_place place;
    /* What the layer at hand has made: its names and their parents. */
    void *made;
    size_t made_bytes;
    /* Called before a directory goes that the layer at hand has made: whatever is to be done to
     * directories by their names is done now, while these are theirs. */
    int (*before_dir_goes)(void *opaque, struct dayfly_err *err);
    void *opaque;
};

int layer_tree_begin(struct layer_tree *tree, int64_t epoch, struct dayfly_err *err);
/* Forget what the layer at hand has made. */
void layer_tree_next_layer(struct layer_tree *tree);
void layer_tree_set_times(struct layer_tree *tree);
void layer_tree_finish(struct layer_tree *tree); /* safe on a zeroed one */

/* Note a directory's modification time. */
int layer_tree_add_dir(struct layer_tree *tree, const char *name, struct timespec mtime,
                       struct dayfly_err *err);

/* Has the layer at hand made this, by its name through no link? */
bool layer_tree_has_made(const struct layer_tree *tree, const char *path);

/* Make room for an entry: its parents exist, and nothing but a directory that it may be laid over has
 * its name. Its names, the hard link's too, become such that lead through no link. Returns 1 when it is
 * a hard link that is there already. */
int layer_tree_make_room(struct layer_tree *tree, struct archive_entry *entry, struct dayfly_err *err);

/* True when the entry is a whiteout, or another of aufs's own names (".wh."): not a file of the image.
 */
bool layer_is_whiteout(const char *name);
int layer_tree_whiteout(struct layer_tree *tree, const char *name, struct dayfly_err *err);

/* ---- layer_walk.c: from names to directories ---- */

enum layer_walk {
    LAYER_WALK_LOOK,     /* follow links */
    LAYER_WALK_MAKE,     /* and make what is missing */
    LAYER_WALK_LOWER,    /* follow those of the layers below, for a whiteout */
    LAYER_WALK_STRAIGHT, /* follow none */
};

/*
 * The directory that the first `len` bytes of an entry's name lead to. The caller closes out->fd.
 * -ENOENT and no message when it is missing, and for LAYER_WALK_LOWER also when the layer at hand has
 * put a link or a file in the way: then all that was below is gone.
 */
int layer_walk(struct layer_tree *tree, const char *name, size_t len, enum layer_walk how,
               struct layer_place *out, struct dayfly_err *err);

#endif
