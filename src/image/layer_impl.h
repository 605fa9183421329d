/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_LAYER_IMPL_H
#define IMAGE_LAYER_IMPL_H

/* What layer.c and layer_extract.c share; nobody else includes it. */

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "image/layer.h"

#define LAYER_READ_BYTES (1u << 20)

/* Work in C.UTF-8 (this thread) until the end: see layer.c. */
locale_t layer_utf8_begin(locale_t *saved);
void layer_utf8_end(locale_t utf8, locale_t saved);

/* A reader of tar archives, compressed in any usual way; not opened. */
struct archive *layer_reader_new(void);

/* Put libarchive's message behind "what: ". Returns -errno, -EINVAL where libarchive has none. */
int layer_archive_fail(struct dayfly_err *err, struct archive *a, const char *what);

struct layer_tally {
    struct layer_limits limits;
    uint64_t entries, bytes;
};

/* Count an entry and bring its names into form ("." for the root). Returns 1 when it is to be left out
 * (a socket, or something else that a file system image cannot hold). */
int layer_entry_check(struct archive_entry *entry, struct layer_tally *tally, struct dayfly_err *err);

#endif
