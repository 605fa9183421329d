/* SPDX-License-Identifier: Apache-2.0 */
#include "image/deb.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/layer.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/late.h"

#define BLOCK_BYTES (64u << 10)

static int archive_fail(struct dayfly_err *err, struct archive *a, const char *what)
{
    int code = archive_errno(a);
    const char *text = archive_error_string(a);
    return err_set(err, code > 0 ? code : EBADMSG, "%s: %s", what, text ? text : "damaged");
}

static void add_filters(struct archive *a)
{
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_gzip(a);
}

ssize_t deb_file_read(struct deb_file *file, void *buf, size_t len, struct dayfly_err *err)
{
    la_ssize_t n = archive_read_data(file->archive, buf, len);
    return n < 0 ? archive_fail(err, file->archive, "the package's data") : n;
}

/* ---- the inner archive reads from the outer one's member ---- */

struct member {
    struct archive *outer;
    char block[BLOCK_BYTES];
};

static la_ssize_t read_member(struct archive *inner, void *opaque, const void **data)
{
    struct member *member = opaque;
    la_ssize_t n = archive_read_data(member->outer, member->block, sizeof(member->block));
    if (n < 0)
        archive_set_error(inner, archive_errno(member->outer), "%s",
                          archive_error_string(member->outer));
    *data = member->block;
    return n < 0 ? -1 : n;
}

static int visit_entries(struct archive *inner, deb_visit_fn *visit, void *opaque,
                         struct dayfly_err *err)
{
    struct archive_entry *entry;
    uint64_t total = 0;
    for (unsigned count = 0;; count++) {
        int rc = archive_read_next_header(inner, &entry);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc < ARCHIVE_WARN)
            return archive_fail(err, inner, "the package's data");
        if (count == DEB_MAX_ENTRIES)
            return err_set(err, EFBIG, "the package has more than %u files", DEB_MAX_ENTRIES);
        const char *raw = archive_entry_pathname(entry);
        if (!raw || archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
            continue;
        int64_t size = archive_entry_size(entry);
        if (size < 0 || add_overflows(total, (uint64_t)size, &total) || total > DEB_MAX_BYTES)
            return err_set(err, EFBIG, "the package's files are larger than %llu GiB together",
                           (unsigned long long)(DEB_MAX_BYTES >> 30));
        _cleanup_free_ char *path = strdup(raw);
        if (!path)
            return err_errno(err, ENOMEM, "package");
        if (!layer_clean_name(path) || !path[0])
            return err_set(err, EINVAL, "refused: the package holds a file named \"%.100s\"", raw);
        struct deb_file file = {.path = path, .size = (uint64_t)size, .archive = inner};
        rc = visit(opaque, &file, err);
        if (rc)
            return rc;
    }
}

static int read_data(struct archive *outer, deb_visit_fn *visit, void *opaque, struct dayfly_err *err)
{
    _cleanup_free_ struct member *member = malloc(sizeof(*member));
    struct archive *inner = archive_read_new();
    int rc;
    if (!member || !inner) {
        rc = err_errno(err, ENOMEM, "package");
    } else {
        member->outer = outer;
        add_filters(inner);
        archive_read_support_format_tar(inner);
        rc = archive_read_open(inner, member, NULL, read_member, NULL)
                 ? archive_fail(err, inner, "the package's data")
                 : visit_entries(inner, visit, opaque, err);
    }
    if (inner)
        archive_read_free(inner);
    return rc;
}

int deb_read(int fd, deb_visit_fn *visit, void *opaque, struct dayfly_err *err)
{
    int rc = late_archive(err), got;
    if (rc < 0)
        return rc;
    struct archive *outer = archive_read_new();
    struct archive_entry *entry;
    if (!outer)
        return err_errno(err, ENOMEM, "package");
    archive_read_support_format_ar(outer);
    if (archive_read_open_fd(outer, fd, BLOCK_BYTES)) {
        archive_read_free(outer);
        return err_set(err, EBADMSG, "not a Debian package (no ar archive); give a linux-image-*.deb");
    }
    while ((got = archive_read_next_header(outer, &entry)) == ARCHIVE_OK || got == ARCHIVE_WARN) {
        const char *name = archive_entry_pathname(entry);
        if (name && !strncmp(name, "data.tar", 8)) {
            rc = read_data(outer, visit, opaque, err);
            goto out;
        }
    }
    rc = got == ARCHIVE_EOF
             ? err_set(err, EBADMSG,
                       "not a Debian package (no data.tar in it); give a linux-image-*.deb")
             : archive_fail(err, outer, "the package");
out:
    archive_read_free(outer);
    return rc;
}

int deb_decompress(const void *data, size_t len, size_t max, void **out, size_t *out_len,
                   struct dayfly_err *err)
{
    int rc = late_archive(err);
    if (rc < 0)
        return rc;
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    _cleanup_free_ char *buf = NULL;
    size_t used = 0, room = 0;
    if (!a)
        return err_errno(err, ENOMEM, "decompression");
    add_filters(a);
    archive_read_support_format_raw(a);
    if (archive_read_open_memory(a, data, len) || archive_read_next_header(a, &entry))
        rc = archive_fail(err, a, "decompression");
    while (!rc) {
        if (room - used < BLOCK_BYTES) {
            size_t bigger = room ? 2 * room : 4 * BLOCK_BYTES;
            char *moved = realloc(buf, bigger);
            if (!moved) {
                rc = err_errno(err, ENOMEM, "decompression");
                break;
            }
            buf = moved;
            room = bigger;
        }
        la_ssize_t n = archive_read_data(a, buf + used, room - used);
        if (n < 0)
            rc = archive_fail(err, a, "decompression");
        if (n <= 0)
            break;
        used += (size_t)n;
        if (used > max)
            rc = err_set(err, EFBIG, "decompressed it is larger than %zu bytes", max);
    }
    archive_read_free(a);
    if (rc)
        return rc;
    *out = steal_ptr(&buf);
    *out_len = used;
    return 0;
}
