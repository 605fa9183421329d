/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block device (virtio 1.2, section 5.2).
 *
 * Theory of operation. A kick pops what is there, turns each chain into a request of the back end, and
 * hands the batch over. The back end's event descriptor wakes the loop, which reaps what has completed,
 * pushes it, and interrupts once a queue. What completes at once (errors, GET_ID, reads from the page
 * cache) is pushed in the same turn as the kick.
 *
 * Framing is the driver's business: the header is the first 16 readable bytes, the status the last
 * writable byte, the data what lies between, however they are cut into buffers (2.7.4.1).
 *
 * Bounds. The ring never gives out more chains than it has entries, so the pool of QUEUE_SIZE requests
 * a queue suffices. A back end that is full stops the queue until something completes. One turn takes
 * TURN_MAX chains, so that a driver on another processor cannot keep us here; the loop takes the rest.
 *
 * A driver that did not negotiate FLUSH believes that what is written is stable (5.2.6.2): each of its
 * writes is followed by a flush.
 */
#include "virtio/block.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/iov.h"

#define SECTOR 512u

#define QUEUE_SIZE 128
/* A chain is no longer than the queue: header and status take two of it. */
#define SEG_MAX (QUEUE_SIZE - 2)
/*
 * Bytes of a segment, and so of a request. A reset waits for what is in flight: with chains of 4 GiB
 * a guest could make that, and the end of its machine, last for hours.
 */
#define SIZE_MAX_BYTES    (128u * 1024)
#define REQUEST_BYTES_MAX ((uint64_t)SEG_MAX * SIZE_MAX_BYTES)
/* Segments are cut where regions meet. */
#define SEGMENTS_MAX (QUEUE_SIZE + MEMORY_REGIONS_MAX)
#define TURN_MAX     (2 * QUEUE_SIZE)
/* So much is copied or encrypted in the time that it takes to tell the guest: then it goes on with what
 * has ended while the rest is done. */
#define TELL_BYTES (256u * 1024)

/* 1 GiB at once: a discard is cheap. 32 MiB of zeroes, which may have to be written. */
#define DISCARD_SECTORS_MAX      (1u << 21)
#define WRITE_ZEROES_SECTORS_MAX (1u << 16)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

struct header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

/* The payload of discard and write zeroes: one segment a request, as the configuration says. */
struct range {
    uint64_t sector;
    uint32_t sectors;
    uint32_t flags;
};
#define RANGE_F_UNMAP 1u

struct config {
    uint64_t capacity;
    uint32_t size_max;
    uint32_t seg_max;
    uint32_t geometry;
    uint32_t blk_size;
    uint8_t physical_block_exp;
    uint8_t alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback;
    uint8_t unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused1[3];
};

static_assert(sizeof(struct header) == 16 && sizeof(struct range) == 16, "as in the specification");
static_assert(sizeof(struct config) == 64 && offsetof(struct config, num_queues) == 34 &&
                  offsetof(struct config, write_zeroes_may_unmap) == 56,
              "as in the specification, padded to 64");

struct queue;

struct request {
    struct queue *queue;
    struct request *next; /* free */
    struct block_request io;
    struct ring_chain chain;
    struct iovec *data; /* the segments between header and status */
    unsigned data_count;
    uint64_t data_bytes;
    uint8_t *status;
    struct iovec iov[SEGMENTS_MAX];
};

struct queue {
    struct virtio_block *owner;
    unsigned index;
    bool stalled;         /* the back end was full: go on when something completed */
    bool deferred;        /* a turn ended early: the loop goes on */
    bool pushed;          /* since the last interrupt */
    struct request *free; /* the one freed last comes first: a quiet queue touches little memory */
    struct request *pool;
};

struct virtio_block {
    struct virtio_device dev;
    struct block *block;
    struct config config;
    char serial[VIRTIO_BLOCK_SERIAL_BYTES];
    struct loop *own_loop;          /* NULL: it is the machine's */
    struct loop_source completions; /* the back end's event descriptor */
    struct loop_source more;        /* an eventfd of our own: some queue is deferred */
    struct queue queues[VIRTIO_BLOCK_QUEUES_MAX];
};

