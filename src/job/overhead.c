/* SPDX-License-Identifier: Apache-2.0 */
#include "job/overhead.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"

/* Guest memory is a memfd: machine/memory.c's, or QEMU's memory-backend-memfd. */
static bool is_guest_memory(const char *mapping)
{
    return strstr(mapping, "/memfd:dayfly-guest-memory") || strstr(mapping, "/memfd:memory-backend-memfd");
}

int64_t overhead_of_process(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), pid ? "/proc/%d/smaps" : "/proc/self/smaps", (int)pid);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    char line[512];
    int64_t total_kib = 0;
    bool guest = false;
    while (fgets(line, sizeof(line), f)) {
        long long kib;
        /* A mapping begins with its addresses in lower-case hex, a field of it with a capital. */
        if (line[0] < 'A' || line[0] > 'Z')
            guest = is_guest_memory(line);
        else if (!guest && sscanf(line, "Pss: %lld kB", &kib) == 1)
            total_kib += kib;
    }
    return total_kib * 1024;
}
