/* SPDX-License-Identifier: Apache-2.0 */
/* Stage 4: landlock(7). Files below the given directories and nowhere else, whatever path or magic link
 * leads there; below a read-only one, only reading. And no Unix sockets by name but those in the file
 * system, which somebody with the host's network would have else. */
#include <errno.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/isolate.h"
#include "util/cleanup.h"
#include "util/err.h"

/* Newer than Debian 12's headers; the numbers are the kernel's interface. */
#define ACCESS_FS_TRUNCATE  (UINT64_C(1) << 14) /* ABI 3 */
#define ACCESS_FS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define SCOPE_ABSTRACT_UNIX (UINT64_C(1) << 0)  /* ABI 6, as the next */
#define SCOPE_SIGNAL        (UINT64_C(1) << 1)

struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* ABI 4 */
    uint64_t scoped;             /* ABI 6 */
};

/* Before ABI 2 a rename or link between directories is always refused: not a file server's landlock. */
#define ABI_MIN 2

#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITING                                                                                        \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |  \
     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |        \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |     \
     LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | ACCESS_FS_TRUNCATE)

/* All that this kernel can tell apart. Device ioctls are allowed nowhere. */
static uint64_t handled(long abi)
{
    uint64_t all = READING | WRITING | LANDLOCK_ACCESS_FS_EXECUTE | ACCESS_FS_IOCTL_DEV;
    if (abi < 3)
        all &= ~ACCESS_FS_TRUNCATE;
    if (abi < 5)
        all &= ~ACCESS_FS_IOCTL_DEV;
    return all;
}

static uint64_t allowed(const struct isolate_dir *dir, uint64_t handled)
{
    struct stat st;
    uint64_t access = dir->read_only ? READING : READING | WRITING;
    if (dir->execute)
        access |= LANDLOCK_ACCESS_FS_EXECUTE;
    if (fstat(dir->fd, &st) == 0 && !S_ISDIR(st.st_mode))
        access &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                  LANDLOCK_ACCESS_FS_EXECUTE | ACCESS_FS_TRUNCATE;
    return access & handled;
}

int isolate_landlock(const struct isolate_options *options, struct dayfly_err *err)
{
    const struct isolate_dir *dirs = options->dirs;
    uint64_t scopes = SCOPE_ABSTRACT_UNIX | (options->no_signals ? SCOPE_SIGNAL : 0);
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < ABI_MIN)
        return 0;
    const struct ruleset_attr attr = {.handled_access_fs = handled(abi),
                                      .scoped = abi >= 6 ? scopes : 0};
    size_t attr_bytes = abi >= 6 ? sizeof(attr) : sizeof(attr.handled_access_fs);
    _cleanup_close_ int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, attr_bytes, 0);
    if (ruleset < 0)
        return err_errno(err, errno, "make a landlock ruleset");
    for (size_t i = 0; i < options->dir_count; i++) {
        const struct landlock_path_beneath_attr rule = {
            .parent_fd = dirs[i].fd,
            .allowed_access = allowed(&dirs[i], attr.handled_access_fs),
        };
        /* EBADFD: a memfd, which is in no tree, and not landlock's. */
        if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 &&
            errno != EBADFD)
            return err_errno(err, errno, "add a landlock rule");
    }
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        return err_errno(err, errno, "enter a landlock domain");
    return 1;
}
