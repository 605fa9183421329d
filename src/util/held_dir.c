/* SPDX-License-Identifier: Apache-2.0 */
#include "util/held_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/tree.h"

#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
#define DIGITS         12

static void sweep_one(int dir_fd, const char *path, const char *name, const char *kind,
                      const struct sweep *sweep)
{
    struct stat st;
    _cleanup_close_ int old = openat(dir_fd, name, OPEN_DIRECTORY);
    if (old < 0 || fstat(old, &st) < 0 || st.st_uid != geteuid() || flock(old, LOCK_EX | LOCK_NB) < 0)
        return;
    int r = sweep_removes(sweep) ? tree_remove(dir_fd, name) : 0;
    sweep_tell(sweep, kind, r, "%s/%s", path, name);
}

void held_dir_sweep(int dir_fd, const char *path, const char *prefix, const char *kind,
                    const struct sweep *sweep)
{
    struct dirent *entry;
    int fd = openat(dir_fd, ".", OPEN_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        close_fd(&fd);
        return;
    }
    while ((entry = readdir(dir)))
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
            sweep_one(dir_fd, path, entry->d_name, kind, sweep);
    closedir(dir);
}

/* -EAGAIN: there is one of this name, or somebody took it for abandoned before it was locked. */
static int try_make(int dir_fd, const char *name)
{
    struct stat mine, named;
    if (mkdirat(dir_fd, name, 0700) < 0)
        return errno == EEXIST ? -EAGAIN : -errno;
    _cleanup_close_ int fd = openat(dir_fd, name, OPEN_DIRECTORY);
    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &mine) < 0 ||
        fstatat(dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) < 0 || mine.st_ino != named.st_ino)
        return -EAGAIN;
    return steal_fd(&fd);
}

int held_dir_make(int dir_fd, const char *prefix, char name[HELD_DIR_NAME_BYTES])
{
    uint64_t number;
    int r;
    if (strlen(prefix) + DIGITS >= HELD_DIR_NAME_BYTES)
        return -ENAMETOOLONG;
    do {
        if (getrandom(&number, sizeof(number), 0) != sizeof(number))
            return -EIO;
        snprintf(name, HELD_DIR_NAME_BYTES, "%s%0*" PRIx64, prefix, DIGITS,
                 number & UINT64_C(0xffffffffffff));
        r = try_make(dir_fd, name);
    } while (r == -EAGAIN);
    return r;
}
