/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block device in the contract suite, four times: on a raw image with io_uring and with threads, on
 * a read-only image with several queues, and on a back end that holds requests until it is told.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kinds.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/list.h"
#include "util/testing.h"
#include "virtio/block.h"

#define DISK_BYTES (UINT64_C(1) << 20)
#define SECTORS    (DISK_BYTES / 512)
#define SERIAL     "serial-of-20-bytes.."

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, UNTOUCHED = 0xee };

struct header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

struct range {
    uint64_t sector;
    uint32_t sectors;
    uint32_t flags;
};

struct made {
    int fd;            /* the image, -1 without one */
    struct held *held; /* the holding back end, or NULL */
};

static struct made *made_of(struct contract_env *env)
{
    return env->made;
}

/* What stands in sector n of the image at first. */
static void pattern(uint64_t sector, uint8_t out[512])
{
    for (unsigned i = 0; i < 512; i++)
        out[i] = (uint8_t)(sector * 7 + i);
}

/* -- a back end that holds requests ----------------------------------------------------------- */

struct held {
    struct block block;
    struct list queue;
    unsigned room; /* more than that is -EBUSY */
    unsigned in_flight;
    atomic_bool hold;
    atomic_uint flushes, writes;
};

/* A request's place in the list stands where its private pointer leads. */
struct held_entry {
    struct block_request *request;
    struct list node;
};

static int held_submit(struct block *block, struct block_request *request)
{
    struct held *h = container_of(block, struct held, block);
    if (h->in_flight == h->room)
        return -EBUSY;
    struct held_entry *e = malloc(sizeof(*e));
    e->request = request;
    list_append(&h->queue, &e->node);
    h->in_flight++;
    h->flushes += request->op == BLOCK_FLUSH;
    h->writes += request->op == BLOCK_WRITE;
    if (!h->hold)
        eventfd_write(block->event_fd, 1);
    return 0;
}

static int held_kick(struct block *block)
{
    return 0;
}

static unsigned held_complete(struct held *h)
{
    unsigned n = 0;
    for (; !list_empty(&h->queue); n++) {
        struct held_entry *e = list_entry(h->queue.next, struct held_entry, node);
        struct block_request *request = e->request;
        list_remove(&e->node);
        free(e);
        h->in_flight--;
        for (unsigned i = 0; request->op == BLOCK_READ && i < request->iov_count; i++)
            memset(request->iov[i].iov_base, 0x42, request->iov[i].iov_len);
        request->done(request, 0);
    }
    return n;
}

static unsigned held_reap(struct block *block)
{
    struct held *h = container_of(block, struct held, block);
    eventfd_t count;
    if (h->hold)
        return 0;
    eventfd_read(block->event_fd, &count);
    return held_complete(h);
}

static void held_drain(struct block *block)
{
    held_complete(container_of(block, struct held, block));
}

static void held_destroy(struct block *block)
{
    close_fd(&block->event_fd);
    free(container_of(block, struct held, block));
}

static const struct block_ops held_ops = {
    .name = "held",
    .submit = held_submit,
    .kick = held_kick,
    .reap = held_reap,
    .drain = held_drain,
    .destroy = held_destroy,
};

static void release(struct contract_env *env)
{
    struct held *h = made_of(env)->held;
    h->hold = false;
    eventfd_write(h->block.event_fd, 1);
}

/* -- making -------------------------------------------------------------------------------------------
 */

/* `loop`: NULL for one of the device's own. */
static int make_device(struct contract_env *env, struct block *block, unsigned queues,
                       struct loop *loop)
{
    struct dayfly_err err;
    struct virtio_block_options options = {.queues = queues};
    memcpy(options.serial, SERIAL, sizeof(options.serial));
    return virtio_block_new(&env->dev, block, &options, loop, NULL, &err);
}

