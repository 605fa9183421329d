/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of block.h, over every stack. */
#include "block/testing_stack.h"

#include <limits.h>
#include <stdio.h>

#define PATTERN 0xa7

static int write_byte(struct block *block, uint64_t offset, uint8_t value, uint64_t len)
{
    _cleanup_free_ uint8_t *buf = malloc(len);
    memset(buf, value, len);
    return run_one(block, BLOCK_WRITE, offset, buf, len);
}

static void assert_reads(struct block *block, uint64_t offset, uint8_t value, uint64_t len)
{
    _cleanup_free_ uint8_t *buf = malloc(len);
    assert_int_equal(run_one(block, BLOCK_READ, offset, buf, len), 0);
    for (uint64_t i = 0; i < len; i++)
        if (buf[i] != value)
            fail_msg("byte %llu is %#x", (unsigned long long)(offset + i), buf[i]);
}

static void test_geometry(struct stacked *s)
{
    assert_true(s->block->size_bytes >= STACK_BYTES);
    assert_int_equal(s->block->size_bytes % 512, 0);
    assert_int_equal(s->block->size_bytes % s->block->unit_bytes, 0);
    assert_int_equal(s->block->block_bytes % s->block->unit_bytes, 0);
    assert_false(s->block->read_only);
    assert_true(s->block->discard);
}

/* Segments that end in the middle of sectors and units, as a guest may frame its data. */
static void test_segments_of_any_length(struct stacked *s)
{
    static const size_t lengths[] = {1, 511, 513, 3071, 4096, 100, 0, 8092};
    uint8_t out[16384], in[16384];
    struct iovec iov[ARRAY_SIZE(lengths)];
    struct waited w;
    size_t at = 0;
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i * 31 >> 3);
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        iov[i] = (struct iovec){out + at, lengths[i]};
        at += lengths[i];
    }
    assert_int_equal(at, sizeof(out));
    prepare(&w, BLOCK_WRITE, 8192, NULL, sizeof(out));
    w.request.iov = iov;
    w.request.iov_count = ARRAY_SIZE(iov);
    assert_int_equal(run_waited(s->block, &w), 0);
    assert_int_equal(run_one(s->block, BLOCK_READ, 8192, in, sizeof(in)), 0);
    assert_memory_equal(in, out, sizeof(in));

    memset(in, 0, sizeof(in));
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
        iov[i].iov_base = in + ((uint8_t *)iov[i].iov_base - out);
    prepare(&w, BLOCK_READ, 8192, NULL, sizeof(in));
    w.request.iov = iov;
    w.request.iov_count = ARRAY_SIZE(iov);
    assert_int_equal(run_waited(s->block, &w), 0);
    assert_memory_equal(in, out, sizeof(in));
}

static void test_a_sector_is_read_alone(struct stacked *s)
{
    uint8_t out[8192], in[8192];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)(i / 512 + 1);
    assert_int_equal(run_one(s->block, BLOCK_WRITE, 65536, out, sizeof(out)), 0);
    for (uint64_t from = 0; from < 8192; from += 512) {
        for (uint64_t len = 512; from + len <= 8192; len += 1536) {
            assert_int_equal(run_one(s->block, BLOCK_READ, 65536 + from, in, len), 0);
            assert_memory_equal(in, out + from, len);
        }
    }
}

static void test_the_ends(struct stacked *s)
{
    uint8_t buf[4096];
    uint64_t size = s->block->size_bytes, unit = s->block->unit_bytes;
    assert_int_equal(write_byte(s->block, size - unit, PATTERN, unit), 0);
    assert_int_equal(write_byte(s->block, 0, PATTERN + 1, unit), 0);
    assert_reads(s->block, size - unit, PATTERN, unit);
    assert_reads(s->block, 0, PATTERN + 1, unit);
    for (int op = BLOCK_READ; op <= BLOCK_WRITE_ZEROES; op++) {
        enum block_op what = (enum block_op)op;
        if (what == BLOCK_FLUSH)
            continue;
        assert_int_equal(run_one(s->block, what, size, buf, 0), 0); /* nothing, at the end */
        assert_int_equal(run_one(s->block, what, size, buf, unit), -EINVAL);
        assert_int_equal(run_one(s->block, what, size - unit, buf, 2 * unit), -EINVAL);
        assert_int_equal(run_one(s->block, what, UINT64_MAX - unit + 1, buf, unit), -EINVAL);
        assert_int_equal(run_one(s->block, what, 100, buf, unit), -EINVAL);
        assert_int_equal(run_one(s->block, what, 0, buf, unit - 1), -EINVAL);
    }
    assert_int_equal(run_one(s->block, (enum block_op)99, 0, buf, unit), -EINVAL);
    struct waited w;
    prepare(&w, BLOCK_READ, 0, buf, 512);
    w.request.length_bytes = 1024; /* more than the segments hold */
    assert_int_equal(run_waited(s->block, &w), -EINVAL);
}

