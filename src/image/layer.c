/* SPDX-License-Identifier: Apache-2.0 */
#include "image/layer_impl.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <locale.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/late.h"

#define NODES_MAX_BYTES (256u << 20)
#define COPY_BYTES      (1u << 18)

/* libarchive converts names between UTF-8 and the thread's locale, and refuses what does not fit: in
 * the C locale that is every name that is not ASCII. Names are bytes here, so work in C.UTF-8, in which
 * UTF-8 passes unchanged (other bytes do too, marked in pax as hdrcharset=BINARY). */
locale_t layer_utf8_begin(locale_t *saved)
{
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    *saved = utf8 ? uselocale(utf8) : (locale_t)0;
    return utf8;
}

void layer_utf8_end(locale_t utf8, locale_t saved)
{
    if (utf8) {
        uselocale(saved);
        freelocale(utf8);
    }
}

int layer_archive_fail(struct dayfly_err *err, struct archive *a, const char *what)
{
    int code = archive_errno(a);
    const char *text = archive_error_string(a);
    /* libarchive's own codes: ARCHIVE_ERRNO_MISC is -1, the others are errno values. */
    return err_set(err, code > 0 ? code : EINVAL, "%s: %s", what, text ? text : "unknown error");
}

bool layer_clean_name(char *name)
{
    size_t out = 0, len = strlen(name);
    if (len >= PATH_MAX)
        return false;
    for (size_t at = 0; at < len;) {
        size_t part = strcspn(name + at, "/");
        bool dot = part == 1 && name[at] == '.';
        if ((part == 2 && name[at] == '.' && name[at + 1] == '.') || part > NAME_MAX)
            return false;
        if (part && !dot) {
            if (out)
                name[out++] = '/';
            memmove(name + out, name + at, part);
            out += part;
        }
        at += part + (at + part < len);
    }
    name[out] = '\0';
    return true;
}

/* ---- checking an entry, whichever way it goes ---- */

/* Count an entry and bring its names into form. Returns 1 when it is to be left out (a socket, or
 * something else that a file system image cannot hold). */
int layer_entry_check(struct archive_entry *entry, struct layer_tally *tally, struct dayfly_err *err)
{
    const char *raw = archive_entry_pathname(entry);
    if (!raw)
        return err_set(err, EINVAL, "an entry's name cannot be read");
    _cleanup_free_ char *name = strdup(raw);
    if (!name)
        return err_errno(err, ENOMEM, "archive");
    if (!layer_clean_name(name))
        return err_set(err, EINVAL, "refused: the name \"" LAYER_NAME_CUT "\" %s", raw,
                       strstr(raw, "..") ? "leads out of the image" : "is too long");
    const char *hardlink = archive_entry_hardlink(entry);
    if (hardlink) {
        _cleanup_free_ char *target = strdup(hardlink);
        if (!target)
            return err_errno(err, ENOMEM, "archive");
        if (!layer_clean_name(target) || !target[0])
            return err_set(err, EINVAL,
                           "refused: \"" LAYER_NAME_CUT "\" is a hard link to \"%.40s\", out of "
                           "the image",
                           name, hardlink);
        archive_entry_copy_hardlink(entry, target);
    }
    mode_t type = archive_entry_filetype(entry);
    if (!hardlink) {
        switch (type) {
        case AE_IFREG:
        case AE_IFDIR:
        case AE_IFCHR:
        case AE_IFBLK:
        case AE_IFIFO:
            break;
        case AE_IFLNK: {
            const char *target = archive_entry_symlink(entry);
            if (!target || !target[0] || strlen(target) >= PATH_MAX)
                return err_set(err, EINVAL,
                               "refused: the symbolic link \"" LAYER_NAME_CUT "\" has no usable "
                               "target",
                               name);
            break;
        }
        default:
            return 1;
        }
    }
    if (!name[0] && (hardlink || type != AE_IFDIR))
        return err_set(err, EINVAL, "refused: the image's root is not a directory");
    if (++tally->entries > tally->limits.entries)
        return err_set(err, EFBIG, "refused: more than %llu files",
                       (unsigned long long)tally->limits.entries);
    /* A hard link may bring its content along. What nothing is read from has none, whatever it says. */
    if (!hardlink && type != AE_IFREG) {
        archive_entry_set_size(entry, 0);
    } else {
        int64_t size = archive_entry_size(entry);
        if (size < 0 || add_overflows(tally->bytes, (uint64_t)size, &tally->bytes) ||
            tally->bytes > tally->limits.bytes)
            return err_set(err, EFBIG,
                           "refused: more than %llu GiB of content, at \"" LAYER_NAME_CUT "\"",
                           (unsigned long long)(tally->limits.bytes >> 30), name);
    }
    archive_entry_copy_pathname(entry, name[0] ? name : ".");
    return 0;
}