static int make_raw(struct contract_env *env, enum block_io io, bool read_only, unsigned queues)
{
    struct made *m = calloc(1, sizeof(*m));
    uint8_t sector[512];
    m->fd = memfd_create("disk", MFD_CLOEXEC);
    for (uint64_t i = 0; i < SECTORS; i++) {
        pattern(i, sector);
        if (write(m->fd, sector, 512) != 512)
            return -EIO;
    }
    env->made = m;
    struct block *block;
    struct dayfly_err err;
    struct block_raw_options options = {
        .fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0), .read_only = read_only, .io = io};
    int rc = block_raw_open(&block, &options, &err);
    bool own_loop = io == BLOCK_IO_AUTO && !read_only;
    return rc < 0 ? rc : make_device(env, block, queues, own_loop ? NULL : env->loop);
}

static int make_auto(struct contract_env *env)
{
    return make_raw(env, BLOCK_IO_AUTO, false, 1);
}

static int make_threads(struct contract_env *env)
{
    return make_raw(env, BLOCK_IO_THREADS, false, 1);
}

static int make_read_only(struct contract_env *env)
{
    return make_raw(env, BLOCK_IO_AUTO, true, 4);
}

static int make_held(struct contract_env *env)
{
    struct made *m = calloc(1, sizeof(*m));
    struct held *h = calloc(1, sizeof(*h));
    m->fd = -1;
    m->held = h;
    h->block = (struct block){.ops = &held_ops,
                              .size_bytes = DISK_BYTES,
                              .block_bytes = 4096,
                              .unit_bytes = 512,
                              .discard = true,
                              .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    h->room = 1000;
    list_init(&h->queue);
    env->made = m;
    return make_device(env, &h->block, 1, env->loop);
}

static void unmake(struct contract_env *env)
{
    virtio_block_free(env->dev);
    close_fd(&made_of(env)->fd);
    free(env->made);
}

/* -- requests -----------------------------------------------------------------------------------------
 */

static uint64_t put(struct contract_env *env, const void *bytes, size_t len)
{
    uint64_t gpa = contract_alloc(env, len);
    memcpy(contract_hva(env, gpa, len), bytes, len);
    return gpa;
}

static uint64_t put_header(struct contract_env *env, uint32_t type, uint64_t sector)
{
    const struct header h = {type, 0, sector};
    return put(env, &h, sizeof(h));
}

static uint8_t byte_at(struct contract_env *env, uint64_t gpa)
{
    return *(uint8_t *)contract_hva(env, gpa, 1);
}

static uint64_t put_status(struct contract_env *env)
{
    const uint8_t untouched = UNTOUCHED;
    return put(env, &untouched, 1);
}

/* One request with its data in one buffer (len 0: none). Returns the status; *written is the used
 * length. */
static uint8_t do_request(struct contract_env *env, unsigned queue, uint32_t type, uint64_t sector,
                          uint64_t data, uint32_t len, uint32_t *written)
{
    struct driver_buf bufs[3];
    unsigned n = 0;
    bool data_out = type == OUT || type == DISCARD || type == WRITE_ZEROES;
    bufs[n++] = (struct driver_buf){put_header(env, type, sector), 16, false};
    if (len > 0)
        bufs[n++] = (struct driver_buf){data, len, !data_out};
    uint64_t status = put_status(env);
    bufs[n++] = (struct driver_buf){status, 1, true};
    uint32_t got = contract_roundtrip(env, queue, bufs, n);
    if (written)
        *written = got;
    return byte_at(env, status);
}

static uint8_t do_range(struct contract_env *env, uint32_t type, struct range range, uint32_t len)
{
    uint64_t gpa = contract_alloc(env, 64);
    memcpy(contract_hva(env, gpa, 16), &range, 16);
    return do_request(env, 0, type, 0, gpa, len, NULL);
}

/* The suite's request: read sector 5. */
static unsigned request(struct contract_env *env, struct driver_buf *bufs, unsigned max)
{
    bufs[0] = (struct driver_buf){put_header(env, IN, 5), 16, false};
    bufs[1] = (struct driver_buf){contract_alloc(env, 512), 512, true};
    bufs[2] = (struct driver_buf){put_status(env), 1, true};
    return 3;
}

static void served(struct contract_env *env, const struct driver_buf *bufs, unsigned count,
                   uint32_t written)
{
    uint8_t want[512];
    pattern(5, want);
    if (made_of(env)->held)
        memset(want, 0x42, sizeof(want));
    assert_int_equal(byte_at(env, bufs[2].gpa), OK);
    assert_int_equal(written, 513);
    assert_memory_equal(contract_hva(env, bufs[1].gpa, 512), want, 512);
}

static void assert_image(struct contract_env *env, uint64_t offset, const void *bytes, size_t len)
{
    uint8_t *got = malloc(len);
    assert_int_equal(pread(made_of(env)->fd, got, len, (off_t)offset), len);
    assert_memory_equal(got, bytes, len);
    free(got);
}

/* -- cases of every block device ----------------------------------------------------------------------
 */

static void config_tells_the_geometry(struct contract_env *env)
{
    uint64_t capacity;
    uint32_t size_max, seg_max, blk_size;
    uint16_t queues;
    env->ops->config_read(env->bus, 0, &capacity, 8);
    env->ops->config_read(env->bus, 8, &size_max, 4);
    env->ops->config_read(env->bus, 12, &seg_max, 4);
    env->ops->config_read(env->bus, 20, &blk_size, 4);
    env->ops->config_read(env->bus, 34, &queues, 2);
    assert_int_equal(capacity, SECTORS);
    assert_in_range(seg_max, 1, env->ops->queue_max(env->bus, 0) - 2);
    assert_in_range(size_max, 64 * 1024, 1 << 20);
    assert_int_equal(blk_size, 512);
    assert_int_equal(queues, env->kind->queues);
}

static void get_id_answers_the_serial(struct contract_env *env)
{
    contract_start(env, 0);
    uint32_t written;
    uint64_t id = contract_alloc(env, 64);
    assert_int_equal(do_request(env, 0, GET_ID, 0, id, 20, &written), OK);
    assert_int_equal(written, 21);
    assert_memory_equal(contract_hva(env, id, 20), SERIAL, 20);

    /* A shorter buffer gets the beginning; of a longer one the rest is left alone, and the status
     * behind it does not count. */
    memset(contract_hva(env, id, 64), 0, 64);
    assert_int_equal(do_request(env, 0, GET_ID, 0, id, 6, &written), OK);
    assert_int_equal(written, 7);
    assert_memory_equal(contract_hva(env, id, 7), "serial\0", 7);
    assert_int_equal(do_request(env, 0, GET_ID, 0, id, 40, &written), OK);
    assert_int_equal(written, 20);
    assert_int_equal(byte_at(env, id + 20), 0);
}

static void unknown_types_are_unsupported(struct contract_env *env)
{
    static const uint32_t types[] = {2, 3, 5, 6, 7, 9, 10, 12, 14, 0x80000000u, UINT32_MAX};
    contract_start(env, 0);
    uint32_t written;
    uint64_t data = contract_alloc(env, 512);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        assert_int_equal(do_request(env, 0, types[i], 0, data, 512, &written), UNSUPP);
        assert_int_equal(written, 0); /* the data before the status was not written */
        assert_int_equal(do_request(env, 0, types[i], 0, 0, 0, &written), UNSUPP);
        assert_int_equal(written, 1);
    }
    contract_assert_serves(env);
}

