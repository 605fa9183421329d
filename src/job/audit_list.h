/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_AUDIT_LIST_H
#define JOB_AUDIT_LIST_H

/* What one look found, and how a look is taken: between audit.c and audit_look.c. */

#include "job/audit.h"

struct audit_thing {
    const char *kind; /* a literal */
    char *name;
};

struct audit_list {
    struct audit_thing *things;
    size_t count, room;
    bool incomplete; /* memory ran out */
};

/* Add a thing, its name by a format. */
void audit_add(struct audit_list *list, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Everything there is now. What cannot be looked at is not there. */
void audit_look(struct audit_list *list, const struct audit_options *options);

#endif
