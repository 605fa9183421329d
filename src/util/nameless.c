/* SPDX-License-Identifier: Apache-2.0 */
#include "util/nameless.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/held_dir.h"
#include "util/tree.h"

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

static void sweep_doors(const char *dir, const struct sweep *sweep)
{
    _cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        held_dir_sweep(fd, dir, NAMELESS_DOOR, "socket", sweep);
}

static int bind_in(const char *dir, int fd, int *door, struct dayfly_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = address.sun_path, prefix[32], name[HELD_DIR_NAME_BYTES];
    sweep_doors(dir, NULL);
    snprintf(prefix, sizeof(prefix), NAMELESS_DOOR "%d-", getpid());
    _cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return err_errno(err, errno, "make a socket in %s", dir);
    _cleanup_close_ int folder = held_dir_make(dir_fd, prefix, name);
    if (folder < 0)
        return err_errno(err, -folder, "make a socket in %s", dir);
    int r = 0;
    size_t size = sizeof(address.sun_path);
    if ((size_t)snprintf(path, size, "%s/%s/" DOOR_NAME, dir, name) >= size)
        r = err_set(err, ENAMETOOLONG, "%.100s: too long for a socket's path", dir);
    else if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        r = err_errno(err, errno, "make socket %s", path);
    else if ((*door = open(path, O_PATH | O_CLOEXEC)) < 0)
        r = err_errno(err, errno, "open %s", path);
    tree_remove(dir_fd, name);
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
