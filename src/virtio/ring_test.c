/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/testing.h"
#include "virtio/driver.h"

#define KIB UINT64_C(1024)

/* RAM: a low piece, one right behind it (adjacent in gpa), a hole, a high piece. */
#define LOW_GPA   (64 * KIB)
#define LOW_BYTES (512 * KIB)
#define MID_GPA   (LOW_GPA + LOW_BYTES)
#define MID_BYTES (64 * KIB)
#define HIGH_GPA  (UINT64_C(4) << 30)

#define ALL   (VIRTIO_F_VERSION_1 | VIRTIO_RING_F_INDIRECT_DESC | VIRTIO_RING_F_EVENT_IDX)
#define PLAIN VIRTIO_F_VERSION_1

struct fixture {
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring driver;
    struct ring ring;
    struct iovec iov[RING_SIZE_MAX];
    struct ring_chain chain;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct memory_layout layout[] = {
        {LOW_GPA, LOW_BYTES}, {MID_GPA, MID_BYTES}, {HIGH_GPA, 64 * KIB}};
    struct dayfly_err err;
    if (!f || memory_create(&f->mem, layout, 3, &err) < 0)
        return -1;
    f->arena = (struct driver_arena){&f->mem, LOW_GPA, MID_GPA};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    memory_finish(&f->mem);
    free(f);
    return 0;
}

static void start(struct fixture *f, uint16_t size, uint64_t features)
{
    driver_ring_init(&f->driver, &f->arena, size, features);
    assert_int_equal(ring_start(&f->ring, &f->mem, &f->driver.setup, features), 0);
}

static int pop(struct fixture *f)
{
    return ring_pop(&f->ring, &f->chain, f->iov, RING_SIZE_MAX);
}

static uint64_t gpa_of(const struct fixture *f, const void *hva)
{
    for (unsigned i = 0; i < f->mem.count; i++) {
        const struct memory_region *r = &f->mem.regions[i];
        if ((const uint8_t *)hva >= r->hva && (const uint8_t *)hva < r->hva + r->size_bytes)
            return r->gpa + (uint64_t)((const uint8_t *)hva - r->hva);
    }
    fail_msg("%p is no guest memory", hva);
    return 0;
}

/* -- the straight road ------------------------------------------------------------------------ */

static void test_a_chain_keeps_order_and_direction(void **state)
{
    struct fixture *f = *state;
    for (int indirect = 0; indirect < 2; indirect++) {
        start(f, 8, ALL);
        assert_int_equal(pop(f), 0);
        uint64_t buf = driver_alloc(&f->arena, 4096, 16);
        const struct driver_buf bufs[] = {{buf, 16, false},
                                          {buf + 100, 0, false},
                                          {buf + 16, 5, false},
                                          {buf + 512, 512, true},
                                          {buf + 2048, 1, true}};
        int head =
            indirect ? driver_add_indirect(&f->driver, bufs, 5) : driver_add(&f->driver, bufs, 5);
        assert_int_equal(pop(f), 0); /* not published */
        assert_true(driver_publish(&f->driver));

        assert_int_equal(pop(f), 1);
        assert_int_equal(f->chain.head, head);
        assert_int_equal(f->chain.readable, 2); /* the empty one is skipped */
        assert_int_equal(f->chain.writable, 2);
        assert_int_equal(f->chain.readable_bytes, 21);
        assert_int_equal(f->chain.writable_bytes, 513);
        assert_int_equal(gpa_of(f, f->iov[0].iov_base), buf);
        assert_int_equal(gpa_of(f, f->iov[1].iov_base), buf + 16);
        assert_int_equal(gpa_of(f, f->iov[2].iov_base), buf + 512);
        assert_int_equal(gpa_of(f, f->iov[3].iov_base), buf + 2048);
        assert_int_equal(f->iov[1].iov_len, 5);
        assert_int_equal(pop(f), 0);

        uint16_t used_head;
        uint32_t written;
        assert_false(driver_used(&f->driver, &used_head, &written));
        ring_push(&f->ring, f->chain.head, 513);
        assert_true(driver_used(&f->driver, &used_head, &written));
        assert_int_equal(used_head, head);
        assert_int_equal(written, 513);
        ring_stop(&f->ring);
    }
}

