/* SPDX-License-Identifier: Apache-2.0 */
/* Exits, doorbells, interrupts and the processors' life, with guests of a few instructions. */
#include "machine/testing_kvm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "arch/x86_64/regs.h"
#include "machine/irq.h"
#include "machine/vcpu.h"
#include "util/arith.h"
#include "util/clock.h"

#define RAM_BYTES UINT64_C(0x100000)
#define CODE      0x1000u
#define COUNTER   0x8000u
#define MMIO      0xd0000000u /* nobody's, or a test's */
#define BELL      0xd0001000u
#define WINDOW    0x200000u /* two pages above RAM that a test may show */

/*
 * The guests: 32-bit, flat, at CODE. Ports, of which the in-kernel chips claim none: 0xe1 a number read
 * and written, 0xe0 "this is where I am". Interrupt vector 0x40 is whatever the test ties to it; its
 * handler writes 0x40 to port 0xe0.
 */
extern const uint8_t guests[], guests_end[], guest_exits[], guest_bell[], guest_spin[], guest_halt[],
    guest_irq[], guest_fault[], guest_strings[], guest_window[];
/* clang-format off */
#define AT(label) "(" label " - guests + 0x1000)"
__asm__(".pushsection .rodata\n"
        ".globl guests, guests_end, guest_exits, guest_bell, guest_spin, guest_halt, guest_irq\n"
        ".globl guest_fault, guest_strings, guest_window\n"
        ".hidden guests, guests_end, guest_exits, guest_bell, guest_spin, guest_halt, guest_irq\n"
        ".hidden guest_fault, guest_strings, guest_window\n"
        ".code32\n"
        "guests:\n"
        /* in, add, out; the same by MMIO, with every width */
        "guest_exits:\n"
        " in $0xe1, %al\n inc %al\n out %al, $0xe1\n"
        " mov $0xd0000000, %edi\n"
        " movl (%edi), %eax\n inc %eax\n movl %eax, 4(%edi)\n"
        " movw (%edi), %ax\n movw %ax, 8(%edi)\n"
        " movb (%edi), %al\n movb %al, 12(%edi)\n"
        " mov $1, %al\n out %al, $0xe0\n"
        "1: hlt\n jmp 1b\n"
        "guest_strings:\n"
        " mov $" AT("7f") ", %esi\n mov $5, %ecx\n mov $0xe1, %edx\n cld\n rep outsb\n"
        " mov $1, %al\n out %al, $0xe0\n"
        "1: hlt\n jmp 1b\n"
        "7: .ascii \"abcde\"\n"
        "guest_bell:\n"
        " mov $0xd0001000, %edi\n movw $5, (%edi)\n movl $7, (%edi)\n movb $9, (%edi)\n"
        " mov $1, %al\n out %al, $0xe0\n"
        "1: hlt\n jmp 1b\n"
        "guest_spin:\n"
        " mov $1, %al\n out %al, $0xe0\n"
        "1: incl 0x8000\n jmp 1b\n"
        /* a byte of the window to a port, another into it */
        "guest_window:\n"
        " movb 0x200000, %al\n out %al, $0xe1\n movb $0x5a, 0x201000\n"
        " mov $1, %al\n out %al, $0xe0\n"
        "1: hlt\n jmp 1b\n"
        "guest_halt:\n"
        " mov $1, %al\n out %al, $0xe0\n"
        " cli\n1: hlt\n jmp 1b\n"
        "guest_irq:\n"
        " mov $0x7000, %esp\n"
        " lgdt " AT("gdtr") "\n ljmp $8, $" AT("1f") "\n"
        "1: mov $16, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
        " mov $" AT("handler") ", %eax\n mov %ax, 0x9200\n movw $8, 0x9202\n movw $0x8e00, 0x9204\n"
        " shr $16, %eax\n mov %ax, 0x9206\n"
        " lidt " AT("idtr") "\n"
        " movl $0x1ff, 0xfee000f0\n"                               /* local APIC on */
        " movl $0x23, 0xfec00000\n movl $0, 0xfec00010\n"          /* pin 9 to processor 0 ... */
        " movl $0x22, 0xfec00000\n movl $0x40, 0xfec00010\n"       /* ... as vector 0x40, edge */
        " mov $1, %al\n out %al, $0xe0\n sti\n"
        "waits: hlt\n jmp waits\n"
        /* Returns without iret, which a software KVM may not have. */
        "handler: mov $0x40, %al\n out %al, $0xe0\n movl $0, 0xfee000b0\n"
        " mov $0x7000, %esp\n sti\n jmp waits\n"
        "guest_fault:\n lidt " AT("nothing") "\n ud2\n"
        ".balign 8\n"
        "gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        "gdtr: .word 23\n .long " AT("gdt") "\n"
        "idtr: .word 0xfff\n .long 0x9000\n"
        "nothing: .word 0\n .long 0\n"
        "guests_end:\n"
        ".code64\n"
        ".popsection\n");