static struct virtio_block *block_of(struct virtio_device *dev)
{
    return container_of(dev, struct virtio_block, dev);
}

/* -- one request --------------------------------------------------------------------------------------
 */

static struct request *take(struct queue *q)
{
    struct request *r = q->free;
    if (r)
        q->free = r->next;
    return r;
}

static void give(struct request *r)
{
    r->next = r->queue->free;
    r->queue->free = r;
}

/*
 * Answer: `written` data bytes and the status. The used length counts from the first writable byte
 * without a gap (2.7.8.2), so the status counts only when all data before it was written.
 */
static void finish(struct request *r, uint8_t status, uint64_t written)
{
    struct queue *q = r->queue;
    *(volatile uint8_t *)r->status = status;
    if (written + 1 == r->chain.writable_bytes)
        written++;
    ring_push(&q->owner->dev.queues[q->index].ring, r->chain.head, (uint32_t)written);
    q->pushed = true;
    give(r);
}

static void io_done(struct block_request *io, int result)
{
    struct request *r = container_of(io, struct request, io);
    struct virtio_block *b = r->queue->owner;
    bool wrote = io->op == BLOCK_WRITE || io->op == BLOCK_WRITE_ZEROES;
    if (wrote && result == 0 && !(b->dev.features & VIRTIO_BLOCK_F_FLUSH)) {
        io->op = BLOCK_FLUSH;
        result = block_submit(b->block, io);
        if (result == 0) {
            block_kick(b->block);
            return;
        }
    }
    if (result < 0)
        log_limited(b->dev.log, &b->dev.limit, LOG_WARN, "block: request at byte %llu failed: %s",
                    (unsigned long long)io->offset_bytes, strerrordesc_np(-result));
    finish(r, result < 0 ? S_IOERR : S_OK, io->op == BLOCK_READ && result == 0 ? r->data_bytes : 0);
}

/* Hand r->io to the back end. False when it is full. */
static bool submit(struct request *r, enum block_op op, uint64_t sector, uint64_t length_bytes)
{
    struct virtio_block *b = r->queue->owner;
    uint64_t offset;
    bool moves_data = op == BLOCK_READ || op == BLOCK_WRITE;
    if (mul_overflows(sector, SECTOR, &offset) || length_bytes % SECTOR != 0 ||
        (moves_data && length_bytes > REQUEST_BYTES_MAX)) {
        finish(r, S_IOERR, 0);
        return true;
    }
    r->io.op = op;
    r->io.offset_bytes = offset;
    r->io.length_bytes = length_bytes;
    r->io.iov = moves_data ? r->data : NULL;
    r->io.iov_count = moves_data ? r->data_count : 0;
    r->io.done = io_done;
    int rc = block_submit(b->block, &r->io);
    if (rc == -EBUSY)
        return false;
    if (rc < 0)
        finish(r, S_IOERR, 0);
    return true;
}

static bool submit_range(struct request *r, enum block_op op, uint32_t sectors_max)
{
    struct range range;
    if (r->data_bytes != sizeof(range)) {
        finish(r, S_UNSUPP, 0); /* more segments than we said */
        return true;
    }
    iov_copy_out(r->data, r->data_count, 0, &range, sizeof(range));
    uint32_t flags = le32toh(range.flags), sectors = le32toh(range.sectors);
    if (flags & ~(op == BLOCK_WRITE_ZEROES ? RANGE_F_UNMAP : 0)) {
        finish(r, S_UNSUPP, 0);
        return true;
    }
    if (sectors > sectors_max) {
        finish(r, S_IOERR, 0);
        return true;
    }
    r->io.unmap = flags & RANGE_F_UNMAP;
    return submit(r, op, le64toh(range.sector), (uint64_t)sectors * SECTOR);
}

/* Begin a popped request, by its copied header. False when the back end is full; nothing was done then.
 */
