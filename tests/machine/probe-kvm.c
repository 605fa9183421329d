/* SPDX-License-Identifier: Apache-2.0 */
/* Says what the probe of /dev/kvm found: probe-kvm [PATH]. Exit status: the answer's number. */
#include <stdio.h>

#include "machine/probe.h"
#include "util/clock.h"

int main(int argc, char **argv)
{
    struct probe_result result;
    uint64_t begin = clock_ns();
    probe_kvm(argc > 1 ? argv[1] : NULL, &result);
    printf("%s (%.1f ms)%s%s%s%s\n", probe_answer_name(result.answer),
           (double)(clock_ns() - begin) / 1e6, result.reason[0] ? ": " : "", result.reason,
           result.detail[0] ? ": " : "", result.detail);
    return (int)result.answer;
}
