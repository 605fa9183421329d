// SPDX-License-Identifier: Apache-2.0
/*
 * Prints the frequency of this processor's time stamp counter in kHz.
 *
 * A TCG guest reads the host's counter, and QEMU's microvm has no second clock to measure it by
 * but the PIT, which a busy host makes useless: the guest then finds no clock at all and hangs.
 * So the lab tells its kernel (tsc_early_khz=). Over 50 ms the error is a few parts in a million.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct sample {
    uint64_t tsc;
    uint64_t ns;
};

/* The tightest of several readings, so that a preemption between the two clocks does not count. */
static struct sample read_clocks(void)
{
    struct sample best = {0};
    uint64_t best_width = UINT64_MAX;

    for (int i = 0; i < 64; i++) {
        struct timespec ts;
        uint64_t before = __rdtsc();
        clock_gettime(CLOCK_MONOTONIC, &ts);
        uint64_t after = __rdtsc();
        if (after - before < best_width) {
            best_width = after - before;
            best.tsc = before + best_width / 2;
            best.ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
        }
    }
    return best;
}

int main(void)
{
    struct sample a = read_clocks();
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    struct sample b = read_clocks();

    printf("%llu\n", (unsigned long long)((b.tsc - a.tsc) * 1000000u / (b.ns - a.ns)));
    return 0;
}