static bool begin(struct virtio_block *b, struct request *r, const struct header *header)
{
    uint64_t features = b->dev.features;
    switch (le32toh(header->type)) {
    case T_IN:
        return submit(r, BLOCK_READ, le64toh(header->sector), r->data_bytes);
    case T_OUT:
        return submit(r, BLOCK_WRITE, le64toh(header->sector), r->data_bytes);
    case T_FLUSH:
        return submit(r, BLOCK_FLUSH, 0, 0);
    case T_GET_ID:
        finish(r, S_OK, iov_copy_in(r->data, r->data_count, 0, b->serial, sizeof(b->serial)));
        return true;
    case T_DISCARD:
        if (features & VIRTIO_BLOCK_F_DISCARD)
            return submit_range(r, BLOCK_DISCARD, DISCARD_SECTORS_MAX);
        break;
    case T_WRITE_ZEROES:
        if (features & VIRTIO_BLOCK_F_WRITE_ZEROES)
            return submit_range(r, BLOCK_WRITE_ZEROES, WRITE_ZEROES_SECTORS_MAX);
        break;
    }
    finish(r, S_UNSUPP, 0);
    return true;
}

/* Which side of the chain carries the data: what the driver wrote, or what it wants to read. */
static bool data_is_readable(uint32_t type)
{
    return type == T_OUT || type == T_DISCARD || type == T_WRITE_ZEROES;
}

/* Find header, data and status. False: one is missing. */
static bool parse(struct request *r, struct header *header)
{
    struct ring_chain *c = &r->chain;
    if (c->readable_bytes < sizeof(*header) || c->writable_bytes < 1)
        return false;
    iov_copy_out(c->iov, c->readable, 0, header, sizeof(*header));
    struct iovec *last = &c->iov[c->readable + c->writable - 1];
    r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
    if (data_is_readable(le32toh(header->type))) {
        r->data = c->iov;
        r->data_count = iov_drop_front(&r->data, c->readable, sizeof(*header));
        r->data_bytes = c->readable_bytes - sizeof(*header);
    } else {
        r->data = c->iov + c->readable;
        r->data_count = iov_drop_back(r->data, c->writable, 1);
        r->data_bytes = c->writable_bytes - 1;
    }
    return true;
}

/* -- turns --------------------------------------------------------------------------------------------
 */

/* Let the loop take the next turn. Locked. */
static void defer(struct queue *q)
{
    q->deferred = true;
    eventfd_write(q->owner->more.fd, 1);
}

static void complete(struct virtio_block *b);

/* Take up to *budget chains. Locked. */
static void take_chains(struct virtio_block *b, struct queue *q, unsigned *budget)
{
    uint64_t begun_bytes = 0;
    for (; *budget > 0; --*budget) {
        struct request *r = take(q);
        if (!r) {
            q->stalled = true;
            return;
        }
        struct header header;
        if (!virtio_pop(&b->dev, q->index, &r->chain, r->iov, SEGMENTS_MAX)) {
            give(r);
            return;
        }
        if (!parse(r, &header)) {
            give(r);
            virtio_violation(&b->dev, "queue %u: request without header or status", q->index);
            return;
        }
        uint64_t data_bytes = r->data_bytes; /* it may have ended when it has begun */
        if (!begin(b, r, &header)) {
            ring_unpop(&b->dev.queues[q->index].ring);
            give(r);
            q->stalled = true;
            return;
        }
        begun_bytes += data_bytes;
        if (begun_bytes >= TELL_BYTES) {
            complete(b);
            begun_bytes = 0;
        }
    }
    defer(q);
}

/* One turn of a queue, without telling anybody. Locked. */
static void serve(struct virtio_block *b, struct queue *q)
{
    struct ring *ring = &b->dev.queues[q->index].ring;
    unsigned budget = TURN_MAX;
    q->stalled = q->deferred = false;
    do {
        ring_kicks_off(ring);
        take_chains(b, q, &budget);
    } while (!q->stalled && !q->deferred && !b->dev.needs_reset && ring_kicks_on(ring));
}

