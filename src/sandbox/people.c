/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage 5 of setup.h: the job's user and group, first in the files, so that no entry of an image's
 * takes the names; its home, and the places where everybody writes.
 *
 * On an image the files are made anew in the layer. The host's own /etc is read-only: there they are
 * mounted over the host's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/mounts.h"
#include "sandbox/setup.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define FILE_MAX_BYTES (1 << 20)
#define HOST_FILE      ".file" /* in the new root, for a moment */

/* What the image or the host has there, if it is a file of sensible size. A fifo must not hold us. */
static int open_old(int root, const char *path, off_t *bytes)
{
    struct stat st;
    _cleanup_close_ int fd = mounts_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    *bytes = 0;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES)
        return -1;
    *bytes = st.st_size;
    return steal_fd(&fd);
}

static int append(int to, int from, off_t bytes)
{
    while (bytes > 0) {
        ssize_t n = sendfile(to, from, NULL, (size_t)bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        bytes -= n;
    }
    return 0;
}

/* A new file `name` in `dir`: the text, and what `old` has behind it. */
static int write_new(int dir, const char *name, const char *text, int old, off_t old_bytes)
{
    unlinkat(dir, name, 0);
    _cleanup_close_ int fd =
        openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -errno;
    int r = io_write_full(fd, text, strlen(text));
    return r < 0 || old < 0 ? r : append(fd, old, old_bytes);
}

/* Over the host's file. */
static int cover(int root, const char *path, const char *text, int old, off_t old_bytes)
{
    _cleanup_close_ int target = mounts_open(root, path, O_PATH, 0);
    if (target < 0)
        return target;
    int r = write_new(root, HOST_FILE, text, old, old_bytes);
    if (r < 0)
        return r;
    _cleanup_close_ int file =
        open_tree(root, HOST_FILE, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
    r = file < 0 ? -errno : mounts_attach(file, target);
    unlinkat(root, HOST_FILE, 0);
    return r;
}

static int put_file(const struct setup *setup, int root, const char *name, const char *text, bool keep)
{
    char path[32];
    off_t bytes = 0;
    snprintf(path, sizeof(path), "etc/%s", name);
    _cleanup_close_ int old = keep ? open_old(root, path, &bytes) : -1;
    if (setup->options->root_fd < 0)
        return cover(root, path, text, old, bytes);
    _cleanup_close_ int etc = mounts_open(root, "etc", O_PATH | O_DIRECTORY, 0);
    return etc < 0 ? etc : write_new(etc, name, text, old, bytes);
}

/* Where a link of the host's leads that some service of its makes the target of, below /run, an empty
 * file to be covered. */
static void make_target(int root, const char *link)
{
    char path[MOUNTS_PATH_BYTES];
    const char *slash = strrchr(link, '/');
    size_t dir = (size_t)(slash - link) + 1;
    memcpy(path, link, dir);
    ssize_t n = readlinkat(root, link, path + dir, sizeof(path) - dir - 1);
    if (n <= 0)
        return;
    path[dir + (size_t)n] = '\0';
    char *target = path[dir] == '/' ? path + dir : path, *leaf = strrchr(target, '/');
    *leaf++ = '\0';
    _cleanup_close_ int at = mounts_directory(root, target, 0755, NULL);
    _cleanup_close_ int fd =
        at < 0 ? -1 : openat(at, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
}

/* One that the image has keeps its looks, unless `exactly` these are needed. */
static int make_directory(int root, const char *path, mode_t mode, bool exactly, uid_t owner,
                          struct dayfly_err *err)
{
    _cleanup_close_ int fd = mounts_directory(root, path, mode, err);
    char self[32];
    if (fd < 0 || !exactly)
        return fd < 0 ? fd : 0;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (fchownat(fd, "", owner, owner, AT_EMPTY_PATH) < 0 || chmod(self, mode) < 0)
        return err_errno(err, errno, "/%s", path);
    return 0;
}

int people_make(const struct setup *setup, int root, struct setup_kept *kept, struct dayfly_err *err)
{
    const uid_t uid = setup->uid, top = setup->user_namespace ? uid : 0;
    const struct {
        const char *path;
        mode_t mode;
        bool exactly;
        uid_t owner;
    } directories[] = {
        {"etc", 0755, false, top}, {"home", 0755, false, top}, {"home/job", 0700, true, uid},
        {"tmp", 01777, true, top}, {"var", 0755, false, top},  {"var/tmp", 01777, true, top},
    };
    char text[160];
    int r = 0;
    /* The host's etc is as it is. */
    for (size_t i = setup->options->root_fd < 0; i < ARRAY_SIZE(directories); i++)
        if ((r = make_directory(root, directories[i].path, directories[i].mode, directories[i].exactly,
                                directories[i].owner, err)) < 0)
            return r;
    snprintf(text, sizeof(text), SANDBOX_USER ":x:%u:%u:the job:" SANDBOX_HOME ":/bin/sh\n", uid, uid);
    if ((r = put_file(setup, root, "passwd", text, true)) < 0)
        return err_errno(err, -r, "write /etc/passwd");
    snprintf(text, sizeof(text), SANDBOX_USER ":x:%u:\n", uid);
    if ((r = put_file(setup, root, "group", text, true)) < 0)
        return err_errno(err, -r, "write /etc/group");
    /* The agent fills these, where the host has them. */
    if (setup->options->root_fd < 0) {
        make_target(root, "etc/resolv.conf");
        put_file(setup, root, "hostname", "", false);
        put_file(setup, root, "hosts", "", false);
        if (setup->options->network)
            put_file(setup, root, "resolv.conf", "", false);
    }
    kept->etc = mounts_open(root, "etc", O_PATH | O_DIRECTORY, 0);
    return kept->etc < 0 ? err_errno(err, -kept->etc, "/etc") : 0;
}
