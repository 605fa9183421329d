/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers over one another in a directory beside which something stands that must not change. The first
 * two bytes say where the first layer ends and the second one begins. As root this makes what it is
 * told to, but for devices, below a fresh directory in /dev/shm.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/layer.h"
#include "util/io.h"
#include "util/tree.h"

#define CANARY "untouched"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char top[] = "/dev/shm/unit-layer-fuzz.XXXXXX";
static int top_fd, here_fd;

static void remove_top(void)
{
    if (tree_remove(AT_FDCWD, top))
        fprintf(stderr, "%s stays\n", top);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    here_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (here_fd < 0 || !mkdtemp(top) || (top_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        mkdirat(top_fd, "outside", 0755))
        abort();
    int fd = openat(top_fd, "outside/victim", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || io_write_full(fd, CANARY, strlen(CANARY)))
        abort();
    close(fd);
    atexit(remove_top);
    umask(0);
    return 0;
}

/* Nothing but `outside` is beside the tree. */
static void check_beside(void)
{
    int fd = openat(top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    if (!dir)
        abort();
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "outside") != 0)
            abort();
    }
    closedir(dir);
}

static void check_outside(void)
{
    struct stat st, dir;
    char *text;
    size_t len;
    if (io_read_file(top_fd, "outside/victim", 100, &text, &len) || strcmp(text, CANARY) != 0 ||
        fstatat(top_fd, "outside/victim", &st, AT_SYMLINK_NOFOLLOW) || st.st_nlink != 1 ||
        (st.st_mode & 07777) != 0600 || fstatat(top_fd, "outside", &dir, AT_SYMLINK_NOFOLLOW) ||
        dir.st_nlink != 2 || (dir.st_mode & 07777) != 0755)
        abort();
    free(text);
}

static int layer_of(const uint8_t *data, size_t len)
{
    int fd = memfd_create("layer", MFD_CLOEXEC);
    if (fd < 0 || io_write_full(fd, data, len))
        abort();
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct layer_limits limits = {.entries = 64, .bytes = 1 << 20};
    struct layer_extracted out;
    struct dayfly_err err;
    if (len < 2)
        return 0;
    size_t cut = (size_t)data[0] << 8 | data[1];
    data += 2;
    len -= 2;
    cut = cut < len ? cut : len;
    const struct layer_source sources[2] = {{.fd = layer_of(data, cut)},
                                            {.fd = layer_of(data + cut, len - cut)}};
    if (mkdirat(top_fd, "tree", 0755) || fchdir(top_fd) || chdir("tree"))
        abort();
    layer_extract(sources, cut < len ? 2 : 1, &limits, 0, false, &out, &err);
    if (fchdir(here_fd) || tree_remove(top_fd, "tree"))
        abort();
    check_outside();
    check_beside();
    close(sources[0].fd);
    close(sources[1].fd);
    return 0;
}
