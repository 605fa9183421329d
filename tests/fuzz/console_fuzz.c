/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the console device over `fake`: a terminal on pipes, a stream on a socket, a port without
 * anything. The input is a program for both sides: control messages near what is sensible, output and
 * room for input of any shape; and on the host's side input, readers that come and go, other
 * descriptors and other sizes of the terminal. Checked besides: what the device says of itself (control
 * messages) has the form of 5.3.6.2.
 */
#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "virtio/console.h"

#define OPS_MAX 300
#define PORTS   3

enum { CONTROL_RX = 2, CONTROL_TX = 3, EVENTS = 8 };

struct control {
    uint32_t id;
    uint16_t event, value;
};

/* The host's ends. */
struct host {
    int in[PORTS], out[PORTS];
};

static void attach(struct fuzz_driver *d, struct host *host, unsigned port)
{
    int in[2], out[2];
    check(pipe2(in, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0);
    close_fd(&host->in[port]);
    close_fd(&host->out[port]);
    host->in[port] = in[1];
    host->out[port] = out[0];
    virtio_console_attach(d->dev, port, in[0], out[1]);
}

static void host_acts(struct fuzz_driver *d, struct host *host)
{
    static uint8_t bytes[4096];
    uint8_t what = u8(&d->in);
    unsigned port = what / 8 % PORTS;
    switch (what % 8) {
    case 0:
        close_fd(&host->in[port]);
        break;
    case 1:
        close_fd(&host->out[port]);
        break;
    case 2:
        attach(d, host, port);
        break;
    case 3:
        virtio_console_attach(d->dev, u8(&d->in) % (PORTS + 1), -1, -1);
        break;
    case 4:
        virtio_console_resize(d->dev, u16(&d->in), u16(&d->in));
        break;
    case 5:
    case 6:
        if (host->in[port] >= 0)
            (void)!write(host->in[port], bytes, 1 + u8(&d->in) * 16u);
        break;
    default:
        while (host->out[port] >= 0 && read(host->out[port], bytes, sizeof(bytes)) > 0)
            ;
        break;
    }
}

static void send_control(struct fuzz_driver *d)
{
    uint8_t kind = u8(&d->in);
    const struct control message = {
        .id = htole32(kind & 0x80 ? u32(&d->in) : kind % (PORTS + 1)),
        .event = htole16(kind & 0x40 ? u16(&d->in) : kind / 4 % (EVENTS + 1)),
        .value = htole16(u8(&d->in) % 3),
    };
    fuzz_driver_send(d, CONTROL_TX, &message, kind & 0x20 ? u8(&d->in) % 64 % sizeof(message) : 8);
}

static void used(struct fuzz_driver *d, unsigned queue, const uint8_t *data, uint32_t written)
{
    struct control message;
    if (queue != CONTROL_RX || written == 0)
        return;
    check(written >= sizeof(message));
    memcpy(&message, data, sizeof(message));
    check(le32toh(message.id) < PORTS && le16toh(message.event) < EVENTS);
}

static void step(struct fuzz_driver *d, struct host *host)
{
    uint8_t op = u8(&d->in);
    if (op < 64)
        send_control(d);
    else if (op < 128)
        host_acts(d, host);
    else
        fuzz_driver_step(d);
    loop_run_once(d->loop, 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    signal(SIGPIPE, SIG_IGN); /* as the loop's thread has it */
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_driver d;
    struct host host;
    struct virtio_device *dev;
    struct dayfly_err err;
    int in[2], out[2], pair[2];
    fuzz_driver_init(&d, data, size);
    check(pipe2(in, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    host = (struct host){.in = {in[1], pair[0], -1}, .out = {out[0], dup(pair[0]), -1}};
    const struct virtio_console_port ports[PORTS] = {
        {.console = true, .in_fd = in[0], .out_fd = out[1]},
        {.name = "stream", .in_fd = pair[1], .out_fd = pair[1]},
        {.name = "nothing", .in_fd = -1, .out_fd = -1},
    };
    const struct virtio_console_options options = {
        .ports = ports, .port_count = PORTS, .columns = 80, .rows = 25};
    check(virtio_console_new(&dev, &options, d.loop, NULL, &err) == 0);
    d.used = used;
    fuzz_driver_carry(&d, dev);
    fuzz_driver_start(&d);
    for (unsigned i = 0; i < OPS_MAX && d.in.left > 0; i++)
        step(&d, &host);
    fuzz_driver_release(&d);
    virtio_console_free(dev);
    for (unsigned i = 0; i < PORTS; i++) {
        close_fd(&host.in[i]);
        close_fd(&host.out[i]);
    }
    fuzz_driver_finish(&d);
    return 0;
}
