/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect(2) goes by the file's inode. A descriptor keeps that when the name is gone, and the links of
 * /proc/self/fd lead to it without asking for a name.
 */
#include "engine/doorway.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "transport/vhost_user.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

static int open_in(const char *dir, int *door, struct dayfly_err *err)
{
    char path[128];
    int len = snprintf(path, sizeof(path), "%s/dayfly-XXXXXX", dir);
    if ((size_t)len + sizeof("/s") > sizeof(path))
        return err_set(err, ENAMETOOLONG, "%.100s: too long for a socket's path", dir);
    if (!mkdtemp(path))
        return err_errno(err, errno, "make a socket in %s", dir);
    snprintf(path + len, sizeof(path) - (size_t)len, "/s");
    _cleanup_close_ int listener = vhost_user_bind(path, err);
    int r = listener < 0 ? listener : 0;
    if (r == 0 && (*door = open(path, O_PATH | O_CLOEXEC)) < 0)
        r = err_errno(err, errno, "open %s", path);
    unlink(path);
    path[len] = '\0';
    rmdir(path);
    return r < 0 ? r : steal_fd(&listener);
}

int doorway_open(int *door, struct dayfly_err *err)
{
    const char *const places[] = {getenv("TMPDIR"), "/tmp", "/var/tmp"};
    int r = -ENOENT;
    *door = -1;
    for (size_t i = 0; i < ARRAY_SIZE(places) && r < 0; i++)
        if (places[i] && *places[i])
            r = open_in(places[i], door, err);
    return r;
}
