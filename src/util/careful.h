/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_CAREFUL_H
#define UTIL_CAREFUL_H

/*
 * For a thread that must not wait, and has work to do that waits seldom: it does the work itself, which
 * saves the two switches to a thread for waiting and back, until a piece of work took long. It may have
 * waited for a disk then, and the next ones go to others for ten times as long: so at most a tenth of
 * the thread's time is waiting.
 *
 * Threads: any, also several that do work of one kind.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/arith.h"
#include "util/clock.h"

#define CAREFUL_SLOW_NS  (1 * NS_PER_MS)
#define CAREFUL_LEAST_NS (20 * NS_PER_MS)

/* Zeroed: not careful. */
struct careful {
    _Atomic uint64_t until_ns;
};

/* Is the work to be left to others now? */
static inline bool careful_now(struct careful *careful)
{
    uint64_t until_ns = careful->until_ns;
    if (until_ns && clock_ns() >= until_ns)
        careful->until_ns = until_ns = 0;
    return until_ns > 0;
}

/* The thread did a piece of work that it began at `began_ns`, a clock_ns(), and has ended now. */
static inline void careful_did(struct careful *careful, uint64_t began_ns)
{
    uint64_t now_ns = clock_ns(), took_ns = now_ns - began_ns;
    if (took_ns >= CAREFUL_SLOW_NS)
        careful->until_ns = now_ns + MAX(CAREFUL_LEAST_NS, 10 * took_ns);
}

#endif
