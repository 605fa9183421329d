/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_RUN_TELL_H
#define CLI_RUN_TELL_H

/* What `dayfly run` says on stderr to whoever called it, and their terminal. */

#include <jansson.h>
#include <termios.h>

#include "run_options.h"

/* Raw mode for the caller's terminal. */
struct raw_terminal {
    bool active;
    struct termios before;
};

/* Give it back, if it was taken. */
void raw_terminal_leave(struct raw_terminal *raw);

/* While the job runs. One line of progress is rewritten in place, on a terminal only. All is borrowed.
 */
struct teller {
    const struct run_options *options;
    const struct job_step *steps;
    size_t step_count;
    struct raw_terminal raw; /* entered when the machine is up, for a command on a terminal */
    bool on_terminal;        /* stderr is one */
    bool line_open;
};

/* The callbacks of struct job_options; opaque is the teller. */
void tell_progress(void *opaque, const char *what);
void tell_step(void *opaque, size_t index);
void tell_engine(void *opaque, const char *engine, const char *why);

/* Afterwards: how the command ended, for which `status` is the exit status. */
void tell_outcome(const struct call *call, const struct run_request *request,
                  const struct job_result *result, int status);

/* What did not come; frees the rows. Returns the exit status for a command that ended with `status`:
 * its own failure is the better answer. */
int tell_artifacts(const struct call *call, const struct run_options *options,
                   struct job_artifact_result *artifacts, int status);

/* What did not become of a cache, though it was asked for. */
void tell_caches(const struct call *call, const struct run_options *options, const json_t *ended);

void tell_times(const struct job_timings *t);

/* The last lines that the guest's kernel printed. Changes the text. */
void tell_console(char *console);

#endif
