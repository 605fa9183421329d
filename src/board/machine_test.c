/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole machines, with a kernel of ours of a few hundred bytes: an ELF file with a PVH note whose
 * command line's first letter says what it does. Even a software KVM runs it.
 */
#include "machine/testing_kvm.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "board/machine.h"
#include "util/arith.h"
#include "util/clock.h"
#include "virtio/entropy.h"

#define LOAD_GPA 0x100000

/* Entered as Xen's PVH ABI says: 32-bit, flat, ebx the start info. */
extern const uint8_t kernel_text[], kernel_text_end[];
/* clang-format off */
#define AT(label) "(" label " - kernel_text + 0x100000)"
#define PRINT(letter) " mov $0x3f8, %dx\n mov $'" letter "', %al\n out %al, %dx\n"
#define OFF " mov $0x600, %dx\n mov $0x34, %al\n out %al, %dx\n"
__asm__(".pushsection .rodata\n"
        ".globl kernel_text, kernel_text_end\n"
        ".hidden kernel_text, kernel_text_end\n"
        ".code32\n"
        "kernel_text:\n"
        " mov $0x190000, %esp\n mov 24(%ebx), %esi\n mov (%esi), %al\n"
        " cmp $'o', %al\n je off\n cmp $'r', %al\n je reset\n cmp $'t', %al\n je triple\n"
        " cmp $'s', %al\n je spin\n cmp $'h', %al\n je halt\n cmp $'p', %al\n je walk\n"
        " cmp $'b', %al\n je button\n cmp $'e', %al\n je echo\n"
        "halt: " PRINT("H") " cli\n1: hlt\n jmp 1b\n"
        "off: " PRINT("O") OFF "1: hlt\n jmp 1b\n"
        "reset: " PRINT("R") " mov $0x602, %dx\n mov $1, %al\n out %al, %dx\n1: hlt\n jmp 1b\n"
        "triple: lidt " AT("nothing") "\n ud2\n"
        "spin: " PRINT("S") "1: incl 0x200000\n jmp 1b\n"

        /* "number:vendor and device" of each function 0 on the bus, as letters and hexadecimal digits */
        "walk: mov $0xc0000000, %edi\n mov $'a', %bl\n"
        "1: mov (%edi), %ecx\n cmp $-1, %ecx\n je 4f\n"
        " mov $0x3f8, %dx\n mov %bl, %al\n out %al, %dx\n mov $8, %ebp\n"
        "2: rol $4, %ecx\n mov %cl, %al\n and $15, %al\n add $'0', %al\n cmp $'9', %al\n jbe 3f\n"
        " add $39, %al\n3: out %al, %dx\n dec %ebp\n jnz 2b\n"
        "4: inc %bl\n add $0x8000, %edi\n cmp $0xc0100000, %edi\n jb 1b\n"
        PRINT(".") OFF "1: hlt\n jmp 1b\n"

        /* each byte of the serial port's input, plus one; 'q' ends it */
        "echo: " PRINT("E")
        "1: mov $0x3fd, %dx\n in %dx, %al\n test $1, %al\n jz 1b\n"
        " mov $0x3f8, %dx\n in %dx, %al\n cmp $'q', %al\n je off\n inc %al\n out %al, %dx\n jmp 1b\n"

        /* wait for the power button's edge: pin 9 of the I/O APIC as vector 0x40 */
        "button: lgdt " AT("gdtr") "\n ljmp $8, $" AT("1f") "\n"
        "1: mov $16, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
        " mov $" AT("pressed") ", %eax\n mov %ax, 0x180200\n movw $8, 0x180202\n"
        " movw $0x8e00, 0x180204\n shr $16, %eax\n mov %ax, 0x180206\n lidt " AT("idtr") "\n"
        " movl $0x1ff, 0xfee000f0\n"
        " movl $0x23, 0xfec00000\n movl $0, 0xfec00010\n"
        " movl $0x22, 0xfec00000\n movl $0x40, 0xfec00010\n"
        PRINT("B") " sti\n1: hlt\n jmp 1b\n"
        "pressed: " PRINT("P") OFF "1: hlt\n jmp 1b\n"
        ".balign 8\n"
        "gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        "gdtr: .word 23\n .long " AT("gdt") "\n"
        "idtr: .word 0xfff\n .long 0x180000\n"
        "nothing: .word 0\n .long 0\n"
        "kernel_text_end:\n"
        ".code64\n"
        ".popsection\n");
