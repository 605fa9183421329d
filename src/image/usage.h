/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_USAGE_H
#define IMAGE_USAGE_H

/* Who needs how much of the store: files that several images have in common are counted once. */

#include "image/store.h"

/* A file that a name leads to. */
struct usage_use {
    struct digest digest; /* of a blob; of the manifest, for its root */
    bool is_root;
    uint64_t bytes;
    size_t entry;
};

struct usage {
    const struct store_entry *entries; /* borrowed */
    size_t count;
    struct usage_use *uses; /* sorted by file */
    size_t use_count, room;
};

/* Look at all that the entries (store_entries) lead to. What is missing or damaged counts for nothing.
 * The lock is held. usage_finish it, also on failure. */
int usage_read(struct usage *usage, struct store *store, const struct store_entry *entries,
               size_t count, struct dayfly_err *err);
void usage_finish(struct usage *usage);

/* Of one entry: what would be free if its name went, and what other names need as well. */
void usage_of(const struct usage *usage, size_t entry, uint64_t *own, uint64_t *shared);

/* What all entries take together, those left out for which gone[entry] is set. */
uint64_t usage_total(const struct usage *usage, const bool *gone);

#endif