/* clang-format on */

struct env {
    struct kvm_vm vm;
    struct memory mem;
    struct bus pio, mmio;
    struct vcpus *cpus;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned places; /* writes to port 0xe0 */
    uint8_t place;
    bool ended, all_stopped;
    enum vcpu_end end;
    char text[200];

    uint8_t port[16];
    unsigned port_count;
    struct {
        uint64_t offset;
        unsigned len;
        uint64_t value;
    } mmio_writes[8];
    unsigned mmio_count;

    uint8_t *window;    /* what mend() puts pages into; NULL: it does nothing */
    atomic_uint faults; /* times that it was asked */
};

static void set(struct env *env, void (*change)(struct env *, const void *), const void *arg)
{
    pthread_mutex_lock(&env->lock);
    change(env, arg);
    pthread_cond_broadcast(&env->changed);
    pthread_mutex_unlock(&env->lock);
}

static void note_place(struct env *env, const void *data)
{
    env->places++;
    env->place = *(const uint8_t *)data;
}

static void place_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    set(opaque, note_place, data);
}

static void port_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    *(uint8_t *)data = 41;
}

static void port_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct env *env = opaque;
    if (env->port_count < ARRAY_SIZE(env->port))
        env->port[env->port_count++] = *(const uint8_t *)data;
}

static void mmio_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    bus_put(data, len, 0x44332211);
}

static void mmio_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct env *env = opaque;
    if (env->mmio_count < ARRAY_SIZE(env->mmio_writes)) {
        env->mmio_writes[env->mmio_count].offset = offset;
        env->mmio_writes[env->mmio_count].len = len;
        env->mmio_writes[env->mmio_count++].value = bus_get(data, len);
    }
}

static void note_end(struct env *env, const void *arg)
{
    env->ended = true;
}

static void ended(void *opaque, enum vcpu_end end, const char *text)
{
    struct env *env = opaque;
    env->end = end;
    snprintf(env->text, sizeof(env->text), "%s", text);
    set(env, note_end, NULL);
}

static void note_all_stopped(struct env *env, const void *arg)
{
    env->all_stopped = true;
}

static void all_stopped(void *opaque)
{
    set(opaque, note_all_stopped, NULL);
}

/* Pages of zeroes, once. */
static bool mend(void *opaque)
{
    struct env *env = opaque;
    atomic_fetch_add(&env->faults, 1);
    uint8_t *at = env->window;
    env->window = NULL;
    return at && mmap(at, 0x2000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                      0) == at;
}

static bool two_places(const struct env *env)
{
    return env->places >= 2;
}

static bool three_places(const struct env *env)
{
    return env->places >= 3;
}

static bool one_place(const struct env *env)
{
    return env->places >= 1;
}

static bool has_ended(const struct env *env)
{
    return env->ended && env->all_stopped;
}

