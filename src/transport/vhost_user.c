/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back end for one device (contract in vhost_user.h).
 *
 * Here: the connection, and what the device says. vhost_user_requests.c serves the requests of the
 * front end, vhost_user_rings.c knows when a ring is live, vhost_user_state.h holds what they share.
 *
 * When a request cannot be served the connection is closed, and nothing of vu is touched after the
 * `closed` callback, which may have freed it.
 */
#include "transport/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/vhost_user_state.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/nameless.h"

/* How many messages are handled before other sources of the loop get their turn. */
#define MESSAGES_A_ROUND 32

/* -- the device speaks: interrupts ------------------------------------------------------------ */

/*
 * O_NONBLOCK of an eventfd does not help: it is the open file's, which the front end shares and may
 * change. A write can only wait while the counter is full, and then there is nothing to be said. (What
 * remains is a front end that fills it between the two calls: it stops its own device, until it ends.)
 */
void vhost_user_signal(int fd)
{
    const uint64_t one = 1;
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    if (fd < 0 || poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
        return;
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void interrupt(void *opaque, unsigned queue)
{
    struct vhost_user *vu = opaque;
    vhost_user_signal(vu->rings[queue].call_fd);
}

bool vhost_user_has_config(const struct vhost_user *vu)
{
    return vu->dev->config_bytes > 0 && !vu->dev->ops->front_end_config;
}

static void config_changed(void *opaque)
{
    struct vhost_user *vu = opaque;
    if (vu->dev->needs_reset)
        for (unsigned i = 0; i < vu->dev->queue_count; i++)
            vhost_user_signal(vu->rings[i].err_fd);
    if (vu->backend_fd < 0 || !vhost_user_has_config(vu))
        return;
    struct vhost_user_message note = {
        .header = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE, .flags = VHOST_USER_VERSION}};
    if (vhost_user_send(vu->backend_fd, &note, NULL, 0) < 0)
        log_limited(vu->dev->log, &vu->dev->limit, LOG_WARN,
                    "%s: the vhost-user front end does not take requests", vu->dev->ops->name);
}

static const struct virtio_carrier carrier = {
    .interrupt = interrupt,
    .config_changed = config_changed,
};

/* -- the connection --------------------------------------------------------------------------- */

/* Let go of the front end: safe on half-built state, and safe to call twice. */
static void hang_up(struct vhost_user *vu)
{
    loop_remove(&vu->source);
    close_fd(&vu->source.fd);
    vhost_user_inbox_clear(&vu->inbox);
    vhost_user_reset(vu);
    pthread_mutex_lock(&vu->dev->lock);
    close_fd(&vu->backend_fd);
    pthread_mutex_unlock(&vu->dev->lock);
    memory_finish(&vu->mem);
    vu->table = (struct vhost_user_mem_table){0};
    vu->protocol_features = 0;
    if (vu->path)
        unlink(vu->path);
    free(steal_ptr(&vu->path));
}

static void closed(struct vhost_user *vu)
{
    struct dayfly_err why = vu->err;
    log_line(vu->dev->log, why.code == ECONNRESET ? LOG_DEBUG : LOG_WARN, "%s: %s", vu->dev->ops->name,
             why.msg);
    hang_up(vu);
    if (vu->closed)
        vu->closed(vu->opaque, &why);
}

static void readable(struct loop_source *source, uint32_t events)
{
    struct vhost_user *vu = container_of(source, struct vhost_user, source);
    for (unsigned i = 0; i < MESSAGES_A_ROUND; i++) {
        int r = vhost_user_receive(source->fd, &vu->inbox, &vu->err);
        if (r == 0)
            return;
        if (r > 0)
            r = vhost_user_serve(vu);
        if (r < 0) {
            closed(vu);
            return;
        }
        vhost_user_inbox_clear(&vu->inbox);
    }
}

static void arrived(struct loop_source *source, uint32_t events)
{
    struct vhost_user *vu = container_of(source, struct vhost_user, source);
    int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return; /* gone again: wait for the next */
    loop_remove(source);
    close_fd(&source->fd);
    if (vu->path)
        unlink(vu->path);
    free(steal_ptr(&vu->path));
    *source = (struct loop_source){.fd = fd, .events = EPOLLIN, .ready = readable};
    int r = loop_add(vu->dev->loop, source);
    if (r < 0) {
        err_errno(&vu->err, -r, "watch a vhost-user connection");
        closed(vu);
    }
}

struct setup {
    struct vhost_user *vu;
    int result;
};

static void watch(void *arg)
{
    struct setup *setup = arg;
    setup->result = loop_add(setup->vu->dev->loop, &setup->vu->source);
}

/* Takes fd and path. */
static int create(struct vhost_user **out, struct virtio_device *dev, int fd, char *path,
                  void (*ready)(struct loop_source *, uint32_t), vhost_user_closed *on_closed,
                  void *opaque, struct dayfly_err *err)
{
    struct vhost_user *vu = calloc(1, sizeof(*vu));
    int flags = fcntl(fd, F_GETFL);
    if (!vu || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int code = vu ? errno : ENOMEM;
        free(vu);
        free(path);
        close_fd(&fd);
        return err_errno(err, code, "set up a vhost-user socket");
    }
    vu->dev = dev;
    vu->path = path;
    vu->closed = on_closed;
    vu->opaque = opaque;
    vu->backend_fd = -1;
    vu->source = (struct loop_source){.fd = fd, .events = EPOLLIN, .ready = ready};
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        vu->rings[i] = (struct vring){.vu = vu, .kick.fd = -1, .call_fd = -1, .err_fd = -1};
    virtio_carry(dev, &carrier, vu);

    struct setup setup = {.vu = vu};
    int r = loop_call(dev->loop, watch, &setup);
    if (r == 0)
        r = setup.result;
    if (r < 0) {
        vhost_user_free(vu);
        return err_errno(err, -r, "watch a vhost-user socket");
    }
    *out = vu;
    return 0;
}

int vhost_user_new(struct vhost_user **out, struct virtio_device *dev, int fd,
                   vhost_user_closed *on_closed, void *opaque, struct dayfly_err *err)
{
    return create(out, dev, fd, NULL, readable, on_closed, opaque, err);
}

/*
 * No process has the socket behind that file any more. Asked with a socket of another type, which a
 * living one refuses without noticing: a connection would be a front end to it.
 */
static bool is_abandoned(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct stat st;
    return fd >= 0 && lstat(address->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
           connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
}

int vhost_user_bind(const char *path, struct dayfly_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, ENAMETOOLONG, "socket %s: longer than the %zu bytes a path may have", path,
                       sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, path);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* fchmod before bind gives the file its mode: there is no moment when others may connect. */
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return err_errno(err, errno, "socket %s", path);
    int r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    if (r < 0 && errno == EADDRINUSE) {
        if (!is_abandoned(&address))
            return err_set(err, EADDRINUSE,
                           "socket %s: there is such a file, and it is in use or no socket: choose "
                           "another path, or remove it",
                           path);
        unlink(path);
        r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    }
    if (r < 0)
        return err_errno(err, errno, "socket %s", path);
    if (listen(fd, 1) < 0) {
        err_errno(err, errno, "socket %s", path);
        unlink(path);
        return -EIO;
    }
    return steal_fd(&fd);
}

int vhost_user_bind_nameless(int *door, struct dayfly_err *err)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return err_errno(err, errno, "make a socket");
    int r = nameless_socket_bind(fd, door, err);
    if (r < 0)
        return r;
    if (listen(fd, 1) == 0)
        return steal_fd(&fd);
    r = err_errno(err, errno, "listen");
    close_fd(door);
    return r;
}

