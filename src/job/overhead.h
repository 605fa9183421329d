/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_OVERHEAD_H
#define JOB_OVERHEAD_H

/*
 * What a machine costs its host beside guest memory: the proportional set size (PSS) of a process, less
 * its mappings of guest memory.
 */

#include <stdint.h>
#include <sys/types.h>

/* pid 0 is the calling process. Returns bytes, or -errno. */
int64_t overhead_of_process(pid_t pid);

#endif
