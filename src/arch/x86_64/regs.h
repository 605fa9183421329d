/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_REGS_H
#define ARCH_X86_64_REGS_H

#include <stdint.h>

#include <linux/kvm.h>

/*
 * The boot vCPU's state at a kernel's PVH entry (Xen's docs/misc/pvh, "x86/HVM direct boot ABI"):
 * 32-bit protected mode, paging off, flat segments, interrupts off, %ebx = start_info_gpa.
 *
 * *regs is overwritten. *sregs comes from KVM_GET_SREGS: what concerns the mode is overwritten, the
 * rest (APIC base, pending interrupts) stays. Both addresses are below 4 GiB. The other vCPUs keep
 * their reset state and wait for the guest's INIT and SIPI.
 */
void regs_pvh(struct kvm_regs *regs, struct kvm_sregs *sregs, uint64_t entry, uint64_t start_info_gpa);

#endif
