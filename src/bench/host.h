/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

/* What has to be known of a machine to read its figures. */

#include <stdbool.h>
#include <stdint.h>

#define HOST_TEXT_BYTES 160

struct bench_host {
    char processor[HOST_TEXT_BYTES], kernel[HOST_TEXT_BYTES], system[HOST_TEXT_BYTES];
    char governor[HOST_TEXT_BYTES]; /* of frequencies; "": the kernel shows none */
    char when[HOST_TEXT_BYTES];     /* ISO 8601, UTC */
    bool virtual;                   /* it is a guest itself */
    unsigned processors;
    uint64_t memory_bytes;
    char qemu[HOST_TEXT_BYTES], podman[HOST_TEXT_BYTES], docker[HOST_TEXT_BYTES]; /* "": none */
};

void bench_host_look(struct bench_host *out);

/* Processor time that was used since the system's start, by everybody, in seconds; NAN: not said. */
double bench_host_busy_s(void);

/* The load averages over 1, 5 and 15 minutes, as the kernel writes them. */
void bench_host_load(char out[HOST_TEXT_BYTES]);

#endif
