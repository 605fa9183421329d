/* SPDX-License-Identifier: Apache-2.0 */
/* Layers back into a tree: layer.h's other half. libarchive makes the files; what has to be so before
 * it does is layer_tree.c's, where the bytes come from layer_read.c's. */
#include "image/layer_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/late.h"

struct extraction {
    struct layer_tree tree;
    struct layer_tally tally;
    bool whole;
    struct layer_extracted *out;
    /* of the layer at hand */
    struct layer_reader reader;
    struct archive *disk;
};

static int extract_content(struct extraction *x, const char *name, struct dayfly_err *err)
{
    const void *data;
    size_t len;
    la_int64_t offset;
    int rc;
    while ((rc = archive_read_data_block(x->reader.tar, &data, &len, &offset)) == ARCHIVE_OK) {
        if (archive_write_data_block(x->disk, data, len, offset) < ARCHIVE_WARN)
            return layer_archive_fail(err, x->disk, name);
    }
    return rc == ARCHIVE_EOF ? 0 : layer_archive_fail(err, x->reader.tar, name);
}

static bool is_refusal(int code)
{
    return code == EPERM || code == EACCES || code == EOPNOTSUPP;
}

/* ---- extended attributes ---- */

static bool is_foreign(const char *xattr)
{
    return !strcmp(xattr, "security.selinux") || !strcmp(xattr, "system.nfs4_acl") ||
           !strncmp(xattr, "trusted.overlay.", 16);
}

static bool is_acl(const char *xattr)
{
    return !strcmp(xattr, "system.posix_acl_access") || !strcmp(xattr, "system.posix_acl_default");
}

/* Take the foreign attributes out of the entry. libarchive cannot remove one, so the others are added
 * again to an empty list. */
static int drop_foreign(struct archive_entry *entry, struct dayfly_err *err)
{
    const char *name;
    const void *value;
    size_t size;
    bool any = false;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK)
        any |= is_foreign(name);
    if (!any)
        return 0;
    struct archive_entry *copy = archive_entry_clone(entry);
    if (!copy)
        return err_errno(err, ENOMEM, "layer");
    archive_entry_xattr_clear(entry);
    archive_entry_xattr_reset(copy);
    while (archive_entry_xattr_next(copy, &name, &value, &size) == ARCHIVE_OK) {
        if (!is_foreign(name))
            archive_entry_xattr_add_entry(entry, name, value, size);
    }
    archive_entry_free(copy);
    return 0;
}

/* Some tools write ACLs as the attributes that the kernel keeps them in. libarchive passes those over.
 * Returns 0, 1 when one was refused, or -errno. */
static int set_raw_acls(struct archive_entry *entry)
{
    const char *name;
    const void *value;
    size_t size;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
        if (is_acl(name) && lsetxattr(archive_entry_pathname(entry), name, value, size, 0) < 0)
            return is_refusal(errno) ? 1 : -errno;
    }
    return 0;
}

/* ---- entries ---- */

static int extract_entry(struct extraction *x, struct archive_entry *entry, struct dayfly_err *err)
{
    bool link = archive_entry_hardlink(entry) != NULL;
    mode_t type = archive_entry_filetype(entry);
    int rc = drop_foreign(entry, err);
    if (!rc)
        rc = layer_tree_make_room(&x->tree, entry, err);
    if (rc)
        return rc < 0 ? rc : 0;
    const char *name = archive_entry_pathname(entry);
    if (!x->whole && !link && (type == AE_IFCHR || type == AE_IFBLK)) {
        x->out->devices++;
        return 0;
    }
    const char *base = strrchr(name, '/');
    x->out->long_names += strlen(base ? base + 1 : name) == NAME_MAX;
    /* A time between two seconds is not later than the second one. */
    if (!link)
        x->out->newest = MAX(x->out->newest, (int64_t)archive_entry_mtime(entry) +
                                                 (archive_entry_mtime_nsec(entry) > 0));
    bool warned = false;
    rc = archive_write_header(x->disk, entry);
    warned |= rc == ARCHIVE_WARN;
    if (rc < ARCHIVE_WARN)
        return layer_archive_fail(err, x->disk, name);
    if (archive_entry_size(entry) > 0) {
        rc = extract_content(x, name, err);
        if (rc)
            return rc;
    }
    rc = archive_write_finish_entry(x->disk);
    warned |= rc == ARCHIVE_WARN;
    if (rc < ARCHIVE_WARN || (warned && (x->whole || !is_refusal(archive_errno(x->disk)))))
        return layer_archive_fail(err, x->disk, name);
    rc = link ? 0 : set_raw_acls(entry);
    if (rc < 0 || (rc > 0 && x->whole))
        return err_errno(err, rc < 0 ? -rc : EPERM, "\"" LAYER_NAME_CUT "\": cannot set its ACL", name);
    x->out->attributes += warned || rc > 0;
    if (type != AE_IFDIR || link)
        return 0;
    const struct timespec mtime = {.tv_sec = archive_entry_mtime(entry),
                                   .tv_nsec = archive_entry_mtime_nsec(entry)};
    return layer_tree_add_dir(&x->tree, name, mtime, err);
}