static void out_of_range_is_an_error(struct contract_env *env)
{
    contract_start(env, 0);
    uint64_t data = contract_alloc(env, 4096);
    static const struct {
        uint64_t sector;
        uint32_t len;
    } bad[] = {{SECTORS, 512},
               {SECTORS - 1, 1024},
               {UINT64_MAX, 512},
               {UINT64_C(1) << 55, 512},
               {UINT64_MAX / 512, 512},
               {0, 511},
               {0, 513}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(do_request(env, 0, IN, bad[i].sector, data, bad[i].len, NULL), IOERR);
        assert_int_equal(do_request(env, 0, OUT, bad[i].sector, data, bad[i].len, NULL), IOERR);
    }
    assert_int_equal(do_request(env, 0, IN, 0, 0, 0, NULL), OK); /* of nothing */
    contract_assert_serves(env);
}

static void no_room_for_the_status_needs_a_reset(struct contract_env *env)
{
    contract_start(env, 0);
    const struct driver_buf header = {put_header(env, IN, 0), 16, false};
    contract_send(env, 0, &header, 1);
    assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
    env->ops->reset(env->bus);

    contract_start(env, 0);
    const struct driver_buf cut[] = {{put_header(env, IN, 0), 15, false}, {put_status(env), 1, true}};
    contract_send(env, 0, cut, 2);
    assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
    env->ops->reset(env->bus);

    contract_start(env, 0);
    contract_assert_serves(env);
}

