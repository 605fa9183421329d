/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

/*
 * One measured run: a program from its start to the moment when the last process that it made is gone.
 * All times are this process's own (CLOCK_MONOTONIC), taken when a mark arrives (marks.h), so that they
 * mean the same whatever the program is and whatever clock its place has.
 */

#include <stdbool.h>
#include <stdint.h>

#include "bench/marks.h"
#include "dayfly/error.h"

struct run_request {
    const char *file;        /* to execute */
    const char *const *argv; /* NULL-terminated */
    int stdin_fd; /* what it reads, from the beginning; -1: a pipe, which ends once the job has begun */
    bool wants_memory; /* with stdin_fd -1: look at its processes while the job waits for that end */
    uint64_t limit_ns; /* it is killed then */
    int signal_fd;     /* a signal there ends it, and is left unread */
};

struct run_figures {
    struct marks marks;
    double begin_ms;        /* from its start to the job's first words */
    double work_s;          /* from there to the job's last words; NAN when it said none */
    double end_ms;          /* from those, or the end of its input, until all of it is gone */
    int64_t overhead_bytes; /* negative: not looked at, or not to be seen */
    /* The same as moments: the start, the first words, the end of the input, the end of all. 0: never.
     */
    uint64_t start_ns, begun_ns, released_ns, gone_ns;
};

/* 0; -EINTR: a signal ended it; -ETIME, -EIO: it took too long or failed, and err has its last words.
 * In any case nothing of it is left running. The caller has become its processes' reaper. */
int run_measure(const struct run_request *request, struct run_figures *out, struct dayfly_err *err);

#endif
