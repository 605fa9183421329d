/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage 3 of setup.h: the root, and what of it can be written.
 *
 * What a job writes stays in memory, in a tmpfs of limited size: no block device has to be made,
 * mounted or written back, a killed runner leaves no file to find, nothing of a job comes to rest on a
 * disk, and it is as fast as files get. The price is that it counts as the job's memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/mounts.h"
#include "sandbox/setup.h"
#include "util/cleanup.h"
#include "util/err.h"

/* The same as in a machine (agent/root.c): nothing of the upper layer outlives the sandbox. */
static const struct mounts_setting overlay[] = {
    {"lowerdir", "lower"}, {"upperdir", "upper"},  {"workdir", "work"}, {"volatile", NULL},
    {"metacopy", "on"},    {"redirect_dir", "on"}, {NULL, NULL},
};

static int make_layer(const struct setup *setup, struct dayfly_err *err)
{
    char size[24];
    snprintf(size, sizeof(size), "%llu", (unsigned long long)setup->options->layer_bytes);
    const struct mounts_setting settings[] = {{"size", size}, {"mode", "0755"}, {NULL, NULL}};
    int fd = mounts_make("tmpfs", settings, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
    if (fd < 0)
        return fd;
    /* Over the host's root, where any process has a place to mount on; paths still lead below it. */
    if (move_mount(fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(fd) < 0) {
        int code = errno;
        close(fd);
        return err_errno(err, code, "mount the layer");
    }
    return fd;
}

/* What else is of this layer, and the job sees by other paths. */
static int make_parts(const struct setup *setup, int layer, struct setup_parts *parts,
                      struct dayfly_err *err)
{
    int r = parts->shm = mounts_part(layer, "shm", 01777);
    if (r >= 0)
        r = parts->empty = mounts_part(layer, "empty", 0555);
    for (size_t i = 0; i < setup->options->share_count && r >= 0; i++) {
        char name[24];
        snprintf(name, sizeof(name), "cow%zu", i);
        parts->cow[i] = -1;
        if (setup->options->shares[i].mode == DAYFLY_SHARE_COW && setup->cow_fds[i] < 0)
            r = parts->cow[i] = mounts_part(layer, name, 0755);
    }
    return r < 0 ? err_errno(err, -r, "make the layer") : 0;
}

/* The overlay's root has the looks of the upper directory: give it the image's. */
static int copy_looks(int layer)
{
    struct stat st;
    if (fstatat(layer, "lower", &st, 0) < 0 || fchownat(layer, "upper", st.st_uid, st.st_gid, 0) < 0)
        return -1;
    return fchmodat(layer, "upper", st.st_mode & 07777, 0);
}

/* `top` takes the layer's place: what is in the layer is to be seen by its parts alone. */
static int replace_layer(int top, struct dayfly_err *err)
{
    if (umount2(".", MNT_DETACH) == 0 &&
        move_mount(top, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) == 0)
        return top;
    int r = err_errno(err, errno, "mount the new root");
    close(top);
    return r;
}

/* On the way through the layer, whose directories overlayfs takes by path and then holds by itself. */
static int stack_image(int layer, int image, struct dayfly_err *err)
{
    static const char *const directories[] = {"lower", "upper", "work"};
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
        if (mkdirat(layer, directories[i], 0700) < 0)
            return err_errno(err, errno, "make the layer");
    _cleanup_close_ int lower = openat(layer, "lower", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = lower < 0 ? -errno : mounts_attach(image, lower);
    if (r < 0)
        return err_errno(err, -r, "mount the image");
    if (copy_looks(layer) < 0)
        return err_errno(err, errno, "make the layer");
    int top = mounts_make("overlay", overlay, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
    if (top < 0)
        return err_wrap(err, "stack the layer on the image");
    return replace_layer(top, err);
}

/* A socket is called by its path on a read-only mount as well: the store's daemon would build on the
 * host for whoever calls. */
static int hide_services(const struct setup_parts *parts, int root, struct dayfly_err *err)
{
    static const char path[] = "nix/var/nix/daemon-socket";
    _cleanup_close_ int there = mounts_open(root, path, O_PATH | O_DIRECTORY, 0);
    return there < 0 ? 0 : mounts_place(parts->empty, root, path, err);
}

/* The host's folders of programs, read-only, in a root that is otherwise empty. */
static int place_host(const struct setup_gathered *gathered, int root, struct dayfly_err *err)
{
    for (int i = 0; i < SETUP_HOST_FOLDERS; i++) {
        const char *name = setup_host_folders[i];
        char target[256], path[32];
        snprintf(path, sizeof(path), "/%s", name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n > 0) {
            target[n] = '\0';
            if (symlinkat(target, root, name) < 0)
                return err_errno(err, errno, "link %s", path);
        } else if (gathered->folders[i] >= 0) {
            int r = mounts_place(gathered->folders[i], root, name, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int root_make(const struct setup *setup, const struct setup_gathered *gathered,
              struct setup_parts *parts, struct dayfly_err *err)
{
    _cleanup_close_ int layer = make_layer(setup, err);
    int r = layer < 0 ? layer : make_parts(setup, layer, parts, err);
    if (r < 0)
        return r;
    if (gathered->image >= 0)
        return stack_image(layer, gathered->image, err);
    int root = mounts_part(layer, "root", 0755);
    if (root < 0)
        return err_errno(err, -root, "make the layer");
    if ((root = replace_layer(root, err)) < 0)
        return root;
    if ((r = place_host(gathered, root, err)) < 0 || (r = hide_services(parts, root, err)) < 0) {
        close(root);
        return r;
    }
    return root;
}
