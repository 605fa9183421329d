/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/regs.h"

#define CR0_PE          (1u << 0)
#define CR0_ET          (1u << 4) /* always one on a processor with an FPU */
#define RFLAGS_RESERVED (1u << 1) /* always one */

/* Segment types of descriptors (Intel SDM volume 3, 3.4.5.1 and 3.5). */
#define TYPE_DATA_RW_ACCESSED 0x3
#define TYPE_CODE_RX_ACCESSED 0xb
#define TYPE_TSS32_BUSY       0xb

/* Selectors are unspecified by the protocol. Linux loads a GDT of its own before it uses any. */
static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
    return (struct kvm_segment){
        .limit = 0xffffffff,
        .selector = selector,
        .type = type,
        .present = 1,
        .db = 1,
        .s = 1,
        .g = 1,
    };
}

void regs_pvh(struct kvm_regs *regs, struct kvm_sregs *sregs, uint64_t entry, uint64_t start_info_gpa)
{
    *regs = (struct kvm_regs){.rip = entry, .rbx = start_info_gpa, .rflags = RFLAGS_RESERVED};

    const struct kvm_segment data = flat(0x10, TYPE_DATA_RW_ACCESSED);
    sregs->cs = flat(0x08, TYPE_CODE_RX_ACCESSED);
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->tr =
        (struct kvm_segment){.limit = 0x67, .selector = 0x18, .type = TYPE_TSS32_BUSY, .present = 1};
    sregs->ldt = (struct kvm_segment){.unusable = 1};
    sregs->gdt = (struct kvm_dtable){0};
    sregs->idt = (struct kvm_dtable){0};
    sregs->cr0 = CR0_PE | CR0_ET;
    sregs->cr2 = 0;
    sregs->cr3 = 0;
    sregs->cr4 = 0;
    sregs->cr8 = 0;
    sregs->efer = 0;
}
