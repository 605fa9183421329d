/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the vhost-user back end. The input is a front end's program: messages, mostly of the right shape
 * with numbers near what is sensible and sometimes raw, with descriptors of several kinds, between them
 * kicks and writes to guest memory. The device is the entropy device; the loop runs in this thread.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/vhost_user.h"
#include "transport/vhost_user_wire.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing_input.h"
#include "virtio/entropy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPS_MAX   200
#define RAM_BYTES 0x8000u
#define RAM_UVA   UINT64_C(0x7000000000)

/* A number: small, near a limit, an address in guest memory, or any. */
static uint64_t number(struct input *in)
{
    uint8_t kind = u8(in), v = u8(in);
    uint64_t any = 0;
    switch (kind % 6) {
    case 0:
        return v;
    case 1:
        return RAM_UVA + (uint64_t)v * 16;
    case 2:
        return (uint64_t)v << 12;
    case 3:
        return UINT64_C(1) << (v % 64);
    case 4:
        return UINT64_MAX - v;
    default:
        for (int i = 0; i < 8; i++)
            any = any << 8 | u8(in);
        return any;
    }
}

struct run {
    struct input in;
    struct loop *loop;
    struct virtio_device *dev;
    struct vhost_user *back;
    int fd, ram, kick;
    uint8_t *map;
};

static int some_fd(struct run *r)
{
    int pair[2], fd;
    switch (u8(&r->in) % 6) {
    case 0:
        return fcntl(r->ram, F_DUPFD_CLOEXEC, 0);
    case 1:
        return memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    case 2:
        if (pipe(pair) < 0)
            return -1;
        fd = u8(&r->in) & 1;
        close(pair[!fd]);
        return pair[fd];
    case 3:
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return fd;
    default:
        return fcntl(r->kick, F_DUPFD_CLOEXEC, 0);
    }
}

