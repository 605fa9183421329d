/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Unix sockets of a vsock device, by the convention that Firecracker introduced: a client of
 * "<path>" says "CONNECT <port>\n" and is connected to that port of the guest; a connection of the
 * guest to port P of the host goes to whoever listens on "<path>_<P>".
 *
 * Who may connect is the file's mode (0600) and its folder's. A client has five seconds for its line,
 * which is read without touching what follows it, and there are at most VSOCK_CLIENTS_MAX such clients.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "virtio/vsock_private.h"

#define LINE_NS (5 * NS_PER_S)

static void client_free(struct vsock_client *client)
{
    loop_remove(&client->source);
    close_fd(&client->source.fd);
    list_remove(&client->node);
    client->vs->client_count--;
    free(client);
}

/* "CONNECT <port>": digits alone, below 2^32 - 1, which is no port. */
static bool parse_line(const char *line, uint32_t *port)
{
    static const char verb[] = "CONNECT ";
    uint64_t value = 0;
    if (strncmp(line, verb, sizeof(verb) - 1) != 0)
        return false;
    const char *digit = line + sizeof(verb) - 1;
    if (*digit == '\0')
        return false;
    for (; *digit; digit++) {
        if (*digit < '0' || *digit > '9')
            return false;
        value = value * 10 + (uint64_t)(*digit - '0');
        if (value >= UINT32_MAX)
            return false;
    }
    *port = (uint32_t)value;
    return true;
}

/* Read the line: 1 when it stands in client->line, 0 not yet, -1 when there will be none. */
static int read_line(struct vsock_client *client)
{
    size_t room = sizeof(client->line) - 1 - client->line_bytes;
    char *at = client->line + client->line_bytes;
    ssize_t n = recv(client->source.fd, at, room, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return -1;
    char *end = memchr(at, '\n', (size_t)n);
    size_t take = end ? (size_t)(end - at) + 1 : (size_t)n;
    if (recv(client->source.fd, at, take, MSG_DONTWAIT) != (ssize_t)take)
        return -1;
    client->line_bytes += (unsigned)take;
    if (end) {
        *end = '\0';
        return 1;
    }
    return client->line_bytes == sizeof(client->line) - 1 ? -1 : 0;
}

static void client_ready(struct loop_source *source, uint32_t events)
{
    struct vsock_client *client = container_of(source, struct vsock_client, source);
    struct vsock *vs = client->vs;
    uint32_t port;
    pthread_mutex_lock(&vs->dev.lock);
    int r = read_line(client);
    if (r > 0 && parse_line(client->line, &port)) {
        loop_remove(source);
        struct vsock_conn *conn = vsock_connect_fd(vs, steal_fd(&source->fd), port);
        if (conn) {
            conn->unix_client = true;
            vsock_fill_rx(vs);
        }
    }
    if (r != 0)
        client_free(client);
    pthread_mutex_unlock(&vs->dev.lock);
}

static void client_arrived(struct loop_source *source, uint32_t events)
{
    struct vsock *vs = container_of(source, struct vsock, unix_source);
    _cleanup_close_ int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    pthread_mutex_lock(&vs->dev.lock);
    struct vsock_client *client =
        vs->client_count < VSOCK_CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;
    if (client) {
        *client = (struct vsock_client){
            .vs = vs,
            .source = {.fd = steal_fd(&fd), .events = EPOLLIN, .ready = client_ready},
        };
        list_append(&vs->clients, &client->node);
        vs->client_count++;
        vsock_set_deadline(vs, &client->deadline_ns, LINE_NS);
        if (loop_add(vs->dev.loop, &client->source) < 0)
            client_free(client);
    }
    pthread_mutex_unlock(&vs->dev.lock);
}

void vsock_unix_expire(struct vsock *vs, uint64_t now_ns, uint64_t *next_ns)
{
    struct vsock_client *client, *tmp;
    list_for_each (client, tmp, &vs->clients, node) {
        if (client->deadline_ns <= now_ns)
            client_free(client);
        else
            *next_ns = MIN(*next_ns, client->deadline_ns);
    }
}

/* A connected socket, or -errno. Does not wait. */
static int connect_to(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return -errno;
    return steal_fd(&fd);
}

int vsock_unix_connect(const struct vsock *vs, uint32_t port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", vs->reach, port);
    return n < (int)sizeof(address.sun_path) ? connect_to(&address) : -ENAMETOOLONG;
}

int vsock_unix_listen(struct vsock *vs, const char *path, struct dayfly_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* The longest name made of it is "<path>_4294967294". */
    if (strlen(path) + 12 > sizeof(address.sun_path))
        return err_set(err, ENAMETOOLONG, "vsock socket %s: the path is longer than %zu bytes", path,
                       sizeof(address.sun_path) - 12);
    strcpy(address.sun_path, path);

    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The socket's mode becomes the file's: there is no moment when others may connect. */
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return err_errno(err, errno, "vsock socket %s", path);
    int r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    if (r == -EADDRINUSE) {
        /* Someone's, or left behind by someone who is no more? */
        struct stat st;
        _cleanup_close_ int probe = connect_to(&address);
        if (probe == -ECONNREFUSED && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
            unlink(path) == 0)
            r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    }
    if (r < 0)
        return err_errno(err, -r, "vsock socket %s", path);
    if (!(vs->path = strdup(path)) || listen(fd, 16) < 0) {
        r = vs->path ? -errno : -ENOMEM;
        unlink(path);
        free(steal_ptr(&vs->path));
        return err_errno(err, -r, "vsock socket %s", path);
    }
    vs->reach = vs->path;
    vs->unix_source =
        (struct loop_source){.fd = steal_fd(&fd), .events = EPOLLIN, .ready = client_arrived};
    r = loop_add(vs->dev.loop, &vs->unix_source);
    return r < 0 ? err_errno(err, -r, "vsock socket %s", path) : 0;
}

void vsock_unix_close(struct vsock *vs)
{
    struct vsock_client *client, *tmp;
    list_for_each (client, tmp, &vs->clients, node)
        client_free(client);
    loop_remove(&vs->unix_source);
    close_fd(&vs->unix_source.fd);
    if (vs->path)
        unlink(vs->path);
    free(steal_ptr(&vs->path));
    close_fd(&vs->dir_fd);
}

/* -- when it is locked up ------------------------------------------------------------------------- */

/* Landlock knows no connecting by a path. What can be reached so is what the directory leads to. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL_UNIX_STREAM(socket), ISOLATE_CALL(connect), ISOLATE_CALL(accept4),
    ISOLATE_CALL(recvfrom), /* "CONNECT port" */
};
static const struct isolate_calls table = ISOLATE_CALLS(calls);

bool vsock_unix_isolate(struct vsock *vs, struct isolate_options *options)
{
    static const struct isolate_calls *const tables[] = {&table, NULL};
    if (!vs->path)
        return true;
    const char *slash = strrchr(vs->path, '/');
    _cleanup_free_ char *dir = slash ? strndup(vs->path, (size_t)(slash - vs->path) + 1) : strdup(".");
    close_fd(&vs->dir_fd);
    vs->dir_fd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (vs->dir_fd < 0 || !isolate_add_calls(options, tables))
        return false;
    options->change_dir = true;
    options->dir = vs->dir_fd;
    vs->reach = slash ? slash + 1 : vs->path;
    return true;
}
