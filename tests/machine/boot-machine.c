/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boots a kernel on our machine, for tests: boot-machine [options] KERNEL [INITRAMFS]
 *
 *   --cpus N  --memory SIZE  --append TEXT    the machine; a console on ttyS0 is there
 *   --disk FILE                               a virtio disk (may be repeated), read-write
 *   --entropy                                 a virtio entropy source
 *   --press TEXT                              press the power button when the console shows TEXT
 *   --pause TEXT                              pause for 300 ms when the console shows TEXT
 *   --stop TEXT                               pull the plug when the console shows TEXT
 *   --timeout DURATION                        give up
 *   --stats                                   times and exits on stderr
 *
 * The console's output goes to stdout. Exit status: 0 power off, 10 reset, 11 triple fault, 12 stopped
 * by us, 20 failed, 21 timed out, 125 could not be built.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64/kernel_image.h"
#include "board/machine.h"
#include "util/clock.h"
#include "util/io.h"
#include "util/units.h"
#include "virtio/entropy.h"

#define WINDOW 8192

struct watch {
    const char *press, *pause, *stop;
};

static void on_event(void *opaque, const struct machine_event *event)
{
    fprintf(stderr, "boot-machine: %s%s%s%s%s\n", machine_state_name(event->state),
            event->reason ? ": " : "", event->reason ? machine_reason_name(event->reason) : "",
            event->text[0] ? ": " : "", event->text);
}

static int give_up(const struct dayfly_err *err)
{
    fprintf(stderr, "boot-machine: %s\n", err->msg);
    return 125;
}

/* The kernel as an ELF file, whatever it came as. */
static int open_kernel(const char *path, struct dayfly_err *err)
{
    int in = open(path, O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        err->code = errno;
        snprintf(err->msg, sizeof(err->msg), "%s: %s", path, strerror(errno));
        return -err->code;
    }
    char magic[4];
    if (pread(in, magic, 4, 0) == 4 && memcmp(magic, "\177ELF", 4) == 0)
        return in;
    int out = memfd_create("kernel", MFD_CLOEXEC);
    int rc = kernel_image_unpack(in, out, err);
    close(in);
    return rc < 0 ? rc : out;
}

static bool saw(const char *window, const char **text)
{
    if (!*text || !strstr(window, *text))
        return false;
    *text = NULL; /* once */
    return true;
}

/* Copy the console to stdout and act on what it shows, until the machine is final and the console is
 * empty. */
