/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device in the contract suite, with the real server on a directory of its own. The
 * request that is always valid is INIT. What only a server that does as it is told can show is in
 * virtio_fs_test.c.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"
#include "kinds.h"
#include "transport/vhost_user.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"
#include "util/tree.h"
#include "virtio/fs.h"

#define QUEUES     3 /* hiprio and two */
#define TAG        "contract, with a comma"
#define FILE_BYTES 100000u

struct made {
    char path[64];
    int dir;
    uint64_t unique;
};

static struct made *made_of(struct contract_env *env)
{
    return env->made;
}

static uint8_t byte_at(unsigned offset)
{
    return (uint8_t)(offset * 7 + offset / 256);
}

/* A file of FILE_BYTES. */
static int fill(int dir)
{
    _cleanup_close_ int fd = openat(dir, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    uint8_t bytes[FILE_BYTES];
    for (unsigned i = 0; i < FILE_BYTES; i++)
        bytes[i] = byte_at(i);
    return fd >= 0 && write(fd, bytes, sizeof(bytes)) == sizeof(bytes) ? 0 : -EIO;
}

static int make(struct contract_env *env)
{
    struct dayfly_err err;
    struct made *m = calloc(1, sizeof(*m));
    env->made = m;
    strcpy(m->path, "/tmp/unit-contract-XXXXXX");
    if (!mkdtemp(m->path))
        return -errno;
    m->dir = open(m->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->dir < 0 || fill(m->dir) < 0)
        return -EIO;
    const struct fs_directory directory = {
        .fd = m->dir, .idmap = {.kind = FS_IDMAP_SQUASH, .host_uid = geteuid(), .host_gid = getegid()}};
    const struct fs_options options = {.directories = &directory, .directory_count = 1};
    struct fs *fs;
    int r = fs_new(&fs, &options, &err);
    /* Over vhost-user the loop's thread, which is locked up, reads the messages too. */
    const struct virtio_fs_options device = {
        .tag = TAG, .queues = QUEUES - 1, .carrier_calls = &vhost_user_calls};
    return r < 0 ? r : virtio_fs_new(&env->dev, fs, &device, NULL, &err);
}

static void unmake(struct contract_env *env)
{
    struct made *m = made_of(env);
    virtio_fs_free(env->dev);
    close_fd(&m->dir);
    assert_int_equal(tree_remove(AT_FDCWD, m->path), 0);
    free(m);
}

/* -- requests ---------------------------------------------------------------------------------------
 */

/* A request as Linux cuts it: header, arguments | header of the reply, its body. Bodies may be empty.
 */
static unsigned put(struct contract_env *env, uint32_t opcode, uint64_t nodeid, const void *args,
                    uint32_t bytes, uint32_t room, struct driver_buf bufs[4])
{
    const struct fuse_in_header in = {.len = sizeof(in) + bytes,
                                      .opcode = opcode,
                                      .nodeid = nodeid,
                                      .unique = ++made_of(env)->unique,
                                      .uid = geteuid(),
                                      .gid = getegid()};
    uint64_t gpa = contract_alloc(env, in.len);
    memcpy(contract_hva(env, gpa, sizeof(in)), &in, sizeof(in));
    if (bytes)
        memcpy(contract_hva(env, gpa + sizeof(in), bytes), args, bytes);
    uint64_t out = contract_alloc(env, sizeof(struct fuse_out_header) + room);
    bufs[0] = (struct driver_buf){gpa, sizeof(in), false};
    bufs[1] = (struct driver_buf){gpa + sizeof(in), bytes, false};
    bufs[2] = (struct driver_buf){out, sizeof(struct fuse_out_header), true};
    bufs[3] = (struct driver_buf){out + sizeof(struct fuse_out_header), room, true};
    return 4;
}

static unsigned request(struct contract_env *env, struct driver_buf *bufs, unsigned max)
{
    const struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION, .minor = 38, .flags = ~0u};
    return put(env, FUSE_INIT, 0, &in, sizeof(in), sizeof(struct fuse_init_out), bufs);
}

static struct fuse_out_header answer_of(struct contract_env *env, const struct driver_buf *bufs)
{
    struct fuse_out_header out;
    memcpy(&out, contract_hva(env, bufs[2].gpa, sizeof(out)), sizeof(out));
    return out;
}

static void served(struct contract_env *env, const struct driver_buf *bufs, unsigned count,
                   uint32_t written)
{
    struct fuse_out_header out = answer_of(env, bufs);
    struct fuse_init_out init;
    memcpy(&init, contract_hva(env, bufs[3].gpa, sizeof(init)), sizeof(init));
    assert_int_equal(out.error, 0);
    assert_int_equal(out.len, written);
    assert_int_equal(written, sizeof(out) + sizeof(init));
    assert_int_equal(init.major, FUSE_KERNEL_VERSION);
}

