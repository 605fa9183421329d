/* SPDX-License-Identifier: Apache-2.0 */
#include "util/nameless.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define DOOR       "dayfly-door-" /* and six letters: a folder */
#define DOOR_NAME  "s"            /* what is in it */
#define DOOR_OLD_S 60             /* nobody takes that long between making one and removing it */

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

/* Remove what others of this user left in `dir`. */
static void sweep(const char *dir)
{
    struct dirent *entry;
    struct stat st;
    DIR *d = opendir(dir);
    while (d && (entry = readdir(d))) {
        if (strncmp(entry->d_name, DOOR, strlen(DOOR)) != 0 ||
            fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
            st.st_uid != geteuid() || st.st_mtime > time(NULL) - DOOR_OLD_S)
            continue;
        _cleanup_close_ int folder =
            openat(dirfd(d), entry->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder >= 0)
            unlinkat(folder, DOOR_NAME, 0);
        unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR);
    }
    if (d)
        closedir(d);
}

static int bind_in(const char *dir, int fd, int *door, struct dayfly_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = address.sun_path;
    int r = 0, len = snprintf(path, sizeof(address.sun_path), "%s/" DOOR "XXXXXX", dir);
    if ((size_t)len + sizeof("/" DOOR_NAME) > sizeof(address.sun_path))
        return err_set(err, ENAMETOOLONG, "%.100s: too long for a socket's path", dir);
    sweep(dir);
    if (!mkdtemp(path))
        return err_errno(err, errno, "make a socket in %s", dir);
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

int nameless_socket_bind(int fd, int *door, struct dayfly_err *err)
{
    const char *const places[] = {getenv("TMPDIR"), "/tmp", "/var/tmp"};
    int r = -ENOENT;
    *door = -1;
    for (size_t i = 0; i < ARRAY_SIZE(places) && r < 0; i++)
        if (places[i] && *places[i] == '/')
            r = bind_in(places[i], fd, door, err);
    return r;
}
