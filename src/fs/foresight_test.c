/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/foresight.h"

#include <stdio.h>
#include <string.h>

#include "util/testing.h"

#define ENTRIES 50u

/* List a directory, and look up what was given bare if `look`. How many came with attributes. */
static unsigned list(struct foresight *f, uint64_t directory, unsigned entries, bool look)
{
    unsigned given = 0;
    for (unsigned place = 0; place < entries; place++) {
        char name[16];
        snprintf(name, sizeof(name), "file%u", place);
        given += foresight_gives(f, directory, place, name, strlen(name));
    }
    for (unsigned place = 0; look && place < entries; place++) {
        char name[16];
        snprintf(name, sizeof(name), "file%u", place);
        foresight_looked_up(f, directory, name, strlen(name));
    }
    return given;
}

static void attributes_are_given_to_who_looks(void **state)
{
    struct foresight f;
    foresight_init(&f);
    for (uint64_t directory = 1; directory < 1000; directory++)
        assert_int_equal(list(&f, directory, ENTRIES, true), ENTRIES - 2); /* 8 and 32 are probes */
}

static void names_alone_teach_to_give_names(void **state)
{
    struct foresight f;
    foresight_init(&f);
    uint64_t directory = 1;
    while (list(&f, directory, ENTRIES, false) > 0)
        assert_true(directory++ < 100);
    /* And soon, when somebody looks again, attributes. */
    for (unsigned i = 0; i < 10; i++)
        list(&f, directory++, ENTRIES, true);
    assert_int_equal(list(&f, directory, ENTRIES, true), ENTRIES - 2);
}

static void small_directories_teach_nothing(void **state)
{
    struct foresight f;
    foresight_init(&f);
    for (uint64_t directory = 1; directory < 1000; directory++)
        assert_int_equal(list(&f, directory, FORESIGHT_FIRST, false), FORESIGHT_FIRST);
}

static void a_large_directory_is_one_listing(void **state)
{
    struct foresight f;
    foresight_init(&f);
    /* 8, 32, 128 ... 524288: too few to push each other out before they are looked up. */
    assert_int_equal(list(&f, 1, 1000000, true), 1000000 - 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_given_to_who_looks),
        cmocka_unit_test(names_alone_teach_to_give_names),
        cmocka_unit_test(small_directories_teach_nothing),
        cmocka_unit_test(a_large_directory_is_one_listing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
