/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The next generation of a base and an overlay's upper directory (fs/overlay.h has its form). Entries
 * of the base become hard links, those of the upper move; directories are made anew. What is kept of an
 * entry, and what is not, is in cache.h.
 *
 * Both trees' names are a job's: resolved one at a time below descriptors, no link followed.
 * Directories are read as they come, so that one with millions of entries takes no memory. Nothing else
 * writes to either tree meanwhile; the base's files are linked and not touched.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "fs/overlay.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/text.h"

#define FD_PATH_BYTES   32
#define LIST_BYTES_MAX  65536 /* XATTR_LIST_MAX */
#define FILE_MODE       0777
#define DIRECTORY_MODE  01777 /* sticky means something there */
#define DIRECTORY_FORCE 0500  /* whoever is not root has to get in again, to link what is there */

struct merge {
    uid_t uid; /* whose everything becomes */
    gid_t gid;
    uint64_t left_out;
    uint32_t entries;
    char *list;       /* LIST_BYTES_MAX */
    char failed[256]; /* the entry that could not be kept; "": none in particular */
};

/* -- directories ------------------------------------------------------------------------------ */

static DIR *read_dir(int fd)
{
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    if (!dir)
        close_fd(&again);
    return dir;
}

static void cleanup_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* The next entry but for "." and "..". NULL at the end, or with errno set. */
static const char *next_name(DIR *dir)
{
    struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(dir);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry ? entry->d_name : NULL;
}

/* A job may have taken all rights from a directory, its owner's too, who is to move what is in it. It
 * is the upper's, hence ours to change; what it had been is known by then. */
static int open_upper(int parent_fd, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    if (geteuid() != 0 && fchmodat(parent_fd, name, 0700, 0) < 0)
        return -errno;
    int fd = openat(parent_fd, name, flags);
    return fd < 0 ? -errno : fd;
}

static int open_dir(int parent_fd, const char *name)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int fail(struct merge *merge, const char *name, int r)
{
    if (!merge->failed[0]) {
        snprintf(merge->failed, sizeof(merge->failed), "%s", name);
        text_make_printable(merge->failed);
    }
    return r;
}

/* -- entries ---------------------------------------------------------------------------------- */

/* Labels are the host's: its policy gives a file its own, and does not let us take it away. */
static bool is_removable(const char *attribute)
{
    return strncmp(attribute, "security.", 9) != 0 || strcmp(attribute, "security.capability") == 0;
}

static int remove_attributes(struct merge *merge, const char *path)
{
    ssize_t bytes = listxattr(path, merge->list, LIST_BYTES_MAX);
    if (bytes < 0)
        return errno == EOPNOTSUPP ? 0 : -errno;
    for (const char *name = merge->list; name < merge->list + bytes; name += strlen(name) + 1)
        if (is_removable(name) && removexattr(path, name) < 0 && errno != ENODATA)
            return -errno;
    return 0;
}

/* A file or link of the upper: make it the cache's, and move it. */
static int take(struct merge *merge, int upper_fd, const char *name, int next_fd,
                const struct stat *was)
{
    char path[FD_PATH_BYTES];
    mode_t mode = was->st_mode & FILE_MODE;
    _cleanup_close_ int fd = openat(upper_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    /* The owner first: that of a file which has set-id bits or capabilities takes them along. */
    if ((was->st_uid != merge->uid || was->st_gid != merge->gid) &&
        fchownat(fd, "", merge->uid, merge->gid, AT_EMPTY_PATH) < 0)
        return -errno;
    if (S_ISREG(was->st_mode)) {
        int r = remove_attributes(merge, path);
        if (r < 0)
            return r;
        if ((was->st_mode & 07777) != mode && chmod(path, mode) < 0)
            return -errno;
    }
    return renameat(upper_fd, name, next_fd, name) < 0 ? -errno : 0;
}

static bool is_kept(mode_t mode)
{
    return S_ISREG(mode) || S_ISLNK(mode);
}

static mode_t directory_mode(mode_t was)
{
    return (was & DIRECTORY_MODE) | DIRECTORY_FORCE;
}

/* What a directory that was made anew takes from the one that it is made of. */
static int copy_looks(const struct merge *merge, int fd, const struct stat *st)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (fchown(fd, merge->uid, merge->gid) < 0 || fchmod(fd, directory_mode(st->st_mode)) < 0 ||
        futimens(fd, times) < 0)
        return -errno;
    return 0;
}

static int merge_dir(struct merge *merge, int upper_fd, int base_fd, int next_fd, unsigned depth);

/* The directory `name` of either or both (-1: not of this one), made in next_fd. */
static int merge_below(struct merge *merge, int upper_fd, int base_fd, int next_fd, const char *name,
                       const struct stat *st, unsigned depth)
{
    _cleanup_close_ int upper = -1, base = -1, next = -1;
    if (depth >= CACHE_DEPTH_MAX)
        return -ELOOP;
    if (upper_fd >= 0 && (upper = open_upper(upper_fd, name)) < 0)
        return upper;
    if (base_fd >= 0 && (base = open_dir(base_fd, name)) < 0)
        return base;
    if (mkdirat(next_fd, name, 0700) < 0 || (next = open_dir(next_fd, name)) < 0)
        return -errno;
    int r = merge_dir(merge, upper, base, next, depth + 1);
    if (r < 0)
        return r;
    return copy_looks(merge, next, st);
}

