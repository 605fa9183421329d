/* SPDX-License-Identifier: Apache-2.0 */
#include "util/meminfo.h"

#include <stdio.h>

#include "util/cleanup.h"

uint64_t meminfo_budget(void)
{
    _cleanup_fclose_ FILE *f = fopen("/proc/meminfo", "re");
    unsigned long long kib = 0;
    char line[128];
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    return kib * 1024 / 2;
}
