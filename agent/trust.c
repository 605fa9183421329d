/* SPDX-License-Identifier: Apache-2.0 */
#include "trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"

#define OURS  "/usr/local/share/ca-certificates/dayfly-border.crt"
#define STORE "/etc/ssl/certs/ca-certificates.crt"

/* Of other distributions: Fedora's, openSUSE's, Alpine's. */
static const char *const stores[] = {STORE, "/etc/pki/tls/certs/ca-bundle.crt",
                                     "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
#define STORES (sizeof(stores) / sizeof(stores[0]))

#define STORE_MAX (8 << 20)

static int path_in(char path[static 256], const char *root, const char *name)
{
    return snprintf(path, 256, "%s%s", root, name) < 256 ? 0 : -ENAMETOOLONG;
}

/* The folders that lead to a file. What is in the way, opening the file tells. */
static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
}

/* Never waits for what is no file. */
static int open_file(const char *path, int flags)
{
    struct stat st;
    _cleanup_close_ int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    return S_ISREG(st.st_mode) ? steal_fd(&fd) : -EINVAL;
}

/* A line break first: the last line of a file need not have one. */
static int append(const char *path, const void *pem, size_t len)
{
    _cleanup_close_ int fd = open_file(path, O_WRONLY | O_APPEND);
    if (fd < 0)
        return fd;
    int r = io_write_full(fd, "\n", 1);
    return r < 0 ? r : io_write_full(fd, pem, len);
}

/* With what another store has, if there is one. */
static int make_store(const char *root, const char *other, const void *pem, size_t len)
{
    char path[256];
    _cleanup_free_ char *text = NULL;
    size_t text_len = 0;
    int r = other ? io_read_file(AT_FDCWD, other, STORE_MAX, &text, &text_len) : 0;
    if (r < 0 || (r = path_in(path, root, STORE)) < 0)
        return r;
    make_folders(path);
    _cleanup_close_ int fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0)
        return fd;
    if (text)
        return io_write_full(fd, text, text_len); /* which has it by now */
    return io_write_full(fd, pem, len);
}

static int write_ours(const char *root, const void *pem, size_t len)
{
    char path[256];
    int r = path_in(path, root, OURS);
    if (r < 0)
        return r;
    make_folders(path);
    _cleanup_close_ int fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    return fd < 0 ? fd : io_write_full(fd, pem, len);
}

int trust_add(const char *root, const void *pem, size_t len)
{
    char path[256], other[256] = "";
    bool has_store = false;
    int r = write_ours(root, pem, len);
    for (size_t i = 0; i < STORES && r == 0; i++) {
        if ((r = path_in(path, root, stores[i])) < 0)
            return r;
        r = append(path, pem, len);
        if (r == 0 && i == 0)
            has_store = true;
        else if (r == 0 && !*other)
            memcpy(other, path, sizeof(other));
        if (r == -ENOENT || r == -ENOTDIR)
            r = 0;
    }
    if (r == 0 && !has_store)
        r = make_store(root, *other ? other : NULL, pem, len);
    return r;
}
