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
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "guard.h"
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
#define FLUSH_MS      1000
#define CMDLINE_BYTES 4096

struct agent {
    uint64_t start_ns, modules_ns, setup_ns;
    struct proto_link link;
    struct proto_setup setup;
    struct machine machine;
    struct secrets secrets;
    struct proto_fail why;
};

/* Wait for the connection; false when the host has gone. */
static bool wait_for(struct proto_link *l, short events)
{
    struct pollfd p = {.fd = l->fd, .events = events};
    while (poll(&p, 1, -1) < 0) {
        if (errno != EINTR)
            return false;
    }
    return p.revents & events;
}

static int flush(struct proto_link *l)
{
    int r;
    while ((r = proto_link_flush(l)) == -EAGAIN) {
        if (!wait_for(l, POLLOUT))
            return -EPIPE;
    }
    return r;
}

static int hello(struct agent *a)
{
    struct utsname uts = {0};
    struct proto_hello m = {
        .version = PROTO_VERSION, .pid = (uint32_t)getpid(), .start_ns = a->start_ns};
    uname(&uts);
    snprintf(m.release, sizeof(m.release), "%.64s", uts.release);
    m.age_ns = clock_ns() - a->start_ns;
    int r = proto_link_send_message(&a->link, PROTO_HELLO, 0, hello, &m);
    return r < 0 ? r : flush(&a->link);
}

static int receive_setup(struct agent *a)
{
    struct proto_frame f;
    int r;
    while ((r = proto_link_next(&a->link, &f)) == 0) {
        if (!wait_for(&a->link, POLLIN))
            return -EPIPE;
        ssize_t n = proto_link_fill(&a->link);
        if (n == 0 || (n < 0 && n != -EAGAIN))
            return n ? (int)n : -EPIPE;
    }
    if (r < 0 || f.type != PROTO_SETUP)
        return fail(&a->why, EPROTO, "waiting for SETUP, got %s",
                    r < 0 ? "no message" : proto_type_name(f.type));
    a->setup_ns = clock_ns();
    if (proto_setup_decode(&a->setup, f.payload, f.len) < 0)
        return fail(&a->why, EPROTO, "SETUP is malformed");
    return 0;
}

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
    net_set_names(a->setup.hostname);
    r = net_raise(&a->setup, &a->why);
    if (r == 0)
        r = root_mount_more(&a->setup, &a->why);
    if (r < 0)
        return r;
    uint64_t now = clock_ns();
    struct proto_ready m = {now - a->start_ns, a->modules_ns, now - a->setup_ns};
    r = proto_link_send_message(&a->link, PROTO_READY, 0, ready, &m);
    return r < 0 ? r : flush(&a->link);
}

static void power_off(void)
{
    reboot(RB_POWER_OFF);
    reboot(RB_HALT_SYSTEM);
    for (;;)
        pause();
}

/* Say a last word, for as long as the host listens. */
static void last_word(struct agent *a)
{
    if (!a->link.tx.buf)
        return;
    for (int tries = 0; proto_link_flush(&a->link) == -EAGAIN && tries < 10; tries++) {
        struct pollfd p = {.fd = a->link.fd, .events = POLLOUT};
        poll(&p, 1, FLUSH_MS / 10);
    }
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
    int r = proto_link_init(&a->link, fd);
    if (r < 0)
        return fail(&a->why, -r, "the connection to the host");
    return hello(a);
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
        r = receive_setup(a);
    if (r == 0)
        r = become_machine(a);
    if (r < 0) {
        if (!a->why.text[0])
            fail(&a->why, -r, "the connection to the host");
        log_say("%s", a->why.text);
        if (a->link.tx.buf)
            (void)proto_link_send_message(&a->link, PROTO_FAIL, 0, fail, &a->why);
        last_word(a);
        return;
    }

    bool sync_all = false;
    enum serve_end end = serve(&a->link, &a->machine, &sync_all);
    guard_kill_all(&a->machine);
    root_finish(&a->setup, sync_all);
    if (end != SERVE_LOST) {
        (void)proto_link_send(&a->link, PROTO_BYE, 0, 0, NULL, 0);
        last_word(a);
    }
}

int main(void)
{
    static struct agent a = {.machine = MACHINE_NONE, .secrets = {.files_fd = -1}};
    sigset_t all;
    a.machine.secrets = &a.secrets;
    a.start_ns = clock_ns();
    if (getpid() != 1) {
        fprintf(stderr, "this is a guest's init\n");
        return 1;
    }
    /* Nothing but the loop takes signals; what the kernel has opened for us stays in 0, 1 and 2. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd < 3;)
        fd = dup(fd);
    run(&a);
    power_off();
}