/* -- cases on a raw image --------------------------------------------------------------------- */

static void every_queue_serves(struct contract_env *env)
{
    contract_start(env, 0);
    uint8_t want[512];
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned q = 0; q < env->queues; q++) {
            uint64_t data = contract_alloc(env, 512), sector = round * 8 + q;
            assert_int_equal(do_request(env, q, IN, sector, data, 512, NULL), OK);
            pattern(sector, want);
            assert_memory_equal(contract_hva(env, data, 512), want, 512);
        }
    }
}

static void writes_reach_the_image(struct contract_env *env)
{
    for (int flush = 0; flush < 2; flush++) {
        contract_start(env, flush ? 0 : VIRTIO_BLOCK_F_FLUSH);
        uint32_t written;
        uint64_t data = contract_alloc(env, 4096);
        memset(contract_hva(env, data, 4096), 0x31 + flush, 4096);
        assert_int_equal(do_request(env, 0, OUT, SECTORS - 8, data, 4096, &written), OK);
        assert_int_equal(written, 1);
        assert_image(env, DISK_BYTES - 4096, contract_hva(env, data, 4096), 4096);
        assert_int_equal(do_request(env, 0, FLUSH, 0, 0, 0, &written), OK);
        assert_int_equal(written, 1);
        env->ops->reset(env->bus);
    }
}

static void framing_is_the_drivers_business(struct contract_env *env)
{
    contract_start(env, 0);
    /* The header in single bytes, its last one together with the data; status behind the data. */
    uint8_t data[1024];
    memset(data, 0x77, sizeof(data));
    struct header h = {OUT, 0, 10};
    uint8_t joined[1 + 1024];
    memcpy(joined, (uint8_t *)&h + 15, 1);
    memcpy(joined + 1, data, 1024);
    uint64_t head = put(env, &h, 15), tail = put(env, joined, sizeof(joined)), status = put_status(env);
    struct driver_buf bufs[16];
    unsigned n = 0;
    for (; n < 5; n++)
        bufs[n] = (struct driver_buf){head + n, 1, false};
    bufs[n++] = (struct driver_buf){head + 5, 10, false};
    bufs[n++] = (struct driver_buf){tail, 100, false};
    bufs[n++] = (struct driver_buf){tail + 100, 925, false};
    bufs[n++] = (struct driver_buf){status, 1, true};
    assert_int_equal(contract_roundtrip(env, 0, bufs, n), 1);
    assert_int_equal(byte_at(env, status), OK);
    assert_image(env, 5120, data, sizeof(data));

    uint64_t back = contract_alloc(env, 1025);
    n = 0;
    bufs[n++] = (struct driver_buf){put_header(env, IN, 10), 16, false};
    bufs[n++] = (struct driver_buf){back, 3, true};
    bufs[n++] = (struct driver_buf){back + 3, 1021, true};
    bufs[n++] = (struct driver_buf){back + 1024, 1, true};
    assert_int_equal(contract_roundtrip(env, 0, bufs, n), 1025);
    assert_int_equal(byte_at(env, back + 1024), OK);
    assert_memory_equal(contract_hva(env, back, 1024), data, 1024);
    bufs[n - 2].len = 1022; /* data and status in one buffer */
    contract_hva(env, back, 1025);
    assert_int_equal(contract_roundtrip(env, 0, bufs, n - 1), 1025);
    assert_memory_equal(contract_hva(env, back, 1024), data, 1024);
}

