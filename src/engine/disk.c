/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/disk.h"

#include <errno.h>
#include <fcntl.h>

#include "block/ephemeral.h"
#include "block/patient.h"
#include "util/err.h"

/* The meanings of `auto`: include/dayfly/config.h says why. */
static bool syncs(const struct config_disk *disk)
{
    return disk->sync == DAYFLY_DISK_SYNC_AUTO ? !disk->ephemeral : disk->sync != DAYFLY_DISK_SYNC_NONE;
}

static bool waits_for_room(const struct config_disk *disk)
{
    if (disk->read_only)
        return false;
    return disk->on_full == DAYFLY_DISK_FULL_AUTO ? !disk->ephemeral
                                                  : disk->on_full == DAYFLY_DISK_FULL_PAUSE;
}

/* The layers below the one that waits. */
static int open_lower(struct block **out, const struct config_disk *disk, const char *name,
                      const struct log *log, struct dayfly_err *err)
{
    bool reads = disk->read_only || disk->ephemeral;
    bool direct = disk->cache == DAYFLY_DISK_CACHE_DIRECT, unsynced = !syncs(disk);
    int fd = disk->path ? open(disk->path, (reads ? O_RDONLY : O_RDWR) | O_CLOEXEC)
                        : fcntl(disk->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, errno, "open disk %s", name);
    const struct block_ephemeral_options ephemeral = {
        .base_fd = fd, .dir = disk->scratch, .log = log, .direct = direct, .unsynced = unsynced};
    const struct block_raw_options raw = {.fd = fd,
                                          .read_only = disk->read_only,
                                          .io = BLOCK_IO_AUTO,
                                          .direct = direct,
                                          .unsynced = unsynced};
    int rc =
        disk->ephemeral ? block_ephemeral_open(out, &ephemeral, err) : block_raw_open(out, &raw, err);
    return rc < 0 ? err_wrap(err, "disk %s", name) : 0;
}

int disk_attach(struct attached_disk *out, const struct config_disk *disk, const struct log *log,
                struct dayfly_err *err)
{
    const char *name = disk->path ? disk->path : disk->id ? disk->id : "disk";
    *out = (struct attached_disk){0};
    int rc = open_lower(&out->block, disk, name, log, err);
    if (rc < 0 || !waits_for_room(disk))
        return rc;
    const struct block_patient_options patient = {.lower = out->block, .name = name, .log = log};
    if ((rc = block_patient_open(&out->patient, &patient, err)) < 0)
        return rc;
    out->block = out->patient;
    return 0;
}
