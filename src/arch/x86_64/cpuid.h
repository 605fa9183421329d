/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_CPUID_H
#define ARCH_X86_64_CPUID_H

/* What a vCPU answers to CPUID: what KVM can do, less what we do not offer, plus who it is. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

/* Entries that cpuid_build() may add to those of KVM_GET_SUPPORTED_CPUID. */
#define CPUID_EXTRA_ENTRIES 8

struct cpuid_config {
    uint32_t cpu_index; /* also the APIC id */
    uint32_t cpu_count; /* one package, one thread a core */
    bool tsc_deadline;  /* KVM_CAP_TSC_DEADLINE_TIMER and an in-kernel local APIC */
    bool nested;        /* offer VMX or SVM where KVM does */
};

/*
 * Fill out[0 .. cap) from the `count` entries of KVM_GET_SUPPORTED_CPUID. A pure function: no system
 * call, the same answer every time. cap must be at least count + CPUID_EXTRA_ENTRIES.
 * Returns the number of entries for KVM_SET_CPUID2, or -ENOSPC.
 */
int cpuid_build(const struct cpuid_config *config, const struct kvm_cpuid_entry2 *supported,
                size_t count, struct kvm_cpuid_entry2 *out, size_t cap);

#endif
