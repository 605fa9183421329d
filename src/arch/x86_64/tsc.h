/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_TSC_H
#define ARCH_X86_64_TSC_H

#include <stdint.h>

/* The rate of this processor's time stamp counter in kHz, measured against CLOCK_MONOTONIC in about
 * five milliseconds; good to some parts in ten thousand. */
uint32_t tsc_measure_khz(void);

#endif
