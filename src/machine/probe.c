/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See probe.h. The guest writes the number of each step to a port before it takes it, and DONE at the
 * end, so that whatever ends it (an exit that KVM cannot go on from, a triple fault, our patience) the
 * step reached last names the instruction.
 */
#include "machine/probe.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine/kvm.h"
#include "machine/memory.h"
#include "machine/vcpu.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

#define PATIENCE_NS       (2 * NS_PER_S)
#define CPUID_ENTRIES_MAX 256
#define STEP_PORT         0x80

/* The guest's memory. */
#define PML4     0x1000u
#define PDPT     0x2000u
#define PD       0x3000u
#define GDT      0x4000u
#define IDT      0x5000u
#define STACK    0x7000u /* its top */
#define CODE     0x8000u
#define DATA     0x9000u
#define RAM_SIZE 0x10000u

/* The guest's steps; `stub` below counts the same. */
static const char *const steps[] = {
    "the first instruction",
    "cpuid",
    "lock cmpxchg16b",
    "rdmsr and wrmsr",
    "fxsave and fxrstor",
    "an exception (lidt, int3, iretq)",
    "invlpg and a write to cr3",
    "swapgs",
    "xsetbv, xsave and xrstor",
    "an SSE instruction",
    "done",
};
#define DONE (ARRAY_SIZE(steps) - 1)

/* Entered in 64-bit mode at CODE: rdi is DATA (64-byte aligned), esi is 1 if there is XSAVE. */
extern const uint8_t probe_stub[], probe_stub_end[], probe_stub_trap[];
#define STEP(n) "mov $" #n ", %al\n out %al, $0x80\n"
/* clang-format off */
__asm__(".pushsection .rodata\n"
        ".globl probe_stub, probe_stub_end, probe_stub_trap\n"
        ".hidden probe_stub, probe_stub_end, probe_stub_trap\n"
        "probe_stub:\n"
        STEP(0)
        STEP(1) "xor %eax, %eax\n xor %ecx, %ecx\n cpuid\n"
        STEP(2) "xor %eax, %eax\n xor %edx, %edx\n xor %ebx, %ebx\n xor %ecx, %ecx\n"
                "lock cmpxchg16b 1024(%rdi)\n"
        STEP(3) "mov $0xc0000102, %ecx\n rdmsr\n wrmsr\n" /* KERNEL_GS_BASE */
                "mov $0xc0000080, %ecx\n rdmsr\n wrmsr\n" /* EFER */
        STEP(4) "fninit\n fxsave64 (%rdi)\n fxrstor64 (%rdi)\n"
        STEP(5) "lidt 4032(%rdi)\n int3\n"
        STEP(6) "invlpg (%rdi)\n mov %cr3, %rax\n mov %rax, %cr3\n"
        STEP(7) "swapgs\n swapgs\n"
        STEP(8) "test %esi, %esi\n jz 1f\n"
                "xor %ecx, %ecx\n xor %edx, %edx\n mov $3, %eax\n xsetbv\n"
                "xsave64 2048(%rdi)\n xrstor64 2048(%rdi)\n"
        "1:\n"
        STEP(9) "movdqu (%rdi), %xmm0\n pxor %xmm1, %xmm0\n movdqu %xmm0, 16(%rdi)\n"
        STEP(10) "2: hlt\n jmp 2b\n"
        "probe_stub_trap: iretq\n"
        "probe_stub_end:\n"
        ".popsection\n");
/* clang-format on */

struct probe {
    struct kvm_vm vm;
    struct memory memory;
    struct vcpus *cpus;
    struct bus pio, mmio;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned step;
    bool over;
    char why[160];
};

