/* SPDX-License-Identifier: Apache-2.0 */
#include "util/nameless.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "util/arith.h"
#include "util/err.h"

int nameless_file_open(const char *dir, const char *what, struct dayfly_err *err)
{
    const char *const places[] = {dir, getenv("TMPDIR"), "/var/tmp", "/tmp"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        if (!places[i])
            continue;
        int fd = open(places[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            return fd;
        /* EISDIR is what an old kernel says, ENOENT and EACCES what a missing or foreign folder says.
         */
        if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EACCES &&
            errno != EROFS)
            return err_errno(err, errno, "make %s in %s", what, places[i]);
    }
    return err_set(
        err, EOPNOTSUPP,
        "no file system for %s: %s%s/var/tmp and /tmp have no unnamed files; set TMPDIR to a "
        "folder on ext4, xfs, btrfs or tmpfs",
        what, dir ? dir : "", dir ? ", " : "");
}
