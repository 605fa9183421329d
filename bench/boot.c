/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long from exec of a monitor to the guest's first instruction and to the answer of the agent in
 * it, and how much memory the monitor takes beside the guest's: our monitor against QEMU's microvm,
 * both on /dev/kvm, with the same kernel, initramfs and command line. Run by bench/boot.
 *
 * Both give the guest one processor, a serial port, and a virtio console whose port "agent" is one end
 * of a socketpair. The clock starts before fork, and stops when the agent's HELLO has arrived on the
 * other end; and in runs of their own, in which the kernel is a handful of instructions that write a
 * byte to the serial port, when that byte is here. The latter also for our monitor without its jail,
 * which is what locking up its threads costs; and its memory also with a device of each kind. All take
 * turns, so that a slow moment of the host hits all of them.
 *
 *     bench-boot ROUNDS MEMORY_MIB
 *     bench-boot --monitor FD SERIAL_FD KERNEL_FD INITRD_FD MEMORY_MIB KIND   (what it execs as our
 * monitor)
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dayfly/vm.h"
#include "image/kernel.h"
#include "image/store.h"
#include "job/guest.h"
#include "job/overhead.h"
#include "util/clock.h"
#include "util/io.h"

#define ROUNDS_MAX 100
#define LIMIT_NS   (120 * NS_PER_S)

static const char command_line[] =
    "console=ttyS0 quiet panic=-1 reboot=a cryptomgr.notests random.trust_cpu=on pci=lastbus=0 "
    "8250.nr_uarts=1 dayfly.port=agent";

static void fail(const char *what, const struct dayfly_err *err)
{
    fprintf(stderr, "bench-boot: %s: %s\n", what, err ? err->msg : strerror(errno));
    exit(1);
}

/* -- our monitor: a program on the public library --------------------------------------------- */

enum kind {
    PLAIN,
    UNJAILED,
    WHOLE, /* with a disk, a share, a network, a vsock and a source of entropy besides */
};

static bool add_devices(struct dayfly_config *config)
{
    struct dayfly_disk disk = DAYFLY_DISK_INIT;
    struct dayfly_share_directory directory = DAYFLY_SHARE_DIRECTORY_INIT;
    struct dayfly_share share = DAYFLY_SHARE_INIT;
    struct dayfly_net net = DAYFLY_NET_INIT;
    struct dayfly_vsock vsock = DAYFLY_VSOCK_INIT;
    disk.fd = memfd_create("disk", MFD_CLOEXEC);
    directory.path = "/usr/share";
    directory.mode = DAYFLY_SHARE_RO;
    share.tag = "share";
    share.directories = &directory;
    share.directory_count = 1;
    return disk.fd >= 0 && ftruncate(disk.fd, 64 << 20) == 0 &&
           dayfly_config_add_disk(config, &disk) == 0 && dayfly_config_add_share(config, &share) == 0 &&
           dayfly_config_add_net(config, &net) == 0 && dayfly_config_set_vsock(config, &vsock) == 0 &&
           dayfly_config_set_entropy(config, true) == 0;
}

static int monitor(int agent_fd, int serial_fd, int kernel_fd, int initrd_fd, unsigned memory_mib,
                   enum kind kind)
{
    struct dayfly_config *config;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_console console = DAYFLY_CONSOLE_INIT;
    struct dayfly_serial serial = DAYFLY_SERIAL_INIT;
    struct dayfly_vm_options options = DAYFLY_VM_OPTIONS_INIT;
    struct dayfly_vm *vm;
    struct dayfly_err err;

