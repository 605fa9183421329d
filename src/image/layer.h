/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_LAYER_H
#define IMAGE_LAYER_H

/*
 * Layers: file trees as tar streams. Writing makes a layer from a directory or from any archive that
 * libarchive reads; extracting turns layers back into a tree.
 *
 * What is written is normalised, so that the same tree gives the same bytes: pax, names relative to the
 * root, numeric owners, whole-second times, no access or change times, a directory's entries sorted
 * (when made from a directory). Kept: modes, owners, modification times, hard links, symbolic links,
 * devices, FIFOs, extended attributes, ACLs. Left out: sockets, inode flags.
 *
 * An archive is hostile. A name or hard link target with a ".." component is refused; a leading "/"
 * means the image's root. Entries, bytes of content and lengths of names are bounded before anything is
 * written, and extraction happens below a chroot.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "image/digest.h"
#include "image/store.h"
#include "util/log.h"

struct layer_limits {
    uint64_t entries;
    uint64_t bytes; /* of file content, all entries together */
};

#define LAYER_LIMITS ((struct layer_limits){.entries = 4u << 20, .bytes = UINT64_C(64) << 30})

struct layer_facts {
    struct digest diff_id; /* of the uncompressed tar stream */
    uint64_t entries;
    uint64_t bytes; /* of file content */
};

/* Read an archive from fd (to its end; a pipe will do) and write it to `out`, begun and not finished by
 * the caller, as tar compressed by zstd. */
int layer_write_from_archive(int fd, const struct layer_limits *limits, struct store_file *out,
                             struct layer_facts *facts, const struct log *log, struct dayfly_err *err);

/* The same from a directory. Does not follow links nor cross into other file systems. */
int layer_write_from_dir(const char *path, const struct layer_limits *limits, struct store_file *out,
                         struct layer_facts *facts, const struct log *log, struct dayfly_err *err);

struct layer_extracted {
    int64_t newest; /* the latest modification time, seconds */
    bool has_root;  /* the layer has an entry for the root itself */
    /* lost: */
    uint64_t devices;    /* device nodes that may not be made here */
    uint64_t attributes; /* files whose extended attributes or ACLs could not be set */
};

/*
 * Extract the layer in fd (from its beginning) into the working directory, which should be a chroot's
 * root of its own. `whole`: run with all privileges, so that whatever cannot be kept is an error;
 * without it devices and attributes that are refused are counted in *out.
 */
int layer_extract(int fd, const struct layer_limits *limits, bool whole, struct layer_extracted *out,
                  struct dayfly_err *err);

/* Bring a name from an archive into the form "a/b/c", "" for the root itself, in place. Returns false
 * when it has a ".." component or is too long. */
bool layer_clean_name(char *name);

#endif
