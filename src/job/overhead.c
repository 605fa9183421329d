/* SPDX-License-Identifier: Apache-2.0 */
#include "job/overhead.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"

/* A mapping as smaps shows it: a line with its addresses and name, then fields, VmFlags the last. */
struct mapping {
    uint64_t size_bytes;
    int64_t pss_kib;
    bool guest_memory;
};

/* Engine kvm's is anonymous, large and kept out of core dumps ("dd"); QEMU's is a memfd of this name.
 */
#define GUEST_MEMORY_MIN_BYTES (UINT64_C(16) << 20)

static void read_head(struct mapping *mapping, const char *line)
{
    unsigned long long start = 0, end = 0;
    *mapping = (struct mapping){0};
    if (sscanf(line, "%llx-%llx", &start, &end) == 2)
        mapping->size_bytes = end - start;
    mapping->guest_memory =
        strstr(line, "/memfd:dayfly-guest-memory") || strstr(line, "/memfd:memory-backend-memfd");
}

int64_t overhead_of_process(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), pid ? "/proc/%d/smaps" : "/proc/self/smaps", (int)pid);
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    char line[512];
    struct mapping mapping = {0};
    int64_t total_kib = 0;
    while (fgets(line, sizeof(line), f)) {
        long long kib;
        /* Addresses are in lower-case hex; a field begins with a capital. */
        if (line[0] < 'A' || line[0] > 'Z')
            read_head(&mapping, line);
        else if (sscanf(line, "Pss: %lld kB", &kib) == 1)
            mapping.pss_kib = kib;
        else if (strncmp(line, "VmFlags:", 8) == 0) {
            if (mapping.size_bytes >= GUEST_MEMORY_MIN_BYTES && strstr(line, " dd"))
                mapping.guest_memory = true;
            if (!mapping.guest_memory)
                total_kib += mapping.pss_kib;
        }
    }
    return total_kib * 1024;
}
