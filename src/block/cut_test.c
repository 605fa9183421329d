/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power fails under a disk. What a flush was answered for is there afterwards, over every stack
 * that outlives it; the lowest layer is the toy with a volatile cache, which loses at the cut what was
 * not flushed before, sector by sector and by chance, and counts for a flush only what was done before
 * that was submitted. (An overlay's map dies with its process: none of it outlives anything. That a raw
 * image's flush empties the host's cache is raw_attach_test.c's to show.)
 *
 * Each block's content is a number that says when it was written. A block must read as the last one
 * that was done when a flush was submitted that succeeded, or as one submitted after that.
 */
#include "block/testing_stack.h"

#include <stdio.h>

#define BLOCKS      64u
#define BLOCK_BYTES 4096u
#define SIZE        ((uint64_t)BLOCKS * BLOCK_BYTES)
#define WRITES_MAX  200u /* of a block, between two cuts */
#define WRITERS     24u
#define STEPS       3000u
#define CUTS        12u

static const uint8_t key[BLOCK_CRYPT_KEY_BYTES] =
    "the same key after the cut as before it, and of two halves";

struct kind {
    const char *name;
    bool crypt, patient;
    struct disk_direct fit;
    bool lies; /* flushes are answered and not passed on: the test must notice */
};

/* What stood in a block since the last cut, oldest first. A value of 0 is a block of zeroes. */
struct history {
    uint32_t values[WRITES_MAX];
    unsigned count;
    unsigned done;     /* values[done - 1] is the last that was answered */
    unsigned covered;  /* as done, when the flush in flight was submitted */
    unsigned promised; /* values[promised] is the oldest that may be there */
    bool busy;
};

struct writer {
    struct waited w;
    unsigned block;
    uint8_t *bytes;
    bool busy;
};

struct run {
    const struct kind *kind;
    uint64_t seed;
    struct toy *toy;
    struct block *block;
    uint32_t next_value;
    struct history blocks[BLOCKS];
    struct writer writers[WRITERS];
    struct waited flush;
    bool flushing;
    unsigned flushes;
};

static void fill(uint8_t *block, uint32_t value)
{
    for (unsigned i = 0; i < BLOCK_BYTES; i += sizeof(value))
        memcpy(block + i, &value, sizeof(value));
}

/* Build the stack over a medium. */
static void boot(struct run *r, const uint8_t *medium)
{
    struct dayfly_err err;
    r->toy = toy_new(SIZE, chance(&r->seed));
    if (medium)
        memcpy(r->toy->bytes, medium, SIZE);
    toy_make_volatile(r->toy);
    r->block = &r->toy->block;
    if (r->kind->fit.file_bytes)
        assert_int_equal(block_fit_open(&r->block, r->block, &r->kind->fit, &err), 0);
    const struct block_crypt_options crypt = {.lower = r->block, .key = key};
    if (r->kind->crypt)
        assert_int_equal(block_crypt_open(&r->block, &crypt, &err), 0);
    const struct block_patient_options patient = {.lower = r->block, .name = "x"};
    if (r->kind->patient)
        assert_int_equal(block_patient_open(&r->block, &patient, &err), 0);
}

/* Every block is there, and nothing else may be. */
static void begin_history(struct run *r, unsigned block, uint32_t value)
{
    r->blocks[block] = (struct history){.values = {value}, .count = 1, .done = 1};
}

static void write_all(struct run *r)
{
    uint8_t bytes[BLOCK_BYTES];
    for (unsigned i = 0; i < BLOCKS; i++) {
        fill(bytes, ++r->next_value);
        assert_int_equal(run_one(r->block, BLOCK_WRITE, (uint64_t)i * BLOCK_BYTES, bytes, BLOCK_BYTES),
                         0);
        begin_history(r, i, r->next_value);
    }
    assert_int_equal(run_one(r->block, BLOCK_FLUSH, 0, NULL, 0), 0);
}

static void start_write(struct run *r, struct writer *writer)
{
    unsigned at = (unsigned)(chance(&r->seed) % BLOCKS);
    struct history *h = &r->blocks[at];
    if (h->busy || h->count == WRITES_MAX)
        return;
    bool zero = chance(&r->seed) % 8 == 0;
    uint32_t value = zero ? 0 : ++r->next_value;
    fill(writer->bytes, value);
    prepare(&writer->w, zero ? BLOCK_WRITE_ZEROES : BLOCK_WRITE, (uint64_t)at * BLOCK_BYTES,
            writer->bytes, BLOCK_BYTES);
    int rc = block_submit(r->block, &writer->w.request);
    if (rc == -EBUSY)
        return;
    assert_int_equal(rc, 0);
    h->values[h->count++] = value;
    h->busy = writer->busy = true;
    writer->block = at;
}

static void start_flush(struct run *r)
{
    prepare(&r->flush, BLOCK_FLUSH, 0, NULL, 0);
    if (r->kind->lies)
        r->flush.done = 1;
    else if (block_submit(r->block, &r->flush.request) == -EBUSY)
        return;
    for (unsigned i = 0; i < BLOCKS; i++)
        r->blocks[i].covered = r->blocks[i].done;
    r->flushing = true;
}

static void look(struct run *r)
{
    block_kick(r->block);
    block_reap(r->block);
    for (unsigned i = 0; i < WRITERS; i++) {
        struct writer *writer = &r->writers[i];
        if (!writer->busy || !writer->w.done)
            continue;
        assert_int_equal(writer->w.result, 0);
        struct history *h = &r->blocks[writer->block];
        h->done = h->count;
        h->busy = writer->busy = false;
    }
    if (!r->flushing || !r->flush.done)
        return;
    assert_int_equal(r->flush.result, 0);
    r->flushing = false;
    r->flushes++;
    for (unsigned i = 0; i < BLOCKS; i++)
        r->blocks[i].promised = r->blocks[i].covered - 1;
}

static void work(struct run *r)
{
    unsigned steps = (unsigned)(chance(&r->seed) % STEPS) + 100;
    for (unsigned i = 0; i < steps; i++) {
        struct writer *writer = &r->writers[chance(&r->seed) % WRITERS];
        if (!writer->busy)
            start_write(r, writer);
        if (!r->flushing && chance(&r->seed) % 16 == 0)
            start_flush(r);
        if (chance(&r->seed) % 2)
            look(r);
    }
}

/* Drop the machine: what is in flight is answered, and nobody listens. */
static uint8_t *cut(struct run *r)
{
    uint8_t *medium = toy_cut(r->toy);
    block_destroy(r->block);
    for (unsigned i = 0; i < WRITERS; i++)
        r->writers[i].busy = false;
    r->flushing = false;
    return medium;
}

static bool may_be(const struct history *h, uint32_t value)
{
    for (unsigned i = h->promised; i < h->count; i++)
        if (h->values[i] == value)
            return true;
    return false;
}

/* Compare what is there with what may be, sector by sector: XTS deciphers those of a unit apart from
 * each other. Returns how many blocks are wrong. */
static unsigned verify(struct run *r)
{
    uint8_t bytes[BLOCK_BYTES], want[BLOCK_BYTES];
    unsigned wrong = 0;
    for (unsigned i = 0; i < BLOCKS; i++) {
        const struct history *h = &r->blocks[i];
        assert_int_equal(run_one(r->block, BLOCK_READ, (uint64_t)i * BLOCK_BYTES, bytes, BLOCK_BYTES),
                         0);
        bool fine = true;
        for (unsigned at = 0; at < BLOCK_BYTES; at += 512) {
            uint32_t value;
            memcpy(&value, bytes + at, sizeof(value));
            fill(want, value);
            fine = fine && memcmp(bytes + at, want, 512) == 0 && may_be(h, value);
        }
        wrong += !fine;
    }
    return wrong;
}

static void run_kind(void **state)
{
    const char *given = getenv("DAYFLY_TEST_SEED");
    struct run *r = calloc(1, sizeof(*r));
    unsigned wrong = 0;
    r->kind = *state;
    r->seed = given ? strtoull(given, NULL, 0) : 20250102;
    for (unsigned i = 0; i < WRITERS; i++)
        r->writers[i].bytes = malloc(BLOCK_BYTES);
    boot(r, NULL);
    for (unsigned i = 0; i < CUTS; i++) {
        write_all(r);
        work(r);
        uint8_t *medium = cut(r);
        boot(r, medium);
        wrong += verify(r);
        free(medium);
    }
    assert_true(r->flushes > 100);
    if (r->kind->lies)
        assert_true(wrong > 0);
    else
        assert_int_equal(wrong, 0);
    block_destroy(r->block);
    for (unsigned i = 0; i < WRITERS; i++)
        free(r->writers[i].bytes);
    free(r);
}

int main(void)
{
    static const struct kind kinds[] = {
        {"the medium alone"},
        {"the medium alone, and flushes that do nothing", .lies = true},
        {"patient", .patient = true},
        {"crypt", .crypt = true},
        {"crypt, and flushes that do nothing", .crypt = true, .lies = true},
        {"fit of 512", .fit = {4096, 512}},
        {"fit of 16 KiB", .fit = {512, 16384}},
        {"fit of 16 KiB, and flushes that do nothing", .fit = {512, 16384}, .lies = true},
        {"patient on crypt", .patient = true, .crypt = true},
    };
    struct CMUnitTest tests[ARRAY_SIZE(kinds)];
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        tests[i] =
            (struct CMUnitTest){kinds[i].name, run_kind, NULL, NULL, (void *)(uintptr_t)&kinds[i]};
    return cmocka_run_group_tests_name("block-cut", tests, NULL, NULL);
}