static bool watch_console(struct machine *m, int fd, struct watch w, int timeout_ms)
{
    char window[WINDOW + 1] = "";
    size_t have = 0;
    uint64_t deadline = clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    for (;;) {
        bool final = machine_wait(m, 0) == 0;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, final ? 50 : 20) > 0) {
            if (have > WINDOW / 2) {
                memmove(window, window + have - WINDOW / 4, WINDOW / 4);
                have = WINDOW / 4;
            }
            ssize_t n = read(fd, window + have, WINDOW - have);
            if (n > 0) {
                io_write_full(1, window + have, (size_t)n);
                have += (size_t)n;
                window[have] = '\0';
            }
        } else if (final) {
            return true;
        }
        if (saw(window, &w.press))
            machine_request_stop(m, NULL);
        if (saw(window, &w.stop))
            machine_stop(m);
        if (saw(window, &w.pause)) {
            machine_pause(m, NULL);
            usleep(300000); /* the pause is the point */
            machine_resume(m, NULL);
        }
        if (!final && clock_ns() > deadline)
            return false;
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"cpus", required_argument, NULL, 'c'},   {"memory", required_argument, NULL, 'm'},
        {"append", required_argument, NULL, 'a'}, {"entropy", no_argument, NULL, 'e'},
        {"press", required_argument, NULL, 'p'},  {"pause", required_argument, NULL, 'P'},
        {"stop", required_argument, NULL, 's'},   {"timeout", required_argument, NULL, 't'},
        {"stats", no_argument, NULL, 'S'},        {NULL, 0, NULL, 0},
    };
    struct machine_options o = {.cpus = 1,
                                .memory_bytes = UINT64_C(256) << 20,
                                .initrd_fd = -1,
                                .serial_in = -1,
                                .event = on_event};
    struct watch watch = {0};
    struct dayfly_err err = {0};
    char cmdline[2048] = "console=ttyS0 panic=-1 reboot=t";
    uint64_t timeout_ns = 120 * NS_PER_S;
    bool entropy = false, stats = false;
    uint64_t begin = clock_ns();
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 'c':
            o.cpus = (unsigned)atoi(optarg);
            break;
        case 'm':
            if (units_parse_size(optarg, &o.memory_bytes, &err) < 0)
                return give_up(&err);
            break;
        case 'a':
            snprintf(cmdline + strlen(cmdline), sizeof(cmdline) - strlen(cmdline), " %s", optarg);
            break;
        case 'e':
            entropy = true;
            break;
        case 'p':
            watch.press = optarg;
            break;
        case 'P':
            watch.pause = optarg;
            break;
        case 's':
            watch.stop = optarg;
            break;
        case 't':
            if (units_parse_duration(optarg, &timeout_ns, &err) < 0)
                return give_up(&err);
            break;
        case 'S':
            stats = true;
            break;
        default:
            return 2;
        }
    }
    if (optind >= argc)
        return 2;
    struct log log = {.write = log_to_stderr, .level = LOG_INFO};
    int console[2];
    if (pipe2(console, O_CLOEXEC) < 0)
        return 125;
    o.log = &log;
    o.cmdline = cmdline;
    o.serial_out = console[1];
    o.kernel_fd = open_kernel(argv[optind], &err);
    if (o.kernel_fd < 0)
        return give_up(&err);
    if (optind + 1 < argc && (o.initrd_fd = open(argv[optind + 1], O_RDONLY | O_CLOEXEC)) < 0) {
        perror(argv[optind + 1]);
        return 125;
    }
    if (loop_new(&o.loop) < 0)
        return 125;

    struct virtio_device *devices[MACHINE_DEVICES_MAX];
    struct virtio_device *source = NULL;
    o.devices = devices;
    if (entropy) {
        if (virtio_entropy_new(&source, o.loop, &log, &err) < 0)
            return give_up(&err);
        devices[o.device_count++] = source;
    }

    uint64_t unpacked = clock_ns();
    struct machine *m;
    if (machine_new(&m, &o, &err) < 0)
        return give_up(&err);
    uint64_t made = clock_ns();
    if (loop_start(o.loop, "devices") < 0 || machine_start(m, &err) < 0)
        return give_up(&err);
    bool ended = watch_console(m, console[0], watch, (int)(timeout_ns / NS_PER_MS));
    uint64_t over = clock_ns();

    struct machine_stats s;
    machine_stats(m, &s);
    enum machine_state state = machine_state(m);
    enum machine_reason reason = machine_reason(m);
    machine_free(m);
    uint64_t freed = clock_ns();
    loop_stop(o.loop);
    virtio_entropy_free(source);
    loop_free(o.loop);
    if (stats)
        fprintf(stderr,
                "boot-machine: ms: unpack %llu, build %llu, run %llu, free %llu; exits: pio %llu, mmio "
                "%llu, kick %llu, other %llu; unclaimed %llu, serial dropped %llu\n",
                (unsigned long long)((unpacked - begin) / NS_PER_MS),
                (unsigned long long)((made - unpacked) / NS_PER_MS),
                (unsigned long long)((over - made) / NS_PER_MS),
                (unsigned long long)((freed - over) / NS_PER_MS), (unsigned long long)s.exits_pio,
                (unsigned long long)s.exits_mmio, (unsigned long long)s.exits_kick,
                (unsigned long long)s.exits_other, (unsigned long long)s.unclaimed,
                (unsigned long long)s.serial_dropped_bytes);
    if (!ended) {
        fprintf(stderr, "boot-machine: timed out\n");
        return 21;
    }
    if (state == MACHINE_FAILED)
        return 20;
    return reason == MACHINE_POWER_OFF      ? 0
           : reason == MACHINE_RESET        ? 10
           : reason == MACHINE_TRIPLE_FAULT ? 11
                                            : 12;
}
