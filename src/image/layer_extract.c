/* SPDX-License-Identifier: Apache-2.0 */
/* Layers back into a tree: layer.h's other half. */
#include "image/layer_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define DIRS_MAX_BYTES (512u << 20)

/* Directories and their times, to be set when nothing is made in them any more. libarchive does that
 * only for directories that it has made itself: not for the root, nor for one that an entry repeats. */
struct dirs {
    struct dir {
        char *path;
        int64_t mtime;
    } * items;
    size_t count, room, bytes;
};

static int dirs_add(struct dirs *dirs, const char *path, int64_t mtime, struct dayfly_err *err)
{
    dirs->bytes += sizeof(*dirs->items) + strlen(path) + 1;
    if (dirs->bytes > DIRS_MAX_BYTES)
        return err_set(err, EFBIG, "refused: too many directories");
    if (dirs->count == dirs->room) {
        size_t room = dirs->room ? 2 * dirs->room : 64;
        struct dir *bigger = realloc(dirs->items, room * sizeof(*bigger));
        if (!bigger)
            return err_errno(err, ENOMEM, "layer");
        dirs->items = bigger;
        dirs->room = room;
    }
    char *copy = strdup(path);
    if (!copy)
        return err_errno(err, ENOMEM, "layer");
    dirs->items[dirs->count++] = (struct dir){copy, mtime};
    return 0;
}

/* Open a directory below the working directory, following no link on the way; -1 when it is none (any
 * more: a later entry may have replaced it). */
static int open_below(const char *path)
{
    int at = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0 && *path) {
        char part[NAME_MAX + 1];
        size_t len = strcspn(path, "/");
        if (len > NAME_MAX) {
            close(at);
            return -1;
        }
        memcpy(part, path, len);
        part[len] = '\0';
        int next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(at);
        at = next;
        path += len + (path[len] == '/');
    }
    return at;
}

static void dirs_set_times(const struct dirs *dirs)
{
    for (size_t i = 0; i < dirs->count; i++) {
        const struct timespec times[2] = {{.tv_sec = dirs->items[i].mtime},
                                          {.tv_sec = dirs->items[i].mtime}};
        int fd = open_below(dirs->items[i].path);
        if (fd >= 0) {
            futimens(fd, times);
            close(fd);
        }
    }
}

static void dirs_finish(struct dirs *dirs)
{
    for (size_t i = 0; i < dirs->count; i++)
        free(dirs->items[i].path);
    free(dirs->items);
}

static int extract_content(struct archive *from, struct archive *disk, const char *name,
                           struct dayfly_err *err)
{
    const void *data;
    size_t len;
    la_int64_t offset;
    int rc;
    while ((rc = archive_read_data_block(from, &data, &len, &offset)) == ARCHIVE_OK) {
        if (archive_write_data_block(disk, data, len, offset) < ARCHIVE_WARN)
            return layer_archive_fail(err, disk, name);
    }
    return rc == ARCHIVE_EOF ? 0 : layer_archive_fail(err, from, name);
}

static bool is_refusal(struct archive *disk)
{
    int code = archive_errno(disk);
    return code == EPERM || code == EACCES || code == EOPNOTSUPP;
}

static int extract_entry(struct archive *from, struct archive *disk, struct archive_entry *entry,
                         bool whole, struct dirs *dirs, struct layer_extracted *out,
                         struct dayfly_err *err)
{
    const char *name = archive_entry_pathname(entry);
    mode_t type = archive_entry_filetype(entry);
    if (!whole && !archive_entry_hardlink(entry) && (type == AE_IFCHR || type == AE_IFBLK)) {
        out->devices++;
        return 0;
    }
    if (!archive_entry_hardlink(entry))
        out->newest = MAX(out->newest, (int64_t)archive_entry_mtime(entry));
    bool warned = false;
    int rc = archive_write_header(disk, entry);
    warned |= rc == ARCHIVE_WARN;
    if (rc < ARCHIVE_WARN)
        return layer_archive_fail(err, disk, name);
    if (archive_entry_size(entry) > 0) {
        rc = extract_content(from, disk, name, err);
        if (rc)
            return rc;
    }
    rc = archive_write_finish_entry(disk);
    warned |= rc == ARCHIVE_WARN;
    if (rc < ARCHIVE_WARN || (warned && (whole || !is_refusal(disk))))
        return layer_archive_fail(err, disk, name);
    out->attributes += warned;
    if (type != AE_IFDIR || archive_entry_hardlink(entry))
        return 0;
    out->has_root |= !strcmp(name, ".");
    return dirs_add(dirs, name, archive_entry_mtime(entry), err);
}

int layer_extract(int fd, const struct layer_limits *limits, bool whole, struct layer_extracted *out,
                  struct dayfly_err *err)
{
    locale_t saved, utf8 = layer_utf8_begin(&saved);
    struct archive *from = layer_reader_new(), *disk = archive_write_disk_new();
    struct layer_tally tally = {.limits = *limits};
    struct dirs dirs = {0};
    int rc = 0;
    *out = (struct layer_extracted){.newest = INT64_MIN};
    if (!from || !disk)
        rc = err_errno(err, ENOMEM, "layer");
    if (!rc && lseek(fd, 0, SEEK_SET) < 0)
        rc = err_errno(err, errno, "layer");
    if (!rc && archive_read_open_fd(from, fd, LAYER_READ_BYTES))
        rc = layer_archive_fail(err, from, "layer");
    if (!rc && archive_write_disk_set_options(
                   disk, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                             ARCHIVE_EXTRACT_ACL | ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_SPARSE |
                             ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                             ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS))
        rc = layer_archive_fail(err, disk, "layer");
    while (!rc) {
        struct archive_entry *entry;
        int got = archive_read_next_header(from, &entry);
        if (got == ARCHIVE_EOF)
            break;
        if (got < ARCHIVE_WARN) {
            rc = layer_archive_fail(err, from, "layer");
            break;
        }
        rc = layer_entry_check(entry, &tally, err);
        if (rc == 0)
            rc = extract_entry(from, disk, entry, whole, &dirs, out, err);
        else if (rc > 0)
            rc = 0;
    }
    /* Directories get their modes here. */
    if (!rc && archive_write_close(disk) < ARCHIVE_WARN)
        rc = layer_archive_fail(err, disk, "layer");
    if (!rc)
        dirs_set_times(&dirs);
    dirs_finish(&dirs);
    if (disk)
        archive_write_free(disk);
    if (from)
        archive_read_free(from);
    layer_utf8_end(utf8, saved);
    return rc;
}
