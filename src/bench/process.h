/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

/* The processes that a measured run consists of: all that descend from this one. It is their reaper
 * (PR_SET_CHILD_SUBREAPER), so that a daemon of a run's does not get away from it. */

#include <stdint.h>
#include <sys/types.h>

/* In the environment of a job's own processes, which are no cost of the place. NAME=VALUE. */
#define PROCESS_JOB_MARK "DAYFLY_BENCH_JOB=1"

/* Become the reaper. */
int process_adopt(void);

/*
 * Memory of all descendants, in bytes: what is theirs, and their part of what they share (PSS), without
 * a guest's memory and without the job's own processes where those can be seen. -errno when there is
 * none that could be looked at.
 */
int64_t process_overhead(void);

/* Kill all descendants, and reap them. */
void process_kill_all(void);

#endif