static int extract_entries(struct extraction *x, struct dayfly_err *err)
{
    for (;;) {
        struct archive_entry *entry;
        int rc = archive_read_next_header(x->reader.tar, &entry);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc < ARCHIVE_WARN)
            return layer_archive_fail(err, x->reader.tar, "not a whole tar archive");
        rc = layer_entry_check(entry, &x->tally, err);
        if (rc == 0)
            rc = layer_is_whiteout(archive_entry_pathname(entry))
                     ? layer_tree_whiteout(&x->tree, archive_entry_pathname(entry), err)
                     : extract_entry(x, entry, err);
        if (rc < 0)
            return rc;
    }
}

/* ---- layers ---- */

static int begin_disk(struct extraction *x, struct dayfly_err *err)
{
    int rc = late_archive(err);
    if (rc < 0)
        return rc;
    x->disk = archive_write_disk_new();
    if (!x->disk)
        return err_errno(err, ENOMEM, "layer");
    if (archive_write_disk_set_options(
            x->disk, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                         ARCHIVE_EXTRACT_ACL | ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_SPARSE |
                         ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                         ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS))
        return layer_archive_fail(err, x->disk, "layer");
    return 0;
}

/* libarchive gives directories their modes and times at the end, by name and following links on the
 * way: a directory that became a link until then would lead it elsewhere. */
static int finish_dirs(void *opaque, struct dayfly_err *err)
{
    struct extraction *x = opaque;
    if (archive_write_close(x->disk) < ARCHIVE_WARN)
        return layer_archive_fail(err, x->disk, "directories");
    archive_write_free(x->disk);
    x->disk = NULL;
    return begin_disk(x, err);
}

static int extract_layer(struct extraction *x, const struct layer_source *source,
                         struct dayfly_err *err)
{
    int rc = begin_disk(x, err);
    if (!rc)
        rc = layer_reader_open(&x->reader, source, &x->tally.limits, err);
    if (!rc)
        rc = extract_entries(x, err);
    if (!rc)
        rc = layer_reader_check(&x->reader, err);
    else
        rc = layer_reader_blame(&x->reader, rc, err);
    /* Directories get their modes here. */
    if (!rc && archive_write_close(x->disk) < ARCHIVE_WARN)
        rc = layer_archive_fail(err, x->disk, "directories");
    layer_reader_free(&x->reader);
    if (x->disk)
        archive_write_free(x->disk);
    x->disk = NULL;
    layer_tree_next_layer(&x->tree);
    return rc;
}

int layer_extract(const struct layer_source *layers, size_t count, const struct layer_limits *limits,
                  int64_t epoch, bool whole, struct layer_extracted *out, struct dayfly_err *err)
{
    locale_t saved, utf8 = layer_utf8_begin(&saved);
    struct extraction x = {.tally.limits = *limits, .whole = whole, .out = out};
    *out = (struct layer_extracted){.newest = epoch};
    int rc = layer_tree_begin(&x.tree, epoch, err);
    x.tree.before_dir_goes = finish_dirs;
    x.tree.opaque = &x;
    for (size_t i = 0; !rc && i < count; i++) {
        rc = extract_layer(&x, &layers[i], err);
        char name[DIGEST_STR_BYTES] = "";
        if (rc && layers[i].blob)
            digest_str(layers[i].blob, name);
        if (rc)
            err_wrap(err, "layer %zu of %zu%s%.19s", i + 1, count, name[0] ? ", " : "", name);
    }
    if (!rc)
        layer_tree_set_times(&x.tree);
    layer_tree_finish(&x.tree);
    layer_utf8_end(utf8, saved);
    return rc;
}
