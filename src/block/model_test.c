/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random requests to every stack, compared with a disk in memory.
 *
 * A batch is in flight at once. No two of it share a sector, so that what must come out is known, but
 * many share a cluster, so that a back end which loses one of two writes to it is found out. A run is
 * repeated by DAYFLY_TEST_SEED, and is ten times as long with DAYFLY_TEST_LONG.
 */
#include "block/testing_stack.h"

#include <stdio.h>

#define SECTOR  512u
#define BATCHES 100 /* of each stack */
#define BATCH   40
#define PIECES  9

struct asked {
    struct waited w;
    struct iovec cut[PIECES];
    uint8_t *bytes;
};

struct model {
    struct block *block;
    uint64_t seed;
    uint8_t *bytes; /* what the disk must be */
    uint8_t *now;   /* room to read it into */
    bool *taken;    /* sectors of this batch */
    bool noise;     /* a discarded range may become anything */
};

static void read_all(struct model *m, uint64_t offset, uint64_t len)
{
    assert_int_equal(run_one(m->block, BLOCK_READ, offset, m->now + offset, len), 0);
}

static void assert_same(const struct model *m, const uint8_t *found, uint64_t offset, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        if (found[i] != m->bytes[offset + i])
            fail_msg("byte %llu is %#x and not %#x", (unsigned long long)(offset + i), found[i],
                     m->bytes[offset + i]);
}

/* A discarded range keeps what it had, or has zeroes; whichever, it stays so. */
static void adopt(struct model *m, uint64_t offset, uint64_t len)
{
    read_all(m, offset, len);
    for (uint64_t at = offset; at < offset + len; at += SECTOR) {
        static const uint8_t zeroes[SECTOR];
        if (!m->noise && memcmp(m->now + at, zeroes, SECTOR) != 0)
            assert_same(m, m->now + at, at, SECTOR);
        memcpy(m->bytes + at, m->now + at, SECTOR);
    }
}

/* Segments of any length, as a guest may frame its data. */
static void cut_by_chance(struct model *m, struct asked *a, uint64_t len)
{
    unsigned n = 0;
    uint64_t at = 0;
    bool evenly = chance(&m->seed) % 2;
    while (at < len) {
        uint64_t left = len - at;
        uint64_t part = n == PIECES - 1 ? left : chance(&m->seed) % (left + 1);
        if (evenly && n < PIECES - 1)
            part = align_down(part, SECTOR);
        a->cut[n++] = (struct iovec){a->bytes + at, part};
        at += part;
    }
    a->w.request.iov = a->cut;
    a->w.request.iov_count = n;
}

static bool take(struct model *m, uint64_t offset, uint64_t len)
{
    for (uint64_t at = offset; at < offset + len; at += SECTOR)
        if (m->taken[at / SECTOR])
            return false;
    for (uint64_t at = offset; at < offset + len; at += SECTOR)
        m->taken[at / SECTOR] = true;
    return true;
}

/* One request, or none where others of the batch are. */
static bool ask(struct model *m, struct asked *a)
{
    static const enum block_op ops[] = {BLOCK_READ,    BLOCK_READ,         BLOCK_WRITE,
                                        BLOCK_WRITE,   BLOCK_WRITE,        BLOCK_WRITE,
                                        BLOCK_DISCARD, BLOCK_WRITE_ZEROES, BLOCK_FLUSH};
    enum block_op op = ops[chance(&m->seed) % ARRAY_SIZE(ops)];
    uint64_t unit = op == BLOCK_READ ? SECTOR : m->block->unit_bytes;
    uint64_t units = m->block->size_bytes / unit;
    bool large = chance(&m->seed) % 16 == 0;
    /* Half of them where many others are. */
    uint64_t first = chance(&m->seed) % (chance(&m->seed) % 2 ? units : MIN(units, 128u));
    uint64_t count = chance(&m->seed) % (large ? 700 : 12);
    uint64_t offset = first * unit, len = MIN(count, units - first) * unit;
    if (op == BLOCK_FLUSH)
        offset = len = 0;
    if (!take(m, offset, len))
        return false;
    /* With direct I/O the second kind goes past the page cache, and the first cannot. */
    a->bytes = chance(&m->seed) % 2 ? malloc(len + 1) : aligned_alloc(4096, align_up(len + 1, 4096));
    prepare(&a->w, op, offset, a->bytes, len);
    a->w.request.unmap = chance(&m->seed) % 2;
    if (op == BLOCK_WRITE)
        fill_by_chance(&m->seed, a->bytes, len);
    if (op == BLOCK_READ || op == BLOCK_WRITE)
        cut_by_chance(m, a, len);
    return true;
}

