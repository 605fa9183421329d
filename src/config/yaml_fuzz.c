/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine file from a stranger: whatever it says, reading it ends, faults carry a place, and a file
 * with no fault gives a description within the schema's bounds.
 */
#include <stdlib.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(void *opaque, const struct dayfly_fault *fault)
{
    unsigned *count = opaque;
    ++*count;
    if (!fault->line || !fault->column || !fault->message[0])
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dayfly_config *config;
    struct dayfly_err err = {0};
    unsigned faults = 0;
    if (dayfly_config_new(&config))
        return 0;
    int rc = dayfly_config_parse_yaml(config, "fuzz.yaml", (const char *)data, size, "/base", check,
                                      &faults, &err);
    if ((rc == 0) != (err.code == 0) || (rc == 0 && faults))
        abort();
    if (config->disk_count > CONFIG_MAX_DISKS || config->console_count > CONFIG_MAX_CONSOLES ||
        config->share_count > CONFIG_MAX_SHARES || config->network_count > CONFIG_MAX_NETWORKS)
        abort();
    for (size_t i = 0; i < config->share_count; i++) {
        const struct config_share *share = &config->shares[i];
        if (share->cache > DAYFLY_SHARE_CACHE_ALWAYS || share->only.mode > DAYFLY_SHARE_COW ||
            share->directory_count > CONFIG_MAX_DIRECTORIES ||
            share->only.uid_count > CONFIG_MAX_ID_EXTENTS)
            abort();
    }
    dayfly_config_free(config);
    return 0;
}
