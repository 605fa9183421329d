/* SPDX-License-Identifier: Apache-2.0 */
#include "job/report_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/firm.h"
#include "util/io.h"

/* Another descriptor of the standard stream that this is, -1 when it is none. Its path may be a link
 * that leads to a descriptor (/dev/stdout), and a stream may well be a regular file. */
static int open_stream(const struct stat *st)
{
    struct stat own;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (fstat(fd, &own) == 0 && own.st_dev == st->st_dev && own.st_ino == st->st_ino)
            return fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return -1;
}

int report_file_find(struct report_file *file, const char *path, struct dayfly_err *err)
{
    struct stat st;
    *file = REPORT_FILE_NONE;
    _cleanup_free_ char *head = strdup(path), *tail = strdup(path);
    if (!head || !tail || !(file->name = strdup(basename(tail))))
        return err_set(err, ENOMEM, "out of memory");
    bool there = stat(path, &st) == 0;
    if (there && S_ISDIR(st.st_mode))
        return err_errno(err, EISDIR, "the report %s", path);
    if (there)
        file->special_fd = open_stream(&st);
    bool special = there && (file->special_fd >= 0 || !S_ISREG(st.st_mode));
    if (special && file->special_fd < 0)
        file->special_fd = open(path, O_PATH | O_CLOEXEC);
    int r = special ? (file->special_fd < 0 ? err_errno(err, errno, "open it") : 0)
                    : firm_path_writable(dirname(head), &file->folder, err);
    /* Whoever is killed leaves none, and not an older one that would be taken for its own. */
    if (r == 0 && !special && unlink(path) < 0 && errno != ENOENT)
        r = err_errno(err, errno, "replace it");
    return r < 0 ? err_wrap(err, "the report %s", path) : 0;
}

void report_file_finish(struct report_file *file)
{
    close_fd(&file->special_fd);
    free(file->folder);
    free(file->name);
    file->folder = file->name = NULL;
}

/* What a job has put there in the meantime is as good as an older report. */
static int give_name(int fd, int folder, const char *name)
{
    char unnamed[32];
    snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, unnamed, folder, name, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (errno == EEXIST && unlinkat(folder, name, 0) == 0 &&
        linkat(AT_FDCWD, unnamed, folder, name, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    return -errno;
}

static int open_special(int special_fd)
{
    char path[32];
    if (!(fcntl(special_fd, F_GETFL) & O_PATH)) /* a stream: behind what has been written there */
        return fcntl(special_fd, F_DUPFD_CLOEXEC, 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", special_fd);
    return open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
}

/* One that appears when it is whole, so that who is killed before leaves none; else one with its name.
 */
static int open_new(int folder, const char *name, bool *unnamed)
{
    int fd = openat(folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
    *unnamed = fd >= 0;
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd;
    unlinkat(folder, name, 0);
    return openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
}

int report_file_write(const struct report_file *file, const json_t *report, struct dayfly_err *err)
{
    bool special = file->special_fd >= 0, unnamed = false;
    _cleanup_close_ int folder = special ? -1 : firm_open(file->folder, 0777, err);
    if (!special && folder < 0)
        return err_wrap(err, "make the report");
    _cleanup_free_ char *text = json_dumps(report, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text)
        return err_set(err, ENOMEM, "out of memory for the report");
    _cleanup_close_ int fd =
        special ? open_special(file->special_fd) : open_new(folder, file->name, &unnamed);
    if (fd < 0)
        return err_errno(err, errno, "make the report %s", file->name);
    int r = io_write_full(fd, text, strlen(text));
    if (r == 0)
        r = io_write_full(fd, "\n", 1);
    if (r == 0 && unnamed)
        r = give_name(fd, folder, file->name);
    return r < 0 ? err_errno(err, -r, "write the report %s", file->name) : 0;
}
