/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shared directory: its descriptors, and whether its inodes can be found by handle.
 *
 * A handle opens a file wherever it is now, without the directories above it: like a descriptor that is
 * held, it survives what the host renames, also to outside of the directory. open_by_handle_at(2) wants
 * CAP_DAC_READ_SEARCH in the initial user namespace and a file system that has handles; that is tried,
 * since nothing else tells. Squashed exports are served without capabilities, hence without handles.
 * Handles never come from the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "fs/inode_table.h"
#include "fs/thread.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

static bool handles_work(int fd, int mount_fd)
{
    union handle handle = {.fh.handle_bytes = MAX_HANDLE_SZ};
    int mount_id;
    if (name_to_handle_at(fd, "", &handle.fh, &mount_id, AT_EMPTY_PATH) < 0)
        return false;
    _cleanup_close_ int again = open_by_handle_at(mount_fd, &handle.fh, O_PATH | O_CLOEXEC);
    struct statx a, b;
    if (again < 0 || statx(fd, "", AT_EMPTY_PATH, IDENTITY_MASK, &a) < 0 ||
        statx(again, "", AT_EMPTY_PATH, IDENTITY_MASK, &b) < 0)
        return false;
    struct inode_identity ours = identity_of(&a, true), theirs = identity_of(&b, true);
    return identity_equal(&ours, &theirs);
}

/*
 * What the file system's kind says. Local ones have one page cache: over a network others change files
 * behind it, and what was written may fail to arrive at the close. On overlayfs a file that was mapped
 * for reading stays that of the lower layer when it is written to.
 */
static void judge(struct export *export)
{
    static const uint64_t local[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,  BTRFS_SUPER_MAGIC,
                                     TMPFS_MAGIC,      F2FS_SUPER_MAGIC, EROFS_SUPER_MAGIC_V1};
    struct statfs st;
    if (fstatfs(export->fd, &st) < 0)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(local); i++)
        export->mappable |= (uint64_t)st.f_type == local[i];
    export->local = export->mappable || st.f_type == OVERLAYFS_SUPER_MAGIC;
}

int export_init(struct export *export, const struct fs_directory *directory, struct dayfly_err *err)
{
    const char *what = directory->name ? directory->name : "shared directory";
    *export = (struct export){
        .read_only = directory->read_only, .idmap = directory->idmap, .fd = -1, .mount_fd = -1};
    if (fs_idmap_check(&directory->idmap) < 0)
        return err_set(err, EINVAL,
                       "%s: the map of users has a range that is empty, too large or double", what);
    if (fs_thread_check_idmap(&directory->idmap, err) < 0)
        return err_wrap(err, "%s", what);
    if (directory->name && !(export->name = strdup(directory->name)))
        return err_set(err, ENOMEM, "%s: out of memory", what);

    struct statx stx;
    export->fd = openat(directory->fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (export->fd < 0 || statx(export->fd, "", AT_EMPTY_PATH, IDENTITY_MASK, &stx) < 0)
        return err_errno(err, errno, "%s", what);
    judge(export);
    export->dev_major = stx.stx_dev_major;
    export->dev_minor = stx.stx_dev_minor;
    bool births = births_reliable(export->fd);
    struct inode_identity identity = identity_of(&stx, births);
    export->root = inode_make(export, &identity, S_IFDIR, births);
    if (!export->root)
        return err_set(err, ENOMEM, "%s: out of memory", what);

    if (directory->idmap.kind == FS_IDMAP_SQUASH)
        return 0;
    export->mount_fd = openat(directory->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    export->by_handle = export->mount_fd >= 0 && handles_work(export->fd, export->mount_fd);
    if (!export->by_handle)
        close_fd(&export->mount_fd);
    return 0;
}

void export_finish(struct export *export)
{
    close_fd(&export->fd);
    close_fd(&export->mount_fd);
    free(export->name);
    free(export->root);
}