/* One request and its reply; the error as the guest sees it. */
static int call(struct contract_env *env, unsigned queue, uint32_t opcode, uint64_t nodeid,
                const void *args, uint32_t bytes, void *reply, uint32_t room)
{
    struct driver_buf bufs[4];
    unsigned count = put(env, opcode, nodeid, args, bytes, room, bufs);
    uint32_t written = contract_roundtrip(env, queue, bufs, count);
    struct fuse_out_header out = answer_of(env, bufs);
    assert_int_equal(out.len, written);
    assert_int_equal(out.unique, made_of(env)->unique);
    if (out.error == 0 && room)
        memcpy(reply, contract_hva(env, bufs[3].gpa, room), room);
    return out.error;
}

/* Begin a session and open the file. */
static void open_file(struct contract_env *env, uint64_t *nodeid, uint64_t *handle)
{
    struct fuse_entry_out entry;
    struct fuse_open_out opened;
    const struct fuse_open_in how = {.flags = O_RDWR};
    contract_assert_serves(env);
    assert_int_equal(call(env, 1, FUSE_LOOKUP, FUSE_ROOT_ID, "file", 5, &entry, sizeof(entry)), 0);
    assert_int_equal(entry.attr.size, FILE_BYTES);
    *nodeid = entry.nodeid;
    assert_int_equal(call(env, 2, FUSE_OPEN, *nodeid, &how, sizeof(how), &opened, sizeof(opened)), 0);
    *handle = opened.fh;
}

/* -- cases ------------------------------------------------------------------------------------------
 */

static void config_tells_tag_and_queues(struct contract_env *env)
{
    uint8_t want[40] = TAG, config[40];
    want[36] = QUEUES - 1;
    virtio_config_read(env->dev, 0, config, sizeof(config));
    assert_memory_equal(config, want, sizeof(want));
}

static void files_are_read_and_written(struct contract_env *env)
{
    static const unsigned cuts[] = {1, 4095, 4096, 4097, FILE_BYTES};
    uint64_t nodeid, handle;
    uint8_t *data = malloc(FILE_BYTES);
    contract_start(env, 0);
    open_file(env, &nodeid, &handle);
    for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
        const struct fuse_read_in in = {.fh = handle, .offset = FILE_BYTES - cuts[i], .size = cuts[i]};
        assert_int_equal(call(env, 1 + i % 2, FUSE_READ, nodeid, &in, sizeof(in), data, cuts[i]), 0);
        for (unsigned j = 0; j < cuts[i]; j++)
            assert_int_equal(data[j], byte_at(FILE_BYTES - cuts[i] + j));
    }
    struct {
        struct fuse_write_in in;
        char text[12];
    } write = {.in = {.fh = handle, .offset = 50000, .size = 12}, .text = "from a guest"};
    struct fuse_write_out done;
    char back[12];
    assert_int_equal(
        call(env, 2, FUSE_WRITE, nodeid, &write, sizeof(write.in) + 12, &done, sizeof(done)), 0);
    assert_int_equal(done.size, 12);
    _cleanup_close_ int fd = openat(made_of(env)->dir, "file", O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, back, 12, 50000), 12);
    assert_memory_equal(back, "from a guest", 12);
    struct fuse_entry_out none = {.nodeid = 1};
    assert_int_equal(call(env, 1, FUSE_LOOKUP, FUSE_ROOT_ID, "none", 5, &none, sizeof(none)), 0);
    assert_int_equal(none.nodeid, 0); /* that there is none may be remembered */
    assert_int_equal(call(env, 1, FUSE_LOOKUP, FUSE_ROOT_ID, "a/b", 4, &none, sizeof(none)), -EINVAL);
    free(data);
}

/* Every queue full of requests that workers serve, several rounds. */
static void full_rings_are_served(struct contract_env *env)
{
    uint64_t nodeid, handle;
    contract_start(env, 0);
    open_file(env, &nodeid, &handle);
    uint64_t mark = env->arena.next_gpa;
    for (int round = 0; round < 20; round++) {
        struct driver_buf bufs[QUEUES][CONTRACT_RING][4];
        env->arena.next_gpa = mark;
        for (unsigned queue = 1; queue < QUEUES; queue++) {
            for (unsigned i = 0; i < CONTRACT_RING; i++) {
                const struct fuse_read_in in = {.fh = handle, .offset = i * 1000, .size = 3000};
                struct driver_buf b[4];
                put(env, FUSE_READ, nodeid, &in, sizeof(in), in.size, b);
                int head = driver_add_indirect(&env->rings[queue], b, 4);
                assert_true(head >= 0 && head < CONTRACT_RING);
                memcpy(bufs[queue][head], b, sizeof(b));
            }
            if (driver_publish(&env->rings[queue]))
                env->ops->kick(env->bus, queue);
        }
        for (unsigned queue = 1; queue < QUEUES; queue++) {
            for (unsigned i = 0; i < CONTRACT_RING; i++) {
                uint16_t head;
                uint32_t written;
                struct fuse_read_in in;
                contract_wait_used(env, queue, &head, &written);
                const struct driver_buf *b = bufs[queue][head];
                assert_int_equal(written, sizeof(struct fuse_out_header) + 3000);
                memcpy(&in, contract_hva(env, b[1].gpa, sizeof(in)), sizeof(in));
                const uint8_t *data = contract_hva(env, b[3].gpa, 3000);
                for (unsigned j = 0; j < 3000; j += 100)
                    assert_int_equal(data[j], byte_at((unsigned)in.offset + j));
            }
        }
    }
}