    boot.kernel_fd = kernel_fd;
    boot.initrd_fd = initrd_fd;
    boot.command_line = command_line;
    console.name = "agent";
    console.input_fd = console.output_fd = agent_fd;
    serial.output_fd = serial_fd;
    options.engine = DAYFLY_ENGINE_KVM;
    if (dayfly_config_new(&config) < 0 ||
        dayfly_config_set_memory(config, (uint64_t)memory_mib << 20) < 0 ||
        dayfly_config_set_linux(config, &boot) < 0 || dayfly_config_add_console(config, &console) < 0 ||
        dayfly_config_set_serial(config, &serial) < 0 || dayfly_config_set_entropy(config, false) < 0 ||
        dayfly_config_set_jail(config, kind == UNJAILED ? DAYFLY_JAIL_OFF : DAYFLY_JAIL_AUTO) < 0 ||
        (kind == WHOLE && !add_devices(config)))
        fail("describe", NULL);
    if (dayfly_vm_new(&vm, config, &options, &err) < 0 || dayfly_vm_start(vm, &err) < 0)
        fail("start", &err);
    dayfly_config_free(config);
    dayfly_vm_wait(vm, -1);
    dayfly_vm_free(vm);
    return 0;
}

/* -- the two, as argument vectors ------------------------------------------------------------- */

struct parts {
    int kernel_fd, initrd_fd; /* initrd_fd: -1: none */
    unsigned memory_mib;
};

/* What the guest is connected with: one end of a socketpair each. */
struct wires {
    int agent, serial;
};

static void exec_monitor(const struct parts *parts, const struct wires *wires, enum kind kind)
{
    char words[6][16];
    snprintf(words[0], sizeof(words[0]), "%d", wires->agent);
    snprintf(words[1], sizeof(words[1]), "%d", wires->serial);
    snprintf(words[2], sizeof(words[2]), "%d", parts->kernel_fd);
    snprintf(words[3], sizeof(words[3]), "%d", parts->initrd_fd);
    snprintf(words[4], sizeof(words[4]), "%u", parts->memory_mib);
    snprintf(words[5], sizeof(words[5]), "%d", (int)kind);
    execl("/proc/self/exe", "bench-boot", "--monitor", words[0], words[1], words[2], words[3], words[4],
          words[5], (char *)NULL);
}

static void exec_ours(const struct parts *parts, const struct wires *wires)
{
    exec_monitor(parts, wires, PLAIN);
}

static void exec_unjailed(const struct parts *parts, const struct wires *wires)
{
    exec_monitor(parts, wires, UNJAILED);
}

static void exec_whole(const struct parts *parts, const struct wires *wires)
{
    exec_monitor(parts, wires, WHOLE);
}

/* microvm at its leanest: virtio over MMIO, no PCI, no old timers and interrupt controllers. It keeps
 * its real time clock: Linux waits many seconds for one that is not there. */
static void exec_qemu(const struct parts *parts, const struct wires *wires)
{
    char kernel[64], initrd[64], chardev[64], serial[64], memory[64];
    snprintf(kernel, sizeof(kernel), "/proc/self/fd/%d", parts->kernel_fd);
    snprintf(initrd, sizeof(initrd), "/proc/self/fd/%d", parts->initrd_fd);
    snprintf(chardev, sizeof(chardev), "socket,id=agent,fd=%d", wires->agent);
    snprintf(serial, sizeof(serial), "socket,id=serial,fd=%d", wires->serial);
    snprintf(memory, sizeof(memory), "%u", parts->memory_mib);
    bool has_initrd = parts->initrd_fd >= 0;
    execlp("qemu-system-x86_64", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
           "-display", "none", "-accel", "kvm", "-cpu", "host", "-machine",
           "microvm,acpi=on,pcie=off,rtc=on,pit=off,pic=off,auto-kernel-cmdline=off,x-option-roms=off,"
           "dump-guest-core=off", /* marks guest memory for overhead_of_process */
           "-m", memory, "-kernel", kernel, "-append", command_line, "-chardev", serial, "-serial",
           "chardev:serial", "-device", "virtio-serial-device,max_ports=2", "-chardev", chardev,
           "-device", "virtserialport,chardev=agent,name=agent", has_initrd ? "-initrd" : (char *)NULL,
           initrd, (char *)NULL);
}

struct contestant {
    const char *name;
    void (*exec)(const struct parts *parts, const struct wires *wires);
    double first_ms[ROUNDS_MAX], hello_ms[ROUNDS_MAX], kernel_ms[ROUNDS_MAX], pss_mib[ROUNDS_MAX];
};