/* clang-format on */

static int make_kernel(void)
{
    struct {
        Elf64_Ehdr ehdr;
        Elf64_Phdr load, note;
        Elf64_Nhdr nhdr;
        char name[4];
        uint32_t entry;
        uint8_t text[2048];
    } k = {
        .ehdr = {.e_type = ET_EXEC,
                 .e_machine = EM_X86_64,
                 .e_version = EV_CURRENT,
                 .e_ehsize = sizeof(Elf64_Ehdr),
                 .e_phoff = sizeof(Elf64_Ehdr),
                 .e_phentsize = sizeof(Elf64_Phdr),
                 .e_phnum = 2},
        .nhdr = {.n_namesz = 4, .n_descsz = 4, .n_type = 18}, /* XEN_ELFNOTE_PHYS32_ENTRY */
        .name = "Xen",
        .entry = LOAD_GPA,
    };
    memcpy(k.ehdr.e_ident, ELFMAG, SELFMAG);
    k.ehdr.e_ident[EI_CLASS] = ELFCLASS64;
    k.ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
    k.ehdr.e_ident[EI_VERSION] = EV_CURRENT;
    k.load = (Elf64_Phdr){.p_type = PT_LOAD,
                          .p_offset = (uint64_t)((uint8_t *)k.text - (uint8_t *)&k),
                          .p_paddr = LOAD_GPA,
                          .p_filesz = sizeof(k.text),
                          .p_memsz = sizeof(k.text)};
    k.note = (Elf64_Phdr){.p_type = PT_NOTE,
                          .p_offset = (uint64_t)((uint8_t *)&k.nhdr - (uint8_t *)&k),
                          .p_filesz = sizeof(k.nhdr) + 8,
                          .p_memsz = sizeof(k.nhdr) + 8};
    size_t size = (size_t)(kernel_text_end - kernel_text);
    assert_true(size <= sizeof(k.text));
    memcpy(k.text, kernel_text, size);
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    assert_int_equal(write(fd, &k, sizeof(k)), sizeof(k));
    return fd;
}

struct env {
    struct machine *m;
    struct loop *loop;
    struct virtio_device *entropy;
    int kernel, out[2], in[2];

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct machine_event events[8];
    unsigned event_count;
};

static void on_event(void *opaque, const struct machine_event *event)
{
    struct env *env = opaque;
    pthread_mutex_lock(&env->lock);
    assert_true(env->event_count < ARRAY_SIZE(env->events));
    env->events[env->event_count++] = *event;
    pthread_cond_broadcast(&env->changed);
    pthread_mutex_unlock(&env->lock);
}