/* A lock that a process of the host holds is waited for, and a reset ends the wait. */
static void locks_of_the_host_are_waited_for(struct contract_env *env)
{
    uint64_t nodeid, handle;
    _cleanup_close_ int fd = openat(made_of(env)->dir, "file", O_RDWR | O_CLOEXEC);
    for (int round = 0; round < 2; round++) {
        struct driver_buf bufs[4];
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
        contract_start(env, 0);
        open_file(env, &nodeid, &handle);
        const struct fuse_lk_in in = {
            .fh = handle, .owner = 1, .lk = {.end = INT64_MAX, .type = F_WRLCK}};
        assert_int_equal(call(env, 1, FUSE_SETLK, nodeid, &in, sizeof(in), NULL, 0), -EAGAIN);
        put(env, FUSE_SETLKW, nodeid, &in, sizeof(in), 0, bufs);
        int sent = contract_send(env, 1, bufs, 3);
        contract_settle(env);
        struct fuse_attr_out attr;
        const struct fuse_getattr_in getattr = {0};
        assert_int_equal(
            call(env, 2, FUSE_GETATTR, nodeid, &getattr, sizeof(getattr), &attr, sizeof(attr)), 0);
        if (round == 1) {
            uint16_t head;
            uint32_t written;
            lock.l_type = F_UNLCK;
            assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
            contract_wait_used(env, 1, &head, &written);
            assert_int_equal(head, sent);
            assert_int_equal(answer_of(env, bufs).error, 0);
        }
        env->ops->reset(env->bus);
    }
}

/* A driver that goes leaves nothing open. */
static void a_reset_ends_the_session(struct contract_env *env)
{
    uint64_t nodeid, handle;
    uint8_t data[10];
    for (int round = 0; round < 4; round++) {
        contract_start(env, 0);
        open_file(env, &nodeid, &handle);
        env->ops->reset(env->bus);
        contract_start(env, 0);
        const struct fuse_read_in in = {.fh = handle, .size = 10};
        assert_int_equal(call(env, 1, FUSE_READ, nodeid, &in, sizeof(in), data, 10), -EIO);
        contract_assert_serves(env);
        assert_int_equal(call(env, 1, FUSE_READ, nodeid, &in, sizeof(in), data, 10), -EBADF);
        env->ops->reset(env->bus);
    }
}

/* Not even a header, or no room for one in the reply. */
static void broken_requests_need_a_reset(struct contract_env *env)
{
    struct driver_buf bufs[4];
    for (int i = 0; i < 4; i++) {
        contract_start(env, 0);
        put(env, FUSE_GETATTR, FUSE_ROOT_ID, NULL, 0, 100, bufs);
        const struct driver_buf bad[][2] = {
            {{bufs[0].gpa, 39, false}, {bufs[2].gpa, 100, true}},
            {{bufs[2].gpa, 50, true}, {bufs[2].gpa, 50, true}},
            {{bufs[0].gpa, 40, false}, {bufs[2].gpa, 15, true}},
            {{bufs[0].gpa, 20, false}, {bufs[0].gpa, 20, false}},
        };
        contract_send(env, (unsigned)i % QUEUES, bad[i], 2);
        assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
        env->ops->reset(env->bus);
    }
    contract_start(env, 0);
    contract_assert_serves(env);
}

static const struct contract_case cases[] = {
    {"config tells tag and queues", config_tells_tag_and_queues},
    {"files are read and written", files_are_read_and_written},
    {"full rings are served", full_rings_are_served},
    {"locks of the host are waited for", locks_of_the_host_are_waited_for},
    {"a reset ends the session", a_reset_ends_the_session},
    {"broken requests need a reset", broken_requests_need_a_reset},
    {NULL, NULL},
};

const struct contract_kind contract_fs = {
    .name = "file system",
    .make = make,
    .unmake = unmake,
    .queue = 1,
    .queues = QUEUES,
    .request = request,
    .served = served,
    .cases = cases,
};
