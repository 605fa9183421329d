/* SPDX-License-Identifier: Apache-2.0 */
#include "job/artifact_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/firm.h"
#include "util/held_dir.h"
#include "util/tree.h"

#define STAGE_PREFIX ".dayfly-artifact-"

#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* -- the directory of ours ----------------------------------------------------------------------------
 */

int artifact_place_sweep(const char *path, const struct sweep *sweep, struct dayfly_err *err)
{
    _cleanup_close_ int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return err_errno(err, errno, "%.200s", path);
    held_dir_sweep(dir_fd, path, STAGE_PREFIX, "artifact", sweep);
    return 0;
}

int artifact_place_open(struct artifact_place *place, const char *firm, struct dayfly_err *err)
{
    *place = (struct artifact_place){-1, -1};
    int r = place->dir_fd = firm_open(firm, 0755, err);
    if (r < 0)
        return r;
    held_dir_sweep(place->dir_fd, firm, STAGE_PREFIX, "artifact", NULL);
    r = place->stage_fd = held_dir_make(place->dir_fd, STAGE_PREFIX, place->stage);
    if (r < 0) {
        err_errno(err, -r, "make a directory in %.200s", firm);
        close_fd(&place->dir_fd);
    }
    return MIN(r, 0);
}

void artifact_place_close(struct artifact_place *place)
{
    if (place->stage_fd >= 0)
        tree_remove(place->dir_fd, place->stage);
    close_fd(&place->stage_fd);
    close_fd(&place->dir_fd);
}

/* -- publishing ---------------------------------------------------------------------------------------
 */

/* Move `from` of one directory to `to` of another where that is free, or a file in a file's place.
 * -EEXIST: both are directories. */
static int move(int from_fd, const char *from, int to_fd, const char *to)
{
    struct stat mine, theirs;
    if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
        return 0;
    /* EINVAL: a file system that knows no such flag. */
    if (errno != EEXIST && errno != EINVAL)
        return -errno;
    if (fstatat(from_fd, from, &mine, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (fstatat(to_fd, to, &theirs, AT_SYMLINK_NOFOLLOW) == 0 &&
        (S_ISDIR(mine.st_mode) || S_ISDIR(theirs.st_mode)))
        return !S_ISDIR(mine.st_mode) ? -EISDIR : !S_ISDIR(theirs.st_mode) ? -ENOTDIR : -EEXIST;
    return renameat(from_fd, from, to_fd, to) < 0 ? -errno : 0;
}

static int merge(int from_fd, int to_fd, struct dayfly_err *err);

static int move_or_merge(int from_fd, const char *from, int to_fd, const char *to,
                         struct dayfly_err *err)
{
    int r = move(from_fd, from, to_fd, to);
    if (r == -EISDIR)
        return err_set(err, EISDIR, "%.200s is a directory here, and a file in the guest", to);
    if (r == -ENOTDIR)
        return err_set(err, ENOTDIR, "%.200s is no directory here, and one in the guest", to);
    if (r != -EEXIST)
        return r < 0 ? err_errno(err, -r, "%.200s", to) : 0;
    _cleanup_close_ int mine = openat(from_fd, from, OPEN_DIRECTORY);
    _cleanup_close_ int theirs = openat(to_fd, to, OPEN_DIRECTORY);
    if (mine < 0 || theirs < 0)
        return err_errno(err, errno, "%.200s", to);
    r = merge(mine, theirs, err);
    if (r < 0)
        err_wrap(err, "%.100s", to);
    return r;
}

/* Bring what is in one directory into another. As deep as the tree of ours is, which is bounded. */
static int merge(int from_fd, int to_fd, struct dayfly_err *err)
{
    int fd = openat(from_fd, ".", OPEN_DIRECTORY), r = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        r = err_errno(err, errno, "read what was copied");
        close_fd(&fd);
        return r;
    }
    for (struct dirent *e; r == 0 && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = move_or_merge(from_fd, e->d_name, to_fd, e->d_name, err);
    closedir(dir);
    return r;
}

int artifact_place_publish(struct artifact_place *place, const char *name, struct dayfly_err *err)
{
    return move_or_merge(place->stage_fd, PLACE_NEW, place->dir_fd, name, err);
}
