/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See serial.h. Register names are those of the PC16550D data sheet.
 *
 * Interrupts are edges: `line` is what a level would be, recomputed after every change, and an edge is
 * raised when it goes up. Reading IIR takes a transmitter interrupt away, as it does on the chip, and
 * the next byte written makes it rise again: one edge for a FIFO full of bytes.
 *
 * Writing without waiting must not change the flags of a descriptor that others hold as well (a
 * terminal is shared with the user's shell): a pipe or a terminal is opened anew (and where it cannot
 * be, is asked first and given little), a socket is written with MSG_DONTWAIT, a regular file never
 * makes anybody wait.
 */
#include "hw/serial.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

#define IER_RDI  0x01
#define IER_THRI 0x02
#define IER_RLSI 0x04
#define IER_MASK 0x0f

#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_RDI  0x04
#define IIR_RLSI 0x06
#define IIR_FIFO 0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_KEPT     0xc9

#define LCR_DLAB 0x80

#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DR   0x01
#define LSR_OE   0x02
#define LSR_THRE 0x20
#define LSR_TEMT 0x40

/* FIFOs full of input before other sources of the loop get their turn: a guest empties them as we fill.
 */
#define INPUT_TURNS 16

#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI  0x40
#define MSR_DCD 0x80

static uint8_t pending(const struct serial *s)
{
    if ((s->ier & IER_RLSI) && s->overrun)
        return IIR_RLSI;
    if ((s->ier & IER_RDI) && s->fifo_count > 0)
        return IIR_RDI;
    if ((s->ier & IER_THRI) && s->thr_pending)
        return IIR_THRI;
    return IIR_NONE;
}

/* With the lock held. */
static void update_line(struct serial *s)
{
    bool level = pending(s) != IIR_NONE;
    /* OUT2 gates the interrupt on a PC; Linux sets it, and clears it in loopback tests. */
    bool gated = (s->mcr & MCR_OUT2) && !(s->mcr & MCR_LOOP);
    level = level && gated;
    if (level && !s->line && s->options.raise)
        s->options.raise(s->options.opaque);
    s->line = level;
}

/* With the lock held. False when the FIFO is full. */
static bool receive(struct serial *s, uint8_t byte)
{
    unsigned room = s->fcr & FCR_ENABLE ? SERIAL_FIFO_BYTES : 1;
    if (s->fifo_count >= room)
        return false;
    s->fifo[(s->fifo_head + s->fifo_count) % SERIAL_FIFO_BYTES] = byte;
    s->fifo_count++;
    return true;
}