static void test_direct_descriptors_may_precede_an_indirect_one(void **state)
{
    struct fixture *f = *state;
    start(f, 4, ALL);
    uint64_t buf = driver_alloc(&f->arena, 64, 16);
    uint64_t table = driver_alloc(&f->arena, 32, 16);
    struct driver_desc *t = driver_hva(&f->arena, table, 32);
    t[0] = (struct driver_desc){buf + 8, 8, DRIVER_DESC_NEXT, 1};
    t[1] = (struct driver_desc){buf + 16, 8, DRIVER_DESC_WRITE, 0};
    driver_desc_write(&f->driver, 0, (struct driver_desc){buf, 8, DRIVER_DESC_NEXT, 3});
    /* The write flag of the indirect descriptor itself says nothing (2.7.5.3.2). */
    driver_desc_write(&f->driver, 3,
                      (struct driver_desc){table, 32, DRIVER_DESC_INDIRECT | DRIVER_DESC_WRITE, 0});
    driver_avail_write(&f->driver, 0, 0);
    driver_avail_idx_write(&f->driver, 1);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.readable, 2);
    assert_int_equal(f->chain.writable, 1);
}

static void test_a_buffer_across_regions_takes_two_segments(void **state)
{
    struct fixture *f = *state;
    start(f, 4, PLAIN);
    const struct driver_buf buf = {MID_GPA - 10, 30, true};
    driver_add(&f->driver, &buf, 1);
    driver_publish(&f->driver);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.writable, 2);
    assert_int_equal(f->chain.writable_bytes, 30);
    assert_int_equal(f->iov[0].iov_len, 10);
    assert_int_equal(f->iov[1].iov_len, 20);
    assert_int_equal(gpa_of(f, f->iov[1].iov_base), MID_GPA);
}

static void test_an_indirect_table_may_cross_regions(void **state)
{
    struct fixture *f = *state;
    start(f, 4, ALL);
    uint64_t buf = driver_alloc(&f->arena, 64, 16);
    const struct driver_desc t[2] = {{buf, 8, DRIVER_DESC_NEXT, 1}, {buf + 8, 4, DRIVER_DESC_WRITE, 0}};
    assert_int_equal(memory_write(&f->mem, MID_GPA - 24, t, sizeof(t)), 0);
    driver_desc_write(&f->driver, 0, (struct driver_desc){MID_GPA - 24, 32, DRIVER_DESC_INDIRECT, 0});
    driver_avail_idx_write(&f->driver, 1);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.readable_bytes, 8);
    assert_int_equal(f->chain.writable_bytes, 4);
}

static void test_unpop_gives_the_same_chain_again(void **state)
{
    struct fixture *f = *state;
    start(f, 4, PLAIN);
    const struct driver_buf a = {LOW_GPA, 1, false}, b = {LOW_GPA, 2, false};
    driver_add(&f->driver, &a, 1);
    driver_add(&f->driver, &b, 1);
    driver_publish(&f->driver);
    assert_int_equal(pop(f), 1);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.readable_bytes, 2);
    ring_unpop(&f->ring);
    assert_int_equal(pop(f), 1);
    assert_int_equal(f->chain.readable_bytes, 2);
    assert_int_equal(pop(f), 0);
}

/* 70,000 chains, two a round and of changing shape, through both wrap-arounds of the indexes. */
static void test_indexes_wrap_at_65536(void **state)
{
    struct fixture *f = *state;
    for (int pass = 0; pass < 2; pass++) {
        start(f, 8, pass ? ALL : PLAIN);
        uint64_t buf = driver_alloc(&f->arena, 64, 16);
        const struct driver_buf bufs[] = {{buf, 3, false}, {buf + 8, 7, true}, {buf + 16, 5, true}};
        for (int round = 0; round < 35000; round++) {
            int first = driver_add(&f->driver, bufs, 3);
            int second = driver_add(&f->driver, bufs, 1 + (unsigned)round % 3);
            assert_true(first >= 0 && second >= 0);
            /* The device has drained and asked for kicks: it must be kicked. */
            assert_false(ring_kicks_on(&f->ring));
            assert_true(driver_publish(&f->driver));
            driver_interrupts(&f->driver, true);
            assert_int_equal(pop(f), 1);
            assert_int_equal(f->chain.head, first);
            assert_int_equal(pop(f), 1);
            assert_int_equal(f->chain.head, second);
            assert_int_equal(pop(f), 0);
            ring_push(&f->ring, (uint16_t)second, 1); /* out of order */
            ring_push(&f->ring, (uint16_t)first, 2);
            assert_true(ring_should_interrupt(&f->ring));
            assert_false(ring_should_interrupt(&f->ring));
            uint16_t head;
            uint32_t written;
            assert_true(driver_used(&f->driver, &head, &written));
            assert_int_equal(head, second);
            assert_int_equal(written, 1);
            assert_true(driver_used(&f->driver, &head, &written));
            assert_int_equal(head, first);
            assert_false(driver_used(&f->driver, &head, &written));
        }
        ring_stop(&f->ring);
    }
}