/* The ends that are ours go into *ours. */
static pid_t start_monitor(const struct contestant *who, const struct parts *parts, struct wires *ours,
                           uint64_t *start)
{
    int agent[2], serial[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, serial) < 0)
        fail("socketpair", NULL);
    *ours = (struct wires){agent[0], serial[0]};
    *start = clock_ns();
    pid_t pid = fork();
    if (pid < 0)
        fail("fork", NULL);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fcntl(agent[1], F_SETFD, 0);
        fcntl(serial[1], F_SETFD, 0);
        fcntl(parts->kernel_fd, F_SETFD, 0);
        fcntl(parts->initrd_fd, F_SETFD, 0);
        who->exec(parts, &(struct wires){agent[1], serial[1]});
        _exit(127);
    }
    close(agent[1]);
    close(serial[1]);
    return pid;
}

/* To the first instruction. */
static void run_first(struct contestant *who, const struct parts *parts, unsigned round)
{
    struct wires ours;
    uint64_t start;
    char byte;
    pid_t pid = start_monitor(who, parts, &ours, &start);
    struct pollfd fd = {ours.serial, POLLIN, 0};
    if (poll(&fd, 1, (int)(LIMIT_NS / NS_PER_MS)) != 1 || read(ours.serial, &byte, 1) != 1)
        fail(who->name, &(struct dayfly_err){.msg = "the guest's first instructions did nothing"});
    who->first_ms[round] = (double)(clock_ns() - start) / 1e6;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(ours.agent);
    close(ours.serial);
}

static void run_once(struct contestant *who, const struct parts *parts, unsigned round)
{
    struct wires ours;
    uint64_t start;
    pid_t pid = start_monitor(who, parts, &ours, &start);

    struct guest *guest;
    struct proto_hello hello;
    struct dayfly_err err;
    const struct guest_wait wait = {.deadline_ns = start + LIMIT_NS, .cancel_fd = -1};
    if (guest_new(ours.agent, &guest, &err) < 0 || guest_wait_hello(guest, &wait, &hello, &err) < 0)
        fail(who->name, &err);
    who->hello_ms[round] = (double)(clock_ns() - start) / 1e6;
    who->kernel_ms[round] = (double)hello.start_ns / 1e6;
    who->pss_mib[round] = (double)overhead_of_process(pid) / (1 << 20);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    guest_free(guest);
    close(ours.serial);
}

/* -- a kernel of four instructions ------------------------------------------------------------ */

#define FIRST_GPA 0x1000000

struct first_kernel {
    Elf64_Ehdr ehdr;
    Elf64_Phdr text_ph, note_ph;
    struct {
        Elf64_Nhdr head;
        char owner[4];
        uint32_t entry, pad;
    } note;
    uint8_t text[16];
};

/* An ELF file with a PVH entry. Returns its descriptor. */
static int make_first_kernel(void)
{
    static const uint8_t text[16] = {
        0x66, 0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
        0xb0, '!',              /* mov $'!', %al */
        0xee,                   /* out %al, %dx */
        0xf4, 0xeb, 0xfd,       /* 1: hlt; jmp 1b */
    };
    struct first_kernel k = {
        .ehdr = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                 .e_type = ET_EXEC,
                 .e_machine = EM_X86_64,
                 .e_version = EV_CURRENT,
                 .e_entry = FIRST_GPA,
                 .e_ehsize = sizeof(Elf64_Ehdr),
                 .e_phoff = offsetof(struct first_kernel, text_ph),
                 .e_phentsize = sizeof(Elf64_Phdr),
                 .e_phnum = 2},
        .text_ph = {.p_type = PT_LOAD,
                    .p_offset = offsetof(struct first_kernel, text),
                    .p_vaddr = FIRST_GPA,
                    .p_paddr = FIRST_GPA,
                    .p_filesz = sizeof(text),
                    .p_memsz = sizeof(text)},
        .note_ph = {.p_type = PT_NOTE,
                    .p_offset = offsetof(struct first_kernel, note),
                    .p_filesz = sizeof(k.note),
                    .p_memsz = sizeof(k.note),
                    .p_align = 4},
        .note = {.head = {.n_namesz = 4, .n_descsz = 8, .n_type = 18 /* PHYS32_ENTRY */},
                 .owner = "Xen",
                 .entry = FIRST_GPA},
    };
    memcpy(k.text, text, sizeof(text));
    int fd = memfd_create("first", MFD_CLOEXEC);
    if (fd < 0 || io_pwrite_full(fd, &k, sizeof(k), 0) < 0)
        fail("make a kernel", NULL);
    return fd;
}