static void test_write_zeroes(struct stacked *s)
{
    uint64_t unit = s->block->unit_bytes, len = 300 * 1024 + unit;
    for (int unmap = 0; unmap < 2; unmap++) {
        struct waited w;
        assert_int_equal(write_byte(s->block, 0, PATTERN, 1 << 20), 0);
        prepare(&w, BLOCK_WRITE_ZEROES, unit, NULL, len);
        w.request.unmap = unmap;
        assert_int_equal(run_waited(s->block, &w), 0);
        assert_reads(s->block, 0, PATTERN, unit);
        assert_reads(s->block, unit, 0, len);
        assert_reads(s->block, unit + len, PATTERN, 65536);
    }
}

static void test_discard_leaves_the_rest(struct stacked *s)
{
    uint64_t unit = s->block->unit_bytes, len = 512 * 1024;
    assert_int_equal(write_byte(s->block, 0, PATTERN, 1 << 20), 0);
    assert_int_equal(run_one(s->block, BLOCK_DISCARD, unit, NULL, len), 0);
    assert_reads(s->block, 0, PATTERN, unit);
    assert_reads(s->block, unit + len, PATTERN, 65536);
    /* And the place can be written to again. */
    assert_int_equal(write_byte(s->block, unit, PATTERN + 1, len), 0);
    assert_reads(s->block, unit, PATTERN + 1, len);
}

/* More than the back end takes at once: it says so, and takes more after a reap. */
static void test_many_at_once(struct stacked *s)
{
    enum { COUNT = 600 };
    struct waited *all = calloc(COUNT, sizeof(*all));
    uint64_t unit = s->block->unit_bytes;
    uint8_t *data = malloc(COUNT * unit);
    unsigned refused = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        memset(data + unit * i, (int)(i % 251), unit);
        prepare(&all[i], BLOCK_WRITE, unit * i, data + unit * i, unit);
        int rc;
        while ((rc = block_submit(s->block, &all[i].request)) == -EBUSY) {
            refused++;
            block_kick(s->block);
            wait_event(s->block);
        }
        assert_int_equal(rc, 0);
    }
    assert_true(refused > 0);
    block_drain(s->block);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(all[i].done, 1);
        assert_int_equal(all[i].result, 0);
        assert_reads(s->block, unit * i, (uint8_t)(i % 251), unit);
    }
    assert_int_equal(block_reap(s->block), 0);
    free(all);
    free(data);
}

/* Not one that waits on a place comes to it before those that came earlier. */
static void test_writes_to_one_place_come_in_order(struct stacked *s)
{
    enum { COUNT = 100 };
    static struct waited all[COUNT];
    static uint8_t data[COUNT][4096];
    bool ordered = strstr(s->block->ops->name, "overlay");
    for (unsigned i = 0; i < COUNT; i++) {
        memset(data[i], (int)i + 1, sizeof(data[i]));
        prepare(&all[i], BLOCK_WRITE, 4096, data[i], i % 2 ? s->block->unit_bytes : 4096);
        assert_int_equal(submit_waiting(s->block, &all[i].request), 0);
    }
    block_drain(s->block);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(all[i].result, 0);
    if (ordered) {
        assert_reads(s->block, 4096, COUNT, s->block->unit_bytes);
        assert_reads(s->block, 4096 + s->block->unit_bytes, COUNT - 1, 4096 - s->block->unit_bytes);
    }
}

