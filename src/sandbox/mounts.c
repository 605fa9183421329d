/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"

/* Not in Debian 12's headers everywhere; the kernel's interface. */
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

int mounts_make(const char *type, const struct mounts_setting *settings, uint64_t attributes,
                struct dayfly_err *err)
{
    _cleanup_close_ int fs = fsopen(type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return err_errno(err, errno, "file system %s", type);
    for (; settings && settings->key; settings++)
        if (fsconfig(fs, settings->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, settings->key,
                     settings->value, 0) < 0)
            return err_errno(err, errno, "file system %s: %s", type, settings->key);
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_errno(err, errno, "file system %s", type);
    int mount = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes);
    return mount < 0 ? err_errno(err, errno, "file system %s", type) : mount;
}

int mounts_copy(const char *path)
{
    int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    return fd < 0 ? -errno : fd;
}

int mounts_part(int dir, const char *name, mode_t mode)
{
    if (mkdirat(dir, name, 0700) < 0 || fchmodat(dir, name, mode, 0) < 0)
        return -errno;
    int fd = open_tree(dir, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int mounts_restrict(int mount, uint64_t attributes)
{
    struct mount_attr attr = {.attr_set = attributes};
    return mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

int mounts_attach(int mount, int target)
{
    int r = move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    return r < 0 ? -errno : 0;
}

int mounts_open(int root, const char *path, int flags, mode_t mode)
{
    const struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

/* The directory `part`, whose parent is open; made where it is missing. */
static int enter(int root, int parent, const char *part, const char *name, mode_t mode)
{
    int fd = mounts_open(root, part, O_PATH | O_DIRECTORY, 0);
    if (fd != -ENOENT)
        return fd;
    if (mkdirat(parent, name, mode) < 0)
        return -errno;
    return mounts_open(root, part, O_PATH | O_DIRECTORY, 0);
}

int mounts_directory(int root, const char *path, mode_t mode, struct dayfly_err *err)
{
    char part[MOUNTS_PATH_BYTES];
    size_t len = strlen(path);
    if (len >= sizeof(part))
        return err_set(err, ENAMETOOLONG, "the path %.80s... is too long", path);
    _cleanup_close_ int parent = -1;
    for (size_t i = 1, name = *path == '/'; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        int fd = enter(root, parent < 0 ? root : parent, part, part + name, mode);
        if (fd < 0)
            return err_errno(err, -fd, "the directory %s", part);
        close_fd(&parent);
        parent = fd;
        name = i + 1;
    }
    return steal_fd(&parent);
}

int mounts_place(int mount, int root, const char *path, struct dayfly_err *err)
{
    _cleanup_close_ int fd = mount, target = mounts_directory(root, path, 0755, err);
    if (target < 0)
        return target;
    int r = mounts_attach(fd, target);
    return r < 0 ? err_errno(err, -r, "mount on %s", path) : 0;
}
