/* SPDX-License-Identifier: Apache-2.0 */
/* What an overlay does beyond the contract: where things go, what comes back, what fails how. */
#include "block/testing_stack.h"

#include <sys/stat.h>

#include "block/ephemeral.h"
#include "block/overlay_map.h"

#define SIZE (UINT64_C(4) << 20)

static uint64_t allocated(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

static uint8_t base_byte(uint64_t offset)
{
    return BASE_PATTERN(offset) ? BASE_PATTERN(offset) : 255;
}

static void assert_is_base(struct block *block, uint64_t offset, uint64_t len)
{
    _cleanup_free_ uint8_t *buf = malloc(len);
    assert_int_equal(run_one(block, BLOCK_READ, offset, buf, len), 0);
    for (uint64_t i = 0; i < len; i++)
        assert_int_equal(buf[i], base_byte(offset + i));
}

static struct block *must_overlay(struct block *base, struct block *delta, uint32_t cluster)
{
    struct dayfly_err err;
    struct block *block;
    const struct block_overlay_options options = {
        .base = base, .delta = delta, .cluster_bytes = cluster};
    if (block_overlay_open(&block, &options, &err) < 0)
        fail_msg("%s", err.msg);
    return block;
}

static void must_refuse(struct block *base, struct block *delta, uint32_t cluster, int code)
{
    struct dayfly_err err = {0};
    struct block *block = NULL;
    const struct block_overlay_options options = {
        .base = base, .delta = delta, .cluster_bytes = cluster};
    assert_int_equal(block_overlay_open(&block, &options, &err), -code);
    assert_null(block);
    assert_true(err.msg[0]);
}

static struct block *toy_below(uint64_t bytes)
{
    return &toy_new(bytes, 1)->block;
}

static void test_what_cannot_be_stacked_is_refused(void **state)
{
    must_refuse(make_base(SIZE, false, BLOCK_IO_AUTO), toy_below(SIZE - 4096), 0, EINVAL);
    must_refuse(make_base(SIZE + 512, false, BLOCK_IO_AUTO), toy_below(SIZE + 512), 0, EINVAL);
    must_refuse(make_base(SIZE, false, BLOCK_IO_AUTO), make_base(SIZE, false, BLOCK_IO_AUTO), 0, EROFS);
    must_refuse(make_base(SIZE, false, BLOCK_IO_AUTO), toy_below(SIZE), 2048, EINVAL);
    must_refuse(make_base(SIZE, false, BLOCK_IO_AUTO), toy_below(SIZE), 12288, EINVAL);
    must_refuse(make_base(SIZE, false, BLOCK_IO_AUTO), toy_below(SIZE), 4 << 20, EINVAL);
}

/* ENOSPC is an I/O error of the request, and what was there before is there still. */
static void test_a_full_delta_fails_the_request_alone(void **state)
{
    static uint8_t buf[65536];
    struct toy *toy = toy_new(SIZE, 1);
    struct block *block = must_overlay(make_base(SIZE, false, BLOCK_IO_AUTO), &toy->block, 0);
    toy->fail_writes = -ENOSPC;
    assert_int_equal(run_one(block, BLOCK_WRITE, 0, buf, sizeof(buf)), -ENOSPC);
    assert_int_equal(run_one(block, BLOCK_WRITE, 1024, buf, 512), -ENOSPC);
    assert_int_equal(run_one(block, BLOCK_WRITE, 512, buf, 60000 / 512 * 512), -ENOSPC);
    assert_int_equal(run_one(block, BLOCK_WRITE_ZEROES, 512, NULL, 512), -ENOSPC);
    assert_is_base(block, 0, 1 << 20);
    toy->fail_writes = 0;
    assert_int_equal(run_one(block, BLOCK_WRITE, 1024, buf, 512), 0);
    assert_is_base(block, 0, 1024);
    assert_is_base(block, 1536, 65536);
    block_destroy(block);
}

/* Writes of single sectors to the same clusters, all at once: none is lost. */
static void test_writes_of_parts_of_one_cluster_meet(void **state)
{
    enum { COUNT = 200 };
    static struct waited all[COUNT];
    static uint8_t data[COUNT][512], back[COUNT * 512];
    struct toy *toy = toy_new(SIZE, 7);
    struct block *crypt;
    assert_int_equal(
        block_crypt_open(&crypt, &(struct block_crypt_options){.lower = &toy->block}, NULL), 0);
    struct block *block = must_overlay(make_base(SIZE, false, BLOCK_IO_AUTO), crypt, 65536);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned place = i * 7 % COUNT;
        memset(data[i], (int)place + 1, 512);
        prepare(&all[i], BLOCK_WRITE, 512 * (uint64_t)place, data[i], 512);
        assert_int_equal(submit_waiting(block, &all[i].request), 0);
    }
    block_drain(block);
    assert_int_equal(run_one(block, BLOCK_READ, 0, back, sizeof(back)), 0);
    for (unsigned i = 0; i < sizeof(back); i++)
        assert_int_equal(back[i], (uint8_t)(i / 512 + 1));
    assert_is_base(block, sizeof(back), 65536);
    block_destroy(block);
}