static void test_a_stopped_ring_goes_on_where_it_was(void **state)
{
    struct fixture *f = *state;
    start(f, 4, ALL);
    const struct driver_buf buf = {LOW_GPA, 1, false};
    uint16_t head;
    uint32_t written;
    for (int i = 0; i < 6; i++) {
        driver_add(&f->driver, &buf, 1);
        driver_publish(&f->driver);
        assert_int_equal(pop(f), 1);
        ring_push(&f->ring, f->chain.head, 0);
        assert_true(driver_used(&f->driver, &head, &written));
    }
    driver_add(&f->driver, &buf, 1);
    driver_publish(&f->driver);
    uint16_t base = ring_stop(&f->ring);
    assert_int_equal(base, 6);
    assert_int_equal(ring_stop(&f->ring), 6);
    assert_int_equal(pop(f), 0);
    assert_false(ring_running(&f->ring));
    ring_push(&f->ring, 0, 0); /* swallowed */
    assert_false(ring_kicks_on(&f->ring));
    assert_false(ring_should_interrupt(&f->ring));

    struct ring_setup s = f->driver.setup;
    s.next_avail = base;
    assert_int_equal(ring_start(&f->ring, &f->mem, &s, ALL), 0);
    assert_int_equal(pop(f), 1);
    ring_push(&f->ring, f->chain.head, 0);
    /* Where the driver last asked is unknown to the new ring: it must interrupt. */
    driver_used_event(&f->driver, 1000);
    assert_true(ring_should_interrupt(&f->ring));
    assert_true(driver_used(&f->driver, &head, &written));
    assert_int_equal(driver_used_idx(&f->driver), 7);
}

static void test_start_refuses_bad_setups(void **state)
{
    struct fixture *f = *state;
    driver_ring_init(&f->driver, &f->arena, 8, ALL);
    const struct ring_setup good = f->driver.setup;
    struct ring_setup bad[14];
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = good;
    bad[0].size = 0;
    bad[1].size = 3;
    bad[2].size = 2 * RING_SIZE_MAX;
    bad[3].desc_gpa += 8;
    bad[4].avail_gpa += 1;
    bad[5].used_gpa += 2;
    bad[6].desc_gpa = 0;
    bad[7].desc_gpa = HIGH_GPA + 64 * KIB - 112; /* one entry short */
    bad[8].avail_gpa = HIGH_GPA + 64 * KIB - 20; /* the event word is missing */
    bad[9].used_gpa = HIGH_GPA + 64 * KIB - 68;
    bad[10].desc_gpa = UINT64_MAX - 15;
    bad[11].avail_gpa = UINT64_MAX - 1;
    bad[12].used_gpa = UINT64_MAX - 3;
    bad[13].desc_gpa = HIGH_GPA - 16;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(ring_start(&f->ring, &f->mem, &bad[i], ALL), -EINVAL);
        assert_false(ring_running(&f->ring));
        assert_int_equal(pop(f), 0);
    }
    /* Without event idx the event words need not be there. */
    assert_int_equal(ring_start(&f->ring, &f->mem, &bad[8], PLAIN), 0);
    ring_stop(&f->ring);
    assert_int_equal(ring_start(&f->ring, &f->mem, &good, ALL), 0);
}

/* -- malformed rings -------------------------------------------------------------------------- */

struct malformed {
    const char *name;
    const char *fault; /* a part of the message */
    uint64_t features; /* 0: ALL */
    void (*make)(struct fixture *f, uint64_t buf, uint64_t table);
    unsigned max; /* segments; 0: RING_SIZE_MAX */
};

static void desc(struct fixture *f, uint16_t i, uint64_t addr, uint32_t len, unsigned flags,
                 uint16_t next)
{
    driver_desc_write(&f->driver, i, (struct driver_desc){addr, len, (uint16_t)flags, next});
}

static void entry(struct fixture *f, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
                  unsigned flags, uint16_t next)
{
    struct driver_desc *t = driver_hva(&f->arena, table, 16u * 64);
    t[i] = (struct driver_desc){addr, len, (uint16_t)flags, next};
}