/* Take away what is of the moment or of the host. */
static void entry_normalise(struct archive_entry *entry)
{
    archive_entry_unset_atime(entry);
    archive_entry_unset_ctime(entry);
    archive_entry_unset_birthtime(entry);
    archive_entry_set_mtime(entry, archive_entry_mtime(entry), 0);
    archive_entry_copy_uname(entry, NULL);
    archive_entry_copy_gname(entry, NULL);
    archive_entry_set_fflags(entry, 0, 0);
    archive_entry_sparse_clear(entry);
    archive_entry_set_dev(entry, 0);
    archive_entry_set_ino(entry, 0);
    archive_entry_set_nlink(entry, 1);
    if (archive_entry_hardlink(entry) || archive_entry_filetype(entry) != AE_IFREG)
        archive_entry_set_size(entry, 0);
}

/* ---- writing: tar -> diff_id hash -> zstd -> store file ---- */

struct writer {
    struct archive *tar, *zstd;
    struct hasher diff;
    struct store_file *out;
    struct layer_tally tally;
    const struct log *log;
    struct dayfly_err err; /* of the innermost callback */
    char *buffer;
    void *nodes; /* tsearch tree of directories and symbolic links */
    size_t nodes_bytes;
    bool no_memory; /* to look up a name */
};

static la_ssize_t write_compressed(struct archive *a, void *opaque, const void *data, size_t len)
{
    struct writer *w = opaque;
    int rc = store_file_write(w->out, data, len, &w->err);
    if (rc) {
        archive_set_error(a, -rc, "%s", w->err.msg);
        return -1;
    }
    return (la_ssize_t)len;
}

static la_ssize_t write_plain(struct archive *a, void *opaque, const void *data, size_t len)
{
    struct writer *w = opaque;
    hasher_add(&w->diff, data, len);
    if (archive_write_data(w->zstd, data, len) != (la_ssize_t)len) {
        archive_set_error(a, archive_errno(w->zstd), "%s", archive_error_string(w->zstd));
        return -1;
    }
    return (la_ssize_t)len;
}

static int writer_open_zstd(struct writer *w, struct dayfly_err *err)
{
    struct archive_entry *entry = archive_entry_new();
    w->zstd = archive_write_new();
    if (!w->zstd || !entry) {
        archive_entry_free(entry);
        return err_errno(err, ENOMEM, "layer");
    }
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_pathname(entry, "layer.tar");
    int rc = 0;
    if (archive_write_set_format_raw(w->zstd) || archive_write_add_filter_zstd(w->zstd) ||
        archive_write_set_bytes_per_block(w->zstd, 0) ||
        archive_write_open(w->zstd, w, NULL, write_compressed, NULL) ||
        archive_write_header(w->zstd, entry))
        rc = layer_archive_fail(err, w->zstd, "layer");
    archive_entry_free(entry);
    return rc;
}

static int writer_begin(struct writer *w, const struct layer_limits *limits, struct store_file *out,
                        const struct log *log, struct dayfly_err *err)
{
    *w = (struct writer){.out = out, .tally.limits = *limits, .log = log};
    int rc = late_archive(err);
    if (rc < 0)
        return rc;
    w->buffer = malloc(COPY_BYTES);
    w->tar = archive_write_new();
    if (!w->buffer || !w->tar)
        return err_errno(err, ENOMEM, "layer");
    hasher_begin(&w->diff);
    rc = writer_open_zstd(w, err);
    if (rc)
        return rc;
    if (archive_write_set_format_pax_restricted(w->tar) ||
        archive_write_set_option(w->tar, "pax", "xattrheader", "SCHILY") ||
        archive_write_set_bytes_per_block(w->tar, 64 << 10) ||
        archive_write_set_bytes_in_last_block(w->tar, 1) ||
        archive_write_open(w->tar, w, NULL, write_plain, NULL))
        return layer_archive_fail(err, w->tar, "layer");
    return 0;
}

