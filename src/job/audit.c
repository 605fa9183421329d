/* SPDX-License-Identifier: Apache-2.0 */
/* See audit.h: the comparing half. Both looks are sorted, and walked side by side. */
#include "job/audit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "job/audit_list.h"
#include "util/arith.h"
#include "util/err.h"
#include "util/text.h"

#define LOOKS         10
#define LOOK_AGAIN_NS (20 * 1000 * 1000)

#define FOLDERS 4

struct audit {
    struct audit_options options;
    char *ours[FOLDERS + 1];
    struct audit_list before;
};

void audit_add(struct audit_list *list, const char *kind, const char *fmt, ...)
{
    if (list->count == list->room) {
        size_t room = MAX(list->room * 2, (size_t)64);
        void *bigger = reallocarray(list->things, room, sizeof(*list->things));
        if (!bigger) {
            list->incomplete = true;
            return;
        }
        list->things = bigger;
        list->room = room;
    }
    char *name;
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&name, fmt, args) < 0)
        list->incomplete = true;
    else
        list->things[list->count++] = (struct audit_thing){kind, name};
    va_end(args);
}

static int compare(const void *a, const void *b)
{
    const struct audit_thing *x = a, *y = b;
    int kind = strcmp(x->kind, y->kind);
    return kind ? kind : strcmp(x->name, y->name);
}

static void look(struct audit_list *list, const struct audit_options *options)
{
    audit_look(list, options);
    if (list->count)
        qsort(list->things, list->count, sizeof(*list->things), compare);
}

static void list_finish(struct audit_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->things[i].name);
    free(list->things);
    *list = (struct audit_list){0};
}

int audit_begin(struct audit **out, const struct audit_options *options, struct dayfly_err *err)
{
    struct audit *audit = calloc(1, sizeof(*audit));
    if (!audit)
        return err_set(err, ENOMEM, "out of memory for the audit");
    audit->options = *options;
    audit->options.ours = (const char *const *)audit->ours;
    for (size_t i = 0; i < FOLDERS && options->ours && options->ours[i]; i++)
        if (!(audit->ours[i] = strdup(options->ours[i])))
            audit->before.incomplete = true;
    look(&audit->before, &audit->options);
    if (audit->before.incomplete) {
        audit_free(audit);
        return err_set(err, ENOMEM, "out of memory for the audit");
    }
    *out = audit;
    return 0;
}

/* Names come from the file system and from other programs: JSON is UTF-8. */
static void append(json_t *left, struct audit_thing *thing)
{
    text_make_printable(thing->name);
    json_array_append_new(left, json_pack("{s:s, s:s}", "kind", thing->kind, "name", thing->name));
}

/* Take out of `now` what `before` has. Both are sorted; of two that are called the same one may be new.
 */
static void subtract(struct audit_list *now, const struct audit_list *before)
{
    size_t kept = 0;
    for (size_t i = 0, j = 0; i < now->count; i++) {
        int order = -1;
        while (j < before->count && (order = compare(&before->things[j], &now->things[i])) < 0)
            j++;
        if (j < before->count && order == 0) {
            j++;
            free(now->things[i].name);
        } else {
            now->things[kept++] = now->things[i];
        }
    }
    now->count = kept;
}

/* What ends at this moment, or is another job's for a moment, is not left: it is looked at again. */
json_t *audit_end(struct audit *audit, uid_t uid)
{
    const struct timespec moment = {.tv_nsec = LOOK_AGAIN_NS};
    struct audit_list after = {0};
    audit->options.uid = uid ? uid : audit->options.uid;
    for (int i = 0; i < LOOKS; i++) {
        list_finish(&after);
        look(&after, &audit->options);
        subtract(&after, &audit->before);
        if (after.count == 0)
            break;
        nanosleep(&moment, NULL);
    }
    json_t *left = json_array();
    for (size_t i = 0; i < after.count; i++)
        append(left, &after.things[i]);
    bool clean = after.count == 0 && !after.incomplete;
    list_finish(&after);
    return json_pack("{s:b, s:o}", "clean", clean, "left", left);
}

void audit_free(struct audit *audit)
{
    if (!audit)
        return;
    list_finish(&audit->before);
    for (size_t i = 0; i < FOLDERS; i++)
        free(audit->ours[i]);
    free(audit);
}
