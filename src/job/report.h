/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_REPORT_H
#define JOB_REPORT_H

/*
 * The report of a job: one JSON object, written when nothing of the job is left (doc/report.md). Begun
 * while its machine is still there to be asked, ended with the times.
 *
 *   dayfly, engine, why, image, kernel_release
 *   error         of a run that failed: why. There are then only dayfly, exit and audit beside it
 *   start_state   {digest, kernel, image, agent, machine}, and caches where there are some
 *   timings_ms    {create, boot, ready, command, destroy, total}
 *   shares        [{source, path, mode}]: what start_state does not cover the content of
 *   network       {mode}, and of a nat {names, refused, ...}: what it asked for and was refused
 *   exit          {code, signal, timed_out}
 *   audit         {clean, left: [{kind, name}]}: by the caller, when all is gone (audit.h)
 *   steps         when there are some: [{name, ms, code, signal, timed_out}], of those that ran
 *   artifacts     when there were to be some: rows as in job/artifact.h
 *   caches        when there are some: rows as in job/cache.h; by job.c, when they have been promoted
 *   jail          of a machine: {whole, lacks}, as dayfly_vm_jail says
 *   resources     {cpu_ms, guest_memory_peak_bytes, overhead_bytes}
 */

#include <jansson.h>
#include <sys/types.h>

#include "job/guest_pump.h"
#include "job/start_state.h"

struct job_timings;

struct report_facts {
    const char *image, *engine, *why, *kernel_release;
    const char *jail_lacks; /* what dayfly_vm_jail writes; NULL: there is no machine */
    struct proto_stat stat;
    int64_t overhead_bytes; /* negative: not known */
    json_t *network;        /* from job_net_report; taken */
    json_t *artifacts;      /* borrowed; NULL: none were to be copied */
    json_t *steps;          /* from report_step, borrowed; NULL: none */
};

/* NULL when memory runs out. */
json_t *report_begin(const struct report_facts *facts, const struct start_state *state,
                     const struct guest_result *guest);
/* Of a run that dayfly ended, for `why`, with `status`: {dayfly, error, exit}. NULL when memory runs
 * out. */
json_t *report_of_failure(const char *why, int status);
int report_end(json_t *report, const struct job_timings *timings);

/* Append a step that has ended; *steps is made with the first one. 0 or -ENOMEM. */
int report_step(json_t **steps, const char *name, uint64_t ns, const struct guest_result *guest);

/* Beside guest memory, of this process and of `helper` (0: none). */
int64_t report_overhead(pid_t helper);

#endif
