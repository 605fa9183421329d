/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_BOOT_H
#define BENCH_BOOT_H

/*
 * The table of `dayfly bench boot`: one start, phase by phase, in one engine; of several sizes of
 * memory and numbers of processors in turn.
 *
 * A run is `dayfly run --trace`, executed anew. The moments in it are that program's own trace
 * (util/trace.h); the first, the last, and those between which the job waits are this process's. All of
 * them are of one clock, CLOCK_MONOTONIC. A phase is the time from one moment to the next that was
 * reached, so that the phases of a run add up to all of it.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/host.h"
#include "bench/stats.h"
#include "dayfly/error.h"
#include "job/job.h"
#include "util/trace.h"

#define BOOT_MAX_ROUNDS 1000
#define BOOT_MAX_CASES  16

enum boot_moment {
    BOOT_BEGIN, /* this process forks */
    /* The trace's, up to the command's start. */
    BOOT_TRACE,
    BOOT_WORDS = BOOT_TRACE + TRACE_STARTED + 1, /* the job's first words are here */
    BOOT_RELEASED,                               /* its input ends, and with it the job */
    BOOT_ENDED,
    BOOT_DESTROYED,
    BOOT_GONE, /* no process of it is left */
    BOOT_MOMENTS,
};

/* Spans over several phases, and other figures. */
enum boot_sum {
    BOOT_TO_ENTERED,   /* the monitor's part */
    BOOT_TO_HELLO,     /* to the agent's answer */
    BOOT_TO_WORDS,     /* to the first command */
    BOOT_TO_GONE,      /* from the end of the job's input until nothing is left */
    BOOT_MEMORY_MIB,   /* of all processes, beside the guest's memory (PSS) */
    BOOT_IDLE_OPEN,    /* a place in which nothing ever runs: find what it needs */
    BOOT_IDLE_CREATE,  /* make it */
    BOOT_IDLE_DESTROY, /* and remove it */
    BOOT_SUMS,
};

struct boot_options {
    const char *image;
    const char *engine; /* the word of dayfly run's --engine */
    enum job_wall wall; /* what that means */
    enum dayfly_engine machine;
    unsigned rounds;
    /* The first of each is the usual case; each other is a case that differs from it in this alone. 0:
     * what dayfly run takes by itself. */
    unsigned cpus[BOOT_MAX_CASES];
    uint64_t memory_bytes[BOOT_MAX_CASES];
    size_t cpus_count, memory_count;
    uint64_t limit_ns; /* of one run */
    int signal_fd;     /* a signal there ends it: what was measured until then stays */
    void (*say)(void *opaque, const char *text); /* what goes on, for people; NULL at the end */
    void *opaque;
};

struct boot_case {
    unsigned cpus;
    uint64_t memory_bytes;
    double *phases[BOOT_MOMENTS]; /* ms from the moment before it; one a round; NAN: not reached */
    double *since[BOOT_MOMENTS];  /* ms from BOOT_BEGIN */
    double *sums[BOOT_SUMS];
    bool has_exits;
    struct trace_exits booted, ended; /* of the last run */
};

struct boot {
    const struct boot_options *options;
    struct bench_host host;
    struct boot_case cases[BOOT_MAX_CASES];
    size_t case_count;
    unsigned rounds; /* that were done */
    char load_before[HOST_TEXT_BYTES], load_after[HOST_TEXT_BYTES];
    int interrupted; /* the signal, or 0 */
};

/* 0: *out is the table, perhaps cut off by a signal; the caller finishes it, also after a failure. */
int boot_run(const struct boot_options *options, struct boot *out, struct dayfly_err *err);
void boot_finish(struct boot *boot); /* safe on a zeroed one */

/* The cases that the options ask for, or one more, with nothing measured yet (boot_cases.c). */
int boot_make_cases(struct boot *boot, struct dayfly_err *err);
int boot_add_case(struct boot *boot, unsigned cpus, uint64_t memory_bytes, struct dayfly_err *err);

/* What a moment, or sum, is called in JSON. */
const char *boot_moment_name(enum boot_moment moment);
const char *boot_sum_name(enum boot_sum sum);

/* "1 GiB, 2 processors", or "as dayfly run has it" */
const char *boot_case_text(const struct boot_case *c, char out[64]);

/* The table: as text; as JSON, NULL when memory runs out (boot_say.c). */
void boot_say_text(const struct boot *boot, FILE *out);
json_t *boot_say_json(const struct boot *boot);

#endif
