/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <string.h>

#include "util/arith.h"

#define RAM_GPA   UINT64_C(0x10000)
#define RAM_BYTES UINT64_C(0x200000)
#define HALF      (FUZZ_SLOT / 2)

void fuzz_driver_init(struct fuzz_driver *d, const uint8_t *data, size_t size)
{
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    struct dayfly_err err;
    *d = (struct fuzz_driver){.in = {data, size}};
    check(loop_new(&d->loop) == 0 && memory_create(&d->mem, &layout, 1, &err) == 0);
}

void fuzz_driver_carry(struct fuzz_driver *d, struct virtio_device *dev)
{
    const struct fake_options options = {.dev = dev, .mem = &d->mem, .kick_directly = true};
    d->dev = dev;
    check(dev->queue_count <= FUZZ_RINGS && fake_new(&d->fake, &options) == 0);
}

void fuzz_driver_release(struct fuzz_driver *d)
{
    fake_free(d->fake);
}

void fuzz_driver_finish(struct fuzz_driver *d)
{
    memory_finish(&d->mem);
    loop_free(d->loop);
}

void fuzz_driver_start(struct fuzz_driver *d)
{
    uint8_t without = u8(&d->in);
    uint64_t features = d->dev->offered;
    if (without & 1)
        features &= ~VIRTIO_RING_F_EVENT_IDX;
    if (without & 2)
        features &= ~VIRTIO_RING_F_INDIRECT_DESC;
    if (without & 4)
        features &= ~(UINT64_C(1) << (without >> 3)); /* one of the device's own */
    d->arena = (struct driver_arena){&d->mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    memset(d->room, 0, sizeof(d->room));
    d->honest = true;
    check(fake_negotiate(d->fake, features) == 0);
    for (unsigned i = 0; i < d->dev->queue_count; i++) {
        driver_ring_init(&d->rings[i], &d->arena, FUZZ_RING_SIZE, features);
        check(fake_setup_queue(d->fake, i, &d->rings[i].setup) == 0);
        d->slots[i] = driver_alloc(&d->arena, FUZZ_RING_SIZE * FUZZ_SLOT, 16);
    }
    fake_driver_ok(d->fake);
}

static void publish(struct fuzz_driver *d, unsigned queue)
{
    if (!d->honest || driver_publish(&d->rings[queue]))
        fake_kick(d->fake, queue);
}

/* On a ring that was broken the driver's own book is of no use: it writes words. */
static void send_raw(struct fuzz_driver *d, unsigned queue, const struct driver_buf *bufs,
                     unsigned count)
{
    struct driver_ring *ring = &d->rings[queue];
    uint16_t index = u8(&d->in) % FUZZ_RING_SIZE;
    for (unsigned i = 0; i < count; i++) {
        const struct driver_desc desc = {
            .addr = bufs[i].gpa,
            .len = bufs[i].len,
            .flags = (uint16_t)((bufs[i].write ? DRIVER_DESC_WRITE : 0) |
                                (i + 1 < count ? DRIVER_DESC_NEXT : 0)),
            .next = (uint16_t)((index + i + 1) % FUZZ_RING_SIZE),
        };
        driver_desc_write(ring, (uint16_t)((index + i) % FUZZ_RING_SIZE), desc);
    }
    driver_avail_write(ring, ring->avail_idx, index);
    driver_avail_idx_write(ring, ++ring->avail_idx);
    fake_kick(d->fake, queue);
}

void fuzz_driver_send(struct fuzz_driver *d, unsigned queue, const void *payload, uint32_t bytes)
{
    struct driver_ring *ring = &d->rings[queue];
    uint8_t shape = u8(&d->in);
    uint64_t gpa = d->slots[queue] + (uint64_t)ring->free_head % FUZZ_RING_SIZE * FUZZ_SLOT;
    struct driver_buf bufs[8];
    unsigned count = 0;
    bytes = MIN(bytes, (uint32_t)HALF);
    memcpy(driver_hva(&d->arena, gpa, HALF), payload, bytes);
    if (bytes > 0) {
        uint32_t cut = shape & 1 ? u8(&d->in) % (bytes + 1) : 0;
        if (cut > 0)
            bufs[count++] = (struct driver_buf){gpa, cut, false};
        bufs[count++] = (struct driver_buf){gpa + cut, bytes - cut, false};
    }
    uint32_t room = shape & 2 ? MIN(u8(&d->in) * 8u, (uint32_t)HALF) : 0;
    if (room > 0) {
        uint32_t cut = shape & 4 ? u8(&d->in) % (room + 1) : 0;
        if (cut > 0)
            bufs[count++] = (struct driver_buf){gpa + HALF, cut, true};
        bufs[count++] = (struct driver_buf){gpa + HALF + cut, room - cut, true};
    }
    if (count == 0)
        bufs[count++] = (struct driver_buf){gpa, 0, shape & 8};
    if (!d->honest) {
        send_raw(d, queue, bufs, count);
        return;
    }
    int head = ring->features & VIRTIO_RING_F_INDIRECT_DESC && shape & 16 &&
                       d->arena.end_gpa - d->arena.next_gpa > 4096
                   ? driver_add_indirect(ring, bufs, count)
                   : driver_add(ring, bufs, count);
    if (head < 0)
        return;
    d->room[queue][head % FUZZ_RING_SIZE] = room;
    if (!(shape & 32))
        publish(d, queue);
}

static void take_used(struct fuzz_driver *d, unsigned queue)
{
    uint16_t head;
    uint32_t written;
    /* What a broken ring says is nobody's promise. */
    while (d->honest && driver_used(&d->rings[queue], &head, &written)) {
        check(head < FUZZ_RING_SIZE && written <= d->room[queue][head]);
        if (d->used) {
            uint64_t gpa = d->slots[queue] + (uint64_t)head * FUZZ_SLOT + HALF;
            d->used(d, queue, driver_hva(&d->arena, gpa, HALF), written);
        }
    }
}

/* Words that no driver writes. */
static void break_ring(struct fuzz_driver *d, unsigned queue)
{
    struct driver_ring *ring = &d->rings[queue];
    uint8_t how = u8(&d->in);
    d->honest = false;
    if (how & 1) {
        struct driver_desc desc = {.addr = RAM_GPA + u16(&d->in) * 32u, .len = u16(&d->in)};
        desc.flags = u8(&d->in) & 7;
        desc.next = u8(&d->in) % (FUZZ_RING_SIZE + 2);
        if (how & 2)
            desc.addr = u64(&d->in);
        if (how & 4)
            desc.len = u32(&d->in);
        driver_desc_write(ring, u8(&d->in) % FUZZ_RING_SIZE, desc);
    }
    if (how & 8)
        driver_avail_write(ring, u8(&d->in), u8(&d->in) % (FUZZ_RING_SIZE + 2));
    if (how & 16)
        driver_avail_idx_write(ring, (uint16_t)(ring->avail_idx + u8(&d->in)));
    if (how & 32)
        driver_avail_flags_write(ring, u16(&d->in));
    fake_kick(d->fake, queue);
}

static void touch_config(struct fuzz_driver *d)
{
    uint8_t bytes[16];
    size_t offset = u8(&d->in), len = 1 + u8(&d->in) % sizeof(bytes);
    if (offset & 1) {
        for (size_t i = 0; i < len; i++)
            bytes[i] = u8(&d->in);
        fake_config_write(d->fake, offset / 2, bytes, len);
    } else {
        fake_config_read(d->fake, offset / 2, bytes, len);
    }
}

void fuzz_driver_step(struct fuzz_driver *d)
{
    uint8_t op = u8(&d->in);
    unsigned queue = op % d->dev->queue_count;
    if (op < 80) {
        uint8_t bytes[64];
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = op < 40 ? u8(&d->in) : 0;
        fuzz_driver_send(d, queue, bytes, u8(&d->in) % sizeof(bytes));
    } else if (op < 160) {
        take_used(d, queue);
    } else if (op < 190) {
        publish(d, queue);
    } else if (op < 210) {
        touch_config(d);
    } else if (op < 230) {
        break_ring(d, queue);
    } else if (op < 240) {
        virtio_queue_stop(d->dev, queue); /* as a front end of vhost-user may */
    } else {
        fake_reset(d->fake);
        fuzz_driver_start(d);
    }
    if (loop_is_mine(d->loop))
        loop_run_once(d->loop, 0);
}
