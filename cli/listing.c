/* SPDX-License-Identifier: Apache-2.0 */
#include "listing.h"

const struct option_row listing_rows[] = {
    {"json", 0, NULL, "print a JSON array", OPTION_FLAG(struct listing_options, json)},
    {0},
};

int listing_print(const struct call *call, const struct listing *what)
{
    const struct listing_options *options = call->options;
    struct table table = {0};
    struct store store;
    struct dayfly_err err = {0};
    if (store_open(&store, NULL, STORE_READ, &err))
        return command_fail(call, &err);
    json_t *things = what->list(&store, &err);
    store_close(&store);
    if (!things)
        return command_fail(call, &err);
    if (options->json) {
        table_json(things, stdout);
    } else {
        what->fill(&table, things);
        table_print(&table, stdout);
    }
    json_decref(things);
    return 0;
}

int listing_remove(const struct call *call, const struct listing *what)
{
    struct store store;
    struct dayfly_err err = {0};
    int status = 0;
    if (store_open(&store, NULL, STORE_WRITE, &err))
        return command_fail(call, &err);
    for (unsigned i = 0; i < call->operand_count; i++) {
        if (what->remove(&store, call->operands[i], &err))
            status = command_fail(call, &err);
    }
    store_close(&store);
    return status;
}
