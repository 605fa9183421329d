/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_DISK_LOCK_H
#define CONFIG_DISK_LOCK_H

/*
 * Who may have a disk open at the same time: one writer, or any number of readers. Whoever opens a
 * disk's file takes an open-file-description lock on all of it, shared for reading, exclusive for
 * writing; it is gone with the last descriptor, so a killed process leaves nothing behind. A program
 * that locks otherwise (QEMU locks some bytes) is seen too where its lock excludes ours.
 */

#include <stdbool.h>

#include "dayfly/error.h"

/* Take the lock; `fd` is open for what is asked, `name` is for the message. Returns 0, -EBUSY (somebody
 * has it) or -errno. */
int disk_lock(int fd, bool read_only, const char *name, struct dayfly_err *err);

/* Give it back before the last descriptor is closed. */
void disk_unlock(int fd);

/* Whether disk_lock would succeed, without taking anything. Returns 0, -EBUSY or -errno. */
int disk_lock_probe(int fd, bool read_only);

#endif