#define N DRIVER_DESC_NEXT
#define W DRIVER_DESC_WRITE
#define I DRIVER_DESC_INDIRECT

static void head_beyond(struct fixture *f, uint64_t buf, uint64_t table)
{
    driver_avail_write(&f->driver, 0, 8);
}
static void head_far_beyond(struct fixture *f, uint64_t buf, uint64_t table)
{
    driver_avail_write(&f->driver, 0, 0xffff);
}
static void next_beyond(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, buf, 8, N, 8);
}
static void loop_to_itself(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, buf, 8, N, 0);
}
static void loop_of_empty_buffers(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, buf, 0, N, 1);
    desc(f, 1, buf, 0, N, 0);
}
static void loop_at_the_end(struct fixture *f, uint64_t buf, uint64_t table)
{
    for (uint16_t i = 0; i < 8; i++)
        desc(f, i, buf, 8, N | W, i == 7 ? 3 : i + 1);
}
static void loop_in_indirect(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, table, 32, I, 0);
    entry(f, table, 0, buf, 8, N, 1);
    entry(f, table, 1, buf, 8, N, 0);
}
static void read_after_write(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, buf, 8, N | W, 1);
    desc(f, 1, buf, 8, 0, 0);
}
static void empty_read_after_write(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, buf, 8, N | W, 1);
    desc(f, 1, buf, 0, 0, 0);
}
static void indirect_in_indirect(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, table, 32, I, 0);
    entry(f, table, 0, table, 32, I, 0);
}
static void indirect_not_negotiated(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, table, 16, I, 0);
    entry(f, table, 0, buf, 8, 0, 0);
}
static void indirect_and_next(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, table, 16, I | N, 1);
    entry(f, table, 0, buf, 8, 0, 0);
}
static void indirect_odd_length(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, table, 17, I, 0);
}
static void indirect_empty(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, table, 0, I, 0);
}
static void indirect_outside(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, HIGH_GPA - 4096, 16, I, 0);
}
static void indirect_partly_outside(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, HIGH_GPA + 64 * KIB - 16, 32, I, 0);
    const struct driver_desc d = {buf, 8, N, 1};
    memory_write(&f->mem, HIGH_GPA + 64 * KIB - 16, &d, 16);
}
static void indirect_wraps(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, UINT64_MAX - 15, 32, I, 0);
}
static void indirect_next_beyond(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, table, 32, I, 0);
    entry(f, table, 0, buf, 8, N, 2); /* within the 64 that were allocated, beyond the table */
}
static void indirect_of_very_many(struct fixture *f, uint64_t buf, uint64_t table)
{
    /* 3000 entries of nothing: work without end if only the table bounded it. */
    uint64_t t = driver_alloc(&f->arena, 3000 * 16, 16);
    struct driver_desc *e = driver_hva(&f->arena, t, 3000 * 16);
    for (unsigned i = 0; i < 3000; i++)
        e[i] = (struct driver_desc){buf, 0, i < 2999 ? N : 0, (uint16_t)(i + 1)};
    desc(f, 0, t, 3000 * 16, I, 0);
}
static void too_many_segments(struct fixture *f, uint64_t buf, uint64_t table)
{
    for (uint16_t i = 0; i < 5; i++)
        desc(f, i, buf, 8, i < 4 ? N : 0, i + 1);
}
static void outside_low(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, 0, 1, 0, 0);
}
static void runs_out_of_ram(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, MID_GPA + MID_BYTES - 4, 5, W, 0);
}
static void address_overflows(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, UINT64_MAX - 3, 8, 0, 0);
}
static void length_overflows(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, buf, UINT32_MAX, 0, 0);
}
static void four_gib_in_all(struct fixture *f, uint64_t buf, uint64_t table)
{
    desc(f, 0, buf, 8, N, 1);
    desc(f, 1, buf, UINT32_MAX - 7, W, 0);
}
static void avail_jumps(struct fixture *f, uint64_t buf, uint64_t table)
{
    driver_avail_idx_write(&f->driver, 9);
}
static void avail_goes_back(struct fixture *f, uint64_t buf, uint64_t table)
{
    driver_avail_idx_write(&f->driver, 0xffff);
}