static void test_whole_clusters_are_not_read_before(void **state)
{
    static uint8_t buf[65536];
    struct toy *toy = toy_new(SIZE, 1);
    struct block *block = must_overlay(make_base(SIZE, false, BLOCK_IO_AUTO), &toy->block, 0);
    assert_int_equal(run_one(block, BLOCK_WRITE, 8192, buf, sizeof(buf)), 0);
    assert_int_equal(toy->writes, 1);
    assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(toy->flushes, 1);
    /* What was never written has no space to give back, and stays what it was. */
    assert_int_equal(run_one(block, BLOCK_DISCARD, 1 << 20, NULL, 1 << 20), 0);
    assert_int_equal(toy->discards, 0);
    assert_is_base(block, 1 << 20, 1 << 20);
    assert_int_equal(run_one(block, BLOCK_WRITE_ZEROES, 1 << 20, NULL, 1 << 20), 0);
    assert_int_equal(toy->discards, 0);
    assert_int_equal(toy->writes, 1);
    block_destroy(block);
}

/* On files, plain and encrypted: nothing, a cluster for a cluster, and nothing again. */
static void test_it_is_sparse_and_gives_back(void **state)
{
    static uint8_t buf[1 << 20];
    for (size_t i = 0; i < ARRAY_SIZE(stack_kinds); i++) {
        if (stack_kinds[i].toy || !stack_kinds[i].overlay)
            continue;
        struct stacked s = stack_up(&stack_kinds[i]);
        assert_int_equal(allocated(s.file), 0);
        assert_int_equal(run_one(s.block, BLOCK_WRITE, 1 << 20, buf, 4096), 0);
        assert_int_equal(run_one(s.block, BLOCK_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(allocated(s.file), 4096);
        assert_int_equal(run_one(s.block, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
        assert_int_equal(run_one(s.block, BLOCK_FLUSH, 0, NULL, 0), 0);
        assert_true(allocated(s.file) >= sizeof(buf) + 4096);
        assert_int_equal(run_one(s.block, BLOCK_DISCARD, 0, NULL, SIZE / 2), 0);
        assert_true(allocated(s.file) < 65536); /* the tree of extents may keep a block */
        memset(buf, 1, sizeof(buf));
        assert_int_equal(run_one(s.block, BLOCK_READ, 0, buf, sizeof(buf)), 0);
        for (size_t b = 0; b < sizeof(buf); b++)
            assert_int_equal(buf[b], 0);
        stack_down(&s);
    }
}

/* -- the whole of it ----------------------------------------------------------------------------- */

static struct block *must_open_ephemeral(int base)
{
    struct dayfly_err err;
    struct block *block;
    const struct block_ephemeral_options options = {.base_fd = fcntl(base, F_DUPFD_CLOEXEC, 0)};
    if (block_ephemeral_open(&block, &options, &err) < 0)
        fail_msg("%s", err.msg);
    return block;
}

static void test_two_begin_alike_and_go_their_ways(void **state)
{
    char path[] = "/tmp/unit-overlay-XXXXXX";
    uint8_t sector[512], back[512];
    int file = mkostemp(path, O_CLOEXEC);
    assert_int_equal(ftruncate(file, (off_t)SIZE), 0);
    memset(sector, 9, sizeof(sector));
    assert_int_equal(pwrite(file, sector, 512, 8192), 512);
    int base = open(path, O_RDONLY | O_CLOEXEC);
    unlink(path);
    struct block *one = must_open_ephemeral(base), *two = must_open_ephemeral(base);
    assert_int_equal(one->size_bytes, SIZE);
    memset(sector, 1, sizeof(sector));
    assert_int_equal(run_one(one, BLOCK_WRITE, 8192, sector, 512), 0);
    assert_int_equal(run_one(two, BLOCK_READ, 8192, back, 512), 0);
    assert_int_equal(back[0], 9);
    assert_int_equal(run_one(one, BLOCK_READ, 8192, back, 512), 0);
    assert_int_equal(back[0], 1);
    block_destroy(one);
    one = must_open_ephemeral(base);
    assert_int_equal(run_one(one, BLOCK_READ, 8192, back, 512), 0);
    assert_int_equal(back[0], 9);
    block_destroy(one);
    block_destroy(two);
    assert_int_equal(pread(file, back, 512, 8192), 512);
    assert_int_equal(back[0], 9);
    close(base);
    close(file);
}

static void test_a_base_that_is_no_disk_is_refused(void **state)
{
    struct dayfly_err err;
    struct block *block = NULL;
    int fd = nameless_file(1000);
    const struct block_ephemeral_options options = {.base_fd = fd};
    assert_int_equal(block_ephemeral_open(&block, &options, &err), -EINVAL);
    assert_null(block);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken, even on failure */
}

/* -- the map ------------------------------------------------------------------------------------- */

#define CLUSTERS 1000u

static void test_the_map_against_a_plain_one(void **state)
{
    struct overlay_map map;
    uint8_t plain[CLUSTERS] = {0};
    uint64_t seed = 3;
    assert_int_equal(overlay_map_init(&map, CLUSTERS), 0);
    for (unsigned step = 0; step < 3000; step++) {
        uint64_t first = chance(&seed) % CLUSTERS;
        uint64_t most = chance(&seed) % 2 ? 200 : 5;
        uint64_t count = chance(&seed) % MIN(CLUSTERS - first, most) + 1;
        uint64_t what = chance(&seed) % 4, run = 0;
        bool data = false;
        for (uint64_t i = first; i < first + count; i++)
            data |= plain[i] == OVERLAY_DATA;
        assert_int_equal(overlay_map_has_data(&map, first, count), data);
        if (what < 3)
            overlay_map_set(&map, first, count, (enum overlay_state)what);
        else
            overlay_map_drop_data(&map, first, count);
        for (uint64_t i = first; i < first + count; i++)
            plain[i] = what < 3 ? (uint8_t)what : plain[i] == OVERLAY_DATA ? OVERLAY_ZERO : plain[i];
        first = chance(&seed) % CLUSTERS;
        while (first + run < CLUSTERS && plain[first + run] == plain[first])
            run++;
        assert_int_equal(overlay_map_get(&map, first), plain[first]);
        assert_int_equal(overlay_map_run(&map, first, CLUSTERS - first), run);
    }
    overlay_map_finish(&map);
    overlay_map_finish(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_cannot_be_stacked_is_refused),
        cmocka_unit_test(test_a_full_delta_fails_the_request_alone),
        cmocka_unit_test(test_writes_of_parts_of_one_cluster_meet),
        cmocka_unit_test(test_whole_clusters_are_not_read_before),
        cmocka_unit_test(test_it_is_sparse_and_gives_back),
        cmocka_unit_test(test_two_begin_alike_and_go_their_ways),
        cmocka_unit_test(test_a_base_that_is_no_disk_is_refused),
        cmocka_unit_test(test_the_map_against_a_plain_one),
    };
    return cmocka_run_group_tests_name("block-overlay", tests, NULL, NULL);
}
