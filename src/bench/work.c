/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/work.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/late.h"

/* -- scripts ---------------------------------------------------------------------------------- */

#define ENTER "mkdir " WORK_FOLDER " && cd " WORK_FOLDER " && tar -xf - || exit 1\n"

const char work_look[] =
    "for name in cc make fio; do\n"
    "    command -v $name >/dev/null || continue\n"
    "    version=$($name --version 2>&1) && echo \"@dayfly have $name ${version%%\n"
    "*}\"\n"
    "done\n"
    "echo @dayfly begin\n"
    "read line\n"
    "exit 0\n";

const char work_start[] = "echo @dayfly begin\n"
                          "read line\n"
                          "exit 0\n";

/* An archive with everything in one folder is built in there, as people would. */
const char work_build[] = ENTER "set -- \"$1\" *\n"
                                "if [ $# -eq 2 ] && [ -d \"$2\" ]; then cd \"$2\"; fi\n"
                                "times\n"
                                "echo @dayfly begin\n"
                                "sh -c \"$1\" >/dev/null || exit 1\n"
                                "echo @dayfly end\n"
                                "times\n";

/* Where the disk (memory, with an older kernel) takes no direct requests, without. */
#define FIO                                                                                            \
    "--name=x --filename=file --size=\"$1\"M --bs=4k --ioengine=psync --thread --numjobs=4 "           \
    "--group_reporting --time_based --runtime=\"$2\" --randseed=7 --norandommap --output-format=terse"
const char work_disk_fio[] =
    ENTER "dd if=/dev/zero of=file bs=1M count=\"$1\" conv=fsync 2>/dev/null || exit 1\n"
          "direct=1\n"
          "dd if=file of=/dev/null iflag=direct bs=4k count=1 2>/dev/null || direct=0\n"
          "if [ $direct = 0 ]; then echo @dayfly buffered; fi\n"
          "echo @dayfly begin\n"
          "fio " FIO " --direct=$direct --rw=randread || exit 1\n"
          "fio " FIO " --direct=$direct --rw=randwrite --end_fsync=1 || exit 1\n"
          "echo @dayfly end\n";

const char work_disk_own[] = ENTER "./disk \"$1\" \"$2\" || exit 1\n";

/* -- archives --------------------------------------------------------------------------------- */

static int fails(struct archive *archive, const char *what, struct dayfly_err *err)
{
    const char *why = archive_error_string(archive);
    return err_set(err, archive_errno(archive) > 0 ? archive_errno(archive) : EIO, "%s: %s", what,
                   why ? why : "no archive");
}

static void free_read(struct archive **archive)
{
    archive_read_free(*archive);
}

static void free_write(struct archive **archive)
{
    archive_write_free(*archive);
}

static int open_tar(struct archive **out, int fd, struct dayfly_err *err)
{
    int r = late_archive(err);
    if (r < 0)
        return r;
    *out = archive_write_new();
    if (!*out)
        return err_set(err, ENOMEM, "out of memory");
    if (archive_write_set_format_pax_restricted(*out) < ARCHIVE_OK ||
        archive_write_open_fd(*out, fd) < ARCHIVE_OK)
        return fails(*out, "sources", err);
    return 0;
}

static int copy_data(struct archive *from, struct archive *to, const char *what, struct dayfly_err *err)
{
    char bytes[16384];
    la_ssize_t n;
    while ((n = archive_read_data(from, bytes, sizeof(bytes))) > 0)
        if (archive_write_data(to, bytes, (size_t)n) < 0)
            return fails(to, what, err);
    return n < 0 ? fails(from, what, err) : 0;
}

/* Where the name within the archive begins; "" for the directory itself. */
static const char *inner_name(const char *name, const char *folder)
{
    size_t len = strlen(folder);
    if (strncmp(name, folder, len) == 0)
        name += len;
    return name + strspn(name, "/");
}