static int merge_upper_entry(struct merge *merge, int upper_fd, int base_fd, int next_fd,
                             const char *name, unsigned depth)
{
    struct overlay_entry entry;
    int r = overlay_look(upper_fd, base_fd, name, &entry);
    if (r < 0 || entry.kind == OVERLAY_WHITEOUT)
        return r;
    if (S_ISDIR(entry.st.st_mode))
        return merge_below(merge, upper_fd, entry.kind == OVERLAY_MERGED ? base_fd : -1, next_fd, name,
                           &entry.st, depth);
    if (is_kept(entry.st.st_mode))
        return take(merge, upper_fd, name, next_fd, &entry.st);
    merge->left_out++;
    return 0;
}

/* An entry of the base that the upper does not hide. */
static int merge_base_entry(struct merge *merge, int upper_fd, int base_fd, int next_fd,
                            const char *name, unsigned depth)
{
    struct stat st;
    /* The upper's entry is in next by now, or a whiteout that stayed, or was left out. */
    if (upper_fd >= 0 && (fstatat(upper_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
                          fstatat(next_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0))
        return 0;
    if (fstatat(base_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return merge_below(merge, -1, base_fd, next_fd, name, &st, depth);
    return linkat(base_fd, name, next_fd, name, 0) < 0 ? -errno : 0;
}

typedef int merge_fn(struct merge *merge, int upper_fd, int base_fd, int next_fd, const char *name,
                     unsigned depth);

static int each_entry(struct merge *merge, int of_fd, merge_fn *fn, int upper_fd, int base_fd,
                      int next_fd, unsigned depth)
{
    _cleanup_(cleanup_dir) DIR *dir = read_dir(of_fd);
    const char *name;
    if (!dir)
        return -errno;
    while ((name = next_name(dir))) {
        int r = merge->entries++ < CACHE_ENTRIES_MAX
                    ? fn(merge, upper_fd, base_fd, next_fd, name, depth)
                    : -E2BIG;
        if (r < 0)
            return fail(merge, name, r);
    }
    return -errno;
}

/* upper_fd or base_fd is -1 where there is none. */
static int merge_dir(struct merge *merge, int upper_fd, int base_fd, int next_fd, unsigned depth)
{
    int r = 0;
    if (upper_fd >= 0)
        r = each_entry(merge, upper_fd, merge_upper_entry, upper_fd, base_fd, next_fd, depth);
    if (r == 0 && base_fd >= 0)
        r = each_entry(merge, base_fd, merge_base_entry, upper_fd, base_fd, next_fd, depth);
    return r;
}

static int explain(const struct merge *merge, int r, struct dayfly_err *err)
{
    if (r == -ELOOP)
        return err_set(err, ELOOP, "directories are nested more than %d deep", CACHE_DEPTH_MAX);
    if (r == -E2BIG)
        return err_set(err, E2BIG, "there are more than %u files", CACHE_ENTRIES_MAX);
    return merge->failed[0] ? err_errno(err, -r, "keep %s", merge->failed)
                            : err_errno(err, -r, "make a generation");
}

int merge_trees(int upper_fd, int base_fd, int next_fd, struct merge_result *result,
                struct dayfly_err *err)
{
    struct stat st;
    struct merge merge = {.uid = geteuid(), .gid = getegid()};
    _cleanup_free_ char *list = merge.list = malloc(LIST_BYTES_MAX);
    if (!list)
        return err_set(err, ENOMEM, "out of memory");
    if (fstat(upper_fd, &st) < 0 || fchmod(upper_fd, 0700) < 0)
        return err_errno(err, errno, "make a generation");
    int r = merge_dir(&merge, upper_fd, base_fd, next_fd, 0);
    if (r == 0)
        r = copy_looks(&merge, next_fd, &st);
    result->left_out = merge.left_out;
    return r < 0 ? explain(&merge, r, err) : 0;
}

/* -- is there anything to keep? --------------------------------------------------------------- */

static int differs_at(int upper_fd, int base_fd, unsigned depth);

/* Two directories that are shown as one: apart from what is in them, it is the mode that is kept. A
 * directory that was copied up for something that is not there any more is no difference. */
static int merged_differ(int upper_fd, int base_fd, unsigned depth)
{
    struct stat upper, base;
    if (fstat(upper_fd, &upper) < 0 || fstat(base_fd, &base) < 0)
        return -errno;
    if (directory_mode(upper.st_mode) != directory_mode(base.st_mode) || depth > CACHE_DEPTH_MAX)
        return 1;
    return differs_at(upper_fd, base_fd, depth);
}

static int entry_differs(int upper_fd, int base_fd, const char *name, unsigned depth)
{
    struct overlay_entry entry;
    int r = overlay_look(upper_fd, base_fd, name, &entry);
    if (r < 0)
        return r;
    if (entry.kind == OVERLAY_WHITEOUT)
        return entry.in_base;
    if (entry.kind == OVERLAY_FULL)
        return S_ISDIR(entry.st.st_mode) || is_kept(entry.st.st_mode) || entry.in_base;
    _cleanup_close_ int upper = open_dir(upper_fd, name), base = open_dir(base_fd, name);
    if (upper == -EACCES)
        return 1; /* its owner may not look: the base's can always be read */
    if (upper < 0 || base < 0)
        return upper < 0 ? upper : base;
    return merged_differ(upper, base, depth + 1);
}

static int differs_at(int upper_fd, int base_fd, unsigned depth)
{
    _cleanup_(cleanup_dir) DIR *dir = read_dir(upper_fd);
    const char *name;
    if (!dir)
        return -errno;
    while ((name = next_name(dir))) {
        int r = entry_differs(upper_fd, base_fd, name, depth);
        if (r != 0)
            return r;
    }
    return -errno;
}

int merge_differs(int upper_fd, int base_fd)
{
    return merged_differ(upper_fd, base_fd, 0);
}
