/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer's bytes on their way to its entries:
 *
 *     fd -> blob digest -> gzip, zstd or nothing -> diff_id -> tar
 *
 * Two libarchive readers, the first of which only decompresses, because there is no place within one
 * where the uncompressed stream can be seen. Nothing is copied between them.
 *
 * The compression is told by its magic number, not by the media type, which registries and tools are
 * known to get wrong. That is safe here: only one reading can have the diff_id.
 */
#include "image/layer_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/err.h"
#include "util/late.h"

/* A file's headers: ustar, pax header and its records, padding. */
#define HEADERS_BYTES 4096

static la_ssize_t read_blob(struct archive *a, void *opaque, const void **data)
{
    struct layer_reader *r = opaque;
    ssize_t n;
    do
        n = read(r->source->fd, r->buffer, LAYER_READ_BYTES);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        archive_set_error(a, errno, "cannot be read");
    else
        hasher_add(&r->blob, r->buffer, (size_t)n);
    *data = r->buffer;
    return n;
}

static la_ssize_t read_tar(struct archive *a, void *opaque, const void **data)
{
    struct layer_reader *r = opaque;
    size_t len = 0;
    la_int64_t offset;
    int rc;
    /* An empty block would be the end. */
    do
        rc = archive_read_data_block(r->unpack, data, &len, &offset);
    while (rc == ARCHIVE_OK && !len);
    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc < ARCHIVE_WARN) {
        archive_set_error(a, archive_errno(r->unpack), "%s", archive_error_string(r->unpack));
        return -1;
    }
    if (add_overflows(r->tar_bytes, len, &r->tar_bytes) || r->tar_bytes > r->tar_max) {
        archive_set_error(a, EFBIG, "refused: it unpacks to more than %llu GiB",
                          (unsigned long long)(r->tar_max >> 30));
        return -1;
    }
    hasher_add(&r->diff, *data, len);
    return (la_ssize_t)len;
}

int layer_reader_open(struct layer_reader *r, const struct layer_source *source,
                      const struct layer_limits *limits, struct dayfly_err *err)
{
    struct archive_entry *entry;
    uint64_t headers;
    *r = (struct layer_reader){.source = source};
    if (mul_overflows(limits->entries, HEADERS_BYTES, &headers) ||
        add_overflows(limits->bytes, headers, &r->tar_max))
        r->tar_max = UINT64_MAX;
    int rc = late_archive(err);
    if (rc < 0)
        return rc;
    r->buffer = malloc(LAYER_READ_BYTES);
    r->unpack = archive_read_new();
    r->tar = archive_read_new();
    if (!r->buffer || !r->unpack || !r->tar)
        return err_errno(err, ENOMEM, "layer");
    hasher_begin(&r->blob);
    hasher_begin(&r->diff);
    if (lseek(source->fd, 0, SEEK_SET) < 0)
        return err_errno(err, errno, "cannot be read");
    archive_read_support_filter_gzip(r->unpack);
    archive_read_support_filter_zstd(r->unpack);
    archive_read_support_format_raw(r->unpack);
    if (archive_read_open(r->unpack, r, NULL, read_blob, NULL) ||
        archive_read_next_header(r->unpack, &entry))
        return layer_archive_fail(err, r->unpack, "not a tar archive, plain or by gzip or zstd");
    archive_read_support_format_tar(r->tar);
    if (archive_read_open(r->tar, r, NULL, read_tar, NULL))
        return layer_archive_fail(err, r->tar, "not a tar archive, plain or by gzip or zstd");
    return 0;
}

/* Take what nobody has asked for, so that the digest is that of all of it. */
static int drain_blob(struct layer_reader *r)
{
    const void *data;
    la_ssize_t n;
    while ((n = read_blob(r->unpack, r, &data)) > 0)
        ;
    return n < 0 ? -EIO : 0;
}

static bool blob_is_another(struct layer_reader *r)
{
    struct digest found;
    if (!r->tar || !r->source->blob || drain_blob(r) < 0)
        return false;
    hasher_digest(&r->blob, &found);
    return !digest_equal(&found, r->source->blob);
}

static int other_blob(struct dayfly_err *err)
{
    return err_set(err, EBADMSG, "damaged: its content has another digest");
}

int layer_reader_check(struct layer_reader *r, struct dayfly_err *err)
{
    const void *data;
    la_ssize_t n;
    struct digest found;
    char text[DIGEST_STR_BYTES];
    while ((n = read_tar(r->tar, r, &data)) > 0)
        ;
    if (n < 0)
        return layer_archive_fail(err, r->tar, "behind the last entry");
    if (blob_is_another(r))
        return other_blob(err);
    hasher_digest(&r->diff, &found);
    if (r->source->diff_id && !digest_equal(&found, r->source->diff_id))
        return err_set(err, EBADMSG, "refused: it does not unpack to %s, as the image's config says",
                       digest_str(r->source->diff_id, text));
    return 0;
}

int layer_reader_blame(struct layer_reader *r, int rc, struct dayfly_err *err)
{
    return blob_is_another(r) ? other_blob(err) : rc;
}

void layer_reader_free(struct layer_reader *r)
{
    if (r->tar)
        archive_read_free(r->tar);
    if (r->unpack)
        archive_read_free(r->unpack);
    free(r->buffer);
}
