/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

/*
 * What is run in each row, the same in all of them: scripts for any /bin/sh, and an archive with what
 * they need, which they read from their standard input and unpack below their working directory.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dayfly/error.h"

/* Where a job works, below its working directory. */
#define WORK_FOLDER "dayfly-bench"

/* Say what programs are there, and wait for the end of the input. */
extern const char work_look[];
/* Say that it runs, and wait for the end of the input. */
extern const char work_start[];
/* $1 is the command that builds; `nproc` is the processors' number. */
extern const char work_build[];
/* $1 is the size in MiB, $2 the seconds of each kind; by fio, or by our own program. */
extern const char work_disk_fio[];
extern const char work_disk_own[];

/* Debian's source package of Lua, for which this builds what Lua's own "make posix" does. */
#define WORK_SOURCE_PACKAGE "lua5.4"
#define WORK_SOURCE_BUILD   "make -j\"$(nproc)\" posix"
#define WORK_BUILD          "make -j\"$(nproc)\""

/*
 * Pack `path`, a directory or an archive of any kind that libarchive reads, as an uncompressed tar in
 * memory. Returns its descriptor, or -errno.
 */
int work_pack(const char *path, struct dayfly_err *err);

/* The same for our own exerciser of disks (disk.c). */
int work_pack_disk(struct dayfly_err *err);

#endif
