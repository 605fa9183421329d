/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes trees that are deeper than PATH_MAX and than there are descriptors: a directory that is found
 * inside another one is moved to a directory of our own, where its name is a number, and emptied there.
 */
#include "wipe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* So that its entries can be removed; where that may not be, removing them will say so. */
static void take_rights(int dir, const char *name)
{
    if (fchmodat(dir, name, 0700, 0) < 0)
        return;
}

/* Empty one directory; directories in it are moved to `top`, as a number. Rights are taken, if need be.
 */
static int empty(int top, const char *name, unsigned *moved)
{
    DIR *entries = NULL;
    bool again = true;
    int dir, error = 0;

    take_rights(top, name);
    dir = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || !(entries = fdopendir(dir)))
        return -1;
    /* Until a whole pass finds nothing: an entry may be passed over while its neighbours go. */
    while (again && !error) {
        again = false;
        rewinddir(entries);
        for (struct dirent *entry; !error && (entry = readdir(entries));) {
            char to[32];

            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            again = true;
            if (unlinkat(dir, entry->d_name, 0) == 0)
                continue;
            if (errno != EISDIR && errno != EPERM) {
                error = errno;
            } else if (unlinkat(dir, entry->d_name, AT_REMOVEDIR) < 0) {
                /* A directory that is moved must be writable, for its "..". */
                take_rights(dir, entry->d_name);
                snprintf(to, sizeof to, "%u", (*moved)++);
                if (renameat(dir, entry->d_name, top, to) < 0)
                    error = errno;
            }
        }
    }
    closedir(entries);
    errno = error;
    return error ? -1 : 0;
}

int wipe(int dir, const char *name)
{
    unsigned moved = 0, done = 0;
    char heap[32], next[32];
    int top, result = -1;

    if (unlinkat(dir, name, 0) == 0)
        return 0;
    snprintf(heap, sizeof heap, "wipe-%ld", (long)getpid());
    if (mkdirat(dir, heap, 0700) < 0)
        return -1;
    top = openat(dir, heap, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return -1;
    take_rights(dir, name);
    snprintf(next, sizeof next, "%u", moved++);
    result = renameat(dir, name, top, next);
    while (result == 0 && done < moved) {
        snprintf(next, sizeof next, "%u", done++);
        result = empty(top, next, &moved);
        if (result == 0)
            result = unlinkat(top, next, AT_REMOVEDIR);
    }
    close(top);
    return result < 0 ? result : unlinkat(dir, heap, AT_REMOVEDIR);
}