static int writer_finish(struct writer *w, struct layer_facts *facts, struct dayfly_err *err)
{
    if (archive_write_close(w->tar) < ARCHIVE_WARN)
        return layer_archive_fail(err, w->tar, "layer");
    if (archive_write_close(w->zstd) < ARCHIVE_WARN)
        return layer_archive_fail(err, w->zstd, "layer");
    *facts = (struct layer_facts){.entries = w->tally.entries, .bytes = w->tally.bytes};
    hasher_digest(&w->diff, &facts->diff_id);
    return 0;
}

/* Safe on a half-begun writer. */
static void writer_free(struct writer *w)
{
    if (w->tar)
        archive_write_free(w->tar);
    if (w->zstd)
        archive_write_free(w->zstd);
    tdestroy(w->nodes, free);
    free(w->buffer);
}

/* What is known of a name: enough to know the parents of other ones. */
struct node {
    bool is_link;
    bool is_file;    /* an entry that came in place of a directory */
    bool is_missing; /* a directory that something is in, and that no entry has mentioned yet */
    char name[];
};

static int compare_nodes(const void *a, const void *b)
{
    return strcmp(((const struct node *)a)->name, ((const struct node *)b)->name);
}

static struct node *new_node(const char *name, size_t len)
{
    struct node *node = calloc(1, sizeof(*node) + len + 1);
    if (node)
        memcpy(node->name, name, len);
    return node;
}

/* The node of `name`, made when there is none (*is_new). NULL and *err on failure. */
static struct node *note(struct writer *w, const char *name, size_t len, bool *is_new,
                         struct dayfly_err *err)
{
    struct node *node = new_node(name, len);
    struct node **found = node ? tsearch(node, &w->nodes, compare_nodes) : NULL;
    if (!found) {
        free(node);
        err_errno(err, ENOMEM, "layer");
        return NULL;
    }
    *is_new = *found == node;
    if (!*is_new)
        free(node);
    else
        w->nodes_bytes += sizeof(*node) + len + 1;
    if (w->nodes_bytes > NODES_MAX_BYTES) {
        err_set(err, EFBIG, "refused: more than %u MiB of names", NODES_MAX_BYTES >> 20);
        return NULL;
    }
    return *found;
}

static struct node *find(struct writer *w, const char *name, size_t len)
{
    _cleanup_free_ struct node *key = new_node(name, len);
    w->no_memory |= !key;
    struct node **found = key ? tfind(key, &w->nodes, compare_nodes) : NULL;
    return found ? *found : NULL;
}

static int need_dir(struct writer *w, const char *name, size_t len, struct dayfly_err *err)
{
    bool is_new;
    struct node *node = note(w, name, len, &is_new, err);
    if (!node)
        return -(err ? err->code : EIO);
    /* Following it would be right within the image, but no sane archive needs that. */
    if (node->is_link)
        return err_set(err, EINVAL, "refused: a file behind the symbolic link \"" LAYER_NAME_CUT "\"",
                       node->name);
    node->is_missing |= is_new;
    return 0;
}

static int need_parents(struct writer *w, const char *name, struct dayfly_err *err)
{
    int rc = strcmp(name, ".") ? need_dir(w, ".", 1, err) : 0;
    for (const char *slash = name; !rc && (slash = strchr(slash, '/')); slash++)
        rc = need_dir(w, name, (size_t)(slash - name), err);
    return rc;
}

/* Has something else come in place of a directory that it was in? */
static bool is_gone(struct writer *w, const char *name)
{
    for (const char *slash = name; (slash = strchr(slash, '/')); slash++) {
        const struct node *node = find(w, name, (size_t)(slash - name));
        if (node && (node->is_link || node->is_file))
            return true;
    }
    return false;
}

static int add_missing(struct writer *w, const char *name, struct dayfly_err *err)
{
    if (is_gone(w, name))
        return 0;
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        return err_errno(err, ENOMEM, "layer");
    archive_entry_copy_pathname(entry, name);
    archive_entry_set_mode(entry, AE_IFDIR | 0755);
    archive_entry_set_mtime(entry, 0, 0);
    int rc = layer_entry_check(entry, &w->tally, err);
    if (!rc && archive_write_header(w->tar, entry) < ARCHIVE_WARN)
        rc = layer_archive_fail(err, w->tar, name);
    archive_entry_free(entry);
    return rc;
}

struct missing {
    struct writer *w;
    struct dayfly_err *err;
    int rc;
};

static void add_if_missing(const void *found, VISIT visit, void *opaque)
{
    const struct node *node = *(const struct node *const *)found;
    struct missing *missing = opaque;
    if ((visit == postorder || visit == leaf) && node->is_missing && !missing->rc)
        missing->rc = add_missing(missing->w, node->name, missing->err);
}

