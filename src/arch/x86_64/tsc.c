/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/tsc.h"

#include <x86intrin.h>

#include "util/clock.h"

#define TSC_WINDOW_NS (5 * NS_PER_MS)
#define TSC_TRIES     8

/* A reading of both clocks: of some tries the one that took least, so that being descheduled between
 * the two does not count. */
static void read_both(uint64_t *tsc, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < TSC_TRIES; i++) {
        uint64_t before = __rdtsc(), now = clock_ns(), after = __rdtsc();
        if (after - before >= best)
            continue;
        best = after - before;
        *tsc = before + best / 2;
        *ns = now;
    }
}

uint32_t tsc_measure_khz(void)
{
    uint64_t tsc, ns, tsc_end, ns_end;
    read_both(&tsc, &ns);
    while (clock_ns() - ns < TSC_WINDOW_NS)
        ;
    read_both(&tsc_end, &ns_end);
    return (uint32_t)((tsc_end - tsc) * 1000000 / (ns_end - ns));
}
