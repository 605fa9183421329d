/* SPDX-License-Identifier: Apache-2.0 */
#include "util/nameless.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define DOOR_NAME "s" /* what is in a door's folder */

int nameless_file_open(const char *dir, const char *what, struct dayfly_err *err)
{
    const char *const places[] = {dir, getenv("TMPDIR"), "/var/tmp", "/tmp"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        if (!places[i])
            continue;
        int fd = open(places[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            return fd;
        /* EISDIR is what an old kernel says, ENOENT and EACCES what a missing or foreign folder says.
         */
        if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EACCES &&
            errno != EROFS)
            return err_errno(err, errno, "make %s in %s", what, places[i]);
    }
    return err_set(
        err, EOPNOTSUPP,
        "no file system for %s: %s%s/var/tmp and /tmp have no unnamed files; set TMPDIR to a "
        "folder on ext4, xfs, btrfs or tmpfs",
        what, dir ? dir : "", dir ? ", " : "");
}

/* -- sockets ----------------------------------------------------------------------------------- */

/* The socket's folder in `dir`, unless somebody has it: whoever makes one holds a lock on it. */
static void sweep_door(int dir_fd, const char *dir, const char *name, const struct sweep *sweep)
{
    struct stat st;
    int r = 0;
    _cleanup_close_ int folder =
        openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (folder < 0 || fstat(folder, &st) < 0 || st.st_uid != geteuid() ||
        flock(folder, LOCK_EX | LOCK_NB) < 0)
        return;
    if (sweep_removes(sweep)) {
        unlinkat(folder, DOOR_NAME, 0);
        r = unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
    }
    sweep_tell(sweep, "socket", r, "%s/%s", dir, name);
}

static void sweep_doors(const char *dir, const struct sweep *sweep)
{
    struct dirent *entry;
    DIR *d = opendir(dir);
    while (d && (entry = readdir(d)))
        if (strncmp(entry->d_name, NAMELESS_DOOR, strlen(NAMELESS_DOOR)) == 0)
            sweep_door(dirfd(d), dir, entry->d_name, sweep);
    if (d)
        closedir(d);
}

/* Make the folder, its name from a template: a descriptor with its lock, or -errno; -EAGAIN when
 * somebody took it for left over before it was locked. */
static int make_folder(char *path)
{
    struct stat st;
    if (!mkdtemp(path))
        return -errno;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0)
        return -EAGAIN;
    return steal_fd(&fd);
}

static int bind_in(const char *dir, int fd, int *door, struct dayfly_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = address.sun_path;
    char folder[40];
    snprintf(folder, sizeof(folder), NAMELESS_DOOR "%d-XXXXXX", getpid());
    size_t len = strlen(dir) + 1 + strlen(folder);
    if (len + sizeof("/" DOOR_NAME) > sizeof(address.sun_path))
        return err_set(err, ENAMETOOLONG, "%.100s: too long for a socket's path", dir);
    sweep_doors(dir, NULL);
    int r;
    do {
        sprintf(path, "%s/%s", dir, folder);
        r = make_folder(path);
    } while (r == -EAGAIN);
    if (r < 0)
        return err_errno(err, -r, "make a socket in %s", dir);
    _cleanup_close_ int held = r;
    r = 0;
    strcpy(path + len, "/" DOOR_NAME);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        r = err_errno(err, errno, "make socket %s", path);
    if (r == 0 && (*door = open(path, O_PATH | O_CLOEXEC)) < 0)
        r = err_errno(err, errno, "open %s", path);
    unlink(path);
    path[len] = '\0';
    rmdir(path);
    return r;
}

/* Where sockets are made, the best first. */
static size_t list_places(const char *places[3])
{
    const char *const all[] = {getenv("TMPDIR"), "/tmp", "/var/tmp"};
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        bool new = all[i] && all[i][0] == '/';
        for (size_t j = 0; j < count; j++)
            new = new &&strcmp(all[i], places[j]) != 0;
        if (new)
            places[count++] = all[i];
    }
    return count;
}

int nameless_socket_bind(int fd, int *door, struct dayfly_err *err)
{
    const char *places[3];
    size_t count = list_places(places);
    int r = -ENOENT;
    *door = -1;
    for (size_t i = 0; i < count && r < 0; i++)
        r = bind_in(places[i], fd, door, err);
    return r;
}

void nameless_sweep(const struct sweep *sweep)
{
    const char *places[3];
    size_t count = list_places(places);
    for (size_t i = 0; i < count; i++)
        sweep_doors(places[i], sweep);
}