/* An archive need not mention the directories that its files are in. What extraction then makes is of
 * the moment; so they get entries here. At the end, for one may be mentioned behind what is in it, and
 * podman takes no layer that has a name twice. */
static int add_all_missing(struct writer *w, struct dayfly_err *err)
{
    struct missing missing = {.w = w, .err = err};
    twalk_r(w->nodes, add_if_missing, &missing);
    return w->no_memory ? err_errno(err, ENOMEM, "layer") : missing.rc;
}

static int note_entry(struct writer *w, struct archive_entry *entry, struct dayfly_err *err)
{
    const char *name = archive_entry_pathname(entry);
    mode_t type = archive_entry_hardlink(entry) ? AE_IFREG : archive_entry_filetype(entry);
    if (type == AE_IFDIR || type == AE_IFLNK) {
        bool is_new;
        struct node *node = note(w, name, strlen(name), &is_new, err);
        if (!node)
            return -(err ? err->code : EIO);
        node->is_link = type == AE_IFLNK;
        node->is_file = node->is_missing = false;
        return 0;
    }
    struct node *node = find(w, name, strlen(name));
    if (node) {
        node->is_file = true;
        node->is_link = node->is_missing = false;
    }
    return 0;
}

static int writer_header(struct writer *w, struct archive_entry *entry, struct dayfly_err *err)
{
    const char *name = archive_entry_pathname(entry);
    entry_normalise(entry);
    int rc = need_parents(w, name, err);
    if (rc)
        return rc;
    rc = note_entry(w, entry, err);
    if (rc)
        return rc;
    if (archive_write_header(w->tar, entry) < ARCHIVE_WARN)
        return layer_archive_fail(err, w->tar, name);
    return 0;
}

/* ---- from an archive ---- */

static int copy_content(struct writer *w, struct archive *from, const char *name,
                        struct dayfly_err *err)
{
    la_ssize_t n;
    while ((n = archive_read_data(from, w->buffer, COPY_BYTES)) > 0) {
        if (archive_write_data(w->tar, w->buffer, (size_t)n) < 0)
            return layer_archive_fail(err, w->tar, name);
    }
    return n < 0 ? layer_archive_fail(err, from, name) : 0;
}

static int copy_entries(struct writer *w, struct archive *from, struct dayfly_err *err)
{
    struct archive_entry *entry;
    for (;;) {
        int rc = archive_read_next_header(from, &entry);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc < ARCHIVE_WARN)
            return layer_archive_fail(err, from, "archive");
        if (rc == ARCHIVE_WARN)
            log_line(w->log, LOG_WARN, "archive: %s", archive_error_string(from));
        rc = layer_entry_check(entry, &w->tally, err);
        if (rc < 0)
            return rc;
        if (rc > 0)
            continue;
        rc = writer_header(w, entry, err);
        if (!rc && archive_entry_size(entry) > 0)
            rc = copy_content(w, from, archive_entry_pathname(entry), err);
        if (rc)
            return rc;
    }
}

/* Of tar archives, compressed in any usual way; not opened. */
static struct archive *reader_new(void)
{
    struct archive *a = archive_read_new();
    if (!a)
        return NULL;
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_lz4(a);
    archive_read_support_format_tar(a);
    return a;
}

int layer_write_from_archive(int fd, const struct layer_limits *limits, struct store_file *out,
                             struct layer_facts *facts, const struct log *log, struct dayfly_err *err)
{
    locale_t saved, utf8 = layer_utf8_begin(&saved);
    struct writer w;
    int rc = writer_begin(&w, limits, out, log, err);
    struct archive *from = rc ? NULL : reader_new();
    if (!rc && !from)
        rc = err_errno(err, ENOMEM, "archive");
    if (!rc && archive_read_open_fd(from, fd, LAYER_READ_BYTES))
        rc = layer_archive_fail(err, from, "not a tar archive");
    if (!rc)
        rc = copy_entries(&w, from, err);
    if (!rc)
        rc = add_all_missing(&w, err);
    if (!rc)
        rc = writer_finish(&w, facts, err);
    if (!rc && facts->entries == 0)
        rc = err_set(err, EINVAL, "the archive is empty");
    if (from)
        archive_read_free(from);
    writer_free(&w);
    layer_utf8_end(utf8, saved);
    return rc;
}

