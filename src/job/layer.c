/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See layer.h. The file system has no journal: after a crash of its machine nobody reads it again. Its
 * UUID, hash seed and times are fixed, and its inode tables lazy, so that making it takes 8 ms for 8
 * GiB and 45 ms for 512 GiB; opening one that is there takes no time.
 *
 * A template has its name when it is whole and on the disk, and not before, and nobody changes it then.
 */
#include "job/layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/nameless.h"
#include "util/program.h"

#define FOLDER "templates"
/* The number changes with anything that mke2fs is told below. */
#define NAME       "ext4-1-%llu"
#define NAME_BYTES 40
#define LAYER_UUID "6461796f-6c61-4579-8572-000000000001"

/* Make the file system on an empty file. */
static int format(int fd, uint64_t bytes, struct dayfly_err *err)
{
    if (ftruncate(fd, (off_t)bytes) < 0)
        return err_errno(err, errno, "size the writable layer to %llu bytes",
                         (unsigned long long)bytes);
    /* mke2fs opens it by this name, in our own process table. */
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
    const char *const argv[] = {"mke2fs",
                                "-q",
                                "-F",
                                "-t",
                                "ext4",
                                "-b",
                                "4096",
                                "-m",
                                "0",
                                "-O",
                                "^has_journal,^resize_inode",
                                "-U",
                                LAYER_UUID,
                                "-E",
                                "lazy_itable_init=1,nodiscard,hash_seed=" LAYER_UUID,
                                path,
                                NULL};
    const char *const env[] = {"E2FSPROGS_FAKE_TIME=946684800", NULL};
    const struct program mke2fs = {.argv = argv,
                                   .env = env,
                                   .package = "e2fsprogs",
                                   .stdin_fd = -1,
                                   .stdout_fd = -1,
                                   .stderr_fd = -1};
    int r = program_run(&mke2fs, err);
    return r < 0 ? err_wrap(err, "format the writable layer") : 0;
}

/* The template of that name and size, or -1; what is there and cannot be one is removed. */
static int open_template(int folder, const char *name, uint64_t bytes)
{
    struct stat st;
    _cleanup_close_ int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes)
        return steal_fd(&fd);
    unlinkat(folder, name, 0);
    return -1;
}

/* Remove the oldest one if there are too many. Whoever has it open keeps it. */
static void prune(int folder)
{
    char oldest[NAME_BYTES] = "";
    struct timespec when = {0};
    unsigned count = 0;
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        close_fd(&fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat st;
        if (strlen(entry->d_name) >= sizeof(oldest) ||
            fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (count++ == 0 || st.st_mtim.tv_sec < when.tv_sec ||
            (st.st_mtim.tv_sec == when.tv_sec && st.st_mtim.tv_nsec < when.tv_nsec)) {
            strcpy(oldest, entry->d_name);
            when = st.st_mtim;
        }
    }
    closedir(dir);
    if (count > LAYER_TEMPLATES_MAX)
        unlinkat(folder, oldest, 0);
}

/* Give a finished file its name. Failing costs the next run some milliseconds, and this one nothing. */
static void keep(int folder, const char *name, int fd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fchmod(fd, 0400) == 0 && fsync(fd) == 0 &&
        linkat(AT_FDCWD, path, folder, name, AT_SYMLINK_FOLLOW) == 0)
        prune(folder);
}

int layer_open(int home_fd, const char *home, uint64_t bytes, struct dayfly_err *err)
{
    bytes = align_down(bytes, 4096);
    if (bytes < LAYER_MIN_BYTES || bytes > LAYER_MAX_BYTES)
        return err_set(err, EINVAL, "a disk of %llu bytes: it must have 16 MiB to 16 TiB",
                       (unsigned long long)bytes);
    char name[NAME_BYTES];
    snprintf(name, sizeof(name), NAME, (unsigned long long)bytes);
    mkdirat(home_fd, FOLDER, 0700);
    _cleanup_close_ int folder =
        openat(home_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int found = folder >= 0 ? open_template(folder, name, bytes) : -1;
    if (found >= 0)
        return found;

    /* Where the folder has no files without a name, nothing made in it could be linked. */
    _cleanup_close_ int fd =
        folder >= 0 ? openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
    bool can_keep = fd >= 0;
    if (!can_keep && (fd = nameless_file_open(home, "the writable layer", err)) < 0)
        return fd;
    int r = format(fd, bytes, err);
    if (r < 0)
        return r;
    if (can_keep)
        keep(folder, name, fd);
    return steal_fd(&fd);
}