static const struct malformed malformed[] = {
    {"head beyond the ring", "beyond its table", 0, head_beyond},
    {"head far beyond the ring", "beyond its table", 0, head_far_beyond},
    {"next beyond the ring", "beyond its table", 0, next_beyond},
    {"loop to itself", "loop", 0, loop_to_itself},
    {"loop of empty buffers", "loop", 0, loop_of_empty_buffers},
    {"loop at the end", "loop", 0, loop_at_the_end},
    {"loop in an indirect table", "loop", 0, loop_in_indirect},
    {"read after write", "readable", 0, read_after_write},
    {"empty read after write", "readable", 0, empty_read_after_write},
    {"indirect in indirect", "within", 0, indirect_in_indirect},
    {"indirect not negotiated", "negotiated", PLAIN, indirect_not_negotiated},
    {"indirect with next", "with a next", 0, indirect_and_next},
    {"indirect of odd length", "multiple of 16", 0, indirect_odd_length},
    {"indirect of no length", "multiple of 16", 0, indirect_empty},
    {"indirect table outside", "outside RAM", 0, indirect_outside},
    {"indirect table partly outside", "outside RAM", 0, indirect_partly_outside},
    {"indirect table wraps", "wraps", 0, indirect_wraps},
    {"indirect next beyond", "beyond its table", 0, indirect_next_beyond},
    {"indirect of very many", "longer", 0, indirect_of_very_many},
    {"too many segments", "too many segments", 0, too_many_segments, 4},
    {"below RAM", "outside RAM", 0, outside_low},
    {"runs out of RAM", "outside RAM", 0, runs_out_of_ram},
    {"address + length overflows", "wraps", 0, address_overflows},
    {"length beyond RAM", "outside RAM", 0, length_overflows},
    {"4 GiB in all", "4 GiB", 0, four_gib_in_all},
    {"available index jumps", "ahead", 0, avail_jumps},
    {"available index goes back", "ahead", 0, avail_goes_back},
};

static void test_malformed_rings_break_and_stay_broken(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
        const struct malformed *m = &malformed[i];
        f->arena.next_gpa = LOW_GPA;
        start(f, 8, m->features ? m->features : ALL);
        uint64_t buf = driver_alloc(&f->arena, 64, 16);
        uint64_t table = driver_alloc(&f->arena, 64 * 16, 16);
        driver_avail_idx_write(&f->driver, 1);
        m->make(f, buf, table);
        unsigned max = m->max ? m->max : RING_SIZE_MAX;
        int rc = ring_pop(&f->ring, &f->chain, f->iov, max);
        if (rc != -EPROTO)
            fail_msg("%s: ring_pop gave %d", m->name, rc);
        if (!strstr(f->ring.fault, m->fault))
            fail_msg("%s: the fault reads \"%s\"", m->name, f->ring.fault);
        assert_false(ring_running(&f->ring));
        /* Mending the tables does not mend the ring. */
        desc(f, 0, buf, 8, 0, 0);
        driver_avail_write(&f->driver, 0, 0);
        driver_avail_idx_write(&f->driver, 1);
        assert_int_equal(pop(f), -EPROTO);
        assert_false(ring_kicks_on(&f->ring));
        /* A fresh start does. */
        ring_stop(&f->ring);
        assert_int_equal(ring_start(&f->ring, &f->mem, &f->driver.setup, ALL), 0);
        assert_int_equal(pop(f), 1);
        ring_stop(&f->ring);
    }
}

static void test_the_longest_legal_chain_passes(void **state)
{
    struct fixture *f = *state;
    start(f, 8, PLAIN);
    uint64_t buf = driver_alloc(&f->arena, 64, 16);
    for (uint16_t i = 0; i < 8; i++)
        desc(f, i, buf, 8, i < 7 ? N : 0, i + 1);
    driver_avail_idx_write(&f->driver, 1);
    assert_int_equal(ring_pop(&f->ring, &f->chain, f->iov, 8), 1);
    assert_int_equal(f->chain.readable, 8);
}

static void test_no_more_chains_in_flight_than_entries(void **state)
{
    struct fixture *f = *state;
    start(f, 4, ALL);
    const struct driver_buf buf = {LOW_GPA, 1, false};
    for (int i = 0; i < 4; i++)
        driver_add(&f->driver, &buf, 1);
    driver_publish(&f->driver);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pop(f), 1);
    assert_int_equal(f->ring.in_flight, 4);
    /* A driver that reuses an entry it has not got back. */
    driver_avail_idx_write(&f->driver, 5);
    assert_int_equal(pop(f), -EPROTO);
    assert_non_null(strstr(f->ring.fault, "ahead"));
}