int vhost_user_listen(struct vhost_user **out, struct virtio_device *dev, const char *path,
                      vhost_user_closed *on_closed, void *opaque, struct dayfly_err *err)
{
    int fd = vhost_user_bind(path, err);
    if (fd < 0)
        return fd;
    char *copy = strdup(path);
    if (!copy) {
        close_fd(&fd);
        unlink(path);
        return err_set(err, ENOMEM, "socket %s: out of memory", path);
    }
    return create(out, dev, fd, copy, arrived, on_closed, opaque, err);
}

int vhost_user_accept(struct vhost_user **out, struct virtio_device *dev, int fd,
                      vhost_user_closed *on_closed, void *opaque, struct dayfly_err *err)
{
    return create(out, dev, fd, NULL, arrived, on_closed, opaque, err);
}

static void hang_up_call(void *arg)
{
    hang_up(arg);
}

void vhost_user_free(struct vhost_user *vu)
{
    if (!vu)
        return;
    loop_call(vu->dev->loop, hang_up_call, vu);
    virtio_carry(vu->dev, NULL, NULL);
    free(vu);
}

/* Guest memory is a file that is mapped; everything else comes and goes through the socket. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL(recvmsg),
    ISOLATE_CALL(sendmsg),
    ISOLATE_CALL(poll),
    ISOLATE_CALL(fstatfs),
    ISOLATE_CALL(accept4),
    ISOLATE_CALL(preadv2),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, F_GET_SEALS),
};

const struct isolate_calls vhost_user_calls = ISOLATE_CALLS(calls);
