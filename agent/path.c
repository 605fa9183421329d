/* SPDX-License-Identifier: Apache-2.0 */
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

/* Call fn for each beginning of the path that ends with a component, until it does not return 0. */
static void each_part(const char *path, int (*fn)(void *opaque, const char *part), void *opaque)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    if (len >= sizeof(part))
        return;
    for (size_t i = 1; i <= len; i++) {
        if ((path[i] != '/' && path[i] != '\0') || path[i - 1] == '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (fn(opaque, part) != 0)
            return;
    }
}

static int make_part(void *opaque, const char *part)
{
    const struct user *user = opaque;
    if (mkdir(part, 0755) == 0)
        (void)!lchown(part, user->uid, user->gid);
    return 0;
}

void path_make(const char *path, const struct user *user)
{
    each_part(path, make_part, (void *)user);
}

struct walk {
    const struct user *user;
    int at; /* the part before */
};

static int make_part_on_root(void *opaque, const char *part)
{
    struct walk *w = opaque;
    const struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, part, &how, sizeof(how));
    const char *slash = strrchr(part, '/'), *name = slash ? slash + 1 : part;
    if (fd < 0 && errno == ENOENT && w->at >= 0 && mkdirat(w->at, name, 0755) == 0) {
        fd = openat(w->at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0)
            (void)!fchownat(fd, "", w->user->uid, w->user->gid, AT_EMPTY_PATH);
    }
    close_fd(&w->at);
    w->at = fd;
    return fd < 0;
}

void path_make_on_root(const char *path, const struct user *user)
{
    struct walk w = {user, open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (*path == '/')
        each_part(path, make_part_on_root, &w);
    close_fd(&w.at);
}