static void wait_events(struct env *env, unsigned count)
{
    uint64_t deadline = clock_ns() + TESTING_TIMEOUT_MS * NS_PER_MS;
    const struct timespec until = {.tv_sec = (time_t)(deadline / NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&env->lock);
    while (env->event_count < count && rc == 0)
        rc = pthread_cond_timedwait(&env->changed, &env->lock, &until);
    pthread_mutex_unlock(&env->lock);
    if (rc != 0)
        fail_msg("%u events came, not %u: the machine is %s %s", env->event_count, count,
                 machine_state_name(machine_state(env->m)), machine_failure(env->m));
}

static void assert_event(struct env *env, unsigned i, enum machine_state state,
                         enum machine_reason reason)
{
    wait_events(env, i + 1);
    assert_int_equal(env->events[i].state, state);
    assert_int_equal(env->events[i].reason, reason);
    assert_string_equal(env->events[i].text, "");
}

/* The next bytes of the console. */
static void assert_prints(struct env *env, const char *expected)
{
    char got[64] = "";
    size_t have = 0, want = strlen(expected);
    while (have < want) {
        struct pollfd p = {.fd = env->out[0], .events = POLLIN};
        if (poll(&p, 1, TESTING_TIMEOUT_MS) != 1)
            fail_msg("the console stopped at \"%s\": the machine is %s %s", got,
                     machine_state_name(machine_state(env->m)), machine_failure(env->m));
        ssize_t n = read(env->out[0], got + have, want - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_string_equal(got, expected);
}

static void make(struct env *env, const char *cmdline, unsigned cpus)
{
    memset(env, 0, sizeof(*env));
    struct dayfly_err err = {0};
    env->kernel = make_kernel();
    pthread_mutex_init(&env->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&env->changed, &attr);
    pthread_condattr_destroy(&attr);
    assert_int_equal(pipe2(env->out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(env->in, O_CLOEXEC), 0);
    assert_int_equal(loop_new(&env->loop), 0);
    assert_int_equal(virtio_entropy_new(&env->entropy, env->loop, NULL, &err), 0);
    const struct machine_options options = {
        .cpus = cpus,
        .memory_bytes = MACHINE_MEMORY_MIN,
        .kernel_fd = env->kernel,
        .initrd_fd = -1,
        .cmdline = cmdline,
        .serial_in = env->in[0],
        .serial_out = env->out[1],
        .devices = &env->entropy,
        .device_count = 1,
        .loop = env->loop,
        .event = on_event,
        .opaque = env,
    };
    if (machine_new(&env->m, &options, &err) < 0)
        fail_msg("%s", err.msg);
    assert_int_equal(loop_start(env->loop, "devices"), 0);
}

static void start(struct env *env)
{
    struct dayfly_err err = {0};
    if (machine_start(env->m, &err) < 0)
        fail_msg("%s", err.msg);
}

static void unmake(struct env *env)
{
    machine_free(env->m);
    loop_stop(env->loop);
    virtio_entropy_free(env->entropy);
    loop_free(env->loop);
    close(env->kernel);
    for (unsigned i = 0; i < 2; i++) {
        close(env->in[i]);
        close(env->out[i]);
    }
    pthread_cond_destroy(&env->changed);
    pthread_mutex_destroy(&env->lock);
}

static unsigned open_fds(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void the_guest_switches_itself_off(void **state)
{
    need_kvm();
    unsigned fds = open_fds();
    struct env env;
    make(&env, "off", 2);
    assert_int_equal(machine_state(env.m), MACHINE_CREATED);
    assert_int_equal(machine_wait(env.m, 0), -ETIMEDOUT);
    start(&env);
    assert_prints(&env, "O");
    assert_int_equal(machine_wait(env.m, TESTING_TIMEOUT_MS), 0);
    assert_event(&env, 0, MACHINE_RUNNING, MACHINE_REASON_NONE);
    assert_event(&env, 1, MACHINE_STOPPED, MACHINE_POWER_OFF);
    assert_int_equal(machine_reason(env.m), MACHINE_POWER_OFF);

    /* Final is final. */
    struct dayfly_err err = {0};
    assert_int_equal(machine_start(env.m, &err), -EALREADY);
    assert_int_equal(machine_pause(env.m, &err), -EINVAL);
    assert_int_equal(machine_resume(env.m, &err), -EINVAL);
    assert_int_equal(machine_request_stop(env.m, &err), -EINVAL);
    machine_stop(env.m);
    assert_int_equal(machine_reason(env.m), MACHINE_POWER_OFF);
    unmake(&env);
    assert_int_equal(open_fds(), fds);
}

static void the_guest_asks_for_a_reset(void **state)
{
    need_kvm();
    struct env env;
    make(&env, "reset", 1);
    start(&env);
    assert_event(&env, 1, MACHINE_STOPPED, MACHINE_RESET);
    unmake(&env);
}

static void the_guest_crashes(void **state)
{
    need_kvm();
    struct env env;
    make(&env, "triple", 1);
    start(&env);
    assert_event(&env, 1, MACHINE_STOPPED, MACHINE_TRIPLE_FAULT);
    unmake(&env);
}

static void the_guest_finds_its_devices(void **state)
{
    need_kvm();
    struct env env;
    make(&env, "pci", 1);
    start(&env);
    assert_prints(&env, "a00081b36b10441af4.");
    assert_event(&env, 1, MACHINE_STOPPED, MACHINE_POWER_OFF);
    struct machine_stats stats;
    machine_stats(env.m, &stats);
    assert_int_equal(stats.exits_mmio, 32);
    assert_int_equal(stats.exits_pio, 2 * 9 + 2);
    assert_int_equal(stats.unclaimed, 0);
    unmake(&env);
}

static void the_power_button_is_heard(void **state)
{
    need_kvm();
    struct env env;
    make(&env, "button", 1);
    assert_int_equal(machine_request_stop(env.m, NULL), -EINVAL); /* not running yet */
    start(&env);
    assert_prints(&env, "B");
    assert_int_equal(machine_request_stop(env.m, NULL), 0);
    assert_prints(&env, "P");
    assert_event(&env, 1, MACHINE_STOPPED, MACHINE_POWER_OFF);
    unmake(&env);
}

static void the_serial_port_goes_both_ways(void **state)
{
    need_kvm();
    struct env env;
    make(&env, "echo", 1);
    start(&env);
    assert_prints(&env, "E");
    assert_int_equal(write(env.in[1], "HAL", 3), 3);
    assert_prints(&env, "IBM");
    assert_int_equal(write(env.in[1], "q", 1), 1);
    assert_event(&env, 1, MACHINE_STOPPED, MACHINE_POWER_OFF);
    unmake(&env);
}

static void it_pauses_and_resumes(void **state)
{
    need_kvm();
    struct env env;
    make(&env, "spin", 2);
    assert_int_equal(machine_pause(env.m, NULL), -EINVAL);
    assert_int_equal(machine_resume(env.m, NULL), -EINVAL);
    start(&env);
    assert_int_equal(machine_start(env.m, NULL), -EALREADY);
    assert_prints(&env, "S");
    assert_int_equal(machine_pause(env.m, NULL), 0);
    assert_int_equal(machine_pause(env.m, NULL), 0);
    assert_int_equal(machine_state(env.m), MACHINE_PAUSED);
    assert_int_equal(machine_resume(env.m, NULL), 0);
    assert_int_equal(machine_resume(env.m, NULL), 0);
    assert_int_equal(machine_pause(env.m, NULL), 0);
    machine_stop(env.m); /* out of the pause */
    assert_int_equal(machine_wait(env.m, 0), 0);
    assert_event(&env, 1, MACHINE_PAUSED, MACHINE_REASON_NONE);
    assert_event(&env, 2, MACHINE_RUNNING, MACHINE_REASON_NONE);
    assert_event(&env, 3, MACHINE_PAUSED, MACHINE_REASON_NONE);
    assert_event(&env, 4, MACHINE_STOPPED, MACHINE_HOST_STOP);
    unmake(&env);
}

static void it_stops_from_any_state(void **state)
{
    need_kvm();
    unsigned fds = open_fds();
    static const char *const guests[] = {"spin", "halt"};
    for (unsigned i = 0; i < 2; i++) {
        struct env env;
        make(&env, guests[i], 3);
        start(&env);
        assert_prints(&env, i ? "H" : "S");
        machine_stop(env.m);
        machine_stop(env.m);
        assert_event(&env, 1, MACHINE_STOPPED, MACHINE_HOST_STOP);
        unmake(&env);

        make(&env, guests[i], 1);
        start(&env);
        unmake(&env); /* freed as it runs */

        make(&env, guests[i], 1);
        machine_stop(env.m); /* never started */
        assert_event(&env, 0, MACHINE_STOPPED, MACHINE_HOST_STOP);
        assert_int_equal(machine_start(env.m, NULL), -EALREADY);
        unmake(&env);

        make(&env, guests[i], 1);
        unmake(&env);
    }
    assert_int_equal(open_fds(), fds);
}

static void two_machines_live_in_one_process(void **state)
{
    need_kvm();
    struct env a, b;
    make(&a, "echo", 1);
    make(&b, "spin", 2);
    start(&a);
    start(&b);
    assert_prints(&a, "E");
    assert_prints(&b, "S");
    assert_int_equal(machine_pause(b.m, NULL), 0);
    assert_int_equal(write(a.in[1], "a", 1), 1); /* the other one is not touched by it */
    assert_prints(&a, "b");
    unmake(&b);
    assert_int_equal(write(a.in[1], "bq", 2), 2);
    assert_prints(&a, "cO");
    assert_event(&a, 1, MACHINE_STOPPED, MACHINE_POWER_OFF);
    unmake(&a);
}

/* Options that cannot be: each refused with its reason, and nothing left. */
static void wrong_options_are_refused(void **state)
{
    struct loop *loop;
    assert_int_equal(loop_new(&loop), 0);
    struct machine_options good = {
        .cpus = 1,
        .memory_bytes = MACHINE_MEMORY_MIN,
        .kernel_fd = make_kernel(),
        .initrd_fd = -1,
        .serial_in = -1,
        .serial_out = -1,
        .loop = loop,
    };
    struct machine *m = NULL;
    struct dayfly_err err = {0};
    unsigned fds = open_fds();
    struct machine_options o = good;
    o.cpus = 0;
    assert_int_equal(machine_new(&m, &o, &err), -EINVAL);
    o.cpus = MACHINE_CPUS_MAX + 1;
    assert_int_equal(machine_new(&m, &o, &err), -EINVAL);
    o = good;
    o.memory_bytes -= 4096;
    assert_int_equal(machine_new(&m, &o, &err), -EINVAL);
    o.memory_bytes = good.memory_bytes + 1;
    assert_int_equal(machine_new(&m, &o, &err), -EINVAL);
    o = good;
    o.device_count = MACHINE_DEVICES_MAX + 1;
    assert_int_equal(machine_new(&m, &o, &err), -EINVAL);
    o = good;
    o.kvm_path = "/nonexistent/kvm";
    assert_int_equal(machine_new(&m, &o, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nonexistent/kvm"));

    need_kvm();
    o = good;
    o.kernel_fd = memfd_create("nothing", MFD_CLOEXEC);
    assert_int_equal(machine_new(&m, &o, &err), -ENOEXEC);
    close(o.kernel_fd);
    o = good;
    o.initrd_fd = memfd_create("large", MFD_CLOEXEC);
    assert_int_equal(ftruncate(o.initrd_fd, 1 << 30), 0);
    assert_int_equal(machine_new(&m, &o, &err), -ENOMEM);
    close(o.initrd_fd);
    char cmdline[4096];
    memset(cmdline, 'x', sizeof(cmdline));
    cmdline[sizeof(cmdline) - 1] = '\0';
    o = good;
    o.cmdline = cmdline;
    assert_int_equal(machine_new(&m, &o, &err), -E2BIG);
    assert_null(m);
    assert_int_equal(open_fds(), fds);
    machine_free(NULL);
    close(good.kernel_fd);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guest_switches_itself_off),
        cmocka_unit_test(the_guest_asks_for_a_reset),
        cmocka_unit_test(the_guest_crashes),
        cmocka_unit_test(the_guest_finds_its_devices),
        cmocka_unit_test(the_power_button_is_heard),
        cmocka_unit_test(the_serial_port_goes_both_ways),
        cmocka_unit_test(it_pauses_and_resumes),
        cmocka_unit_test(it_stops_from_any_state),
        cmocka_unit_test(two_machines_live_in_one_process),
        cmocka_unit_test(wrong_options_are_refused),
    };
    return cmocka_run_group_tests_name("board-machine", tests, NULL, NULL);
}
