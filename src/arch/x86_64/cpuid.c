/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID for a vCPU, from KVM_GET_SUPPORTED_CPUID (Intel SDM volume 2, CPUID; AMD APM volume 3,
 * appendix E; Linux's Documentation/virt/kvm/x86/cpuid.rst).
 *
 * Features, brand, XSAVE sizes and the KVM leaves are KVM's answer. Ours is who this vCPU is:
 *
 *     leaf                what we say
 *     1                   APIC id, processors in the package, HYPERVISOR, TSC_DEADLINE
 *     4, 0x8000001d       a core has its caches alone, the package shares the last level
 *     6                   ARAT alone: the local APIC's timer never stops
 *     0xb, 0x1f           topology: one thread a core, all cores in one package
 *     0x80000008, ..1e    the same in AMD's words
 *
 * and what we take away: state that KVM sets itself as the guest runs (OSXSAVE, OSPKE), nested
 * virtualization unless asked for, SGX and memory encryption (they need a set-up that nobody made).
 *
 * APIC ids are cpu indexes; the package holds the next power of two of them.
 */
#include "arch/x86_64/cpuid.h"

#include <errno.h>
#include <string.h>

#include "util/arith.h"

#define BIT(n) (UINT32_C(1) << (n))

/* Leaf 1. */
#define ECX1_VMX          BIT(5)
#define ECX1_TSC_DEADLINE BIT(24)
#define ECX1_OSXSAVE      BIT(27)
#define ECX1_HYPERVISOR   BIT(31)
#define EDX1_HTT          BIT(28)

/* Leaf 7. */
#define EBX7_SGX    BIT(2)
#define ECX7_OSPKE  BIT(4)
#define ECX7_SGX_LC BIT(30)

/* Leaf 0x80000001, AMD. */
#define ECX81_CMP_LEGACY BIT(1)
#define ECX81_SVM        BIT(2)

#define EAX6_ARAT BIT(2)

#define CACHE_LEVEL(eax) ((eax) >> 5 & 7)
#define LAST_LEVEL       3

#define LEVEL_INVALID 0
#define LEVEL_SMT     1
#define LEVEL_CORE    2

struct table {
    struct kvm_cpuid_entry2 *entries;
    size_t count;
    size_t cap;
    bool overflow;
};

static struct kvm_cpuid_entry2 *find(struct table *t, uint32_t leaf)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->entries[i].function == leaf)
            return &t->entries[i];
    return NULL;
}

/* Add an entry of zeroes. NULL when the table is full. */
static struct kvm_cpuid_entry2 *add(struct table *t, uint32_t leaf, uint32_t index, uint32_t flags)
{
    if (t->count == t->cap) {
        t->overflow = true;
        return NULL;
    }
    struct kvm_cpuid_entry2 *e = &t->entries[t->count++];
    *e = (struct kvm_cpuid_entry2){.function = leaf, .index = index, .flags = flags};
    return e;
}

static void drop(struct table *t, uint32_t leaf)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++)
        if (t->entries[i].function != leaf)
            t->entries[kept++] = t->entries[i];
    t->count = kept;
}

static void clear(struct kvm_cpuid_entry2 *e)
{
    e->eax = e->ebx = e->ecx = e->edx = 0;
}

/* Bits of an APIC id that tell the cores of the package apart. */
static unsigned core_bits(uint32_t cpus)
{
    return cpus > 1 ? 32 - (unsigned)__builtin_clz(cpus - 1) : 0;
}

