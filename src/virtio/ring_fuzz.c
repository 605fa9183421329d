/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz split rings and the block device on them.
 *
 * The input is a driver's program: a set-up, then operations on guest memory and registers (write a
 * descriptor, a request header, an available entry, raw bytes; publish; kick; stop; reset). Values are
 * mostly drawn near what is sensible, so that chains get far enough to matter, and sometimes raw.
 *
 * Every program runs twice: against a bare ring whose chains are touched byte for byte (guest memory is
 * on the heap, so that ASan sees one byte too many), and against a block device on a memfd.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/block.h"
#include "util/arith.h"
#include "util/testing_input.h"
#include "virtio/block.h"
#include "virtio/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Two adjacent regions and one far away. */
#define RAM_GPA      UINT64_C(0x10000)
#define REGION_BYTES UINT64_C(0x4000)
#define FAR_GPA      UINT64_C(0x100000000)
#define DISK_BYTES   UINT64_C(0x40000)
#define OPS_MAX      400

static uint16_t u16(struct input *in)
{
    uint16_t low = u8(in);
    return (uint16_t)(low | u8(in) << 8);
}

static uint32_t u32(struct input *in)
{
    uint32_t low = u16(in);
    return low | (uint32_t)u16(in) << 16;
}

static uint64_t u64(struct input *in)
{
    uint64_t low = u32(in);
    return low | (uint64_t)u32(in) << 32;
}

/* Guest-physical: mostly in RAM or at its edges. */
static uint64_t address(struct input *in)
{
    uint8_t how = u8(in);
    switch (how & 7) {
    case 0:
        return u64(in);
    case 1:
        return FAR_GPA + u16(in) % (REGION_BYTES + 32);
    case 2:
        return RAM_GPA + REGION_BYTES - 16 + u8(in) % 32; /* where the two meet */
    default:
        return RAM_GPA + u16(in) % (2 * REGION_BYTES);
    }
}

static uint32_t length(struct input *in)
{
    uint8_t how = u8(in);
    switch (how & 7) {
    case 0:
        return u32(in);
    case 1:
        return 0;
    case 2:
        return 16u * u8(in);
    case 3:
        return 512u * (u8(in) % 8);
    default:
        return u8(in) % 24;
    }
}

/* -- what is driven --------------------------------------------------------------------------- */

struct target {
    struct memory mem;
    struct ring_setup setup;
    uint64_t features;
    uint16_t avail_idx;
    struct ring ring;          /* when dev is NULL */
    struct virtio_device *dev; /* or this */
    struct loop *loop;
};

static void start(struct target *t)
{
    if (!t->dev) {
        ring_start(&t->ring, &t->mem, &t->setup, t->features);
        return;
    }
    if (!virtio_set_features(t->dev, (t->features & t->dev->offered) | VIRTIO_F_VERSION_1))
        return;
    virtio_queue_start(t->dev, 0, &t->mem, &t->setup);
    virtio_activate(t->dev);
}

static void reset(struct target *t)
{
    if (t->dev)
        virtio_reset(t->dev);
    else
        ring_stop(&t->ring);
}

/* Every byte of a segment lies in one region: touch them, ASan looks on. */
static unsigned touch(const struct iovec *iov, bool write)
{
    unsigned sum = 0;
    uint8_t *p = iov->iov_base;
    for (size_t i = 0; i < iov->iov_len; i++) {
        sum += p[i];
        if (write)
            p[i] = (uint8_t)(sum ^ i);
    }
    return sum;
}

static void drain_ring(struct ring *ring, uint8_t how)
{
    static struct iovec iov[RING_SIZE_MAX];
    unsigned max = how & 1 ? 4 : RING_SIZE_MAX;
    struct ring_chain chain;
    ring_kicks_off(ring);
    unsigned budget = 64;
    while (budget-- > 0 && ring_pop(ring, &chain, iov, max) > 0) {
        assert(chain.readable + chain.writable <= max);
        assert(chain.readable_bytes + chain.writable_bytes <= UINT32_MAX);
        assert(ring->in_flight <= ring->setup.size);
        for (unsigned i = 0; i < chain.readable + chain.writable; i++)
            touch(&iov[i], i >= chain.readable);
        if (how & 2) {
            ring_unpop(ring);
            how &= (uint8_t)~2u;
            continue;
        }
        if (how & 4) /* keep some in flight */
            ring_push(ring, chain.head, (uint32_t)chain.writable_bytes);
    }
    assert(ring->in_flight <= ring->setup.size);
    ring_should_interrupt(ring);
    ring_kicks_on(ring);
}

static void kick(struct target *t, uint8_t how)
{
    if (!t->dev) {
        drain_ring(&t->ring, how);
        return;
    }
    virtio_kick(t->dev, 0);
    while (loop_run_once(t->loop, 0) > 0)
        ;
}

/* -- the driver's program --------------------------------------------------------------------- */

static void write_descriptor(struct target *t, struct input *in)
{
    struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } d;
    uint8_t where = u8(in);
    uint16_t index = u8(in);
    d.addr = address(in);
    d.len = length(in);
    d.flags = u8(in) & (where & 1 ? 0xff : 7);
    d.next = where & 2 ? u16(in) : (uint16_t)(index + 1);
    /* In the ring's table, or wherever an indirect table may be. */
    uint64_t table = where & 4 ? RAM_GPA + 0x1000 + 16u * (where >> 3) : t->setup.desc_gpa;
    memory_write(&t->mem, table + 16u * (uint64_t)index, &d, sizeof(d));
}

