/* SPDX-License-Identifier: Apache-2.0 */
/* doc/machine-file.md is what the schema gives today. */
#include "config/schema.h"
#include "util/testing_files.h"

static void test_the_document_is_the_generated_text(void **state)
{
    (void)state;
    assert_document(DAYFLY_SOURCE_ROOT "/doc/machine-file.md", schema_print_reference,
                    "build/cli/dayfly help machine-file >doc/machine-file.md");
}

/* Every key has help, and a value that the YAML reader's hints can show. */
static void check_rows(const struct schema_row *rows)
{
    for (const struct schema_row *row = rows; row->key; row++) {
        assert_true(row->help || !*row->key);
        if (row->children)
            check_rows(row->children);
        else
            assert_non_null(row->example);
        if (row->kind == SCHEMA_LIST)
            assert_true(row->max > 0 && row->item_bytes > 0 && row->blank_item && row->beside);
    }
}

static void test_every_row_is_whole(void **state)
{
    (void)state;
    check_rows(config_schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_document_is_the_generated_text),
        cmocka_unit_test(test_every_row_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
