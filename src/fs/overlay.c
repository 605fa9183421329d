/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"

#define FD_PATH_BYTES  32
#define LIST_BYTES_MAX 65536 /* XATTR_LIST_MAX */

/* The two sets of marks: of a mount made by root, and in a user namespace ("userxattr"). */
static const char *const mark_prefixes[] = {"trusted.overlay.", "user.overlay."};

/* Attributes take no directory and name, and no O_PATH descriptor: the path of one does. */
static int open_path(int dir_fd, const char *name, char path[FD_PATH_BYTES])
{
    int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    snprintf(path, FD_PATH_BYTES, "/proc/self/fd/%d", fd);
    return fd < 0 ? -errno : fd;
}

static bool is_opaque(int dir_fd, const char *name)
{
    char path[FD_PATH_BYTES], value[8], mark[32];
    _cleanup_close_ int fd = open_path(dir_fd, name, path);
    for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(mark_prefixes); i++) {
        snprintf(mark, sizeof(mark), "%sopaque", mark_prefixes[i]);
        if (getxattr(path, mark, value, sizeof(value)) == 1 && value[0] == 'y')
            return true;
    }
    return false;
}

int overlay_look(int upper_fd, int base_fd, const char *name, struct overlay_entry *entry)
{
    struct stat base;
    *entry = (struct overlay_entry){.kind = OVERLAY_FULL};
    if (fstatat(upper_fd, name, &entry->st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (base_fd >= 0) {
        entry->in_base = fstatat(base_fd, name, &base, AT_SYMLINK_NOFOLLOW) == 0;
        if (!entry->in_base && errno != ENOENT)
            return -errno;
        entry->base_is_dir = entry->in_base && S_ISDIR(base.st_mode);
    }
    if (S_ISCHR(entry->st.st_mode) && entry->st.st_rdev == 0) {
        entry->kind = OVERLAY_WHITEOUT;
    } else if (S_ISDIR(entry->st.st_mode) && entry->base_is_dir && !is_opaque(upper_fd, name)) {
        entry->kind = OVERLAY_MERGED;
        entry->attributes_differ = base.st_mode != entry->st.st_mode ||
                                   base.st_uid != entry->st.st_uid || base.st_gid != entry->st.st_gid;
    }
    return 0;
}

static int is_entry(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int overlay_names(int dir_fd, struct dirent ***names)
{
    *names = NULL;
    int count = scandirat(dir_fd, ".", names, is_entry, by_bytes);
    return count < 0 ? -errno : count;
}

void overlay_free_names(struct dirent **names, int count)
{
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

int overlay_clear_marks(int dir_fd, const char *name)
{
    char path[FD_PATH_BYTES];
    _cleanup_free_ char *list = malloc(LIST_BYTES_MAX);
    _cleanup_close_ int fd = open_path(dir_fd, name, path);
    if (fd < 0)
        return fd;
    if (!list)
        return -ENOMEM;
    ssize_t bytes = listxattr(path, list, LIST_BYTES_MAX);
    for (const char *mark = list; bytes > 0 && mark < list + bytes; mark += strlen(mark) + 1)
        for (size_t i = 0; i < ARRAY_SIZE(mark_prefixes); i++)
            if (!strncmp(mark, mark_prefixes[i], strlen(mark_prefixes[i])) &&
                removexattr(path, mark) < 0 && errno != ENODATA)
                return -errno;
    return 0;
}
