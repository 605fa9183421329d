/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long from exec of a monitor to the answer of the agent in its guest, and how much memory the
 * monitor takes beside the guest's: our monitor against QEMU's microvm, both on /dev/kvm, with the same
 * kernel, initramfs and command line. Run by bench/boot.
 *
 * Both give the guest one processor, a serial port that nobody reads, and a virtio console whose port
 * "agent" is one end of a socketpair. The clock starts before fork, and stops when the agent's HELLO
 * has arrived on the other end. The two take turns, so that a slow moment of the host hits both.
 *
 *     bench-boot ROUNDS MEMORY_MIB
 *     bench-boot --monitor FD KERNEL_FD INITRD_FD MEMORY_MIB     (what it execs as our monitor)
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#define ROUNDS_MAX 100
#define LIMIT_NS   (120 * NS_PER_S)

static const char command_line[] =
    "console=ttyS0 quiet panic=-1 reboot=a cryptomgr.notests random.trust_cpu=on "
    "8250.nr_uarts=1 dayfly.port=agent";

static void fail(const char *what, const struct dayfly_err *err)
{
    fprintf(stderr, "bench-boot: %s: %s\n", what, err ? err->msg : strerror(errno));
    exit(1);
}

/* -- our monitor: a program on the public library --------------------------------------------- */

static int monitor(int agent_fd, int kernel_fd, int initrd_fd, unsigned memory_mib)
{
    struct dayfly_config *config;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_console console = DAYFLY_CONSOLE_INIT;
    struct dayfly_vm_options options = DAYFLY_VM_OPTIONS_INIT;
    struct dayfly_vm *vm;
    struct dayfly_err err;

    boot.kernel_fd = kernel_fd;
    boot.initrd_fd = initrd_fd;
    boot.command_line = command_line;
    console.name = "agent";
    console.input_fd = console.output_fd = agent_fd;
    options.engine = DAYFLY_ENGINE_KVM;
    if (dayfly_config_new(&config) < 0 ||
        dayfly_config_set_memory(config, (uint64_t)memory_mib << 20) < 0 ||
        dayfly_config_set_linux(config, &boot) < 0 || dayfly_config_add_console(config, &console) < 0 ||
        dayfly_config_set_entropy(config, false) < 0)
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
    int kernel_fd, initrd_fd;
    unsigned memory_mib;
};

static void exec_ours(const struct parts *parts, int agent_fd)
{
    char fds[4][16];
    snprintf(fds[0], sizeof(fds[0]), "%d", agent_fd);
    snprintf(fds[1], sizeof(fds[1]), "%d", parts->kernel_fd);
    snprintf(fds[2], sizeof(fds[2]), "%d", parts->initrd_fd);
    snprintf(fds[3], sizeof(fds[3]), "%u", parts->memory_mib);
    execl("/proc/self/exe", "bench-boot", "--monitor", fds[0], fds[1], fds[2], fds[3], (char *)NULL);
}

/* microvm at its leanest: virtio over MMIO, no PCI, no old timers and interrupt controllers. It keeps
 * its real time clock: Linux waits many seconds for one that is not there. */
static void exec_qemu(const struct parts *parts, int agent_fd)
{
    char kernel[64], initrd[64], chardev[64], memory[64];
    snprintf(kernel, sizeof(kernel), "/proc/self/fd/%d", parts->kernel_fd);
    snprintf(initrd, sizeof(initrd), "/proc/self/fd/%d", parts->initrd_fd);
    snprintf(chardev, sizeof(chardev), "socket,id=agent,fd=%d", agent_fd);
    snprintf(memory, sizeof(memory), "%u", parts->memory_mib);
    execlp("qemu-system-x86_64", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot",
           "-display", "none", "-accel", "kvm", "-cpu", "host", "-machine",
           "microvm,acpi=on,pcie=off,rtc=on,pit=off,pic=off,auto-kernel-cmdline=off,x-option-roms=off,"
           "dump-guest-core=off", /* marks guest memory for overhead_of_process */
           "-m", memory, "-kernel", kernel, "-initrd", initrd, "-append", command_line, "-serial",
           "null", "-device", "virtio-serial-device,max_ports=2", "-chardev", chardev, "-device",
           "virtserialport,chardev=agent,name=agent", (char *)NULL);
}

struct contestant {
    const char *name;
    void (*exec)(const struct parts *parts, int agent_fd);
    double hello_ms[ROUNDS_MAX], kernel_ms[ROUNDS_MAX], pss_mib[ROUNDS_MAX];
};

static void run_once(struct contestant *who, const struct parts *parts, unsigned round)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        fail("socketpair", NULL);
    uint64_t start = clock_ns();
    pid_t pid = fork();
    if (pid < 0)
        fail("fork", NULL);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fcntl(pair[1], F_SETFD, 0);
        fcntl(parts->kernel_fd, F_SETFD, 0);
        fcntl(parts->initrd_fd, F_SETFD, 0);
        who->exec(parts, pair[1]);
        _exit(127);
    }
    close(pair[1]);

    struct guest *guest;
    struct proto_hello hello;
    struct dayfly_err err;
    const struct guest_wait wait = {.deadline_ns = start + LIMIT_NS, .cancel_fd = -1};
    if (guest_new(pair[0], &guest, &err) < 0 || guest_wait_hello(guest, &wait, &hello, &err) < 0)
        fail(who->name, &err);
    who->hello_ms[round] = (double)(clock_ns() - start) / 1e6;
    who->kernel_ms[round] = (double)hello.start_ns / 1e6;
    who->pss_mib[round] = (double)overhead_of_process(pid) / (1 << 20);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    guest_free(guest);
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
    if (argc == 6 && strcmp(argv[1], "--monitor") == 0)
        return monitor(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), (unsigned)atoi(argv[5]));
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

    static struct contestant ours = {.name = "dayfly", .exec = exec_ours};
    static struct contestant qemu = {.name = "qemu microvm", .exec = exec_qemu};
    run_once(&ours, &parts, 0); /* warm the caches; overwritten below */
    run_once(&qemu, &parts, 0);
    for (unsigned i = 0; i < rounds; i++) {
        run_once(&ours, &parts, i);
        run_once(&qemu, &parts, i);
    }
    printf("kernel %s, %u MiB, 1 vCPU, %u rounds in turn; median (least to most)\n", kernel.release,
           memory_mib, rounds);
    printf("%-34s %27s %27s %20s\n", "", "dayfly", "qemu microvm", "ratio");
    print_row("exec to the agent's answer, ms", ours.hello_ms, qemu.hello_ms, rounds);
    print_row("of that, the guest's own clock, ms", ours.kernel_ms, qemu.kernel_ms, rounds);
    print_row("monitor's memory (PSS), MiB", ours.pss_mib, qemu.pss_mib, rounds);
    kernel_finish(&kernel);
    store_close(&store);
    return 0;
}