static void wait_until(struct env *env, bool (*true_now)(const struct env *))
{
    uint64_t deadline = clock_ns() + TESTING_TIMEOUT_MS * NS_PER_MS;
    const struct timespec until = {.tv_sec = (time_t)(deadline / NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&env->lock);
    while (!true_now(env) && !(env->ended && env->end == VCPU_FAILED) && rc == 0)
        rc = pthread_cond_timedwait(&env->changed, &env->lock, &until);
    bool fine = true_now(env);
    pthread_mutex_unlock(&env->lock);
    if (!fine)
        fail_msg("it did not come: %s", env->text);
}

static void make(struct env *env, bool irqchip, unsigned count)
{
    static const struct bus_ops place = {.write = place_write};
    static const struct bus_ops port = {.read = port_read, .write = port_write};
    static const struct bus_ops mmio = {.read = mmio_read, .write = mmio_write};
    struct dayfly_err err = {0};
    memset(env, 0, sizeof(*env));
    pthread_mutex_init(&env->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&env->changed, &attr);
    pthread_condattr_destroy(&attr);
    bus_init(&env->pio);
    bus_init(&env->mmio);
    bus_add(&env->pio, 0xe1, 1, &port, env);
    bus_add(&env->pio, 0xe0, 1, &place, env);
    bus_add(&env->mmio, MMIO, 0x1000, &mmio, env);
    if (kvm_vm_new(&env->vm, KVM_PATH, irqchip, &err) < 0)
        fail_msg("%s", err.msg);
    const struct memory_layout layout = {.gpa = 0, .size_bytes = RAM_BYTES};
    assert_int_equal(memory_create(&env->mem, &layout, 1, &err), 0);
    if (kvm_vm_add_memory(&env->vm, &env->mem, &err) < 0)
        fail_msg("%s", err.msg);
    memory_write(&env->mem, CODE, guests, (size_t)(guests_end - guests));
    const struct vcpus_options options = {
        .vm = &env->vm,
        .count = count,
        .pio = &env->pio,
        .mmio = &env->mmio,
        .ended = ended,
        .mend = mend,
        .all_stopped = all_stopped,
        .opaque = env,
    };
    if (vcpus_new(&env->cpus, &options, &err) < 0)
        fail_msg("%s", err.msg);
}

static void start_at(struct env *env, const uint8_t *guest)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct dayfly_err err = {0};
    int fd = vcpus_fd(env->cpus, 0);
    assert_int_equal(ioctl(fd, KVM_GET_SREGS, &sregs), 0);
    regs_pvh(&regs, &sregs, CODE + (uint64_t)(guest - guests), 0);
    assert_int_equal(ioctl(fd, KVM_SET_SREGS, &sregs), 0);
    assert_int_equal(ioctl(fd, KVM_SET_REGS, &regs), 0);
    if (vcpus_start(env->cpus, &err) < 0)
        fail_msg("%s", err.msg);
}

static void unmake(struct env *env)
{
    vcpus_free(env->cpus);
    kvm_vm_finish(&env->vm);
    memory_finish(&env->mem);
    bus_finish(&env->pio);
    bus_finish(&env->mmio);
    pthread_cond_destroy(&env->changed);
    pthread_mutex_destroy(&env->lock);
}

static void port_and_memory_accesses_arrive(void **state)
{
    need_kvm();
    struct env env;
    make(&env, false, 1);
    start_at(&env, guest_exits);
    wait_until(&env, has_ended);
    assert_int_equal(env.end, VCPU_HALTED); /* no local APIC */
    assert_int_equal(env.port_count, 1);
    assert_int_equal(env.port[0], 42);
    assert_int_equal(env.mmio_count, 3);
    assert_int_equal(env.mmio_writes[0].offset, 4);
    assert_int_equal(env.mmio_writes[0].len, 4);
    assert_int_equal(env.mmio_writes[0].value, 0x44332212);
    assert_int_equal(env.mmio_writes[1].len, 2);
    assert_int_equal(env.mmio_writes[1].value, 0x2211);
    assert_int_equal(env.mmio_writes[2].len, 1);
    assert_int_equal(env.mmio_writes[2].value, 0x11);
    struct vcpus_stats stats;
    vcpus_stats(env.cpus, &stats);
    assert_int_equal(stats.pio, 3);
    assert_int_equal(stats.mmio, 6);
    unmake(&env);
}

static void string_output_arrives_in_order(void **state)
{
    need_kvm();
    struct env env;
    make(&env, false, 1);
    start_at(&env, guest_strings);
    wait_until(&env, has_ended);
    assert_int_equal(env.port_count, 5);
    assert_memory_equal(env.port, "abcde", 5);
    unmake(&env);
}

static void a_doorbell_rings_without_an_exit(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 1);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const struct hypervisor *hv = &env.vm.hv;
    if (!env.vm.doorbell_any) {
        unmake(&env);
        skip();
    }
    assert_int_equal(hv->ops->doorbell(hv->opaque, BELL, fd, true), 0);
    assert_true(hv->ops->doorbell(hv->opaque, BELL, fd, true) < 0); /* taken */
    start_at(&env, guest_bell);
    wait_until(&env, one_place);
    uint64_t count = 0;
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 3); /* of any width */
    struct vcpus_stats stats;
    vcpus_stats(env.cpus, &stats);
    assert_int_equal(stats.mmio, 0);
    assert_int_equal(hv->ops->doorbell(hv->opaque, BELL, fd, false), 0);
    assert_true(hv->ops->doorbell(hv->opaque, BELL, fd, false) < 0);
    close(fd);
    unmake(&env);
}

static int show(struct env *env, uint64_t gpa, void *hva, uint64_t bytes, bool on)
{
    return env->vm.hv.ops->show_memory(env->vm.hv.opaque, gpa, hva, bytes, on);
}

/* Two pages of a file whose first byte is 42. */
static uint8_t *map_file(int fd)
{
    assert_int_equal(ftruncate(fd, 0x2000), 0);
    uint8_t *at = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(at != MAP_FAILED);
    at[0] = 42;
    return at;
}

