/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/msr.h"

#define MSR_IA32_MISC_ENABLE 0x000001a0
#define MISC_FAST_STRING     (1u << 0)
#define MSR_MTRR_DEF_TYPE    0x000002ff
#define MTRR_DEF_TYPE_ENABLE (1u << 11)
#define MTRR_TYPE_WRITE_BACK 6

void msr_boot(struct kvm_msr_entry out[MSR_BOOT_COUNT])
{
    /* Linux tells a processor without fast strings to avoid `rep movsb`. */
    out[0] = (struct kvm_msr_entry){.index = MSR_IA32_MISC_ENABLE, .data = MISC_FAST_STRING};
    /* What firmware would do: with MTRRs off, memory is uncached and Linux warns and disables PAT. */
    out[1] = (struct kvm_msr_entry){.index = MSR_MTRR_DEF_TYPE,
                                    .data = MTRR_DEF_TYPE_ENABLE | MTRR_TYPE_WRITE_BACK};
}
