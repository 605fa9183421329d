/* SPDX-License-Identifier: Apache-2.0 */
#include "run_tell.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/text.h"

void raw_terminal_leave(struct raw_terminal *raw)
{
    if (raw->active)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw->before);
    raw->active = false;
}

static void raw_terminal_enter(struct raw_terminal *raw)
{
    struct termios mode;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &raw->before) < 0)
        return;
    mode = raw->before;
    cfmakeraw(&mode);
    raw->active = tcsetattr(STDIN_FILENO, TCSADRAIN, &mode) == 0;
}

static void close_line(struct teller *teller)
{
    if (teller->line_open)
        fputs("\r\033[K", stderr);
    teller->line_open = false;
}

void tell_progress(void *opaque, const char *what)
{
    struct teller *teller = opaque;
    close_line(teller);
    if (!what && teller->options->tty && !teller->raw.active)
        raw_terminal_enter(&teller->raw); /* the machine is up: from now on keys are the command's */
    if (!what || !teller->on_terminal || teller->options->quiet)
        return;
    fprintf(stderr, "dayfly: %s...", what);
    fflush(stderr);
    teller->line_open = true;
}

void tell_step(void *opaque, size_t index)
{
    struct teller *teller = opaque;
    if (teller->options->quiet)
        return;
    close_line(teller);
    fprintf(stderr, "dayfly: [%zu/%zu] %s%s\n", index + 1, teller->step_count,
            teller->steps[index].name, teller->raw.active ? "\r" : "");
}

void tell_engine(void *opaque, const char *engine, const char *why)
{
    struct teller *teller = opaque;
    /* A person who asked for nothing must know when a job is slow, and why. */
    bool surprising = strcmp(engine, "tcg") == 0 && strcmp(teller->options->engine, "auto") == 0;
    if (!teller->options->verbose && (!surprising || teller->options->quiet))
        return;
    close_line(teller);
    fprintf(stderr, "dayfly: engine %s (%s)\n", engine, why);
}

void tell_times(const struct job_timings *t)
{
    fprintf(stderr,
            "dayfly: created in %.0f ms, booted after %.0f ms, ready after %.0f ms; "
            "command %.0f ms; destroyed in %.0f ms; total %.0f ms\n",
            (double)t->create_ns / 1e6, (double)t->boot_ns / 1e6, (double)t->ready_ns / 1e6,
            (double)t->command_ns / 1e6, (double)t->destroy_ns / 1e6, (double)t->total_ns / 1e6);
}

/* Where a kernel that died begins to say why; NULL when it does not. */
static char *first_fault(char *console)
{
    static const char *const marks[] = {"BUG: ",       "Oops: ",    "general protection fault",
                                        "int3: ",      "WARNING: ", "stack segment",
                                        "Kernel panic"};
    char *first = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
        char *at = strstr(console, marks[i]);
        if (at && (!first || at < first))
            first = at;
    }
    while (first && first > console && first[-1] != '\n')
        first--;
    return first;
}

/* Where the last `lines` lines begin. */
static char *last_lines(char *console, int lines)
{
    char *start = console + strlen(console);
    for (; start > console; start--)
        if (start[-1] == '\n' && lines-- == 0)
            break;
    return start;
}

void tell_console(char *console)
{
    char *fault = first_fault(console), *start = last_lines(console, fault ? 60 : 12);
    if (fault && fault > start)
        start = fault;
    fputs("dayfly: the guest's kernel said:\n", stderr);
    for (char *rest = start, *line; (line = strtok_r(rest, "\r\n", &rest));) {
        text_make_printable(line);
        fprintf(stderr, "%s\n", line);
    }
}

void tell_outcome(const struct call *call, const struct run_request *request,
                  const struct job_result *result, int status)
{
    const struct run_options *options = &request->options;
    const struct guest_result *guest = &result->guest;
    if (guest->outcome == GUEST_REFUSED)
        fprintf(stderr, "%s: %s %s: %s%s\n", call->name, proto_step_name(guest->refused.step),
                guest->refused.text, strerror((int)guest->refused.code),
                guest->refused.step == PROTO_STEP_COMMAND && guest->refused.text[0] == '-'
                    ? "; options of dayfly stand before the image"
                    : "");
    else if (guest->timed_out)
        fprintf(stderr, "%s: the command was ended after its %gs (--timeout)\n", call->name,
                (double)options->timeout / 1e9);
    else if (guest->outcome == GUEST_NONE)
        fprintf(stderr, "%s: the command was killed and did not end\n", call->name);
    if (status && request->step_count && !options->quiet)
        fprintf(stderr, "%s: %s failed with status %d\n", call->name,
                request->steps[result->last_step].name, status);
}

int tell_artifacts(const struct call *call, const struct run_options *options,
                   struct job_artifact_result *artifacts, int status)
{
    size_t i;
    json_t *row;
    json_array_foreach (artifacts->rows, i, row) {
        const char *guest = json_string_value(json_object_get(row, "guest"));
        const char *why = json_string_value(json_object_get(row, "skipped"));
        if (why)
            fprintf(stderr, "%s: artifact %s was left out: %s\n", call->name, guest, why);
        else if (json_object_get(row, "missing"))
            fprintf(stderr, "%s: nothing matches artifact %s\n", call->name, guest);
    }
    json_decref(artifacts->rows);
    artifacts->rows = NULL;
    if (artifacts->failed.code) {
        command_fail(call, &artifacts->failed);
        return status ? status : EXIT_DAYFLY;
    }
    bool lacks = artifacts->missing || artifacts->skipped;
    return lacks && options->artifact_required && !status ? EXIT_DAYFLY : status;
}

void tell_caches(const struct call *call, const struct run_options *options, const json_t *ended)
{
    static const struct {
        const char *outcome, *text;
        bool always;
    } texts[] = {
        {"untrusted", "was not promoted: the run is not marked --trusted", false},
        {"superseded", "was not promoted: another job's generation became current meanwhile", false},
        {"failed", "was not promoted", true},
    };
    size_t i;
    json_t *row;
    json_array_foreach (ended, i, row) {
        const char *outcome = json_string_value(json_object_get(row, "outcome"));
        const char *why = json_string_value(json_object_get(row, "why"));
        for (size_t t = 0; t < ARRAY_SIZE(texts); t++)
            if (outcome && strcmp(outcome, texts[t].outcome) == 0 &&
                (texts[t].always || !options->quiet))
                fprintf(stderr, "%s: cache %s %s%s%s\n", call->name,
                        json_string_value(json_object_get(row, "name")), texts[t].text, why ? ": " : "",
                        why ? why : "");
    }
}
