/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console device (virtio 1.2, section 5.3).
 *
 * Queues: 0 and 1 are the first port's input and output, 2 and 3 the control queues, then two for each
 * further port. Control messages (5.3.6.2) are a conversation: the driver is ready, we name the ports,
 * it is ready for each, we say what the port is, it says when a program opens it. What we have yet to
 * say is a set of flags for each port, so that a driver that gives no buffers lets nothing grow.
 *
 * A chain of output that could be written only in part is put back into the ring, with the number of
 * bytes to skip remembered: no chain is held from one op to the next, and the guest's writer waits.
 *
 * Threads: as in vsock.c: what comes from a vCPU only leaves a note for the loop.
 */
#include "virtio/console.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/iov.h"

#define QUEUE_SIZE 128

enum { CONTROL_RX = 2, CONTROL_TX = 3 };

/* Steps of one queue before other sources of the loop get their turn: a chain, or so much of one. A
 * chain may have 4 GiB, and a file takes them all. */
#define CHAINS_A_ROUND 64
#define STEP_BYTES_MAX (64u * 1024)

enum event {
    DEVICE_READY = 0,
    PORT_ADD = 1,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    RESIZE = 5,
    PORT_OPEN = 6,
    PORT_NAME = 7,
};

struct control {
    uint32_t id;
    uint16_t event;
    uint16_t value;
};

static_assert(sizeof(struct control) == 8, "as in the specification");

/* Messages owed to the driver; said in this order. */
#define OWE_ADD     1u
#define OWE_CONSOLE 2u
#define OWE_NAME    4u
#define OWE_OPEN    8u
#define OWE_RESIZE  16u

struct end {
    struct console *console;
    struct loop_source source; /* fd -1: none */
    bool socket;               /* its flags are left alone: calls say that they do not wait */
    int flags;                 /* of an open file that is shared after all, as we found them; else -1 */
    bool pollable;             /* a regular file is not: it is always ready */
    bool over;                 /* end of file, or nobody reads it any more */
};

struct port {
    struct console *console;
    char name[VIRTIO_CONSOLE_NAME_BYTES_MAX + 1];
    bool terminal;
    struct end in, out;
    bool driver_ready; /* PORT_READY came */
    bool guest_open;   /* a program of the guest has it open */
    bool one_stream;   /* both ends are one socket: when input ends, the stream is over */
    bool ended;
    bool told_open; /* what the driver was told last */
    uint32_t skip;  /* bytes of the next chain of output that were written already */
    unsigned owes;
};

struct console {
    struct virtio_device dev;
    struct {
        uint16_t columns, rows;
        uint32_t ports_max;
        uint32_t emergency_write;
    } config;
    struct loop_source wake;
    uint64_t kicked; /* queues to be served by the loop, a bit each */
    unsigned port_count;
    struct port ports[VIRTIO_CONSOLE_PORTS_MAX];
    struct iovec iov[RING_SIZE_MAX];
};

static struct console *to_console(struct virtio_device *dev)
{
    return container_of(dev, struct console, dev);
}

static unsigned rx_queue(const struct port *port)
{
    unsigned index = (unsigned)(port - port->console->ports);
    return index == 0 ? 0 : 2 + 2 * index;
}

static unsigned tx_queue(const struct port *port)
{
    return rx_queue(port) + 1;
}

static bool multiport(const struct console *console)
{
    return (console->dev.features & VIRTIO_CONSOLE_F_MULTIPORT) != 0;
}