/* `folder` is what all the names begin with and are to lose. */
static int copy_entries(struct archive *from, struct archive *to, const char *path, const char *folder,
                        struct dayfly_err *err)
{
    struct archive_entry *entry;
    int r;
    while ((r = archive_read_next_header(from, &entry)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
        const char *name = archive_entry_pathname(entry);
        _cleanup_free_ char *inner = name ? strdup(inner_name(name, folder)) : NULL;
        if (!inner)
            return err_set(err, EINVAL, "%s: a name in it cannot be read", path);
        if (*folder)
            archive_read_disk_descend(from);
        if (!*inner)
            continue;
        archive_entry_set_pathname(entry, inner);
        /* Whose the files are is each job's own affair. */
        archive_entry_set_uid(entry, 0);
        archive_entry_set_gid(entry, 0);
        archive_entry_set_uname(entry, NULL);
        archive_entry_set_gname(entry, NULL);
        if (archive_write_header(to, entry) < ARCHIVE_WARN)
            return fails(to, path, err);
        int copied = archive_entry_size(entry) > 0 ? copy_data(from, to, path, err) : 0;
        if (copied < 0)
            return copied;
    }
    return r == ARCHIVE_EOF ? 0 : fails(from, path, err);
}

static int open_source(struct archive **out, const char *path, bool is_folder, struct dayfly_err *err)
{
    int r = late_archive(err);
    if (r < 0)
        return r;
    *out = is_folder ? archive_read_disk_new() : archive_read_new();
    if (!*out)
        return err_set(err, ENOMEM, "out of memory");
    if (is_folder) {
        archive_read_disk_set_symlink_physical(*out);
        r = archive_read_disk_open(*out, path);
    } else {
        archive_read_support_filter_all(*out);
        archive_read_support_format_all(*out);
        r = archive_read_open_filename(*out, path, 65536);
    }
    return r == ARCHIVE_OK ? 0 : fails(*out, path, err);
}

int work_pack(const char *path, struct dayfly_err *err)
{
    _cleanup_(free_read) struct archive *from = NULL;
    _cleanup_(free_write) struct archive *to = NULL;
    struct stat st;
    if (stat(path, &st) < 0)
        return err_errno(err, errno, "sources %s", path);
    bool is_folder = S_ISDIR(st.st_mode);
    _cleanup_close_ int fd = memfd_create("sources", MFD_CLOEXEC);
    int r = fd < 0 ? err_errno(err, errno, "sources") : open_source(&from, path, is_folder, err);
    if (r == 0)
        r = open_tar(&to, fd, err);
    if (r == 0)
        r = copy_entries(from, to, path, is_folder ? path : "", err);
    if (r == 0 && archive_write_close(to) < ARCHIVE_OK)
        r = fails(to, path, err);
    return r < 0 ? r : steal_fd(&fd);
}

/* The program, put into this one when it was built (disk.c). */
extern const unsigned char bench_disk_start[], bench_disk_end[];

int work_pack_disk(struct dayfly_err *err)
{
    _cleanup_(free_write) struct archive *to = NULL;
    size_t len = (size_t)(bench_disk_end - bench_disk_start);
    _cleanup_close_ int fd = memfd_create("disk exerciser", MFD_CLOEXEC);
    int r = fd < 0 ? err_errno(err, errno, "disk exerciser") : open_tar(&to, fd, err);
    if (r < 0)
        return r;
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        return err_set(err, ENOMEM, "out of memory");
    archive_entry_set_pathname(entry, "disk");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0755);
    archive_entry_set_size(entry, (la_int64_t)len);
    if (archive_write_header(to, entry) < ARCHIVE_OK ||
        archive_write_data(to, bench_disk_start, len) < 0 || archive_write_close(to) < ARCHIVE_OK)
        r = fails(to, "disk exerciser", err);
    archive_entry_free(entry);
    return r < 0 ? r : steal_fd(&fd);
}