/* -- figures ---------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static void print_row(const char *label, double *ours, double *theirs, unsigned n)
{
    double ratios[ROUNDS_MAX];
    for (unsigned i = 0; i < n; i++)
        ratios[i] = ours[i] / theirs[i];
    double ratio = median(ratios, n), a = median(ours, n), b = median(theirs, n);
    printf("%-34s %8.1f (%.1f to %.1f) %8.1f (%.1f to %.1f) %6.2f (%.2f to %.2f)\n", label, a, ours[0],
           ours[n - 1], b, theirs[0], theirs[n - 1], ratio, ratios[0], ratios[n - 1]);
}

int main(int argc, char **argv)
{
    if (argc == 8 && strcmp(argv[1], "--monitor") == 0)
        return monitor(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]),
                       (unsigned)atoi(argv[6]), (enum kind)atoi(argv[7]));
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    unsigned memory_mib = argc > 2 ? (unsigned)atoi(argv[2]) : 256;
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench-boot ROUNDS [MEMORY_MIB], 1 to %d rounds\n", ROUNDS_MAX);
        return 2;
    }

    struct store store;
    struct kernel kernel;
    struct dayfly_err err;
    struct parts parts = {.memory_mib = memory_mib};
    if (store_open(&store, NULL, STORE_READ, &err) < 0 || kernel_open(&store, NULL, &kernel, &err) < 0)
        fail("kernel", &err);
    if (kernel_initramfs(&kernel, KERNEL_MMIO, &parts.initrd_fd, &err) < 0)
        fail("initramfs", &err);
    parts.kernel_fd = kernel.vmlinux_fd;
    const struct parts first = {make_first_kernel(), -1, memory_mib};

    static struct contestant ours = {.name = "dayfly", .exec = exec_ours};
    static struct contestant qemu = {.name = "qemu microvm", .exec = exec_qemu};
    static struct contestant unjailed = {.name = "dayfly without a jail", .exec = exec_unjailed};
    static struct contestant whole = {.name = "dayfly with all devices", .exec = exec_whole};
    run_once(&ours, &parts, 0); /* warm the caches; overwritten below */
    run_once(&qemu, &parts, 0);
    run_first(&ours, &first, 0);
    run_first(&qemu, &first, 0);
    for (unsigned i = 0; i < rounds; i++) {
        run_first(&ours, &first, i);
        run_first(&unjailed, &first, i);
        run_first(&qemu, &first, i);
        run_once(&ours, &parts, i);
        run_once(&qemu, &parts, i);
        run_once(&whole, &parts, i);
    }
    printf("kernel %s, %u MiB, 1 vCPU, %u rounds in turn; median (least to most)\n", kernel.release,
           memory_mib, rounds);
    printf("%-34s %27s %27s %20s\n", "", "dayfly", "without a jail", "ratio");
    double jailed_ms[ROUNDS_MAX];
    memcpy(jailed_ms, ours.first_ms, sizeof(jailed_ms)); /* print_row sorts */
    print_row("exec to first instruction, ms", jailed_ms, unjailed.first_ms, rounds);
    printf("\n%-34s %27s %27s %20s\n", "", "dayfly", "qemu microvm", "ratio");
    print_row("exec to first instruction, ms", ours.first_ms, qemu.first_ms, rounds);
    print_row("exec to the agent's answer, ms", ours.hello_ms, qemu.hello_ms, rounds);
    print_row("of that, the guest's own clock, ms", ours.kernel_ms, qemu.kernel_ms, rounds);
    print_row("monitor's memory (PSS), MiB", ours.pss_mib, qemu.pss_mib, rounds);
    print_row("the same, a device of each kind", whole.pss_mib, qemu.pss_mib, rounds);
    kernel_finish(&kernel);
    store_close(&store);
    return 0;
}