static void send_message(struct run *r)
{
    struct vhost_user_message m = {
        .header = {u8(&r->in) % 42, VHOST_USER_VERSION | (u8(&r->in) & VHOST_USER_NEED_REPLY), 0}};
    int fds[VHOST_USER_REGIONS_MAX];
    unsigned count = 0;
    uint8_t wrong = u8(&r->in);

    switch (m.header.request) {
    case VHOST_USER_SET_MEM_TABLE: {
        struct vhost_user_mem_table table = {.count = 1 + u8(&r->in) % 3};
        for (unsigned i = 0; i < table.count; i++) {
            table.regions[i] = (struct vhost_user_region){
                .gpa = i * RAM_BYTES, .size_bytes = RAM_BYTES, .uva = RAM_UVA + i * RAM_BYTES};
            uint64_t *field = (uint64_t *)(void *)&table.regions[i];
            if (u8(&r->in) % 4 == 0)
                field[u8(&r->in) % 4] = number(&r->in);
            fds[count++] = u8(&r->in) % 8 ? fcntl(r->ram, F_DUPFD_CLOEXEC, 0) : some_fd(r);
        }
        m.header.size_bytes = 8 + 32 * table.count;
        m.payload.mem = table;
        break;
    }
    case VHOST_USER_SET_VRING_NUM:
    case VHOST_USER_SET_VRING_BASE:
    case VHOST_USER_GET_VRING_BASE:
    case VHOST_USER_SET_VRING_ENABLE:
        m.header.size_bytes = 8;
        m.payload.state =
            (struct vhost_user_vring_state){u8(&r->in) % 8 == 0, (uint32_t)number(&r->in)};
        if (m.header.request == VHOST_USER_SET_VRING_NUM && u8(&r->in) % 4)
            m.payload.state.num = 8;
        break;
    case VHOST_USER_SET_VRING_ADDR:
        m.header.size_bytes = 40;
        m.payload.addr = (struct vhost_user_vring_addr){
            .desc_uva = RAM_UVA, .avail_uva = RAM_UVA + 0x400, .used_uva = RAM_UVA + 0x800};
        if (u8(&r->in) % 4 == 0)
            m.payload.addr.desc_uva = number(&r->in);
        if (u8(&r->in) % 4 == 0)
            m.payload.addr.used_uva = number(&r->in);
        break;
    case VHOST_USER_SET_VRING_KICK:
    case VHOST_USER_SET_VRING_CALL:
    case VHOST_USER_SET_VRING_ERR:
        m.header.size_bytes = 8;
        m.payload.u64 = u8(&r->in) % 8 ? 0 : number(&r->in);
        fds[count++] = u8(&r->in) % 4 ? fcntl(r->kick, F_DUPFD_CLOEXEC, 0) : some_fd(r);
        break;
    case VHOST_USER_SET_FEATURES:
        m.header.size_bytes = 8;
        m.payload.u64 = VIRTIO_F_VERSION_1 | (u8(&r->in) % 4 ? 0 : number(&r->in));
        break;
    case VHOST_USER_SET_PROTOCOL_FEATURES:
        m.header.size_bytes = 8;
        m.payload.u64 = VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_REPLY_ACK |
                        VHOST_USER_PROTOCOL_F_BACKEND_REQ | VHOST_USER_PROTOCOL_F_RESET_DEVICE |
                        VHOST_USER_PROTOCOL_F_STATUS;
        break;
    case VHOST_USER_SET_STATUS:
        m.header.size_bytes = 8;
        m.payload.u64 = u8(&r->in);
        break;
    case VHOST_USER_SET_BACKEND_REQ_FD:
        fds[count++] = some_fd(r);
        break;
    default:
        break;
    }
    if (wrong == 1)
        m.header.size_bytes = u8(&r->in);
    if (wrong == 2)
        m.header.flags = u8(&r->in);
    if (wrong == 3 && count < ARRAY_SIZE(fds))
        fds[count++] = some_fd(r);
    unsigned good = 0;
    while (good < count && fds[good] >= 0)
        good++;
    vhost_user_send(r->fd, &m, fds, good);
    for (unsigned i = 0; i < count; i++)
        close_fd(&fds[i]);
}

static void drain_replies(struct run *r)
{
    char sink[512];
    while (recv(r->fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
        ;
}

static void step(struct run *r)
{
    uint8_t op = u8(&r->in);
    if (op % 8 < 5) {
        send_message(r);
    } else if (op % 8 == 5) {
        uint8_t raw[64];
        size_t n = 1 + u8(&r->in) % sizeof(raw);
        for (size_t i = 0; i < n; i++)
            raw[i] = u8(&r->in);
        send(r->fd, raw, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (op % 8 == 6) {
        unsigned at = (unsigned)(u8(&r->in) << 3) % 0x1000;
        for (unsigned i = 0; i < 8; i++)
            r->map[at + i] = u8(&r->in);
    } else {
        eventfd_write(r->kick, 1);
    }
    while (loop_run_once(r->loop, 0) > 0 && u8(&r->in) % 2)
        ;
    drain_replies(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.in = {data, size}, .kick = -1};
    struct dayfly_err err;
    int pair[2];

    r.ram = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    r.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ftruncate(r.ram, RAM_BYTES) < 0 || fcntl(r.ram, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        abort();
    r.map = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, r.ram, 0);
    r.fd = pair[0];
    if (loop_new(&r.loop) < 0 || virtio_entropy_new(&r.dev, r.loop, NULL, &err) < 0 ||
        vhost_user_new(&r.back, r.dev, pair[1], NULL, NULL, &err) < 0)
        abort();
    for (unsigned i = 0; i < OPS_MAX && r.in.left > 0; i++)
        step(&r);
    vhost_user_free(r.back);
    virtio_entropy_free(r.dev);
    loop_free(r.loop);
    munmap(r.map, RAM_BYTES);
    close(r.fd);
    close(r.ram);
    close(r.kick);
    return 0;
}