/* Deliver what has completed and interrupt once a queue; wake those that waited for it. Locked. */
static void complete(struct virtio_block *b)
{
    block_kick(b->block);
    bool room = block_reap(b->block) > 0;
    for (unsigned i = 0; i < b->dev.queue_count; i++) {
        struct queue *q = &b->queues[i];
        if (q->stalled && room) {
            q->stalled = false;
            defer(q);
        }
        if (q->pushed) {
            q->pushed = false;
            virtio_interrupt(&b->dev, i);
        }
    }
}

static void kick(struct virtio_device *dev, unsigned queue)
{
    struct virtio_block *b = block_of(dev);
    serve(b, &b->queues[queue]);
    complete(b);
}

static void on_completions(struct loop_source *source, uint32_t events)
{
    struct virtio_block *b = container_of(source, struct virtio_block, completions);
    pthread_mutex_lock(&b->dev.lock);
    complete(b);
    pthread_mutex_unlock(&b->dev.lock);
}

static void on_more(struct loop_source *source, uint32_t events)
{
    struct virtio_block *b = container_of(source, struct virtio_block, more);
    eventfd_t count;
    eventfd_read(source->fd, &count);
    pthread_mutex_lock(&b->dev.lock);
    for (unsigned i = 0; i < b->dev.queue_count; i++)
        if (b->queues[i].deferred && b->dev.active && !b->dev.needs_reset)
            serve(b, &b->queues[i]);
    complete(b);
    pthread_mutex_unlock(&b->dev.lock);
}

static void drain(struct virtio_device *dev, unsigned queue)
{
    struct virtio_block *b = block_of(dev);
    block_drain(b->block);
    complete(b);
    /* What it delivered made room, also for the other queues. */
    for (unsigned i = 0; i < dev->queue_count; i++)
        if (i != queue && b->queues[i].stalled)
            defer(&b->queues[i]);
}

static void reset(struct virtio_device *dev)
{
    struct virtio_block *b = block_of(dev);
    block_drain(b->block);
    for (unsigned i = 0; i < dev->queue_count; i++)
        b->queues[i].stalled = b->queues[i].deferred = b->queues[i].pushed = false;
}

static const struct virtio_ops block_ops = {
    .name = "block",
    .id = VIRTIO_ID_BLOCK,
    .calls = block_calls,
    .kick = kick,
    .reset = reset,
    .drain = drain,
};

/* -- making -------------------------------------------------------------------------------------------
 */

static uint64_t features_of(const struct block *block, unsigned queues)
{
    uint64_t features = VIRTIO_BLOCK_F_SIZE_MAX | VIRTIO_BLOCK_F_SEG_MAX | VIRTIO_BLOCK_F_BLK_SIZE |
                        VIRTIO_BLOCK_F_FLUSH | VIRTIO_BLOCK_F_TOPOLOGY;
    if (block->read_only)
        features |= VIRTIO_BLOCK_F_RO;
    else
        features |= VIRTIO_BLOCK_F_WRITE_ZEROES;
    if (block->discard && !block->read_only)
        features |= VIRTIO_BLOCK_F_DISCARD;
    if (queues > 1)
        features |= VIRTIO_BLOCK_F_MQ;
    return features;
}

static void fill_config(struct config *c, const struct block *block, unsigned queues)
{
    uint32_t sectors_per_block = block->block_bytes / SECTOR;
    c->capacity = htole64(block->size_bytes / SECTOR);
    c->size_max = htole32(SIZE_MAX_BYTES);
    c->seg_max = htole32(SEG_MAX);
    c->blk_size = htole32(block->unit_bytes);
    while ((2u << c->physical_block_exp) <= sectors_per_block)
        c->physical_block_exp++;
    c->min_io_size = htole16((uint16_t)sectors_per_block);
    c->num_queues = htole16((uint16_t)queues);
    c->max_discard_sectors = htole32(DISCARD_SECTORS_MAX);
    c->max_discard_seg = htole32(1);
    c->discard_sector_alignment = htole32(sectors_per_block);
    c->max_write_zeroes_sectors = htole32(WRITE_ZEROES_SECTORS_MAX);
    c->max_write_zeroes_seg = htole32(1);
    c->write_zeroes_may_unmap = block->discard;
}

