/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the disks of a description make sense, and whether this host can attach them: files that are
 * raw images or devices, that nobody else has, and that can do what is asked of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/disk_file.h"
#include "config/disk_lock.h"
#include "config/validate.h"
#include "util/arith.h"
#include "util/cleanup.h"

enum { SECTOR_BYTES = 512, SECTOR_MAX_BYTES = 4096 };

/* What is said of an ephemeral disk beside its file. */
static void check_scratch(struct validator *v, const struct config_disk *disk, size_t index)
{
    struct stat st;
    place where;
    snprintf(where, sizeof(where), "disks[%zu].ephemeral", index);
    if (disk->ephemeral && disk->read_only)
        validate_fault(v, where, "leave out one of the two", "the disk is read-only as well");
    snprintf(where, sizeof(where), "disks[%zu].scratch", index);
    if (!disk->scratch || !*disk->scratch)
        return;
    if (!disk->ephemeral)
        validate_fault(v, where, "say `ephemeral: true` as well", "only an ephemeral disk has one");
    else if (stat(disk->scratch, &st) < 0)
        validate_cannot_use(v, where, disk->scratch, "folder", errno, "write");
    else if (!S_ISDIR(st.st_mode))
        validate_fault(v, where, NULL, "%s is a file", disk->scratch);
}

/* Whether a descriptor that was given is one of a disk. False when there is nothing more to look at. */
static bool check_descriptor(struct validator *v, const char *where, int fd, bool reads,
                             struct stat *st)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, st) < 0) {
        validate_fault(v, where, NULL, "descriptor %d is not open", fd);
        return false;
    }
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        validate_fault(v, where, NULL, "descriptor %d is neither a regular file nor a block device",
                       fd);
    if ((flags & O_ACCMODE) == O_WRONLY || (!reads && (flags & O_ACCMODE) != O_RDWR))
        validate_fault(v, where, reads ? NULL : "open it with O_RDWR, or make the disk read-only",
                       "descriptor %d is not open for %s", fd,
                       reads ? "reading" : "reading and writing");
    return S_ISREG(st->st_mode) || S_ISBLK(st->st_mode);
}

static void check_size(struct validator *v, const char *where, const char *name, const struct stat *st)
{
    if (st->st_size == 0)
        validate_fault(v, where, "give it a size: truncate -s 1G FILE", "%s is empty", name);
    else if (st->st_size % SECTOR_BYTES)
        validate_fault(v, where, "a disk's size is a multiple of 512 bytes; is it a raw image?",
                       "%s has %lld bytes", name, (long long)st->st_size);
}

/* Such a device cannot even be opened for writing, and the reason that comes back is a poor one. */
static bool is_read_only_device(const char *path)
{
    struct stat st;
    int read_only = 0;
    if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
        return false;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd >= 0 && ioctl(fd, BLKROGET, &read_only) == 0 && read_only;
}

static void check_device(struct validator *v, const char *where, const char *name, int fd)
{
    uint64_t size;
    int sector;
    if (ioctl(fd, BLKGETSIZE64, &size) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0) {
        validate_fault(v, where, NULL, "%s does not say its size", name);
        return;
    }
    if (size == 0)
        validate_fault(v, where, "put a medium into it, or set it up", "%s is empty", name);
    if (sector > SECTOR_MAX_BYTES)
        validate_fault(v, where, "4096 is the most", "%s has sectors of %d bytes", name, sector);
}

static void check_free(struct validator *v, const char *where, const char *name, int fd, bool is_device,
                       bool reads)
{
    if (disk_lock_probe(fd, reads) == -EBUSY) {
        validate_fault(v, where, "stop the other machine, or use a copy", "%s is in use %selsewhere",
                       name, reads ? "for writing " : "");
    } else if (is_device && !reads) {
        _cleanup_close_ int claim = disk_claim(fd);
        if (claim == -EBUSY)
            validate_fault(v, where, "unmount it, or end what holds it",
                           "%s is mounted, or held by another program", name);
    }
}

static void check_direct(struct validator *v, size_t index, const char *name, int fd, bool reads,
                         uint64_t size)
{
    struct disk_direct direct;
    _cleanup_close_ int opened = disk_direct_open(fd, reads, &direct);
    place where;
    snprintf(where, sizeof(where), "disks[%zu].cache", index);
    if (opened == -EOPNOTSUPP)
        validate_fault(v, where, "write `cache: cached`, or keep it on ext4, xfs or btrfs",
                       "%s is on a file system without direct I/O", name);
    else if (opened < 0)
        validate_cannot_use(v, where, name, "file", -opened, "open");
    else if (!is_aligned(size, direct.file_bytes))
        validate_fault(v, where, "write `cache: cached`, or make it larger",
                       "%s has %llu bytes, and direct I/O there takes a multiple of %u", name,
                       (unsigned long long)size, direct.file_bytes);
}

static void check_disk(struct validator *v, const struct config_disk *disk, size_t index)
{
    _cleanup_close_ int opened = -1;
    int fd = disk->fd;
    const char *name = disk->path ? disk->path : "the file";
    bool reads = disk->read_only || disk->ephemeral;
    struct stat st;
    place where;
    check_scratch(v, disk, index);
    snprintf(where, sizeof(where), "disks[%zu].path", index);
    if (disk->path) {
        if (!*disk->path)
            return;
        if (!reads && is_read_only_device(disk->path)) {
            validate_fault(v, where, "write `read_only: true`", "%s is a read-only device", name);
            return;
        }
        fd = opened = validate_open(v, where, disk->path, reads ? O_RDONLY : O_RDWR, true, &st);
        if (fd < 0)
            return;
    } else if (fd < 0 || !check_descriptor(v, where, fd, reads, &st)) {
        return; /* a missing one has been reported already */
    }
    bool is_device = S_ISBLK(st.st_mode);
    if (is_device)
        check_device(v, where, name, fd);
    else if (S_ISREG(st.st_mode))
        check_size(v, where, name, &st);
    check_free(v, where, name, fd, is_device, reads);
    if (disk->cache == DAYFLY_DISK_CACHE_DIRECT)
        check_direct(v, index, name, fd, reads, is_device ? 0 : (uint64_t)st.st_size);
    validate_use(v, where, &st, !reads);
}

void validate_disks(struct validator *v, const struct dayfly_config *config)
{
    for (size_t i = 0; i < MIN(config->disk_count, (size_t)CONFIG_MAX_DISKS); i++)
        check_disk(v, &config->disks[i], i);
}
