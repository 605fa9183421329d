/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_IDMAP_H
#define SANDBOX_IDMAP_H

#include <sys/types.h>

#include "dayfly/error.h"

/*
 * A user namespace for an idmapped mount (mount_setattr(2)) that shows files of `uid` and `gid` as
 * those of `shown_uid` and `shown_gid`, and makes new ones the other way round. All others' are
 * nobody's there. Returns its descriptor, or -errno.
 */
int idmap_make(uid_t uid, gid_t gid, uid_t shown_uid, gid_t shown_gid, struct dayfly_err *err);

/* Write "INSIDE OUTSIDE 1" to /proc/PID/FILE (uid_map or gid_map, and setgroups as that needs). */
int idmap_write(pid_t pid, const char *file, uid_t inside, uid_t outside);

#endif
