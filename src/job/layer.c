/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See layer.h. The file system has no journal: after a crash of its machine nobody reads it again. Its
 * UUID, hash seed and times are fixed, and its inode tables lazy, so that making it writes some hundred
 * KiB whatever its size: 3 ms for 64 MiB and 10 ms for 100 GiB.
 */
#include "job/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/program.h"

#define LAYER_UUID "6461796f-6c61-4579-8572-000000000001"

static int unnamed_file(const char *dir, struct dayfly_err *err)
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
            return err_errno(err, errno, "make the writable layer in %s", places[i]);
    }
    return err_set(
        err, EOPNOTSUPP,
        "no file system for the writable layer: %s, /var/tmp and /tmp have no unnamed files; "
        "set TMPDIR to a folder on ext4, xfs, btrfs or tmpfs",
        dir);
}

int layer_make(const char *dir, uint64_t bytes, struct dayfly_err *err)
{
    bytes = align_down(bytes, 4096);
    if (bytes < LAYER_MIN_BYTES || bytes > LAYER_MAX_BYTES)
        return err_set(err, EINVAL, "a disk of %llu bytes: it must have 16 MiB to 16 TiB",
                       (unsigned long long)bytes);
    _cleanup_close_ int fd = unnamed_file(dir, err);
    if (fd < 0)
        return fd;
    if (ftruncate(fd, (off_t)bytes) < 0)
        return err_errno(err, errno, "size the writable layer to %llu bytes",
                         (unsigned long long)bytes);

    /* mke2fs opens it by this name, in our own process table. */
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
    const char *const argv[] = {"mke2fs",
                                "-q",
                                "-F",
                                "-t",
                                "ext4",
                                "-b",
                                "4096",
                                "-m",
                                "0",
                                "-O",
                                "^has_journal,^resize_inode",
                                "-U",
                                LAYER_UUID,
                                "-E",
                                "lazy_itable_init=1,nodiscard,hash_seed=" LAYER_UUID,
                                path,
                                NULL};
    const char *const env[] = {"E2FSPROGS_FAKE_TIME=946684800", NULL};
    const struct program mke2fs = {.argv = argv,
                                   .env = env,
                                   .package = "e2fsprogs",
                                   .stdin_fd = -1,
                                   .stdout_fd = -1,
                                   .stderr_fd = -1};
    int r = program_run(&mke2fs, err);
    if (r < 0) {
        err_wrap(err, "format the writable layer");
        return r;
    }
    return steal_fd(&fd);
}
