/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_LISTING_H
#define CLI_LISTING_H

/* ls and rm of a kind of thing that the store holds. */

#include "command.h"
#include "image/store.h"
#include "table.h"

struct listing {
    /* A JSON array, one object a thing; NULL: err says why. */
    json_t *(*list)(struct store *store, struct dayfly_err *err);
    /* The heading, and a row for each of them. */
    void (*fill)(struct table *table, const json_t *things);
    int (*remove)(struct store *store, const char *name, struct dayfly_err *err);
};

/* The options of every ls. */
struct listing_options {
    bool json;
};
extern const struct option_row listing_rows[];

/* What a command's run returns. listing_remove goes on behind what could not be removed. */
int listing_print(const struct call *call, const struct listing *what);
int listing_remove(const struct call *call, const struct listing *what);

#endif