static void write_header(struct target *t, struct input *in)
{
    static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 2, 0};
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } h = {0};
    h.type = types[u8(in) & 7];
    h.sector = u8(in);
    memory_write(&t->mem, address(in), &h, sizeof(h));
}

static void write_range(struct target *t, struct input *in)
{
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } r;
    r.sector = u16(in);
    r.sectors = u8(in);
    r.flags = u8(in) & 3;
    memory_write(&t->mem, address(in), &r, sizeof(r));
}

static void write_raw(struct target *t, struct input *in)
{
    uint8_t bytes[16];
    uint64_t gpa = address(in);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = u8(in);
    memory_write(&t->mem, gpa, bytes, sizeof(bytes));
}

static void publish(struct target *t, struct input *in)
{
    uint8_t how = u8(in);
    uint16_t head = how & 1 ? u16(in) : how >> 3;
    unsigned size = t->setup.size ? t->setup.size : 1;
    memory_write(&t->mem, t->setup.avail_gpa + 4 + 2u * (t->avail_idx % size), &head, 2);
    t->avail_idx = (uint16_t)(t->avail_idx + (how & 2 && how & 4 ? u16(in) : 1));
    memory_write(&t->mem, t->setup.avail_gpa + 2, &t->avail_idx, 2);
}

static void read_setup(struct target *t, struct input *in)
{
    uint8_t how = u8(in);
    t->features = u32(in) | (how & 1 ? VIRTIO_RING_F_EVENT_IDX : 0) |
                  (how & 2 ? VIRTIO_RING_F_INDIRECT_DESC : 0) | VIRTIO_F_VERSION_1;
    t->setup.size = how & 4 ? u16(in) : (uint16_t)(1u << (how >> 4 & 7));
    t->setup.desc_gpa = how & 8 ? address(in) : RAM_GPA;
    t->setup.avail_gpa = how & 8 ? address(in) : RAM_GPA + 0x2000;
    t->setup.used_gpa = how & 8 ? address(in) : RAM_GPA + 0x2800;
    t->setup.next_avail = u8(in) & 1 ? u16(in) : 0;
    t->avail_idx = t->setup.next_avail;
}

static void run(struct target *t, struct input in)
{
    read_setup(t, &in);
    memory_write(&t->mem, t->setup.avail_gpa + 2, &t->avail_idx, 2);
    start(t);
    for (unsigned ops = 0; in.left > 0 && ops < OPS_MAX; ops++) {
        uint8_t op = u8(&in);
        switch (op & 15) {
        case 0 ... 4:
            write_descriptor(t, &in);
            break;
        case 5 ... 6:
            write_header(t, &in);
            break;
        case 7:
            write_range(t, &in);
            break;
        case 8:
            write_raw(t, &in);
            break;
        case 9 ... 11:
            publish(t, &in);
            break;
        case 12 ... 13:
            kick(t, op >> 4);
            break;
        case 14:
            if (t->dev)
                t->setup.next_avail = virtio_queue_stop(t->dev, 0);
            else
                t->setup.next_avail = ring_stop(&t->ring);
            start(t);
            break;
        case 15:
            reset(t);
            if (op & 16)
                read_setup(t, &in);
            start(t);
            break;
        }
    }
    kick(t, 4);
    reset(t);
}

static void make_memory(struct memory *mem)
{
    static const uint64_t gpas[] = {RAM_GPA, RAM_GPA + REGION_BYTES, FAR_GPA};
    *mem = (struct memory){.count = ARRAY_SIZE(gpas)};
    for (unsigned i = 0; i < mem->count; i++) {
        mem->regions[i] = (struct memory_region){
            .gpa = gpas[i], .size_bytes = REGION_BYTES, .hva = calloc(1, REGION_BYTES), .fd = -1};
        assert(mem->regions[i].hva);
    }
}

static void free_memory(struct memory *mem)
{
    for (unsigned i = 0; i < mem->count; i++)
        free(mem->regions[i].hva);
}

/* A device of its own for the whole process: making one costs more than a run. */
static void make_device(struct target *t)
{
    static struct virtio_device *dev;
    static struct loop *loop;
    if (!dev) {
        struct block *block = NULL;
        struct dayfly_err err;
        int fd = memfd_create("fuzz", MFD_CLOEXEC);
        if (ftruncate(fd, (off_t)DISK_BYTES) < 0 || loop_new(&loop) < 0 ||
            block_raw_open(&block, &(struct block_raw_options){.fd = fd, .io = BLOCK_IO_AUTO}, &err) <
                0 ||
            virtio_block_new(&dev, block, NULL, loop, NULL, &err) < 0)
            abort();
    }
    t->dev = dev;
    t->loop = loop;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int with_device = 0; with_device < 2; with_device++) {
        struct target t = {0};
        make_memory(&t.mem);
        if (with_device)
            make_device(&t);
        run(&t, (struct input){data, size});
        free_memory(&t.mem);
    }
    return 0;
}