static void what_is_shown_is_memory(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 1);
    int fd = memfd_create("window", MFD_CLOEXEC);
    uint8_t *at = map_file(fd);
    assert_int_equal(show(&env, WINDOW, at, 0x2000, true), 0);
    start_at(&env, guest_window);
    wait_until(&env, one_place);
    assert_int_equal(env.port[0], 42);
    assert_int_equal(at[0x1000], 0x5a);
    assert_int_equal(atomic_load(&env.faults), 0);
    unmake(&env);
    munmap(at, 0x2000);
    close(fd);
}

static void slots_are_used_again(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 1);
    uint8_t *at = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < 2 * KVM_SLOTS_MAX; i++) {
        assert_int_equal(show(&env, WINDOW + 0x2000 * i, at, 0x2000, true), 0);
        assert_int_equal(show(&env, WINDOW + 0x2000 * i, at, 0x2000, false), 0);
    }
    assert_int_equal(show(&env, WINDOW, at, 0x2000, false), -ENOENT);
    assert_int_equal(show(&env, WINDOW, at, 0, true), -EINVAL);
    assert_true(show(&env, RAM_BYTES - 0x1000, at, 0x2000, true) < 0); /* overlaps */
    unsigned count = 0;
    while (show(&env, WINDOW + 0x2000 * count, at, 0x2000, true) == 0)
        count++;
    assert_int_equal(count, env.vm.slots_max - 1); /* one is RAM */
    assert_int_equal(show(&env, WINDOW + 0x2000 * count, at, 0x2000, true), -ENOSPC);
    assert_int_equal(show(&env, WINDOW, at, 0x2000, false), 0);
    assert_int_equal(show(&env, WINDOW + 0x2000 * count, at, 0x2000, true), 0);
    unmake(&env);
    munmap(at, 0x2000);
}

static bool went_on_or_ended(const struct env *env)
{
    return one_place(env) || env->ended;
}

/* A KVM that interprets its guests takes what it cannot reach for a register of some device. */
static bool is_interpreted(struct env *env)
{
    bool interpreted = atomic_load(&env->mmio.unclaimed) > 0;
    if (interpreted)
        fprintf(stderr, "skipped: this KVM is software\n");
    return interpreted;
}

static void what_is_gone_is_mended(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 1);
    int fd = memfd_create("window", MFD_CLOEXEC);
    uint8_t *at = env.window = map_file(fd);
    assert_int_equal(show(&env, WINDOW, at, 0x2000, true), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    start_at(&env, guest_window);
    wait_until(&env, one_place);
    bool skipped = is_interpreted(&env);
    if (!skipped) {
        assert_int_equal(env.port[0], 0);
        assert_int_equal(at[0x1000], 0x5a);
        assert_int_equal(atomic_load(&env.faults), 1);
    }
    unmake(&env);
    munmap(at, 0x2000);
    close(fd);
    if (skipped)
        skip();
}

static void what_cannot_be_mended_ends_it(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 1);
    uint8_t *at = mmap(NULL, 0x2000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(show(&env, WINDOW, at, 0x2000, true), 0);
    start_at(&env, guest_window);
    wait_until(&env, went_on_or_ended);
    bool skipped = is_interpreted(&env);
    if (!skipped) {
        assert_int_equal(env.end, VCPU_FAILED);
        assert_int_equal(env.port_count, 0);
        assert_true(atomic_load(&env.faults) > 1); /* somebody else might have mended it */
    }
    unmake(&env);
    munmap(at, 0x2000);
    if (skipped)
        skip();
}

static void lines_and_messages_interrupt(void **state)
{
    need_kvm();
    struct env env;
    struct irq_line line;
    make(&env, true, 1);
    assert_int_equal(irq_line_init(&line, &env.vm.hv, 9, NULL), 0);
    start_at(&env, guest_irq);
    wait_until(&env, one_place);
    irq_line_raise(&line);
    wait_until(&env, two_places);
    assert_int_equal(env.place, 0x40);
    assert_int_equal(hypervisor_signal_msi(&env.vm.hv, 0xfee00000, 0x40), 0);
    wait_until(&env, three_places);
    vcpus_stop(env.cpus); /* out of a hlt inside the kernel */
    assert_true(env.all_stopped);
    assert_false(env.ended);
    irq_line_finish(&line);
    irq_line_finish(&line);
    unmake(&env);
}

static uint32_t counter(const struct env *env)
{
    return __atomic_load_n((uint32_t *)memory_span(&env->mem, COUNTER, 4), __ATOMIC_RELAXED);
}