/* -- suppression ------------------------------------------------------------------------------ */

static void test_event_idx_suppresses_interrupts(void **state)
{
    struct fixture *f = *state;
    start(f, 8, ALL);
    const struct driver_buf buf = {LOW_GPA, 1, false};
    uint16_t head;
    uint32_t written;

    /* The first after a start interrupts whatever the event says. */
    for (int i = 0; i < 4; i++)
        driver_add(&f->driver, &buf, 1);
    driver_publish(&f->driver);
    assert_false(ring_should_interrupt(&f->ring)); /* nothing was pushed */
    assert_int_equal(pop(f), 1);
    ring_push(&f->ring, f->chain.head, 0);
    assert_true(ring_should_interrupt(&f->ring));

    /* "Tell me when index 3 is filled": neither 1 nor 2, then 3, once. */
    driver_used_event(&f->driver, 3);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(pop(f), 1);
        ring_push(&f->ring, f->chain.head, 0);
        assert_int_equal(ring_should_interrupt(&f->ring), i == 3);
    }
    assert_false(ring_should_interrupt(&f->ring));

    /* A batch that passes the event interrupts once. */
    while (driver_used(&f->driver, &head, &written))
        ;
    driver_used_event(&f->driver, 5);
    for (int i = 0; i < 4; i++)
        driver_add(&f->driver, &buf, 1);
    driver_publish(&f->driver);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pop(f), 1);
        ring_push(&f->ring, f->chain.head, 0);
    }
    assert_true(ring_should_interrupt(&f->ring));
    assert_false(ring_should_interrupt(&f->ring));
}

static void test_event_idx_suppresses_kicks(void **state)
{
    struct fixture *f = *state;
    start(f, 8, ALL);
    const struct driver_buf buf = {LOW_GPA, 1, false};
    driver_add(&f->driver, &buf, 1);
    assert_true(driver_publish(&f->driver));
    ring_kicks_off(&f->ring);
    assert_int_equal(pop(f), 1);
    /* While the device works it asked for nothing: avail_event lies behind. */
    driver_add(&f->driver, &buf, 1);
    assert_false(driver_publish(&f->driver));
    assert_true(ring_kicks_on(&f->ring)); /* and it sees that it missed one */
    assert_int_equal(pop(f), 1);
    assert_false(ring_kicks_on(&f->ring));
    assert_int_equal(driver_avail_event(&f->driver), 2);
    driver_add(&f->driver, &buf, 1);
    assert_true(driver_publish(&f->driver));
}

static void test_flags_suppress_without_event_idx(void **state)
{
    struct fixture *f = *state;
    start(f, 8, PLAIN);
    const struct driver_buf buf = {LOW_GPA, 1, false};
    for (int i = 0; i < 2; i++)
        driver_add(&f->driver, &buf, 1);
    assert_true(driver_publish(&f->driver));
    ring_kicks_off(&f->ring);
    assert_int_equal(driver_used_flags(&f->driver), 1);
    assert_false(driver_publish(&f->driver));

    driver_interrupts(&f->driver, false);
    assert_int_equal(pop(f), 1);
    ring_push(&f->ring, f->chain.head, 0);
    assert_false(ring_should_interrupt(&f->ring));
    driver_interrupts(&f->driver, true);
    assert_int_equal(pop(f), 1);
    ring_push(&f->ring, f->chain.head, 0);
    assert_true(ring_should_interrupt(&f->ring));

    assert_false(ring_kicks_on(&f->ring));
    assert_int_equal(driver_used_flags(&f->driver), 0);
}

int main(void)
{
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_a_chain_keeps_order_and_direction),
        CASE(test_direct_descriptors_may_precede_an_indirect_one),
        CASE(test_a_buffer_across_regions_takes_two_segments),
        CASE(test_an_indirect_table_may_cross_regions),
        CASE(test_unpop_gives_the_same_chain_again),
        CASE(test_indexes_wrap_at_65536),
        CASE(test_a_stopped_ring_goes_on_where_it_was),
        CASE(test_start_refuses_bad_setups),
        CASE(test_malformed_rings_break_and_stay_broken),
        CASE(test_the_longest_legal_chain_passes),
        CASE(test_no_more_chains_in_flight_than_entries),
        CASE(test_event_idx_suppresses_interrupts),
        CASE(test_event_idx_suppresses_kicks),
        CASE(test_flags_suppress_without_event_idx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
