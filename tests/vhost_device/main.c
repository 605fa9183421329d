/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serve one of our devices to a vhost-user front end, for tests with QEMU:
 *
 *     vhost-device SOCKET entropy
 *     vhost-device SOCKET vsock CID [PATH]
 *     vhost-device SOCKET block FILE
 *
 * Ends when the front end has left. With vsock, whatever the guest sends to port 7 comes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/vhost_user.h"
#include "util/err.h"
#include "virtio/block.h"
#include "virtio/entropy.h"
#include "virtio/vsock.h"

#define ECHO_PORT 7

static void left(void *opaque, const struct dayfly_err *why)
{
    fprintf(stderr, "vhost-device: %s\n", why->msg);
    loop_stop(opaque);
}

/* Send back what comes, until both directions have ended; stop reading while it is not taken. */
struct echo {
    struct loop_source source;
    struct loop *loop;
    char bytes[4096];
    size_t begin, end;
};

static void echo_ready(struct loop_source *source, uint32_t events)
{
    struct echo *e = (struct echo *)(void *)source;
    if (e->begin == e->end) {
        ssize_t n = read(source->fd, e->bytes, sizeof(e->bytes));
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            goto end;
        e->begin = 0;
        e->end = (size_t)n;
    }
    ssize_t n = write(source->fd, e->bytes + e->begin, e->end - e->begin);
    if (n < 0 && errno != EAGAIN)
        goto end;
    e->begin += n > 0 ? (size_t)n : 0;
    loop_modify(source, e->begin == e->end ? EPOLLIN : EPOLLOUT);
    return;
end:
    loop_remove(source);
    close(source->fd);
    free(e);
}

static void accepted(void *opaque, int fd, uint32_t guest_port)
{
    struct echo *e = calloc(1, sizeof(*e));
    if (!e || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        free(e);
        close(fd);
        return;
    }
    e->loop = opaque;
    e->source = (struct loop_source){.fd = fd, .events = EPOLLIN, .ready = echo_ready};
    if (loop_add(e->loop, &e->source) < 0) {
        close(fd);
        free(e);
    }
}

static int make(struct virtio_device **dev, void (**destroy)(struct virtio_device *), int argc,
                char **argv, struct loop *loop, const struct log *log, struct dayfly_err *err)
{
    if (argc == 3 && strcmp(argv[2], "entropy") == 0) {
        *destroy = virtio_entropy_free;
        return virtio_entropy_new(dev, loop, log, err);
    }
    if ((argc == 4 || argc == 5) && strcmp(argv[2], "vsock") == 0) {
        struct virtio_vsock_options options = {.guest_cid = (uint32_t)strtoul(argv[3], NULL, 10),
                                               .path = argv[4]};
        *destroy = virtio_vsock_free;
        int r = virtio_vsock_new(dev, &options, loop, log, err);
        return r < 0 ? r : virtio_vsock_listen(*dev, ECHO_PORT, accepted, loop);
    }
    if (argc == 4 && strcmp(argv[2], "block") == 0) {
        const struct virtio_block_options options = {.serial = "dayfly-test", .queues = 4};
        struct block_raw_options raw = {.fd = open(argv[3], O_RDWR | O_CLOEXEC)};
        struct block *block = NULL;
        if (raw.fd < 0)
            return err_errno(err, errno, "%s", argv[3]);
        *destroy = virtio_block_free;
        int r = block_raw_open(&block, &raw, err);
        return r < 0 ? r : virtio_block_new(dev, block, &options, loop, log, err);
    }
    return err_set(err, EINVAL, "usage: vhost-device SOCKET entropy | vsock CID [PATH] | block FILE");
}

int main(int argc, char **argv)
{
    const struct log log = {.write = log_to_stderr, .level = LOG_DEBUG};
    void (*destroy)(struct virtio_device *) = NULL;
    struct virtio_device *dev = NULL;
    struct vhost_user *vu = NULL;
    struct loop *loop = NULL;
    struct dayfly_err err;

    if (loop_new(&loop) < 0)
        return 1;
    int r = make(&dev, &destroy, argc, argv, loop, &log, &err);
    if (r == 0)
        r = vhost_user_listen(&vu, dev, argv[1], left, loop, &err);
    if (r < 0)
        fprintf(stderr, "vhost-device: %s\n", err.msg);
    else
        loop_run(loop);
    vhost_user_free(vu);
    if (dev)
        destroy(dev);
    loop_free(loop);
    return r < 0;
}