static void end(struct probe *p, const char *why)
{
    pthread_mutex_lock(&p->lock);
    if (!p->over)
        snprintf(p->why, sizeof(p->why), "%s", why);
    p->over = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void on_step(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct probe *p = opaque;
    p->step = MIN(*(const uint8_t *)data, (unsigned)DONE);
    if (p->step == DONE)
        end(p, "");
}

static void on_ended(void *opaque, enum vcpu_end how, const char *text)
{
    end(opaque, text);
}

static void on_all_stopped(void *opaque)
{
    end(opaque, "it stopped");
}

static void put64(struct memory *mem, uint64_t gpa, uint64_t value)
{
    memory_write(mem, gpa, &value, sizeof(value));
}

/* Tables and code; everything lies in the first 2 MiB, which one large page maps to itself. */
static void write_guest(struct memory *mem)
{
    put64(mem, PML4, PDPT | 3);
    put64(mem, PDPT, PD | 3);
    put64(mem, PD, 0x83);
    put64(mem, GDT + 8, UINT64_C(0x00af9b000000ffff));  /* 64-bit code */
    put64(mem, GDT + 16, UINT64_C(0x00cf93000000ffff)); /* data */
    uint64_t trap = CODE + (uint64_t)(probe_stub_trap - probe_stub);
    put64(mem, IDT + 3 * 16, (trap & 0xffff) | UINT64_C(8) << 16 | UINT64_C(0x8e00) << 32);
    const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = {.limit = 4095, .base = IDT};
    memory_write(mem, DATA + 4032, &idtr, sizeof(idtr));
    memory_write(mem, CODE, probe_stub, (size_t)(probe_stub_end - probe_stub));
}

static bool has_xsave(const struct kvm_cpuid2 *cpuid)
{
    for (unsigned i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == 1)
            return cpuid->entries[i].ecx & (1u << 26);
    return false;
}

static int set_registers(const struct kvm_vm *vm, int fd)
{
    _cleanup_free_ struct kvm_cpuid2 *cpuid =
        calloc(1, sizeof(*cpuid) + CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
    if (!cpuid)
        return -ENOMEM;
    cpuid->nent = CPUID_ENTRIES_MAX;
    struct kvm_sregs s;
    int rc = kvm_ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid);
    if (rc < 0 || (rc = kvm_ioctl(fd, KVM_SET_CPUID2, cpuid)) < 0 ||
        (rc = kvm_ioctl(fd, KVM_GET_SREGS, &s)) < 0)
        return rc;
    bool xsave = has_xsave(cpuid);
    struct kvm_segment flat = {.limit = UINT32_MAX, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1};
    flat.selector = 16;
    s.ds = s.es = s.fs = s.gs = s.ss = flat;
    flat.selector = 8;
    flat.type = 11;
    flat.db = 0;
    flat.l = 1;
    s.cs = flat;
    s.gdt.base = GDT;
    s.gdt.limit = 23;
    s.cr3 = PML4;
    s.cr4 = 0x620 | (xsave ? 0x40000 : 0); /* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
    s.cr0 = 0x80010033;                    /* PG, WP, NE, ET, MP, PE */
    s.efer = 0x500;                        /* LMA, LME */
    struct kvm_regs r = {.rip = CODE, .rsp = STACK, .rdi = DATA, .rsi = xsave, .rflags = 2};
    rc = kvm_ioctl(fd, KVM_SET_SREGS, &s);
    return rc < 0 ? rc : kvm_ioctl(fd, KVM_SET_REGS, &r);
}

static void wait_for_end(struct probe *p)
{
    uint64_t deadline = clock_ns() + PATIENCE_NS;
    const struct timespec until = {.tv_sec = (time_t)(deadline / NS_PER_S),
                                   .tv_nsec = (long)(deadline % NS_PER_S)};
    pthread_mutex_lock(&p->lock);
    int rc = 0;
    while (!p->over && rc == 0)
        rc = pthread_cond_timedwait(&p->changed, &p->lock, &until);
    pthread_mutex_unlock(&p->lock);
    if (rc != 0)
        end(p, "it did not come back in two seconds");
}

/* 0 when the guest ran to its end; else err says why not. */
static int run_guest(struct probe *p, struct dayfly_err *err)
{
    const struct memory_layout layout = {.gpa = 0, .size_bytes = RAM_SIZE};
    const struct vcpus_options options = {
        .vm = &p->vm,
        .count = 1,
        .pio = &p->pio,
        .mmio = &p->mmio,
        .ended = on_ended,
        .all_stopped = on_all_stopped,
        .opaque = p,
    };
    int rc = memory_create(&p->memory, &layout, 1, err);
    if (rc == 0 && (rc = kvm_vm_add_memory(&p->vm, &p->memory, err)) == 0)
        rc = vcpus_new(&p->cpus, &options, err);
    if (rc == 0) {
        write_guest(&p->memory);
        rc = set_registers(&p->vm, vcpus_fd(p->cpus, 0));
        if (rc < 0)
            err_errno(err, -rc, "KVM refuses the registers of a 64-bit guest");
    }
    if (rc == 0 && (rc = vcpus_start(p->cpus, err)) == 0)
        wait_for_end(p);
    return rc;
}

static struct probe *probe_new(void)
{
    static const struct bus_ops step_ops = {.write = on_step};
    struct probe *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    p->vm.kvm_fd = p->vm.fd = -1;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&p->lock, NULL);
    bus_init(&p->pio);
    bus_init(&p->mmio);
    bus_add(&p->pio, STEP_PORT, 1, &step_ops, p);
    return p;
}

static void *probe_free(void *arg)
{
    struct probe *p = arg;
    vcpus_free(p->cpus);
    kvm_vm_finish(&p->vm); /* before the memory that it shows */
    memory_finish(&p->memory);
    bus_finish(&p->pio);
    bus_finish(&p->mmio);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->changed);
    free(p);
    return NULL;
}

/* Without its maker, who has a machine to make: the kernel takes milliseconds to close a VM. */
static void probe_free_aside(struct probe *p)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, probe_free, p) == 0)
        pthread_detach(thread);
    else
        probe_free(p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void probe_kvm(const char *path, struct probe_result *out)
{
    struct dayfly_err err = {0};
    struct probe *p = probe_new();
    *out = (struct probe_result){.answer = PROBE_WORKS};
    int rc = p ? kvm_vm_new(&p->vm, path ? path : KVM_PATH, false, &err)
               : err_set(&err, ENOMEM, "out of memory");
    if (rc < 0) {
        out->answer = rc == -ENOENT || rc == -ENODEV  ? PROBE_MISSING
                      : rc == -EACCES || rc == -EPERM ? PROBE_NO_PERMISSION
                                                      : PROBE_UNUSABLE;
        snprintf(out->reason, sizeof(out->reason), "%s", err.msg);
        if (p)
            probe_free(p);
        return;
    }
    rc = run_guest(p, &err);
    if (rc < 0) {
        out->answer = PROBE_UNUSABLE;
        snprintf(out->reason, sizeof(out->reason), "%s", err.msg);
    } else if (p->step != DONE) {
        out->answer = PROBE_UNUSABLE;
        snprintf(out->reason, sizeof(out->reason), "%s cannot run ordinary kernels: it fails at %s",
                 path ? path : KVM_PATH, steps[p->step]);
        snprintf(out->detail, sizeof(out->detail), "%s", p->why);
    }
    probe_free_aside(p);
}

const char *probe_answer_name(enum probe_answer answer)
{
    static const char *const names[] = {
        [PROBE_WORKS] = "works",
        [PROBE_MISSING] = "missing",
        [PROBE_NO_PERMISSION] = "no permission",
        [PROBE_UNUSABLE] = "cannot run kernels",
    };
    return (unsigned)answer < ARRAY_SIZE(names) ? names[answer] : "unknown";
}