static int make_queues(struct virtio_block *b, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct queue *q = &b->queues[i];
        q->owner = b;
        q->index = i;
        q->pool = calloc(QUEUE_SIZE, sizeof(*q->pool));
        if (!q->pool)
            return -ENOMEM;
        for (unsigned j = QUEUE_SIZE; j-- > 0;) {
            q->pool[j].queue = q;
            give(&q->pool[j]);
        }
    }
    return 0;
}

static int lock_up(struct virtio_block *b, const struct virtio_block_options *options,
                   struct dayfly_err *err)
{
    const struct isolate_calls *const carrier[] = {options->carrier_calls, NULL};
    struct isolate_options isolate = {0};
    if (!isolate_add_calls(&isolate, block_calls) || !isolate_add_calls(&isolate, carrier))
        return err_set(err, E2BIG, "too many lists of system calls");
    return loop_lock_up(b->own_loop, options->jail, "disk", &isolate, err);
}

/* Be woken, in the loop given or in one of its own. */
static int listen_in(struct virtio_block *b, struct loop *loop)
{
    int rc = loop ? 0 : loop_new(&b->own_loop);
    if (rc < 0)
        return rc;
    b->dev.loop = loop ? loop : b->own_loop;
    b->more.events = b->completions.events = EPOLLIN;
    b->more.ready = on_more;
    b->more.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (b->more.fd < 0)
        return -errno;
    b->completions.ready = on_completions;
    b->completions.fd = b->block->event_fd;
    rc = loop_add(b->dev.loop, &b->more);
    if (rc == 0)
        rc = loop_add(b->dev.loop, &b->completions);
    return rc == 0 && b->own_loop ? loop_start(b->own_loop, "dayfly disk") : rc;
}

int virtio_block_new(struct virtio_device **out, struct block *block,
                     const struct virtio_block_options *options, struct loop *loop,
                     const struct log *log, struct dayfly_err *err)
{
    unsigned queues = options && options->queues ? options->queues : 1;
    struct virtio_block *b = queues <= VIRTIO_BLOCK_QUEUES_MAX ? calloc(1, sizeof(*b)) : NULL;
    if (!b) {
        block_destroy(block);
        if (queues > VIRTIO_BLOCK_QUEUES_MAX)
            return err_set(err, EINVAL, "block device with %u queues: at most %d", queues,
                           VIRTIO_BLOCK_QUEUES_MAX);
        return err_set(err, ENOMEM, "block device: out of memory");
    }
    b->block = block;
    b->more.fd = -1;
    if (options)
        memcpy(b->serial, options->serial, sizeof(b->serial));
    fill_config(&b->config, block, queues);
    virtio_init(&b->dev, &(struct virtio_init){.ops = &block_ops,
                                               .features = features_of(block, queues),
                                               .queue_count = queues,
                                               .queue_size = QUEUE_SIZE,
                                               .config = &b->config,
                                               .config_bytes = sizeof(b->config),
                                               .log = log});
    int rc = make_queues(b, queues);
    if (rc == 0)
        rc = listen_in(b, loop);
    if (rc < 0)
        err_errno(err, -rc, "block device");
    else if (b->own_loop && options && options->jail)
        rc = lock_up(b, options, err);
    if (rc < 0) {
        virtio_block_free(&b->dev);
        return rc;
    }
    *out = &b->dev;
    return 0;
}

void virtio_block_free(struct virtio_device *dev)
{
    if (!dev)
        return;
    struct virtio_block *b = block_of(dev);
    if (b->own_loop)
        loop_stop(b->own_loop);
    virtio_reset(dev);
    loop_remove(&b->completions);
    loop_remove(&b->more);
    loop_free(b->own_loop);
    close_fd(&b->more.fd);
    block_destroy(b->block);
    for (unsigned i = 0; i < VIRTIO_BLOCK_QUEUES_MAX; i++)
        free(b->queues[i].pool);
    virtio_finish(dev);
    free(b);
}
