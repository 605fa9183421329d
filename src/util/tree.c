/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory below this depth is moved up into the top one and removed from there. */
#define DEPTH_MAX 32

struct removal {
    int top_fd; /* the tree's own top directory */
    dev_t dev;
    unsigned moved; /* directories that went up; names them */
    int first;      /* the first error */
};

static void note(struct removal *removal, int error)
{
    if (error && !removal->first)
        removal->first = error;
}

/* Open a directory that may have been left without rights for its owner. */
static int open_dir(int parent_fd, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent_fd, name, flags);
    if (fd < 0 && errno == EACCES && fchmodat(parent_fd, name, 0700, 0) == 0)
        fd = openat(parent_fd, name, flags);
    return fd;
}

static int move_up(struct removal *removal, int parent_fd, const char *name)
{
    char up[32];
    int r;
    do {
        snprintf(up, sizeof(up), ".removed-%u", removal->moved++);
        r = renameat2(parent_fd, name, removal->top_fd, up, RENAME_NOREPLACE) < 0 ? -errno : 0;
        /* Its ".." changes: that takes the right to write to it. */
        if (r == -EACCES && fchmodat(parent_fd, name, 0700, 0) == 0)
            r = renameat2(parent_fd, name, removal->top_fd, up, RENAME_NOREPLACE) < 0 ? -errno : 0;
    } while (r == -EEXIST);
    return r;
}

static void remove_below(struct removal *removal, int fd, unsigned depth);

static void remove_entry(struct removal *removal, int parent_fd, const char *name, unsigned depth)
{
    struct stat st;
    if (unlinkat(parent_fd, name, 0) == 0)
        return;
    /* A directory that was left read-only, as those of some package managers are. */
    if (errno == EACCES && fchmod(parent_fd, 0700) == 0 && unlinkat(parent_fd, name, 0) == 0)
        return;
    if (errno != EISDIR && errno != EPERM) {
        note(removal, -errno);
        return;
    }
    if (depth >= DEPTH_MAX) {
        note(removal, move_up(removal, parent_fd, name));
        return;
    }
    int fd = open_dir(parent_fd, name);
    if (fd < 0 || fstat(fd, &st) < 0) {
        note(removal, -errno);
    } else if (st.st_dev != removal->dev) {
        note(removal, -EXDEV);
    } else {
        remove_below(removal, fd, depth + 1);
        fd = -1;
        if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0)
            note(removal, -errno);
    }
    if (fd >= 0)
        close(fd);
}

/* Takes fd. */
static void remove_below(struct removal *removal, int fd, unsigned depth)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    if (!dir) {
        note(removal, -errno);
        close(fd);
        return;
    }
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_entry(removal, fd, entry->d_name, depth);
    closedir(dir);
}

int tree_remove(int dir_fd, const char *name)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
    struct removal removal = {.dev = st.st_dev, .top_fd = open_dir(dir_fd, name)};
    if (removal.top_fd < 0)
        return -errno;
    unsigned moved;
    do {
        moved = removal.moved;
        int fd = openat(removal.top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            note(&removal, -errno);
        else
            remove_below(&removal, fd, 0);
    } while (removal.moved != moved && !removal.first);
    close(removal.top_fd);
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
        note(&removal, -errno);
    return removal.first;
}