static void discard_and_write_zeroes(struct contract_env *env)
{
    static const uint8_t zeroes[8192];
    uint8_t before[512];
    contract_start(env, 0);
    assert_int_equal(do_range(env, DISCARD, (struct range){16, 16, 0}, 16), OK);
    assert_image(env, 8192, zeroes, 8192);
    assert_int_equal(do_range(env, WRITE_ZEROES, (struct range){65, 3, 0}, 16), OK);
    assert_image(env, 65 * 512, zeroes, 3 * 512);
    assert_int_equal(do_range(env, WRITE_ZEROES, (struct range){80, 16, 1}, 16), OK);
    assert_image(env, 80 * 512, zeroes, 8192);
    pattern(64, before);
    assert_image(env, 64 * 512, before, 512);
    pattern(68, before);
    assert_image(env, 68 * 512, before, 512);

    assert_int_equal(do_range(env, DISCARD, (struct range){16, 16, 1}, 16),
                     UNSUPP); /* unmap is not for it */
    assert_int_equal(do_range(env, WRITE_ZEROES, (struct range){16, 16, 2}, 16), UNSUPP);
    assert_int_equal(do_range(env, DISCARD, (struct range){16, 16, 0}, 32), UNSUPP); /* two segments */
    assert_int_equal(do_range(env, DISCARD, (struct range){16, 16, 0}, 15), UNSUPP);
    assert_int_equal(do_range(env, DISCARD, (struct range){SECTORS, 1, 0}, 16), IOERR);
    assert_int_equal(do_range(env, DISCARD, (struct range){UINT64_MAX, 2, 0}, 16), IOERR);
    assert_int_equal(do_range(env, WRITE_ZEROES, (struct range){0, UINT32_MAX, 0}, 16), IOERR);

    env->ops->reset(env->bus);
    contract_start(env, VIRTIO_BLOCK_F_DISCARD | VIRTIO_BLOCK_F_WRITE_ZEROES);
    assert_int_equal(do_range(env, DISCARD, (struct range){0, 8, 0}, 16), UNSUPP);
    assert_int_equal(do_range(env, WRITE_ZEROES, (struct range){0, 8, 0}, 16), UNSUPP);
}

static void a_truncated_image_is_an_error(struct contract_env *env)
{
    contract_start(env, 0);
    assert_int_equal(ftruncate(made_of(env)->fd, 4096), 0);
    uint64_t data = contract_alloc(env, 8192);
    assert_int_equal(do_request(env, 0, IN, 1000, data, 512, NULL), IOERR);
    assert_int_equal(do_request(env, 0, IN, 0, data, 8192, NULL), IOERR);
    contract_assert_serves(env);
}

/* The ring filled to the brim, many times, with different sectors. */
static void a_full_ring_is_served(struct contract_env *env)
{
    contract_start(env, 0);
    struct driver_ring *r = &env->rings[0];
    uint64_t mark = env->arena.next_gpa;
    for (unsigned round = 0; round < 50; round++) {
        uint64_t data[CONTRACT_RING] = {0};
        uint64_t sector[CONTRACT_RING] = {0};
        unsigned sent = 0;
        env->arena.next_gpa = mark;
        for (;;) {
            uint64_t s = (round * 31 + sent * 3) % SECTORS, gpa = contract_alloc(env, 512);
            const struct driver_buf bufs[] = {
                {put_header(env, IN, s), 16, false}, {gpa, 512, true}, {put_status(env), 1, true}};
            int head = driver_add_indirect(r, bufs, 3);
            if (head < 0)
                break;
            data[head] = gpa;
            sector[head] = s;
            sent++;
        }
        assert_int_equal(sent, r->setup.size);
        if (driver_publish(r))
            env->ops->kick(env->bus, 0);
        for (unsigned i = 0; i < sent; i++) {
            uint16_t head;
            uint32_t written;
            uint8_t want[512];
            contract_wait_used(env, 0, &head, &written);
            assert_int_equal(written, 513);
            pattern(sector[head], want);
            assert_memory_equal(contract_hva(env, data[head], 512), want, 512);
        }
    }
}

static void a_read_only_image_stays_as_it_is(struct contract_env *env)
{
    assert_true(env->ops->offered(env->bus) & VIRTIO_BLOCK_F_RO);
    assert_false(env->ops->offered(env->bus) & (VIRTIO_BLOCK_F_DISCARD | VIRTIO_BLOCK_F_WRITE_ZEROES));
    contract_start(env, 0);
    uint64_t data = contract_alloc(env, 512);
    assert_int_equal(do_request(env, 0, OUT, 5, data, 512, NULL), IOERR);
    assert_int_equal(do_request(env, 0, OUT, 5, data, 0, NULL), IOERR);
    assert_int_equal(do_range(env, DISCARD, (struct range){5, 1, 0}, 16), UNSUPP);
    assert_int_equal(do_range(env, WRITE_ZEROES, (struct range){5, 1, 0}, 16), UNSUPP);
    assert_int_equal(do_request(env, 0, FLUSH, 0, 0, 0, NULL), OK);
    contract_assert_serves(env);
}

