/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See relay.h. Nothing is buffered: output that has nowhere to go is dropped, input is read when the
 * socket has room for it. While it has none the input is not watched, for it would be readable all the
 * time: the socket is, for room.
 */
#include "engine/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

/* At most PIPE_BUF at a time: a pipe that polls writable takes that much without blocking, for one that
 * could not be opened again. */
#define RELAY_CHUNK 4096

struct relay {
    struct loop *loop;
    struct loop_source socket;
    struct loop_source input; /* fd -1: none, or at its end */
    bool input_is_file;       /* cannot be watched: it is always readable */
    int output_fd;            /* our own or borrowed; -1: none, or nobody reads it */
    int own_output_fd;        /* what to close */
};

static bool ready_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) == 1 && (p.revents & events);
}

/* -- out of the socket -------------------------------------------------------------------------------
 */

static void put_output(struct relay *relay, const char *chunk, size_t len)
{
    if (relay->output_fd < 0)
        return;
    ssize_t n = send(relay->output_fd, chunk, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK && ready_for(relay->output_fd, POLLOUT | POLLERR))
        n = write(relay->output_fd, chunk, len);
    if (n < 0 && errno == EPIPE)
        relay->output_fd = -1;
}

/* True while there may be more. */
static bool move_output(struct relay *relay)
{
    char chunk[RELAY_CHUNK];
    ssize_t n = recv(relay->socket.fd, chunk, sizeof(chunk), MSG_DONTWAIT);
    if (n < 0)
        return errno == EINTR;
    if (n == 0) {
        loop_remove(&relay->socket);
        return false;
    }
    put_output(relay, chunk, (size_t)n);
    return true;
}

/* -- into the socket ---------------------------------------------------------------------------------
 */

static void end_input(struct relay *relay)
{
    loop_remove(&relay->input);
    relay->input.fd = -1;
    if (relay->socket.loop)
        loop_modify(&relay->socket, EPOLLIN);
}

/* Move a chunk from the input, which is readable, into the socket, which has room. */
static void move_input(struct relay *relay)
{
    char chunk[RELAY_CHUNK];
    ssize_t n = read(relay->input.fd, chunk, sizeof(chunk));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0 || send(relay->socket.fd, chunk, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        end_input(relay);
}

static void input_ready(struct loop_source *source, uint32_t events)
{
    struct relay *relay = container_of(source, struct relay, input);
    (void)events;
    if (ready_for(relay->socket.fd, POLLOUT)) {
        move_input(relay);
    } else {
        loop_remove(source);
        loop_modify(&relay->socket, EPOLLIN | EPOLLOUT);
    }
}

/* The socket has room again. */
static void go_on(struct relay *relay)
{
    if (relay->input_is_file && relay->input.fd >= 0) {
        move_input(relay);
    } else {
        loop_modify(&relay->socket, EPOLLIN);
        if (relay->input.fd >= 0)
            loop_add(relay->loop, &relay->input);
    }
}

static void socket_ready(struct loop_source *source, uint32_t events)
{
    struct relay *relay = container_of(source, struct relay, socket);
    move_output(relay);
    if (!source->loop) /* QEMU has gone */
        end_input(relay);
    else if (events & EPOLLOUT)
        go_on(relay);
}

/* -- life --------------------------------------------------------------------------------------------
 */

static void add_sources(void *arg)
{
    struct relay *relay = arg;
    loop_add(relay->loop, &relay->socket);
    if (relay->input.fd >= 0 && loop_add(relay->loop, &relay->input) == -EPERM) {
        relay->input_is_file = true;
        loop_modify(&relay->socket, EPOLLIN | EPOLLOUT);
    }
}

static void remove_sources(void *arg)
{
    struct relay *relay = arg;
    if (relay->socket.loop)
        while (move_output(relay))
            ;
    loop_remove(&relay->socket);
    loop_remove(&relay->input);
}

int relay_new(struct relay **out, const struct relay_options *options, struct dayfly_err *err)
{
    _cleanup_close_ int fd = options->socket;
    struct relay *relay = calloc(1, sizeof(*relay));
    if (!relay)
        return err_set(err, ENOMEM, "out of memory");
    relay->loop = options->loop;
    relay->own_output_fd = options->output_fd < 0 ? -1 : io_open_again(options->output_fd, O_WRONLY);
    relay->output_fd = relay->own_output_fd >= 0 ? relay->own_output_fd : options->output_fd;
    relay->socket = (struct loop_source){.fd = steal_fd(&fd), .events = EPOLLIN, .ready = socket_ready};
    relay->input =
        (struct loop_source){.fd = options->input_fd, .events = EPOLLIN, .ready = input_ready};
    int r = loop_call(relay->loop, add_sources, relay);
    if (r < 0) {
        relay_free(relay);
        return err_errno(err, -r, "watch a serial line");
    }
    *out = relay;
    return 0;
}

void relay_free(struct relay *relay)
{
    if (!relay)
        return;
    loop_call(relay->loop, remove_sources, relay);
    close_fd(&relay->socket.fd);
    close_fd(&relay->own_output_fd);
    free(relay);
}