/* Let the loop serve a queue, soon. */
static void defer(struct console *console, unsigned queue)
{
    const uint64_t one = 1;
    console->kicked |= UINT64_C(1) << queue;
    while (write(console->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* -- the host's descriptors ------------------------------------------------------------------- */

static bool usable(const struct end *end)
{
    return end->source.fd >= 0 && !end->over;
}

static void watch(struct end *end, bool on)
{
    if (!usable(end) || !end->pollable || on == (end->source.loop != NULL))
        return;
    if (on)
        loop_add(end->console->dev.loop, &end->source);
    else
        loop_remove(&end->source);
}

static void end_over(struct end *end)
{
    loop_remove(&end->source);
    end->over = true;
}

static void end_close(struct end *end)
{
    loop_remove(&end->source);
    if (end->source.fd >= 0 && end->flags >= 0)
        fcntl(end->source.fd, F_SETFL, end->flags);
    close_fd(&end->source.fd);
}

/* In this order: `out` was opened first, so it knows the flags of a file that both share. */
static void port_close(struct port *port)
{
    end_close(&port->in);
    end_close(&port->out);
}

/*
 * Make the descriptor one that does not wait. O_NONBLOCK is a flag of the open file, which others share
 * (a terminal, with the user's shell), so it is set only where there is no other way: on a pipe or
 * terminal that cannot be opened again.
 */
static int end_own(struct end *end, int mode)
{
    struct stat st;
    int fd = end->source.fd;
    end->flags = -1;
    if (fstat(fd, &st) < 0)
        return -errno;
    end->socket = S_ISSOCK(st.st_mode);
    if (end->socket)
        return 0;
    int again = io_open_again(fd, mode);
    if (again >= 0) {
        close(fd);
        end->source.fd = again;
        return 0;
    }
    if (again == -EINVAL) /* a file never makes anybody wait */
        return 0;
    end->flags = fcntl(fd, F_GETFL);
    return end->flags < 0 || fcntl(fd, F_SETFL, end->flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Takes fd. */
static int end_open(struct console *console, struct end *end, int fd, int mode,
                    void (*ready)(struct loop_source *, uint32_t), uint32_t events)
{
    *end = (struct end){.console = console, .source = {.fd = fd, .events = events, .ready = ready}};
    if (fd < 0)
        return 0;
    int r = end_own(end, mode);
    if (r == 0)
        r = loop_add(console->dev.loop, &end->source);
    if (r == 0) {
        end->pollable = true;
        loop_remove(&end->source); /* until it matters */
    } else if (r != -EPERM) {
        end_close(end);
        return r;
    }
    return 0;
}

static ssize_t end_write(const struct end *end, struct iovec *iov, unsigned count)
{
    const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = MIN(count, 1024u)};
    return end->socket ? sendmsg(end->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL)
                       : writev(end->source.fd, iov, (int)msg.msg_iovlen);
}

static ssize_t end_read(const struct end *end, struct iovec *iov, unsigned count)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = MIN(count, 1024u)};
    return end->socket ? recvmsg(end->source.fd, &msg, MSG_DONTWAIT)
                       : readv(end->source.fd, iov, (int)msg.msg_iovlen);
}

/* What the guest's programs find: the host's side is there. A terminal goes on without input. */
static bool host_open(const struct port *port)
{
    bool some = usable(&port->in) || usable(&port->out);
    return port->terminal || (some && !port->ended);
}

/* -- streams ---------------------------------------------------------------------------------- */

/* The host's side may have come or gone: the driver is told, once it knows the port. */
static void say_open(struct port *port)
{
    if (port->driver_ready && host_open(port) != port->told_open)
        port->owes |= OWE_OPEN;
}

/* Cut the segments to at most STEP_BYTES_MAX bytes. Returns how many there are. */
static unsigned cut_to_step(struct iovec *iov, unsigned count)
{
    uint64_t bytes = iov_bytes(iov, count);
    return bytes > STEP_BYTES_MAX ? iov_drop_back(iov, count, bytes - STEP_BYTES_MAX) : count;
}

/* What becomes of a chain of output: */
enum written {
    WRITTEN,      /* all of it is: it goes back */
    WRITTEN_PART, /* there is more of it, for the next step */
    WRITTEN_FULL, /* the descriptor takes no more now */
};

/* Write a chain's bytes from port->skip on, and move that. */
static enum written write_out(struct port *port, const struct ring_chain *chain)
{
    struct iovec *iov = chain->iov;
    unsigned count = iov_drop_front(&iov, chain->readable, port->skip);
    uint64_t left = iov_bytes(iov, count);
    count = cut_to_step(iov, count);
    while (count > 0 && usable(&port->out)) {
        ssize_t n = end_write(&port->out, iov, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return WRITTEN_FULL;
        if (n < 0) {
            log_line(port->console->dev.log, errno == EPIPE ? LOG_DEBUG : LOG_WARN,
                     "console: output of port %s ends: %s", port->name, strerrordesc_np(errno));
            end_over(&port->out);
            /* What its peer had written before may yet be read, by a program that has it open. */
            port->ended = port->one_stream && !port->guest_open;
            say_open(port);
            break;
        }
        port->skip += (uint32_t)n;
        count = iov_drop_front(&iov, count, (uint64_t)n);
    }
    if (left > STEP_BYTES_MAX && usable(&port->out))
        return WRITTEN_PART;
    port->skip = 0;
    return WRITTEN;
}

static void pump_output(struct port *port)
{
    struct console *console = port->console;
    unsigned queue = tx_queue(port), budget = CHAINS_A_ROUND;
    struct ring *ring = &console->dev.queues[queue].ring;
    struct ring_chain chain;
    enum written written = WRITTEN;

    while (budget > 0 && written != WRITTEN_FULL) {
        if (!virtio_pop(&console->dev, queue, &chain, console->iov, RING_SIZE_MAX)) {
            if (virtio_kicks_on(&console->dev, queue))
                continue;
            break;
        }
        budget--;
        written = write_out(port, &chain);
        if (written == WRITTEN)
            ring_push(ring, chain.head, 0);
        else
            ring_unpop(ring);
    }
    watch(&port->out, written == WRITTEN_FULL);
    if (budget == 0)
        defer(console, queue);
    virtio_interrupt(&console->dev, queue);
}

/* Read into one chain. True when it was filled; false when there is nothing to be read now. */
static bool read_in(struct port *port, const struct ring_chain *chain, uint32_t *written)
{
    unsigned count = cut_to_step(chain->iov, chain->writable);
    ssize_t n;
    do
        n = end_read(&port->in, chain->iov, count);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        *written = (uint32_t)n;
        return true;
    }
    if (n < 0 && errno == EAGAIN)
        return false;
    port->ended = port->one_stream;
    end_over(&port->in);
    say_open(port);
    return false;
}

static void pump_input(struct port *port)
{
    struct console *console = port->console;
    unsigned queue = rx_queue(port), budget = CHAINS_A_ROUND;
    struct ring *ring = &console->dev.queues[queue].ring;
    struct ring_chain chain;
    bool wants = false;

    while (budget > 0 && usable(&port->in) && (port->guest_open || !multiport(console))) {
        if (!virtio_pop(&console->dev, queue, &chain, console->iov, RING_SIZE_MAX)) {
            if (virtio_kicks_on(&console->dev, queue))
                continue;
            break; /* the driver kicks when it gives buffers */
        }
        budget--;
        uint32_t written;
        if (chain.readable > 0 || chain.writable == 0) {
            virtio_violation(&console->dev, "input buffer that cannot be written");
            ring_push(ring, chain.head, 0);
            break;
        }
        if (!read_in(port, &chain, &written)) {
            ring_unpop(ring);
            wants = true;
            break;
        }
        ring_push(ring, chain.head, written);
    }
    watch(&port->in, wants);
    if (budget == 0)
        defer(console, queue);
    virtio_interrupt(&console->dev, queue);
}

/* -- control ---------------------------------------------------------------------------------- */

/* Make the next message that a port owes: its length, 0 when there is none. */
static size_t next_message(struct port *port, uint8_t message[static sizeof(struct control) + 64])
{
    const struct console *console = port->console;
    struct control control = {.id = htole32((uint32_t)(port - console->ports)), .value = htole16(1)};
    size_t extra = 0;
    unsigned what = port->owes & -port->owes; /* the lowest */
    uint16_t size[2];

    switch (what) {
    case 0:
        return 0;
    case OWE_ADD:
        control.event = PORT_ADD;
        break;
    case OWE_CONSOLE:
        control.event = CONSOLE_PORT;
        break;
    case OWE_NAME:
        control.event = PORT_NAME;
        extra = strlen(port->name);
        memcpy(message + sizeof(control), port->name, extra);
        break;
    case OWE_OPEN:
        control.event = PORT_OPEN;
        port->told_open = host_open(port);
        control.value = htole16(port->told_open);
        break;
    case OWE_RESIZE:
        /* Rows come first: Linux has read it so from the beginning, whatever the specification says. */
        control.event = RESIZE;
        size[0] = console->config.rows;
        size[1] = console->config.columns;
        extra = sizeof(size);
        memcpy(message + sizeof(control), size, extra);
        break;
    }
    port->owes &= ~what;
    control.event = htole16(control.event);
    memcpy(message, &control, sizeof(control));
    return sizeof(control) + extra;
}

static void say_what_is_owed(struct console *console)
{
    struct ring *ring = &console->dev.queues[CONTROL_RX].ring;
    struct ring_chain chain;
    uint8_t message[sizeof(struct control) + 64];

    for (unsigned i = 0; i < console->port_count && multiport(console);) {
        struct port *port = &console->ports[i];
        if (port->owes == 0) {
            i++;
            continue;
        }
        if (!virtio_pop(&console->dev, CONTROL_RX, &chain, console->iov, RING_SIZE_MAX)) {
            if (virtio_kicks_on(&console->dev, CONTROL_RX))
                continue;
            break;
        }
        if (chain.readable > 0 || chain.writable_bytes < sizeof(message)) {
            virtio_violation(&console->dev, "control buffer of %llu bytes",
                             (unsigned long long)chain.writable_bytes);
            ring_push(ring, chain.head, 0);
            break;
        }
        size_t len = next_message(port, message);
        iov_copy_in(chain.iov, chain.writable, 0, message, len);
        ring_push(ring, chain.head, (uint32_t)len);
    }
    virtio_interrupt(&console->dev, CONTROL_RX);
}

static void port_ready(struct port *port)
{
    port->driver_ready = true;
    port->owes |= OWE_OPEN;
    if (port->name[0])
        port->owes |= OWE_NAME;
    if (port->terminal)
        port->owes |=
            OWE_CONSOLE | (port->console->dev.features & VIRTIO_CONSOLE_F_SIZE ? OWE_RESIZE : 0);
}

static void control_message(struct console *console, const struct ring_chain *chain)
{
    struct control control;
    if (chain->readable_bytes < sizeof(control)) {
        virtio_violation(&console->dev, "control message of %llu bytes",
                         (unsigned long long)chain->readable_bytes);
        return;
    }
    iov_copy_out(chain->iov, chain->readable, 0, &control, sizeof(control));
    uint32_t id = le32toh(control.id);
    struct port *port = id < console->port_count ? &console->ports[id] : NULL;
    bool yes = le16toh(control.value) != 0;

    switch (le16toh(control.event)) {
    case DEVICE_READY:
        for (unsigned i = 0; i < console->port_count && yes; i++)
            console->ports[i].owes |= OWE_ADD;
        break;
    case PORT_READY:
        if (port && yes)
            port_ready(port);
        break;
    case PORT_OPEN:
        if (port) {
            port->guest_open = yes;
            pump_input(port);
        }
        break;
    default: /* of a later specification */
        break;
    }
}

static void hear_control(struct console *console)
{
    struct ring *ring = &console->dev.queues[CONTROL_TX].ring;
    struct ring_chain chain;
    unsigned budget = CHAINS_A_ROUND;

    while (budget > 0) {
        if (!virtio_pop(&console->dev, CONTROL_TX, &chain, console->iov, RING_SIZE_MAX)) {
            if (virtio_kicks_on(&console->dev, CONTROL_TX))
                continue;
            break;
        }
        budget--;
        control_message(console, &chain);
        ring_push(ring, chain.head, 0);
    }
    if (budget == 0)
        defer(console, CONTROL_TX);
    virtio_interrupt(&console->dev, CONTROL_TX);
}

/* -- the device ------------------------------------------------------------------------------- */

static void serve(struct console *console, unsigned queue)
{
    if (queue == CONTROL_TX)
        hear_control(console);
    else if (queue != CONTROL_RX) {
        struct port *port = &console->ports[queue < 2 ? 0 : queue / 2 - 1];
        if (queue == rx_queue(port))
            pump_input(port);
        else
            pump_output(port);
    }
    say_what_is_owed(console);
}

static void kick(struct virtio_device *dev, unsigned queue)
{
    if (loop_is_mine(dev->loop))
        serve(to_console(dev), queue);
    else
        defer(to_console(dev), queue);
}

static void reset(struct virtio_device *dev)
{
    struct console *console = to_console(dev);
    console->kicked = 0;
    for (unsigned i = 0; i < console->port_count; i++) {
        struct port *port = &console->ports[i];
        port->driver_ready = port->guest_open = false;
        port->skip = port->owes = 0;
    }
}

/* Of ports whose stream is a socket, and must not end anybody by SIGPIPE. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL(sendmsg),
    ISOLATE_CALL(recvmsg),
};
static const struct isolate_calls table = ISOLATE_CALLS(calls);
static const struct isolate_calls *const ops_calls[] = {&table, NULL};

static const struct virtio_ops ops = {
    .name = "console",
    .id = VIRTIO_ID_CONSOLE,
    .calls = ops_calls,
    .reset = reset,
    .kick = kick,
};

static void woken(struct loop_source *source, uint32_t events)
{
    struct console *console = container_of(source, struct console, wake);
    uint64_t count;
    while (read(source->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&console->dev.lock);
    uint64_t kicked = console->kicked;
    console->kicked = 0;
    for (unsigned queue = 0; queue < console->dev.queue_count; queue++)
        if (kicked & (UINT64_C(1) << queue))
            serve(console, queue);
    pthread_mutex_unlock(&console->dev.lock);
}

static void in_ready(struct loop_source *source, uint32_t events)
{
    struct port *port = container_of(source, struct port, in.source);
    struct console *console = port->console;
    pthread_mutex_lock(&console->dev.lock);
    pump_input(port); /* with no driver, or no room, it stops watching */
    say_what_is_owed(console);
    pthread_mutex_unlock(&console->dev.lock);
}

static void out_ready(struct loop_source *source, uint32_t events)
{
    struct port *port = container_of(source, struct port, out.source);
    struct console *console = port->console;
    pthread_mutex_lock(&console->dev.lock);
    pump_output(port);
    say_what_is_owed(console);
    pthread_mutex_unlock(&console->dev.lock);
}

void virtio_console_resize(struct virtio_device *dev, uint16_t columns, uint16_t rows)
{
    struct console *console = to_console(dev);
    pthread_mutex_lock(&dev->lock);
    console->config.columns = htole16(columns);
    console->config.rows = htole16(rows);
    if (dev->features & VIRTIO_CONSOLE_F_SIZE) {
        for (unsigned i = 0; i < console->port_count; i++)
            if (console->ports[i].terminal && console->ports[i].driver_ready)
                console->ports[i].owes |= OWE_RESIZE;
        virtio_config_changed(dev);
        defer(console, CONTROL_RX);
    }
    pthread_mutex_unlock(&dev->lock);
}

/* Takes both. */
static int join(struct port *port, int in_fd, int out_fd)
{
    struct console *console = port->console;
    int r = 0;
    port->one_stream = in_fd >= 0 && in_fd == out_fd;
    if (port->one_stream) { /* each end is watched, and closed, by itself */
        out_fd = fcntl(in_fd, F_DUPFD_CLOEXEC, 0);
        r = out_fd < 0 ? -errno : 0;
    }
    port_close(port);
    int r_out = end_open(console, &port->out, out_fd, O_WRONLY, out_ready, EPOLLOUT);
    int r_in = end_open(console, &port->in, in_fd, O_RDONLY, in_ready, EPOLLIN);
    port->ended = false;
    say_open(port);
    return r < 0 ? r : r_out < 0 ? r_out : r_in;
}

struct call {
    struct console *console;
    const struct virtio_console_options *options;
    unsigned port;
    int in_fd, out_fd, result;
};

static void attach_call(void *arg)
{
    struct call *call = arg;
    struct console *console = call->console;
    pthread_mutex_lock(&console->dev.lock);
    struct port *port = &console->ports[call->port];
    call->result = join(port, call->in_fd, call->out_fd);
    pump_output(port);
    pump_input(port);
    say_what_is_owed(console);
    pthread_mutex_unlock(&console->dev.lock);
}

int virtio_console_attach(struct virtio_device *dev, unsigned port, int in_fd, int out_fd)
{
    struct call call = {.console = to_console(dev), .port = port, .in_fd = in_fd, .out_fd = out_fd};
    int r = port < call.console->port_count ? loop_call(dev->loop, attach_call, &call) : -EINVAL;
    if (r < 0) {
        if (out_fd != in_fd)
            close_fd(&out_fd);
        close_fd(&in_fd);
        return r;
    }
    return call.result;
}

/* -- life ------------------------------------------------------------------------------------- */

static void setup_call(void *arg)
{
    struct call *call = arg;
    struct console *console = call->console;
    console->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    call->result = console->wake.fd < 0 ? -errno : loop_add(console->dev.loop, &console->wake);
    for (unsigned i = 0; i < console->port_count; i++) {
        /* All of them, even after a failure: they are ours to close. */
        const struct virtio_console_port *from = &call->options->ports[i];
        int r = join(&console->ports[i], from->in_fd, from->out_fd);
        if (call->result == 0)
            call->result = r;
    }
}

static void teardown_call(void *arg)
{
    struct call *call = arg;
    struct console *console = call->console;
    pthread_mutex_lock(&console->dev.lock);
    for (unsigned i = 0; i < console->port_count; i++)
        port_close(&console->ports[i]);
    loop_remove(&console->wake);
    close_fd(&console->wake.fd);
    pthread_mutex_unlock(&console->dev.lock);
}

void virtio_console_free(struct virtio_device *dev)
{
    if (!dev)
        return;
    struct call call = {.console = to_console(dev)};
    virtio_reset(dev);
    loop_call(dev->loop, teardown_call, &call);
    virtio_finish(dev);
    free(call.console);
}

static void close_all(const struct virtio_console_options *options)
{
    for (unsigned i = 0; i < options->port_count; i++) {
        int in_fd = options->ports[i].in_fd, out_fd = options->ports[i].out_fd;
        if (out_fd != in_fd)
            close_fd(&out_fd);
        close_fd(&in_fd);
    }
}

int virtio_console_new(struct virtio_device **out, const struct virtio_console_options *options,
                       struct loop *loop, const struct log *log, struct dayfly_err *err)
{
    int r = 0;
    if (options->port_count == 0 || options->port_count > VIRTIO_CONSOLE_PORTS_MAX)
        r = err_set(err, EINVAL, "console: %u ports, not 1 to %d", options->port_count,
                    VIRTIO_CONSOLE_PORTS_MAX);
    for (unsigned i = 0; i < options->port_count && r == 0; i++)
        if (options->ports[i].name && strlen(options->ports[i].name) > VIRTIO_CONSOLE_NAME_BYTES_MAX)
            r = err_set(err, EINVAL, "console: the name %s is longer than %d bytes",
                        options->ports[i].name, VIRTIO_CONSOLE_NAME_BYTES_MAX);
    struct console *console = r == 0 ? calloc(1, sizeof(*console)) : NULL;
    if (!console) {
        close_all(options);
        return r < 0 ? r : err_errno(err, ENOMEM, "console device");
    }
    console->config.columns = htole16(options->columns);
    console->config.rows = htole16(options->rows);
    console->config.ports_max = htole32(options->port_count);
    console->wake = (struct loop_source){.fd = -1, .events = EPOLLIN, .ready = woken};
    console->port_count = options->port_count;
    for (unsigned i = 0; i < options->port_count; i++) {
        struct port *port = &console->ports[i];
        port->console = console;
        port->terminal = options->ports[i].console;
        port->in.source.fd = port->out.source.fd = -1;
        if (options->ports[i].name)
            strcpy(port->name, options->ports[i].name);
    }
    virtio_init(&console->dev, &(struct virtio_init){
                                   .ops = &ops,
                                   .features = VIRTIO_CONSOLE_F_SIZE | VIRTIO_CONSOLE_F_MULTIPORT,
                                   .queue_count = 2 + 2 * options->port_count,
                                   .queue_size = QUEUE_SIZE,
                                   .config = &console->config,
                                   .config_bytes = sizeof(console->config),
                                   .loop = loop,
                                   .log = log,
                               });
    struct call call = {.console = console, .options = options};
    r = loop_call(loop, setup_call, &call);
    if (r < 0)
        close_all(options);
    else
        r = call.result;
    if (r < 0) {
        virtio_console_free(&console->dev);
        return err_errno(err, -r, "console device");
    }
    *out = &console->dev;
    return 0;
}