static void a_pause_stands_still(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 1);
    start_at(&env, guest_spin);
    wait_until(&env, one_place);
    for (unsigned i = 0; i < 20; i++) {
        vcpus_pause(env.cpus);
        struct kvm_regs before, after;
        assert_int_equal(ioctl(vcpus_fd(env.cpus, 0), KVM_GET_REGS, &before), 0);
        uint32_t then = counter(&env);
        vcpus_pause(env.cpus); /* nothing to do */
        assert_int_equal(ioctl(vcpus_fd(env.cpus, 0), KVM_GET_REGS, &after), 0);
        assert_int_equal(before.rip, after.rip);
        assert_int_equal(counter(&env), then);
        vcpus_resume(env.cpus);
        uint64_t deadline = clock_ns() + TESTING_TIMEOUT_MS * NS_PER_MS;
        while (counter(&env) == then && clock_ns() < deadline)
            sched_yield();
        assert_int_not_equal(counter(&env), then);
    }
    vcpus_stop(env.cpus);
    vcpus_stop(env.cpus);
    vcpus_pause(env.cpus); /* after the end: nothing */
    vcpus_resume(env.cpus);
    assert_true(env.all_stopped);
    unmake(&env);
}

static void waiting_processors_pause_and_stop(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 3); /* two of which wait for their SIPI */
    start_at(&env, guest_halt);
    wait_until(&env, one_place);
    vcpus_pause(env.cpus);
    vcpus_resume(env.cpus);
    vcpus_pause(env.cpus);
    vcpus_stop(env.cpus); /* out of the pause */
    assert_true(env.all_stopped);
    unmake(&env);
}

static void a_triple_fault_ends_it(void **state)
{
    need_kvm();
    struct env env;
    make(&env, true, 2);
    start_at(&env, guest_fault);
    wait_until(&env, has_ended);
    assert_int_equal(env.end, VCPU_TRIPLE_FAULT);
    unmake(&env);
}

static void the_process_keeps_its_signals(void **state)
{
    need_kvm();
    struct env env;
    struct sigaction before, after;
    sigset_t mask_before, mask_after;
    sigaction(SIGRTMIN, NULL, &before);
    pthread_sigmask(SIG_BLOCK, NULL, &mask_before);
    make(&env, true, 1);
    start_at(&env, guest_spin);
    wait_until(&env, one_place);
    vcpus_stop(env.cpus);
    unmake(&env);
    sigaction(SIGRTMIN, NULL, &after);
    pthread_sigmask(SIG_BLOCK, NULL, &mask_after);
    assert_true(before.sa_handler == after.sa_handler);
    for (int i = 1; i <= SIGRTMAX; i++)
        assert_int_equal(sigismember(&mask_before, i), sigismember(&mask_after, i));
}

static void limits_and_errors_are_said(void **state)
{
    struct dayfly_err err = {0};
    assert_int_equal(kvm_open("/nonexistent/kvm", &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/kvm is missing"));
    assert_int_equal(kvm_open("/dev/null", &err), -EPROTO);
    need_kvm();
    struct kvm_vm vm;
    struct vcpus *cpus;
    assert_int_equal(kvm_vm_new(&vm, KVM_PATH, true, &err), 0);
    const struct vcpus_options none = {.vm = &vm, .count = 0};
    assert_int_equal(vcpus_new(&cpus, &none, &err), -EINVAL);
    const struct vcpus_options many = {.vm = &vm, .count = vm.cpus_max + 1};
    assert_int_equal(vcpus_new(&cpus, &many, &err), -EINVAL);
    kvm_vm_finish(&vm);
    kvm_vm_finish(&vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_and_memory_accesses_arrive),
        cmocka_unit_test(string_output_arrives_in_order),
        cmocka_unit_test(a_doorbell_rings_without_an_exit),
        cmocka_unit_test(what_is_shown_is_memory),
        cmocka_unit_test(slots_are_used_again),
        cmocka_unit_test(what_is_gone_is_mended),
        cmocka_unit_test(what_cannot_be_mended_ends_it),
        cmocka_unit_test(lines_and_messages_interrupt),
        cmocka_unit_test(a_pause_stands_still),
        cmocka_unit_test(waiting_processors_pause_and_stop),
        cmocka_unit_test(a_triple_fault_ends_it),
        cmocka_unit_test(the_process_keeps_its_signals),
        cmocka_unit_test(limits_and_errors_are_said),
    };
    return cmocka_run_group_tests_name("machine-kvm", tests, NULL, NULL);
}
