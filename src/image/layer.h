/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_LAYER_H
#define IMAGE_LAYER_H

/*
 * Layers: file trees as tar streams (OCI image specification 1.1, layer.md). Writing makes a layer from
 * a directory or from any archive that libarchive reads; extracting turns layers back into a tree.
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

/* A layer to extract. */
struct layer_source {
    int fd;                       /* readable, seekable; borrowed */
    const struct digest *blob;    /* what its bytes must have; NULL: known to have it */
    const struct digest *diff_id; /* what its tar must have, uncompressed; NULL: whatever it has */
};

struct layer_extracted {
    int64_t newest;      /* no modification time is later, seconds */
    uint64_t long_names; /* entries whose last component has NAME_MAX bytes */
    /* lost: */
    uint64_t devices;    /* device nodes that may not be made here */
    uint64_t attributes; /* files whose extended attributes or ACLs could not be set */
};

/*
 * Extract an image's layers, lowest first, one over the other, into the working directory: an empty
 * one, which should be a chroot's root. A file of a layer replaces what had its name, whatever both
 * are; a directory over a directory replaces only owner, mode, times and attributes. Whiteouts
 * (".wh.NAME", and ".wh..wh..opq" for all of a directory) take away what lower layers have, wherever in
 * the layer they stand, and never what their own layer makes. Directories that no entry mentions are
 * root's, 0755, and as old as `epoch` (seconds), as is the root of a tree that no layer has an entry
 * for.
 *
 * Layers are tar, plain or compressed by gzip or zstd. Blob digests and diff_ids are checked over the
 * bytes that are extracted; a mismatch is -EBADMSG. The limits are those of all layers together.
 *
 * A name, whiteout or hard link behind a symbolic link is where the link leads to within the tree, its
 * root taken for "/", and in directories that are made where it leads to nothing; an entry whose own
 * name is a link's replaces the link. A whiteout takes no way by what its own layer has put in place of
 * a directory: what was below is gone with that.
 *
 * Refused: what layer_write_from_archive refuses in names, and names behind files. Messages name the
 * layer (the first is 1) and the entry.
 *
 * `whole`: run with all privileges, so that whatever cannot be kept is an error; without it devices and
 * attributes that are refused are counted in *out. Labels of the host that made the layer
 * (security.selinux), and what overlayfs would take for its own (trusted.overlay), are left out.
 */
int layer_extract(const struct layer_source *layers, size_t count, const struct layer_limits *limits,
                  int64_t epoch, bool whole, struct layer_extracted *out, struct dayfly_err *err);

/* Bring a name from an archive into the form "a/b/c", "" for the root itself, in place. Returns false
 * when it has a ".." component or is too long. */
bool layer_clean_name(char *name);

#endif