/* ---- from a directory ---- */

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int copy_file(struct writer *w, int fd, struct archive_entry *entry, struct dayfly_err *err)
{
    const char *name = archive_entry_pathname(entry);
    uint64_t left = (uint64_t)archive_entry_size(entry);
    while (left) {
        ssize_t n = read(fd, w->buffer, MIN(left, COPY_BYTES));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? err_errno(err, errno, "cannot read " LAYER_NAME_CUT, name)
                     : err_set(err, EIO, "%.120s shrank while it was read", name);
        if (archive_write_data(w->tar, w->buffer, (size_t)n) < 0)
            return layer_archive_fail(err, w->tar, name);
        left -= (uint64_t)n;
    }
    return 0;
}

/* Write what the link resolver let through. fd is of the file, or -1. */
static int add_entry(struct writer *w, struct archive_entry *entry, int fd, struct dayfly_err *err)
{
    int rc = layer_entry_check(entry, &w->tally, err);
    if (rc)
        return rc < 0 ? rc : 0;
    rc = writer_header(w, entry, err);
    if (!rc && archive_entry_size(entry) > 0)
        rc = copy_file(w, fd, entry, err);
    return rc;
}

static int add_node(struct writer *w, struct archive *disk, struct archive_entry_linkresolver *links,
                    const FTSENT *node, size_t root_len, struct dayfly_err *err)
{
    _cleanup_close_ int fd = -1;
    if (S_ISREG(node->fts_statp->st_mode)) {
        fd = open(node->fts_accpath, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return err_errno(err, errno, "cannot read " LAYER_NAME_CUT, node->fts_path);
    }
    struct archive_entry *entry = archive_entry_new2(disk), *spare = NULL;
    if (!entry)
        return err_errno(err, ENOMEM, "layer");
    const char *name = node->fts_path + root_len;
    archive_entry_copy_pathname(entry, name[0] ? name : "/");
    archive_entry_copy_sourcepath(entry, node->fts_accpath);
    int rc = 0;
    if (archive_read_disk_entry_from_file(disk, entry, fd, node->fts_statp) < ARCHIVE_WARN) {
        rc = layer_archive_fail(err, disk, node->fts_path);
    } else {
        /* For tar the resolver hands every entry straight back, the second name of a file as a hard
         * link to the first; it defers nothing. */
        archive_entry_linkify(links, &entry, &spare);
        rc = add_entry(w, entry, fd, err);
    }
    archive_entry_free(entry);
    return rc;
}

static int walk(struct writer *w, const char *path, struct dayfly_err *err)
{
    char *roots[] = {(char *)path, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, by_name);
    if (!fts)
        return err_errno(err, errno, "cannot read the directory " LAYER_NAME_CUT, path);
    struct archive *disk = archive_read_disk_new();
    struct archive_entry_linkresolver *links = archive_entry_linkresolver_new();
    int rc = 0;
    if (!disk || !links) {
        rc = err_errno(err, ENOMEM, "layer");
    } else {
        archive_entry_linkresolver_set_strategy(links, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED);
        archive_read_disk_set_symlink_physical(disk);
    }
    FTSENT *node = NULL;
    while (!rc && (errno = 0, node = fts_read(fts))) {
        switch (node->fts_info) {
        case FTS_DP:
            break;
        case FTS_DNR:
        case FTS_ERR:
        case FTS_NS:
        case FTS_DC:
            rc = err_errno(err, node->fts_errno ? node->fts_errno : ELOOP,
                           "cannot read " LAYER_NAME_CUT, node->fts_path);
            break;
        default:
            rc = add_node(w, disk, links, node, strlen(path), err);
        }
    }
    if (!rc && errno)
        rc = err_errno(err, errno, "cannot read the directory " LAYER_NAME_CUT, path);
    if (links)
        archive_entry_linkresolver_free(links);
    if (disk)
        archive_read_free(disk);
    fts_close(fts);
    return rc;
}

int layer_write_from_dir(const char *path, const struct layer_limits *limits, struct store_file *out,
                         struct layer_facts *facts, const struct log *log, struct dayfly_err *err)
{
    locale_t saved, utf8 = layer_utf8_begin(&saved);
    struct writer w;
    int rc = writer_begin(&w, limits, out, log, err);
    if (!rc)
        rc = walk(&w, path, err);
    if (!rc)
        rc = writer_finish(&w, facts, err);
    writer_free(&w);
    layer_utf8_end(utf8, saved);
    return rc;
}
