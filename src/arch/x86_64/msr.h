/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_MSR_H
#define ARCH_X86_64_MSR_H

#include <stddef.h>

#include <linux/kvm.h>

#define MSR_BOOT_COUNT 2

/*
 * The model-specific registers whose value at boot is not KVM's default, for every vCPU.
 *
 * Set them one KVM_SET_MSRS at a time, or go on behind the one at which it stopped: a KVM that
 * refuses one (returns fewer than asked, or not in KVM_GET_MSR_INDEX_LIST) is tolerated. All of them
 * make a guest faster or quieter; none is needed for a boot.
 */
void msr_boot(struct kvm_msr_entry out[MSR_BOOT_COUNT]);

#endif
