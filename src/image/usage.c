/* SPDX-License-Identifier: Apache-2.0 */
#include "image/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image/image_impl.h"
#include "util/err.h"

static uint64_t size_of(int dir_fd, const char *name)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_size : 0;
}

static int add(struct usage *usage, const struct digest *digest, bool is_root, uint64_t bytes,
               size_t entry)
{
    if (usage->use_count == usage->room) {
        size_t room = usage->room ? 2 * usage->room : 64;
        struct usage_use *bigger = realloc(usage->uses, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        usage->uses = bigger;
        usage->room = room;
    }
    usage->uses[usage->use_count++] =
        (struct usage_use){.digest = *digest, .is_root = is_root, .bytes = bytes, .entry = entry};
    return 0;
}

static int add_blob(struct usage *usage, struct store *store, const struct digest *digest, size_t entry)
{
    char hex[DIGEST_HEX_BYTES];
    return add(usage, digest, false, size_of(store->blobs_fd, digest_hex(digest, hex)), entry);
}

static int add_entry(struct usage *usage, struct store *store, size_t i)
{
    const struct store_entry *entry = &usage->entries[i];
    struct oci_manifest manifest;
    char root[STORE_ROOT_NAME_BYTES];
    int rc = add_blob(usage, store, &entry->manifest, i);
    if (!rc)
        rc = add(usage, &entry->manifest, true,
                 size_of(store->roots_fd, store_root_name(&entry->manifest, root)), i);
    if (rc || image_read_manifest(store, entry, &manifest, NULL))
        return rc;
    rc = add_blob(usage, store, &manifest.config.digest, i);
    for (size_t layer = 0; !rc && layer < manifest.layer_count; layer++)
        rc = add_blob(usage, store, &manifest.layers[layer].digest, i);
    oci_manifest_finish(&manifest);
    return rc;
}

static bool same_file(const struct usage_use *a, const struct usage_use *b)
{
    return a->is_root == b->is_root && digest_equal(&a->digest, &b->digest);
}

static int by_file(const void *a, const void *b)
{
    const struct usage_use *x = a, *y = b;
    int order = memcmp(&x->digest, &y->digest, sizeof(x->digest));
    if (!order)
        order = x->is_root - y->is_root;
    return order ? order : (x->entry > y->entry) - (x->entry < y->entry);
}

int usage_read(struct usage *usage, struct store *store, const struct store_entry *entries,
               size_t count, struct dayfly_err *err)
{
    int rc = 0;
    *usage = (struct usage){.entries = entries, .count = count};
    for (size_t i = 0; !rc && i < count; i++)
        rc = add_entry(usage, store, i);
    if (rc)
        return err_errno(err, -rc, "images");
    if (usage->use_count)
        qsort(usage->uses, usage->use_count, sizeof(*usage->uses), by_file);
    return 0;
}

void usage_finish(struct usage *usage)
{
    free(usage->uses);
    *usage = (struct usage){0};
}

/* Where the next file begins. An image may have one layer twice: *others tells whether another entry
 * than `entry` is among the uses. */
static size_t next_file(const struct usage *usage, size_t from, size_t entry, bool *mine, bool *others)
{
    size_t i = from;
    *mine = *others = false;
    for (; i < usage->use_count && same_file(&usage->uses[i], &usage->uses[from]); i++) {
        *mine |= usage->uses[i].entry == entry;
        *others |= usage->uses[i].entry != entry;
    }
    return i;
}

void usage_of(const struct usage *usage, size_t entry, uint64_t *own, uint64_t *shared)
{
    *own = *shared = 0;
    for (size_t i = 0; i < usage->use_count;) {
        bool mine, others;
        size_t next = next_file(usage, i, entry, &mine, &others);
        if (mine)
            *(others ? shared : own) += usage->uses[i].bytes;
        i = next;
    }
}

uint64_t usage_total(const struct usage *usage, const bool *gone)
{
    uint64_t total = 0;
    bool counted = false;
    for (size_t i = 0; i < usage->use_count; i++) {
        if (i && !same_file(&usage->uses[i], &usage->uses[i - 1]))
            counted = false;
        if (!counted && !gone[usage->uses[i].entry]) {
            total += usage->uses[i].bytes;
            counted = true;
        }
    }
    return total;
}
