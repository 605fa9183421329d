/* SPDX-License-Identifier: Apache-2.0 */
#include "util/firm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"

/* The next component of a path, of *len bytes, or NULL behind the last. */
static const char *next(const char *path, size_t *len)
{
    do {
        path += strspn(path, "/");
        *len = strcspn(path, "/");
        if (*len != 1 || *path != '.')
            return *len ? path : NULL;
        path++;
    } while (true);
}

static bool leads_up(const char *path)
{
    size_t len;
    for (; (path = next(path, &len)); path += len)
        if (len == 2 && memcmp(path, "..", 2) == 0)
            return true;
    return false;
}

int firm_path(const char *path, char **out, struct dayfly_err *err)
{
    _cleanup_free_ char *part = strdup(path), *real = NULL;
    size_t len = strlen(path);
    if (!part)
        return err_set(err, ENOMEM, "out of memory");
    /* As much of it as is there. */
    while (!(real = realpath(len ? part : *path == '/' ? "/" : ".", NULL)) && errno == ENOENT && len) {
        while (len && part[len - 1] == '/')
            len--;
        while (len && part[len - 1] != '/')
            len--;
        part[len] = '\0';
    }
    if (!real)
        return err_errno(err, errno, "%.200s", path);
    if (leads_up(path + len))
        return err_set(err, EINVAL, "%.200s: there is a \"..\" behind what is not there yet", path);
    if (asprintf(out, "%s/%s", real, path + len) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

int firm_path_writable(const char *path, char **out, struct dayfly_err *err)
{
    struct stat st;
    _cleanup_free_ char *at = strdup(path);
    if (!at)
        return err_set(err, ENOMEM, "out of memory");
    while (access(at, F_OK) < 0 && errno == ENOENT) {
        char *slash = strrchr(at, '/');
        if (!slash)
            strcpy(at, ".");
        else
            slash[slash == at] = '\0';
    }
    if (stat(at, &st) == 0 && !S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "%.200s is no directory", at);
    if (access(at, W_OK | X_OK) < 0)
        return err_errno(err, errno, "write to %.200s", at);
    return firm_path(path, out, err);
}

/* A directory in another one: O_PATH; -ENOTDIR for a link. */
static int enter(int dir, const char *name, mode_t mode)
{
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir, name, flags);
    if (fd < 0 && errno == ENOENT && mode && (mkdirat(dir, name, mode) == 0 || errno == EEXIST))
        fd = openat(dir, name, flags);
    return fd < 0 ? -errno : fd;
}

int firm_open(const char *firm, mode_t mode, struct dayfly_err *err)
{
    char name[NAME_MAX + 1];
    size_t len;
    _cleanup_close_ int dir = open(*firm == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = dir < 0 ? -errno : 0;
    for (const char *p = firm; fd >= 0 && (p = next(p, &len)); p += len) {
        if (len > NAME_MAX)
            return err_errno(err, ENAMETOOLONG, "%.200s", firm);
        memcpy(name, p, len);
        name[len] = '\0';
        if ((fd = enter(dir, name, mode)) >= 0) {
            close(dir);
            dir = fd;
        }
    }
    /* What O_PATH opened reads nothing. */
    if (fd >= 0 && (fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        fd = -errno;
    if (fd == -ENOTDIR)
        return err_set(err, ENOTDIR, "%.200s is no directory, or there is a new link on the way", firm);
    return fd < 0 ? err_errno(err, -fd, "%.200s", firm) : fd;
}