/* 0xb and 0x1f have one layout. */
static void topology(struct table *t, uint32_t leaf, const struct cpuid_config *config)
{
    drop(t, leaf);
    for (uint32_t level = 0; level < 3; level++) {
        struct kvm_cpuid_entry2 *e = add(t, leaf, level, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
        if (!e)
            return;
        e->ecx = level;
        e->edx = config->cpu_index;
        if (level == 0) {
            e->ebx = 1;
            e->ecx |= LEVEL_SMT << 8;
        } else if (level == 1) {
            e->eax = core_bits(config->cpu_count);
            e->ebx = config->cpu_count & 0xffff;
            e->ecx |= LEVEL_CORE << 8;
        } else {
            e->ecx |= LEVEL_INVALID << 8;
        }
    }
}

/* Leaves 4 and 0x8000001d: bits 14 to 25 say how many APIC ids share a cache, less one. */
static void share_cache(struct kvm_cpuid_entry2 *e, uint32_t package)
{
    uint32_t sharing = CACHE_LEVEL(e->eax) >= LAST_LEVEL ? MIN(package - 1, 0xfffu) : 0;
    e->eax = (e->eax & ~(UINT32_C(0xfff) << 14)) | sharing << 14;
}

static void adjust(struct kvm_cpuid_entry2 *e, const struct cpuid_config *config, bool amd)
{
    const uint32_t cpus = config->cpu_count, id = config->cpu_index;
    const uint32_t package = UINT32_C(1) << core_bits(cpus);

    switch (e->function) {
    case 0x0:
        e->eax = MAX(e->eax, 0xbu); /* leaf 0xb is always there */
        break;
    case 0x1:
        e->ebx = (e->ebx & 0xffff) | MIN(package, 255u) << 16 | (id & 0xff) << 24;
        e->ecx |= ECX1_HYPERVISOR;
        e->ecx &= ~(ECX1_OSXSAVE | ECX1_TSC_DEADLINE);
        if (config->tsc_deadline)
            e->ecx |= ECX1_TSC_DEADLINE;
        if (!config->nested)
            e->ecx &= ~ECX1_VMX;
        e->edx = cpus > 1 ? e->edx | EDX1_HTT : e->edx & ~EDX1_HTT;
        break;
    case 0x4:
        if ((e->eax & 0x1f) == 0) /* no cache: the end of the list, or an AMD */
            break;
        share_cache(e, package);
        e->eax = (e->eax & ~(UINT32_C(0x3f) << 26)) | MIN(package - 1, 0x3fu) << 26;
        break;
    case 0x6:
        clear(e);
        e->eax = EAX6_ARAT;
        break;
    case 0x7:
        if (e->index == 0) {
            e->ebx &= ~EBX7_SGX;
            e->ecx &= ~(ECX7_SGX_LC | ECX7_OSPKE);
        }
        break;
    case 0x12:       /* SGX */
    case 0x8000001f: /* memory encryption */
        clear(e);
        break;
    case 0x80000001:
        if (!config->nested)
            e->ecx &= ~ECX81_SVM;
        if (amd)
            e->ecx = cpus > 1 ? e->ecx | ECX81_CMP_LEGACY : e->ecx & ~ECX81_CMP_LEGACY;
        break;
    case 0x80000008:
        if (amd)
            e->ecx = (e->ecx & ~UINT32_C(0xf0ff)) | MIN(cpus - 1, 0xffu) | core_bits(cpus) << 12;
        break;
    case 0x8000000a: /* SVM */
        if (!config->nested)
            clear(e);
        break;
    case 0x8000001d:
        if ((e->eax & 0x1f) != 0)
            share_cache(e, package);
        break;
    case 0x8000001e: /* one thread a core, one node */
        clear(e);
        e->eax = id;
        e->ebx = id & 0xff;
        break;
    }
}

/* "AuthenticAMD" and "HygonGenuine" speak AMD's leaves. */
static bool speaks_amd(const struct kvm_cpuid_entry2 *leaf0)
{
    if (!leaf0)
        return false;
    const uint32_t vendor[] = {leaf0->ebx, leaf0->edx, leaf0->ecx};
    return memcmp(vendor, "AuthenticAMD", sizeof(vendor)) == 0 ||
           memcmp(vendor, "HygonGenuine", sizeof(vendor)) == 0;
}

int cpuid_build(const struct cpuid_config *config, const struct kvm_cpuid_entry2 *supported,
                size_t count, struct kvm_cpuid_entry2 *out, size_t cap)
{
    if (count > cap)
        return -ENOSPC;
    struct table t = {.entries = out, .count = count, .cap = cap};
    memcpy(out, supported, count * sizeof(*out));

    const struct kvm_cpuid_entry2 *leaf0 = find(&t, 0);
    const bool amd = speaks_amd(leaf0);
    const bool has_1f = !amd && leaf0 && leaf0->eax >= 0x1f;
    for (size_t i = 0; i < count; i++)
        adjust(&out[i], config, amd);
    topology(&t, 0xb, config);
    if (has_1f)
        topology(&t, 0x1f, config);
    if (!find(&t, 6)) {
        struct kvm_cpuid_entry2 *power = add(&t, 6, 0, 0);
        if (power)
            power->eax = EAX6_ARAT;
    }
    return t.overflow ? -ENOSPC : (int)t.count;
}