/* Flushes among writes, more of them than there are jobs. */
static void test_many_flushes(struct stacked *s)
{
    enum { COUNT = 400 };
    static struct waited all[COUNT];
    uint64_t unit = s->block->unit_bytes;
    uint8_t *data = aligned_alloc(4096, 65536);
    memset(data, PATTERN, 65536);
    for (unsigned i = 0; i < COUNT; i++) {
        prepare(&all[i], i % 4 ? BLOCK_FLUSH : BLOCK_WRITE, i % 4 ? 0 : i * unit, data,
                i % 4 ? 0 : unit);
        assert_int_equal(submit_waiting(s->block, &all[i].request), 0);
        if (i % 16 == 0)
            block_kick(s->block);
    }
    block_kick(s->block);
    for (unsigned i = 0; i < COUNT; i++) {
        while (!all[i].done)
            wait_event(s->block);
        assert_int_equal(all[i].result, 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(all[i].done, 1);
    free(data);
}

struct chained {
    struct block_request request;
    struct iovec iov;
    struct block *block;
    unsigned left;
    int result;
};

static void submit_next(struct block_request *request, int result)
{
    struct chained *c = container_of(request, struct chained, request);
    c->result = c->result ? c->result : result;
    if (--c->left > 0) {
        request->offset_bytes += c->iov.iov_len;
        c->result = c->result ? c->result : block_submit(c->block, request);
        block_kick(c->block);
    }
}

static void test_a_callback_may_submit(struct stacked *s)
{
    uint8_t buf[4096];
    uint64_t unit = s->block->unit_bytes;
    memset(buf, PATTERN, sizeof(buf));
    struct chained c = {.block = s->block, .left = 500, .iov = {buf, unit}};
    c.request = (struct block_request){
        .op = BLOCK_WRITE, .length_bytes = unit, .iov = &c.iov, .iov_count = 1, .done = submit_next};
    assert_int_equal(block_submit(s->block, &c.request), 0);
    block_drain(s->block);
    assert_int_equal(c.left, 0);
    assert_int_equal(c.result, 0);
    assert_reads(s->block, 0, PATTERN, 500 * unit);
}

static void test_a_full_vector(struct stacked *s)
{
    struct iovec *iov = calloc(IOV_MAX + 1, sizeof(*iov));
    uint8_t *data = malloc(IOV_MAX * 512);
    struct waited w;
    memset(data, PATTERN, IOV_MAX * 512);
    for (unsigned i = 0; i < IOV_MAX; i++)
        iov[i] = (struct iovec){data + 512 * i, 512};
    prepare(&w, BLOCK_WRITE, s->block->unit_bytes, NULL, IOV_MAX * 512);
    w.request.iov = iov;
    w.request.iov_count = IOV_MAX;
    assert_int_equal(run_waited(s->block, &w), 0);
    assert_reads(s->block, s->block->unit_bytes, PATTERN, IOV_MAX * 512);
    w.request.iov_count = IOV_MAX + 1;
    assert_int_equal(block_submit(s->block, &w.request), -EINVAL);
    free(iov);
    free(data);
}

static void test_destroy_delivers_what_is_in_flight(struct stacked *s)
{
    static uint8_t buf[1 << 20];
    struct waited w[4];
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
        prepare(&w[i], i == 3 ? BLOCK_FLUSH : BLOCK_WRITE, 0, buf, i == 3 ? 0 : sizeof(buf));
        assert_int_equal(block_submit(s->block, &w[i].request), 0);
    }
    block_destroy(s->block); /* not even kicked */
    s->block = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++) {
        assert_int_equal(w[i].done, 1);
        assert_int_equal(w[i].result, 0);
    }
}

/* The event descriptor is quiet when there is nothing to deliver: a loop would spin. */
static void test_it_is_quiet_when_idle(struct stacked *s)
{
    assert_int_equal(write_byte(s->block, 0, PATTERN, 1 << 20), 0);
    assert_int_equal(run_one(s->block, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(run_one(s->block, BLOCK_WRITE_ZEROES, 0, NULL, 8192), 0);
    block_reap(s->block); /* the count of what was delivered in the turn before */
    struct pollfd p = {.fd = s->block->event_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(struct stacked *s);
    } cases[] = {
        {"geometry", test_geometry},
        {"segments of any length", test_segments_of_any_length},
        {"a sector is read alone", test_a_sector_is_read_alone},
        {"the ends", test_the_ends},
        {"write zeroes", test_write_zeroes},
        {"discard leaves the rest", test_discard_leaves_the_rest},
        {"many at once", test_many_at_once},
        {"many flushes", test_many_flushes},
        {"writes to one place come in order", test_writes_to_one_place_come_in_order},
        {"a callback may submit", test_a_callback_may_submit},
        {"a full vector", test_a_full_vector},
        {"destroy delivers what is in flight", test_destroy_delivers_what_is_in_flight},
        {"it is quiet when idle", test_it_is_quiet_when_idle},
    };
    static struct planned plans[ARRAY_SIZE(cases) * ARRAY_SIZE(stack_kinds)];
    static struct CMUnitTest matrix[ARRAY_SIZE(plans)];
    size_t n = 0;
    for (size_t k = 0; k < ARRAY_SIZE(stack_kinds); k++) {
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++, n++) {
            plans[n] = (struct planned){&stack_kinds[k], cases[i].run, ""};
            snprintf(plans[n].name, sizeof(plans[n].name), "%s: %s", stack_kinds[k].name,
                     cases[i].name);
            matrix[n] = (struct CMUnitTest){plans[n].name, run_planned, NULL, NULL, &plans[n]};
        }
    }
    return cmocka_run_group_tests_name("block-stack", matrix, NULL, NULL);
}