/* -- cases on the back end that holds --------------------------------------------------------- */

static void send_reads(struct contract_env *env, unsigned count)
{
    struct driver_buf bufs[3];
    for (unsigned i = 0; i < count; i++) {
        unsigned n = request(env, bufs, 3);
        assert_true(driver_add_indirect(&env->rings[0], bufs, n) >= 0);
    }
    driver_publish(&env->rings[0]);
    env->ops->kick(env->bus, 0);
}

static void reset_waits_for_the_back_end(struct contract_env *env)
{
    struct held *h = made_of(env)->held;
    for (int round = 0; round < 3; round++) {
        h->hold = true;
        contract_start(env, 0);
        send_reads(env, CONTRACT_RING);
        contract_settle(env);
        assert_int_equal(driver_used_idx(&env->rings[0]), 0);
        env->ops->reset(env->bus);
        assert_false(env->ops->wait_interrupt(env->bus, 0, 0));
    }
    release(env);
    contract_start(env, 0);
    contract_assert_serves(env);
}

static void a_batch_interrupts_once(struct contract_env *env)
{
    struct held *h = made_of(env)->held;
    for (int event_idx = 0; event_idx < 2; event_idx++) {
        h->hold = true;
        contract_start(env, event_idx ? 0 : VIRTIO_RING_F_EVENT_IDX);
        send_reads(env, 8);
        contract_settle(env);
        release(env);
        assert_true(env->ops->wait_interrupt(env->bus, 0, CONTRACT_TIMEOUT_MS));
        assert_int_equal(driver_used_idx(&env->rings[0]), 8);
        contract_settle(env);
        assert_false(env->ops->wait_interrupt(env->bus, 0, 0));
        env->ops->reset(env->bus);
    }
}

static void a_full_back_end_is_waited_for(struct contract_env *env)
{
    made_of(env)->held->room = 3;
    contract_start(env, 0);
    for (int round = 0; round < 5; round++) {
        uint16_t head;
        uint32_t written;
        send_reads(env, CONTRACT_RING);
        for (unsigned i = 0; i < CONTRACT_RING; i++) {
            contract_wait_used(env, 0, &head, &written);
            assert_int_equal(written, 513);
        }
    }
}

static void without_flush_a_write_is_made_stable(struct contract_env *env)
{
    struct held *h = made_of(env)->held;
    uint64_t data = contract_alloc(env, 512);
    contract_start(env, 0);
    assert_int_equal(do_request(env, 0, OUT, 0, data, 512, NULL), OK);
    assert_int_equal(h->flushes, 0);
    env->ops->reset(env->bus);
    contract_start(env, VIRTIO_BLOCK_F_FLUSH);
    assert_int_equal(do_request(env, 0, OUT, 0, data, 512, NULL), OK);
    assert_int_equal(h->writes, 2);
    assert_int_equal(h->flushes, 1);
    assert_int_equal(do_range(env, WRITE_ZEROES, (struct range){0, 1, 0}, 16), OK);
    assert_int_equal(h->flushes, 2);
}

/* A request of more than the segments that we allow, of the size that we allow, is refused: what is in
 * flight has to end when the device is reset. */
