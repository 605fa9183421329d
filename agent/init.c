/* SPDX-License-Identifier: Apache-2.0 */

/*
 * PID 1 of a guest, from the kernel's hand-over to power-off. The conversation is in proto/proto.h.
 *
 * Stages: the kernel's file systems and modules; the way to the host, HELLO; SETUP, after which the
 * agent stands in the image; guards against the job; READY; the loop of serve.h; the end, which is
 * always a power-off, as a machine without its host, or without its root, is of no use to anyone.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "guard.h"
#include "host.h"
#include "inside.h"
#include "log.h"
#include "machine.h"
#include "modules.h"
#include "net.h"
#include "power.h"
#include "proto/link.h"
#include "proto/message.h"
#include "root.h"
#include "secret.h"
#include "serve.h"
#include "transport.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/io.h"

#define CONNECT_NS    (30 * NS_PER_S)
#define CMDLINE_BYTES 4096

static void set_clock(uint64_t wall_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(wall_ns / NS_PER_S),
                          .tv_nsec = (long)(wall_ns % NS_PER_S)};
    if (wall_ns && clock_settime(CLOCK_REALTIME, &ts) < 0)
        log_say("setting the clock: %s", strerror(errno));
}

static void add_entropy(const struct proto_setup *s)
{
    struct {
        struct rand_pool_info info;
        uint8_t bytes[PROTO_ENTROPY_MAX];
    } pool = {.info = {.entropy_count = (int)s->entropy_len * 8, .buf_size = (int)s->entropy_len}};
    _cleanup_close_ int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    memcpy(pool.bytes, s->entropy, s->entropy_len);
    if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
        log_say("adding entropy: %s", strerror(errno));
}

/* All from SETUP to READY. */
static int become_machine(struct agent *a)
{
    add_entropy(&a->setup);
    explicit_bzero(a->setup.entropy, sizeof(a->setup.entropy));
    set_clock(a->setup.wall_ns);
    a->machine.power_fd = power_open();
    int r = root_switch(&a->setup, &a->machine, &a->why);
    if (r == 0)
        r = guard(&a->machine, &a->why);
    if (r < 0)
        return r;
    mkdir("/etc", 0755);
    _cleanup_close_ int etc = open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    net_set_names(etc, a->setup.hostname);
    r = net_raise(etc, &a->setup, &a->why);
    if (r == 0)
        r = root_mount_more(&a->setup, &a->why);
    if (r < 0)
        return r;
    return host_ready(a);
}

static void power_off(void)
{
    reboot(RB_POWER_OFF);
    reboot(RB_HALT_SYSTEM);
    for (;;)
        pause();
}

/* The connection, up to HELLO. */
static int reach_host(struct agent *a)
{
    _cleanup_free_ char *cmdline = NULL;
    if (io_read_file(AT_FDCWD, "/proc/cmdline", CMDLINE_BYTES, &cmdline, NULL) < 0)
        return fail(&a->why, errno, "/proc/cmdline");
    int fd = transport_open(cmdline, a->start_ns + CONNECT_NS, &a->why);
    if (fd < 0)
        return fd;
    return host_hello(a, fd);
}

static void run(struct agent *a)
{
    uint64_t before = clock_ns();
    int r = root_early(&a->why);
    if (r == 0) {
        modules_load();
        a->modules_ns = clock_ns() - before;
        r = reach_host(a);
    }
    if (r == 0)
        r = host_receive_setup(a);
    if (r == 0)
        r = become_machine(a);
    if (r < 0) {
        host_fail(a, r);
        log_say("%s", a->why.text);
        return;
    }

    bool sync_all = false;
    enum serve_end end = serve(&a->link, &a->machine, &sync_all);
    guard_kill_all(&a->machine);
    root_finish(&a->setup, sync_all);
    if (end != SERVE_LOST)
        host_bye(a);
}

int main(int argc, char **argv)
{
    static struct agent a = {.machine = MACHINE_NONE, .secrets = {.files_fd = -1}};
    sigset_t all;
    a.machine.secrets = &a.secrets;
    a.start_ns = clock_ns();
    /* A guest's kernel calls us /init, whatever else of its command line it hands on. */
    bool in_guest = argc < 2 || strcmp(argv[0], INSIDE_NAME) != 0;
    if (in_guest && getpid() != 1) {
        fprintf(stderr, "this is a guest's init\n");
        return 1;
    }
    /* Nothing but the loop takes signals; what the kernel has opened for us stays in 0, 1 and 2. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* whoever ignored it: children have to be waited for */
    if (!in_guest)
        return inside(&a, argv + 1);
    for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd < 3;)
        fd = dup(fd);
    run(&a);
    power_off();
}
