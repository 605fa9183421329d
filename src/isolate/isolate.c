/* SPDX-License-Identifier: Apache-2.0 */
#include "isolate/isolate.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "util/arith.h"
#include "util/err.h"

static int note(int result, enum isolate_stage stage, unsigned *applied)
{
    if (result > 0)
        *applied |= stage;
    return result < 0 ? result : 0;
}

/* Becoming another user clears the signal for the parent's death (prctl(2)). */
static int change_user(const struct isolate_options *options, struct dayfly_err *err)
{
    int death_signal = 0;
    prctl(PR_GET_PDEATHSIG, &death_signal);
    int r = isolate_user(options->uid, options->gid, err);
    if (r > 0 && death_signal)
        prctl(PR_SET_PDEATHSIG, death_signal);
    return r;
}

int isolate_thread(const struct isolate_options *options, unsigned *applied, struct dayfly_err *err)
{
    size_t tables = 0;
    while (tables < ISOLATE_TABLES_MAX && options->calls[tables].count)
        tables++;
    *applied = 0;
    int r = note(isolate_namespaces(options, err), ISOLATE_NAMESPACES, applied);
    if (r == 0 && options->change_user)
        r = note(change_user(options, err), ISOLATE_USER, applied);
    if (r == 0)
        r = note(isolate_capabilities(options->capabilities, err), ISOLATE_CAPABILITIES, applied);
    if (r == 0 && !options->no_landlock)
        r = note(isolate_landlock(options, err), ISOLATE_LANDLOCK, applied);
    if (r == 0)
        r = note(options->program ? isolate_program(options->program, err)
                                  : isolate_seccomp(options->calls, tables, err),
                 ISOLATE_SECCOMP, applied);
    return r < 0 ? err_wrap(err, "lock up a thread") : 0;
}

unsigned isolate_wanted(const struct isolate_options *options)
{
    return ISOLATE_NAMESPACES | ISOLATE_CAPABILITIES | ISOLATE_LANDLOCK | ISOLATE_SECCOMP |
           (options->change_user ? ISOLATE_USER : 0);
}

bool isolate_add_calls(struct isolate_options *options, const struct isolate_calls *const *tables)
{
    for (; *tables; tables++) {
        size_t i = 0;
        while (i < ISOLATE_TABLES_MAX && options->calls[i].count &&
               options->calls[i].calls != (*tables)->calls)
            i++;
        if (i == ISOLATE_TABLES_MAX)
            return false;
        options->calls[i] = **tables;
    }
    return true;
}

bool isolate_is_filtered(void)
{
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER;
}

char *isolate_stage_names(unsigned stages, char text[static ISOLATE_STAGES_BYTES])
{
    static const char *const names[] = {"namespaces", "user", "capabilities", "landlock", "seccomp"};
    int len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (stages >> i & 1)
            len += snprintf(text + len, (size_t)(ISOLATE_STAGES_BYTES - len), "%s%s", len ? ", " : "",
                            names[i]);
    return text;
}