static void a_request_has_a_bound(struct contract_env *env)
{
    enum { PIECE_BYTES = 1 << 20, PIECES = 17 };
    struct held *h = made_of(env)->held;
    struct driver_buf bufs[PIECES + 2];
    h->block.size_bytes = UINT64_C(1) << 30;
    h->hold = true;
    contract_start(env, 0);
    struct header header = {.type = htole32(IN)};
    uint64_t gpa = contract_alloc(env, sizeof(header) + 1), piece = contract_alloc(env, PIECE_BYTES);
    memcpy(contract_hva(env, gpa, sizeof(header)), &header, sizeof(header));
    bufs[0] = (struct driver_buf){gpa, sizeof(header), false};
    for (unsigned i = 1; i <= PIECES; i++)
        bufs[i] = (struct driver_buf){piece, PIECE_BYTES, true};
    bufs[PIECES + 1] = (struct driver_buf){gpa + sizeof(header), 1, true};
    assert_true(driver_add_indirect(&env->rings[0], bufs, PIECES + 2) >= 0);
    driver_publish(&env->rings[0]);
    env->ops->kick(env->bus, 0);
    contract_settle(env);
    assert_int_equal(driver_used_idx(&env->rings[0]), 1);
    assert_int_equal(*(uint8_t *)contract_hva(env, gpa + sizeof(header), 1), IOERR);
    release(env);
}

/* -- the kinds ----------------------------------------------------------------------------------------
 */

static const struct contract_case raw_cases[] = {
    {"config tells the geometry", config_tells_the_geometry},
    {"GET_ID answers the serial", get_id_answers_the_serial},
    {"unknown types are unsupported", unknown_types_are_unsupported},
    {"out of range is an error", out_of_range_is_an_error},
    {"no room for the status needs a reset", no_room_for_the_status_needs_a_reset},
    {"every queue serves", every_queue_serves},
    {"writes reach the image", writes_reach_the_image},
    {"framing is the driver's business", framing_is_the_drivers_business},
    {"discard and write zeroes", discard_and_write_zeroes},
    {"a truncated image is an error", a_truncated_image_is_an_error},
    {"a full ring is served", a_full_ring_is_served},
    {NULL, NULL},
};

static const struct contract_case read_only_cases[] = {
    {"config tells the geometry", config_tells_the_geometry},
    {"GET_ID answers the serial", get_id_answers_the_serial},
    {"unknown types are unsupported", unknown_types_are_unsupported},
    {"out of range is an error", out_of_range_is_an_error},
    {"no room for the status needs a reset", no_room_for_the_status_needs_a_reset},
    {"every queue serves", every_queue_serves},
    {"a full ring is served", a_full_ring_is_served},
    {"a read-only image stays as it is", a_read_only_image_stays_as_it_is},
    {NULL, NULL},
};

static const struct contract_case held_cases[] = {
    {"reset waits for the back end", reset_waits_for_the_back_end},
    {"a batch interrupts once", a_batch_interrupts_once},
    {"a full back end is waited for", a_full_back_end_is_waited_for},
    {"a request has a bound", a_request_has_a_bound},
    {"without FLUSH a write is made stable", without_flush_a_write_is_made_stable},
    {NULL, NULL},
};

#define ALWAYS                                                                                         \
    (VIRTIO_BLOCK_F_SIZE_MAX | VIRTIO_BLOCK_F_SEG_MAX | VIRTIO_BLOCK_F_BLK_SIZE | VIRTIO_BLOCK_F_FLUSH)
#define WRITABLE (ALWAYS | VIRTIO_BLOCK_F_DISCARD | VIRTIO_BLOCK_F_WRITE_ZEROES)

const struct contract_kind contract_block = {
    .name = "block",
    .make = make_auto,
    .unmake = unmake,
    .queues = 1,
    .features = WRITABLE,
    .request = request,
    .served = served,
    .cases = raw_cases,
};

const struct contract_kind contract_block_threads = {
    .name = "block with threads",
    .make = make_threads,
    .unmake = unmake,
    .queues = 1,
    .features = WRITABLE,
    .request = request,
    .served = served,
    .cases = raw_cases,
};

const struct contract_kind contract_block_read_only = {
    .name = "read-only block with 4 queues",
    .make = make_read_only,
    .unmake = unmake,
    .queue = 2,
    .queues = 4,
    .features = ALWAYS | VIRTIO_BLOCK_F_RO | VIRTIO_BLOCK_F_MQ,
    .request = request,
    .served = served,
    .cases = read_only_cases,
};

const struct contract_kind contract_block_held = {
    .name = "block that holds requests",
    .make = make_held,
    .unmake = unmake,
    .queues = 1,
    .features = WRITABLE,
    .request = request,
    .served = served,
    .cases = held_cases,
};
