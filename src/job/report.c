/* SPDX-License-Identifier: Apache-2.0 */
#include "job/report.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "job/job.h"
#include "job/overhead.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/json.h"
#include "util/text.h"

int64_t report_overhead(pid_t helper)
{
    int64_t own = overhead_of_process(0);
    int64_t other = helper ? overhead_of_process(helper) : 0;
    return own < 0 || other < 0 ? -1 : own + other;
}

static json_t *integer_or_null(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

static json_t *exit_json(const struct guest_result *guest)
{
    bool exited = guest->outcome == GUEST_EXITED;
    bool signalled = guest->outcome == GUEST_SIGNALED;
    int code = exited ? guest->code : signalled ? -1 : guest_result_status(guest);
    return json_pack("{s:o, s:o, s:b}", "code", integer_or_null(code), "signal",
                     integer_or_null(signalled ? guest->signal : -1), "timed_out", guest->timed_out);
}

static json_t *shares_json(const struct start_state *state)
{
    json_t *list = json_array();
    for (size_t i = 0; i < state->share_count; i++) {
        _cleanup_free_ char *source = strdup(state->shares[i].source);
        if (source)
            text_make_printable(source); /* JSON is UTF-8, a file's name need not be */
        json_t *item =
            source ? json_pack("{s:s, s:s, s:s}", "source", source, "path", state->shares[i].path,
                               "mode", config_mode_words[state->shares[i].mode])
                   : NULL;
        if (json_array_append_new(list, item) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *jail_json(const struct report_facts *facts)
{
    return json_pack("{s:b, s:s}", "whole", facts->jail_lacks[0] == '\0', "lacks", facts->jail_lacks);
}

json_t *report_begin(const struct report_facts *facts, const struct start_state *state,
                     const struct guest_result *guest)
{
    json_t *resources = json_pack("{s:I, s:I, s:o}", "cpu_ms", (json_int_t)(facts->stat.cpu_us / 1000),
                                  "guest_memory_peak_bytes", (json_int_t)facts->stat.memory_peak_bytes,
                                  "overhead_bytes", integer_or_null(facts->overhead_bytes));
    json_t *report = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "dayfly",
                               DAYFLY_VERSION, "engine", facts->engine, "why", facts->why, "image",
                               facts->image, "kernel_release", facts->kernel_release, "start_state",
                               start_state_json(state), "shares", shares_json(state), "network",
                               facts->network, "exit", exit_json(guest), "resources", resources);
    bool whole = report &&
                 (!facts->jail_lacks || json_object_set_new(report, "jail", jail_json(facts)) == 0) &&
                 (!facts->artifacts || json_object_set(report, "artifacts", facts->artifacts) == 0) &&
                 (!facts->steps || json_object_set(report, "steps", facts->steps) == 0);
    if (whole)
        return report;
    json_decref(report);
    return NULL;
}

json_t *report_of_failure(const char *why, int status)
{
    const struct guest_result exit = {.outcome = GUEST_EXITED, .code = status};
    _cleanup_free_ char *printable = strdup(why);
    if (!printable)
        return NULL;
    text_make_printable(printable);
    return json_pack("{s:s, s:s, s:o}", "dayfly", DAYFLY_VERSION, "error", printable, "exit",
                     exit_json(&exit));
}

int report_step(json_t **steps, const char *name, uint64_t ns, const struct guest_result *guest)
{
    _cleanup_free_ char *printable = strdup(name);
    if (!*steps)
        *steps = json_array();
    json_t *row = exit_json(guest);
    if (!printable || !*steps || !row) {
        json_decref(row);
        return -ENOMEM;
    }
    text_make_printable(printable);
    if (json_object_set_new(row, "name", json_string(printable)) < 0 ||
        json_object_set_new(row, "ms", json_ms(ns)) < 0) {
        json_decref(row);
        return -ENOMEM;
    }
    return json_array_append_new(*steps, row) < 0 ? -ENOMEM : 0;
}

int report_end(json_t *report, const struct job_timings *t)
{
    json_t *timings =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "create", json_ms(t->create_ns), "boot",
                  json_ms(t->boot_ns), "ready", json_ms(t->ready_ns), "command", json_ms(t->command_ns),
                  "destroy", json_ms(t->destroy_ns), "total", json_ms(t->total_ns));
    return json_object_set_new(report, "timings_ms", timings) < 0 ? -ENOMEM : 0;
}
