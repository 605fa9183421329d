/* SPDX-License-Identifier: Apache-2.0 */
/* Stage 2 of setup.h: what of the host is to be seen in a sandbox, by the host's own paths. */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/mounts.h"
#include "sandbox/setup.h"
#include "util/cleanup.h"
#include "util/err.h"

#define LOOP_TRIES 32

const char *const setup_devices[SETUP_DEVICES] = {"null", "zero", "full", "random", "urandom", "tty"};
const char *const setup_host_folders[SETUP_HOST_FOLDERS] = {"bin",    "sbin", "lib", "lib32", "lib64",
                                                            "libx32", "usr",  "etc", "opt",   "nix"};

/* -- the image ---------------------------------------------------------------------------------------
 */

static int mount_erofs(const char *source, struct dayfly_err *err)
{
    const struct mounts_setting settings[] = {{"source", source}, {"ro", NULL}, {NULL, NULL}};
    return mounts_make("erofs", settings, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                       err);
}

/* A loop device that shows the file and is gone with its last user. */
static int open_loop(int file, char path[32], struct dayfly_err *err)
{
    const struct loop_config config = {
        .fd = (unsigned)file,
        .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
    };
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return err_errno(err, errno, "/dev/loop-control");
    for (int tries = 0; tries < LOOP_TRIES; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return err_errno(err, errno, "find a free loop device");
        snprintf(path, 32, "/dev/loop%d", number);
        _cleanup_close_ int loop = open(path, O_RDONLY | O_CLOEXEC);
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
            return steal_fd(&loop);
        if (errno != EBUSY && errno != ENXIO && errno != ENOENT) /* somebody was faster */
            return err_errno(err, errno, "set up %s", path);
    }
    return err_set(err, EBUSY, "no loop device is to be had");
}

/* Straight from the file where the kernel can (6.12), else by a loop device. */
static int mount_image(int file, struct dayfly_err *err)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    int fd = mount_erofs(path, err);
    if (fd >= 0 || err->code != ENOTBLK)
        return fd;
    _cleanup_close_ int loop = open_loop(file, path, err);
    return loop < 0 ? loop : mount_erofs(path, err);
}

/* -- the host ----------------------------------------------------------------------------------------
 */

/* A link is made anew in the sandbox; what is not there is left out. */
static int gather_folder(const char *name, int *out, struct dayfly_err *err)
{
    char path[32];
    struct stat st;
    snprintf(path, sizeof(path), "/%s", name);
    if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return 0;
    int fd = mounts_copy(path), r = fd;
    if (fd >= 0)
        r = mounts_restrict(fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    *out = fd;
    return r < 0 ? err_errno(err, -r, "the host's %s", path) : 0;
}

/* The path was looked at before: it has to be the same directory still. */
static int gather_share(const struct sandbox_share *share, int idmap, int *out, struct dayfly_err *err)
{
    struct stat was, is;
    int fd = mounts_copy(share->source);
    if (fd < 0)
        return err_errno(err, -fd, "share %s", share->source);
    *out = fd;
    if (fstat(share->fd, &was) < 0 || fstat(fd, &is) < 0 || was.st_dev != is.st_dev ||
        was.st_ino != is.st_ino)
        return err_set(err, ESTALE, "share %s: it was replaced meanwhile", share->source);
    uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if (share->mode != DAYFLY_SHARE_RW)
        attributes |= MOUNT_ATTR_RDONLY;
    int r = mounts_restrict(fd, attributes);
    if (r < 0)
        return err_errno(err, -r, "share %s", share->source);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)idmap};
    if (idmap >= 0 && mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(
            err, errno,
            "share %s: its file system cannot show its owner as the job; ids=identity does "
            "without",
            share->source);
    return 0;
}

int gather(const struct setup *setup, struct setup_gathered *out, struct dayfly_err *err)
{
    const struct sandbox_options *options = setup->options;
    int r = 0;
    *out = (struct setup_gathered){.image = -1};
    for (int i = 0; i < SETUP_DEVICES; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/dev/%s", setup_devices[i]);
        if ((out->devices[i] = mounts_copy(path)) < 0)
            return err_errno(err, -out->devices[i], "the host's %s", path);
    }
    if (options->root_fd >= 0 && (out->image = mount_image(options->root_fd, err)) < 0)
        return err_wrap(err, "the image's root file system");
    for (int i = 0; i < SETUP_HOST_FOLDERS && r == 0; i++) {
        out->folders[i] = -1;
        if (options->root_fd < 0)
            r = gather_folder(setup_host_folders[i], &out->folders[i], err);
    }
    for (size_t i = 0; i < options->share_count && r == 0; i++) {
        if ((out->shares[i] = setup->cow_fds[i]) < 0)
            r = gather_share(&options->shares[i], setup->idmap_fds[i], &out->shares[i], err);
    }
    return r;
}
