/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/idmap.h"

#include <errno.h>

#include "util/testing.h"

#define KEEP UINT32_MAX

static void test_squash(void **state)
{
    const struct fs_idmap map = {
        .kind = FS_IDMAP_SQUASH, .host_uid = 1000, .host_gid = 100, .shown_uid = 0, .shown_gid = 5};
    uint32_t id;
    assert_int_equal(fs_idmap_check(&map), 0);
    assert_true(fs_idmap_uid_to_host(&map, 0, &id));
    assert_int_equal(id, 1000);
    assert_true(fs_idmap_gid_to_host(&map, 77, &id));
    assert_int_equal(id, 100);
    assert_int_equal(fs_idmap_uid_to_guest(&map, 1000), 0);
    assert_int_equal(fs_idmap_gid_to_guest(&map, 100), 5);
    assert_int_equal(fs_idmap_uid_to_guest(&map, 0), FS_NOBODY);
    assert_int_equal(fs_idmap_gid_to_guest(&map, 1000), FS_NOBODY);
    /* chown's "keep" is no id */
    assert_true(fs_idmap_uid_to_host(&map, KEEP, &id));
    assert_int_equal(id, KEEP);
}

static void test_squash_needs_ids(void **state)
{
    struct fs_idmap map = {.kind = FS_IDMAP_SQUASH, .host_uid = KEEP};
    assert_int_equal(fs_idmap_check(&map), -EINVAL);
    map = (struct fs_idmap){.kind = FS_IDMAP_SQUASH, .shown_gid = KEEP};
    assert_int_equal(fs_idmap_check(&map), -EINVAL);
    map = (struct fs_idmap){.kind = (enum fs_idmap_kind)9};
    assert_int_equal(fs_idmap_check(&map), -EINVAL);
}

static void test_identity(void **state)
{
    const struct fs_idmap map = {.kind = FS_IDMAP_IDENTITY};
    uint32_t id;
    assert_int_equal(fs_idmap_check(&map), 0);
    for (uint64_t i = 0; i <= UINT32_MAX; i += 0xffffff) {
        assert_true(fs_idmap_uid_to_host(&map, (uint32_t)i, &id));
        assert_int_equal(id, i);
        assert_int_equal(fs_idmap_gid_to_guest(&map, (gid_t)i), i);
    }
}

static void test_map(void **state)
{
    const struct fs_idmap map = {
        .kind = FS_IDMAP_MAP,
        .uids = {.extents = {{0, 100000, 1000}, {1000, 1000, 1}, {KEEP - 2, 7, 2}}, .count = 3},
        .gids = {.extents = {{5, KEEP - 1, 1}}, .count = 1},
    };
    static const struct {
        uint32_t guest, host;
    } pairs[] = {{0, 100000}, {999, 100999}, {1000, 1000}, {KEEP - 2, 7}, {KEEP - 1, 8}};
    uint32_t id;
    assert_int_equal(fs_idmap_check(&map), 0);
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_true(fs_idmap_uid_to_host(&map, pairs[i].guest, &id));
        assert_int_equal(id, pairs[i].host);
        assert_int_equal(fs_idmap_uid_to_guest(&map, pairs[i].host), pairs[i].guest);
    }
    assert_true(fs_idmap_gid_to_host(&map, 5, &id));
    assert_int_equal(id, KEEP - 1);

    /* Beside the extents, on both sides. */
    assert_false(fs_idmap_uid_to_host(&map, 1001, &id));
    assert_false(fs_idmap_gid_to_host(&map, 4, &id));
    assert_false(fs_idmap_gid_to_host(&map, 6, &id));
    assert_int_equal(fs_idmap_uid_to_guest(&map, 99999), FS_NOBODY);
    assert_int_equal(fs_idmap_uid_to_guest(&map, 101000), FS_NOBODY);
    assert_int_equal(fs_idmap_uid_to_guest(&map, 0), FS_NOBODY);
    assert_int_equal(fs_idmap_uid_to_guest(&map, 9), FS_NOBODY);
    assert_true(fs_idmap_uid_to_host(&map, KEEP, &id));
    assert_int_equal(id, KEEP);
}

static void test_an_empty_map_maps_nobody(void **state)
{
    const struct fs_idmap map = {.kind = FS_IDMAP_MAP};
    uint32_t id;
    assert_int_equal(fs_idmap_check(&map), 0);
    assert_false(fs_idmap_uid_to_host(&map, 0, &id));
    assert_int_equal(fs_idmap_uid_to_guest(&map, 0), FS_NOBODY);
}

static int check_two(struct fs_idmap_extent a, struct fs_idmap_extent b)
{
    struct fs_idmap uids = {.kind = FS_IDMAP_MAP, .uids = {{a, b}, 2}};
    struct fs_idmap gids = {.kind = FS_IDMAP_MAP, .gids = {{b, a}, 2}};
    assert_int_equal(fs_idmap_check(&uids), fs_idmap_check(&gids));
    return fs_idmap_check(&uids);
}

static void test_extents_are_checked(void **state)
{
    typedef struct fs_idmap_extent e;
    assert_int_equal(check_two((e){0, 0, 10}, (e){10, 10, 10}), 0);
    assert_int_equal(check_two((e){0, 0, 10}, (e){9, 100, 10}), -EINVAL);  /* guests overlap */
    assert_int_equal(check_two((e){0, 0, 10}, (e){100, 9, 10}), -EINVAL);  /* hosts overlap */
    assert_int_equal(check_two((e){0, 0, 100}, (e){50, 500, 1}), -EINVAL); /* one within the other */
    assert_int_equal(check_two((e){0, 0, 10}, (e){20, 20, 0}), -EINVAL);   /* empty */
    assert_int_equal(check_two((e){0, 0, 1}, (e){KEEP, 20, 1}), -EINVAL);
    assert_int_equal(check_two((e){0, 0, 1}, (e){20, KEEP - 1, 2}), -EINVAL);
    assert_int_equal(check_two((e){0, 0, 1}, (e){20, 2, KEEP}), -EINVAL);
    assert_int_equal(check_two((e){0, 0, 1}, (e){1, 1, KEEP - 1}), 0);

    struct fs_idmap map = {.kind = FS_IDMAP_MAP, .gids = {.count = FS_IDMAP_EXTENTS_MAX + 1}};
    assert_int_equal(fs_idmap_check(&map), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_squash),
        cmocka_unit_test(test_squash_needs_ids),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_an_empty_map_maps_nobody),
        cmocka_unit_test(test_extents_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
