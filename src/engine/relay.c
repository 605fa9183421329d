/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/relay.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"

/* At most PIPE_BUF at a time: a pipe that polls writable takes that much without blocking, and the
 * descriptors may be shared with others, so that O_NONBLOCK is not ours to set. */
#define RELAY_CHUNK 4096

struct relay {
    struct loop *loop;
    struct loop_source socket;
    struct loop_source input;
    int output_fd;
};

static bool ready_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) == 1 && (p.revents & events);
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
    if (relay->output_fd >= 0 && ready_for(relay->output_fd, POLLOUT) &&
        write(relay->output_fd, chunk, (size_t)n) < 0 && errno == EPIPE)
        relay->output_fd = -1;
    return true;
}

static void socket_ready(struct loop_source *source, uint32_t events)
{
    (void)events;
    move_output(container_of(source, struct relay, socket));
}

static void input_ready(struct loop_source *source, uint32_t events)
{
    struct relay *relay = container_of(source, struct relay, input);
    char chunk[RELAY_CHUNK];
    (void)events;
    /* Level-triggered: what the socket has no room for stays in the input until there is. The loop
     * turns meanwhile, so input is only watched while the socket takes it. */
    if (!ready_for(relay->socket.fd, POLLOUT))
        return;
    ssize_t n = read(source->fd, chunk, sizeof(chunk));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0 || send(relay->socket.fd, chunk, (size_t)n, MSG_NOSIGNAL) < 0)
        loop_remove(source);
}

static void add_sources(void *arg)
{
    struct relay *relay = arg;
    loop_add(relay->loop, &relay->socket);
    if (relay->input.fd >= 0)
        loop_add(relay->loop, &relay->input);
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
    relay->output_fd = options->output_fd;
    relay->socket = (struct loop_source){.fd = steal_fd(&fd), .events = EPOLLIN, .ready = socket_ready};
    relay->input = (struct loop_source){.fd = options->input_fd, .events = EPOLLIN, .ready = input_ready};
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
    free(relay);
}