static void check(struct model *m, struct asked *a)
{
    const struct block_request *r = &a->w.request;
    assert_int_equal(a->w.done, 1);
    assert_int_equal(a->w.result, 0);
    switch (r->op) {
    case BLOCK_READ:
        assert_same(m, a->bytes, r->offset_bytes, r->length_bytes);
        break;
    case BLOCK_WRITE:
        memcpy(m->bytes + r->offset_bytes, a->bytes, r->length_bytes);
        break;
    case BLOCK_WRITE_ZEROES:
        memset(m->bytes + r->offset_bytes, 0, r->length_bytes);
        break;
    case BLOCK_DISCARD:
        adopt(m, r->offset_bytes, r->length_bytes);
        break;
    case BLOCK_FLUSH:
        break;
    }
    free(a->bytes);
}

static void run_batch(struct model *m)
{
    static struct asked batch[BATCH];
    unsigned n = 0, pending;
    memset(m->taken, 0, m->block->size_bytes / SECTOR * sizeof(*m->taken));
    for (unsigned i = 0; i < BATCH; i++) {
        if (!ask(m, &batch[n]))
            continue;
        assert_int_equal(submit_waiting(m->block, &batch[n].w.request), 0);
        n++;
    }
    assert_int_equal(block_kick(m->block), 0);
    do {
        pending = 0;
        for (unsigned i = 0; i < n; i++)
            pending += batch[i].w.done == 0;
        if (pending)
            wait_event(m->block);
    } while (pending);
    for (unsigned i = 0; i < n; i++)
        check(m, &batch[i]);
}

static void run_model(void **state)
{
    const struct stack_kind *kind = *state;
    const char *given = getenv("DAYFLY_TEST_SEED");
    struct stacked s = stack_up(kind);
    uint64_t size = s.block->size_bytes;
    struct model m = {
        .block = s.block,
        .seed = given ? strtoull(given, NULL, 0) : 20250101,
        .bytes = malloc(size),
        .now = malloc(size),
        .taken = calloc(size / SECTOR, sizeof(bool)),
        .noise = !kind->overlay,
    };
    read_all(&m, 0, size);
    memcpy(m.bytes, m.now, size);
    for (uint64_t i = 0; kind->overlay && i < size; i += SECTOR)
        assert_int_equal(m.bytes[i], BASE_PATTERN(i) ? BASE_PATTERN(i) : 255);
    for (unsigned i = 0; i < (getenv("DAYFLY_TEST_LONG") ? 10 * BATCHES : BATCHES); i++) {
        run_batch(&m);
        if (i % 50 == 49) {
            read_all(&m, 0, size);
            assert_same(&m, m.now, 0, size);
        }
    }
    free(m.bytes);
    free(m.now);
    free(m.taken);
    stack_down(&s);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_SIZE(stack_kinds)];
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
        tests[i] = (struct CMUnitTest){stack_kinds[i].name, run_model, NULL, NULL,
                                       (void *)(uintptr_t)&stack_kinds[i]};
    return cmocka_run_group_tests_name("block-model", tests, NULL, NULL);
}