static void wake_loop(struct serial *s)
{
    uint64_t one = 1;
    while (write(s->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void transmit(struct serial *s, uint8_t byte)
{
    if (s->mcr & MCR_LOOP) {
        if (!receive(s, byte))
            s->overrun = LSR_OE;
        return;
    }
    if (s->out_fd < 0)
        return;
    if (s->put - s->taken == SERIAL_BUFFER_BYTES || s->out_ended) {
        s->dropped_bytes++;
        return;
    }
    bool was_empty = s->put == s->taken;
    s->buffer[s->put++ % SERIAL_BUFFER_BYTES] = byte;
    if (was_empty)
        wake_loop(s);
}

static uint8_t modem_status(const struct serial *s)
{
    if (!(s->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    /* Looped back: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD. */
    return (uint8_t)((s->mcr & 0x01 ? MSR_DSR : 0) | (s->mcr & 0x02 ? MSR_CTS : 0) |
                     (s->mcr & 0x04 ? MSR_RI : 0) | (s->mcr & 0x08 ? MSR_DCD : 0));
}

static uint8_t read_register(struct serial *s, uint64_t offset)
{
    bool dlab = s->lcr & LCR_DLAB;
    switch (offset) {
    case RBR_THR: {
        if (dlab)
            return s->divisor[0];
        if (s->fifo_count == 0)
            return 0;
        uint8_t byte = s->fifo[s->fifo_head];
        s->fifo_head = (s->fifo_head + 1) % SERIAL_FIFO_BYTES;
        if (--s->fifo_count == 0 && !s->in_ended && s->in_fd >= 0)
            wake_loop(s); /* there is room again */
        return byte;
    }
    case IER:
        return dlab ? s->divisor[1] : s->ier;
    case IIR_FCR: {
        uint8_t iir = pending(s);
        if (iir == IIR_THRI)
            s->thr_pending = false;
        return iir | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    }
    case LCR:
        return s->lcr;
    case MCR:
        return s->mcr;
    case LSR: {
        uint8_t lsr = LSR_THRE | LSR_TEMT | s->overrun | (s->fifo_count ? LSR_DR : 0);
        s->overrun = 0;
        return lsr;
    }
    case MSR:
        return modem_status(s);
    default:
        return s->scr;
    }
}

static void write_register(struct serial *s, uint64_t offset, uint8_t value)
{
    bool dlab = s->lcr & LCR_DLAB;
    switch (offset) {
    case RBR_THR:
        if (dlab) {
            s->divisor[0] = value;
            break;
        }
        transmit(s, value);
        s->thr_pending = true;
        break;
    case IER:
        if (dlab) {
            s->divisor[1] = value;
            break;
        }
        /* Switching the transmitter's interrupt on with an empty transmitter interrupts at once. */
        if (!(s->ier & IER_THRI) && (value & IER_THRI))
            s->thr_pending = true;
        s->ier = value & IER_MASK;
        break;
    case IIR_FCR:
        /* Changing the enable bit empties the FIFO, too. */
        if ((value & FCR_CLEAR_RX) || ((value ^ s->fcr) & FCR_ENABLE))
            s->fifo_count = 0;
        s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
        if (!s->in_ended && s->in_fd >= 0)
            wake_loop(s);
        break;
    case LCR:
        s->lcr = value;
        break;
    case MCR:
        s->mcr = value & MCR_MASK;
        break;
    case SCR:
        s->scr = value;
        break;
    default: /* LSR and MSR are read-only */
        break;
    }
}

static void bus_read_serial(void *opaque, uint64_t offset, void *data, unsigned len)
{
    struct serial *s = opaque;
    pthread_mutex_lock(&s->lock);
    uint8_t *bytes = data;
    for (unsigned i = 0; i < len; i++)
        bytes[i] = read_register(s, offset + i);
    update_line(s);
    pthread_mutex_unlock(&s->lock);
}

static void bus_write_serial(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct serial *s = opaque;
    const uint8_t *bytes = data;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < len; i++)
        write_register(s, offset + i, bytes[i]);
    update_line(s);
    pthread_mutex_unlock(&s->lock);
}

const struct bus_ops serial_bus_ops = {.read = bus_read_serial, .write = bus_write_serial};

/* -- the host's side, in the loop's thread ----------------------------------------------------------
 */

static ssize_t write_some(const struct serial *s, const void *data, size_t len)
{
    ssize_t n = send(s->out_fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0 || errno != ENOTSOCK)
        return n;
    if (s->out_waits) {
        /* As much as a pipe takes at once when it takes anything. */
        struct pollfd room = {.fd = s->out_fd, .events = POLLOUT};
        len = MIN(len, (size_t)PIPE_BUF);
        if (poll(&room, 1, 0) == 0) {
            errno = EAGAIN;
            return -1;
        }
    }
    return write(s->out_fd, data, len);
}

static void poll_out(struct serial *s, bool on)
{
    if (on == s->out_polled)
        return;
    s->out_polled = on && loop_add(s->options.loop, &s->out) == 0;
    if (!on)
        loop_remove(&s->out);
}

/* Write out what is there now: a guest that goes on writing gets its next turn from the loop. False
 * when the reader is slow; true when all is out, or nobody will ever take it. */
static bool drain(struct serial *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t taken = s->taken;
    const uint64_t end = s->put;
    pthread_mutex_unlock(&s->lock);
    while (taken != end) {
        /* The bytes between taken and put do not move: only we advance taken. */
        size_t at = taken % SERIAL_BUFFER_BYTES;
        size_t len = MIN(end - taken, (uint64_t)(SERIAL_BUFFER_BYTES - at));
        ssize_t n = write_some(s, s->buffer + at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        pthread_mutex_lock(&s->lock);
        if (n <= 0) {
            s->out_ended = true;
            s->dropped_bytes += s->put - s->taken;
            s->taken = s->put;
        } else {
            s->taken += (uint64_t)n;
        }
        taken = n <= 0 ? end : s->taken;
        if (taken == end && s->taken != s->put)
            wake_loop(s);
        pthread_mutex_unlock(&s->lock);
    }
    return true;
}

void serial_flush(struct serial *s)
{
    if (s->out_fd >= 0)
        poll_out(s, !drain(s));
}

static void poll_in(struct serial *s, bool on)
{
    if (on == s->in_polled)
        return;
    s->in_polled = on && loop_add(s->options.loop, &s->in) == 0;
    if (!on)
        loop_remove(&s->in);
}

size_t serial_feed(struct serial *s, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    /* In loopback the line is cut off from the receiver. */
    while (n < len && !(s->mcr & MCR_LOOP) && receive(s, bytes[n]))
        n++;
    update_line(s);
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* Read as much as the guest's FIFO takes now; look for more only while it has room. */
static void pump_in(struct serial *s)
{
    if (s->in_fd < 0 || s->in_ended)
        return;
    for (unsigned turns = 0; turns < INPUT_TURNS; turns++) {
        uint8_t bytes[SERIAL_FIFO_BYTES];
        pthread_mutex_lock(&s->lock);
        unsigned limit = s->fcr & FCR_ENABLE ? SERIAL_FIFO_BYTES : 1;
        size_t room = s->fifo_count < limit ? limit - s->fifo_count : 0;
        pthread_mutex_unlock(&s->lock);
        if (room == 0) {
            poll_in(s, false);
            return;
        }
        /* Readable, or of a kind that never makes anybody wait. */
        struct pollfd ready = {.fd = s->in_fd, .events = POLLIN};
        if (poll(&ready, 1, 0) == 0) {
            poll_in(s, true);
            return;
        }
        ssize_t n = read(s->in_fd, bytes, room);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            poll_in(s, true);
            return;
        }
        if (n <= 0) {
            pthread_mutex_lock(&s->lock);
            s->in_ended = true;
            pthread_mutex_unlock(&s->lock);
            poll_in(s, false);
            return;
        }
        serial_feed(s, bytes, (size_t)n);
    }
    wake_loop(s);
}

static void out_ready(struct loop_source *source, uint32_t events)
{
    serial_flush(container_of(source, struct serial, out));
}

static void in_ready(struct loop_source *source, uint32_t events)
{
    pump_in(container_of(source, struct serial, in));
}

static void woken(struct loop_source *source, uint32_t events)
{
    struct serial *s = container_of(source, struct serial, wake);
    uint64_t count;
    while (read(s->wake.fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    serial_flush(s);
    pump_in(s);
}

/* What we use in place of `fd`: opened again where that matters and is possible. */
static int own(int fd, int mode, bool *waits)
{
    int again = io_open_again(fd, mode);
    *waits = again < 0 && again != -EINVAL;
    if (again >= 0)
        return again;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

int serial_init(struct serial *s, const struct serial_options *options, struct dayfly_err *err)
{
    memset(s, 0, sizeof(*s));
    s->options = *options;
    s->in_fd = s->out_fd = s->wake.fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    int rc = 0;
    bool in_waits; /* input is polled for in any case */
    s->buffer = malloc(SERIAL_BUFFER_BYTES);
    if (!s->buffer)
        rc = -ENOMEM;
    if (rc == 0 && options->out_fd >= 0 &&
        (s->out_fd = own(options->out_fd, O_WRONLY, &s->out_waits)) < 0)
        rc = s->out_fd;
    if (rc == 0 && options->in_fd >= 0 && (s->in_fd = own(options->in_fd, O_RDONLY, &in_waits)) < 0)
        rc = s->in_fd;
    if (rc == 0 && (s->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        rc = -errno;
    s->wake.events = EPOLLIN;
    s->wake.ready = woken;
    s->in = (struct loop_source){.fd = s->in_fd, .events = EPOLLIN, .ready = in_ready};
    s->out = (struct loop_source){.fd = s->out_fd, .events = EPOLLOUT, .ready = out_ready};
    if (rc == 0)
        rc = loop_add(options->loop, &s->wake);
    if (rc < 0) {
        serial_finish(s);
        return err_errno(err, -rc, "serial port");
    }
    wake_loop(s); /* begin with the input */
    return 0;
}

void serial_finish(struct serial *s)
{
    if (!s->options.loop)
        return;
    serial_flush(s);
    poll_in(s, false);
    poll_out(s, false);
    loop_remove(&s->wake);
    close_fd(&s->wake.fd);
    close_fd(&s->in_fd);
    close_fd(&s->out_fd);
    free(s->buffer);
    pthread_mutex_destroy(&s->lock);
    memset(s, 0, sizeof(*s));
}

uint64_t serial_dropped_bytes(struct serial *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t n = s->dropped_bytes;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* Its stream may be a socket, and is waited for where the guest waits. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL_IF(sendto, 4, UINT64_MAX, 0), /* send(2) */
    ISOLATE_CALL(poll),
};

const struct isolate_calls serial_calls = ISOLATE_CALLS(calls);
