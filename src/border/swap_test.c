/* SPDX-License-Identifier: Apache-2.0 */
#include "border/swap.h"

#include <stdio.h>

#include "util/arith.h"
#include "util/testing.h"

#define A "dayfly-secret-00112233445566778899aabbccddeeff"
#define B "dayfly-secret-ffeeddccbbaa99887766554433221100"

static void fill(struct swap *s)
{
    static const char *const values[] = {"s3cr3t value/+", "other:secret"};
    static const char *const placeholders[] = {A, B};
    static const uint64_t hosts[] = {1, 2}; /* the first for the first host, the second for the other */
    *s = (struct swap){.secret_count = 2, .host_count = 2};
    strcpy(s->hosts[0], "api.example.org");
    strcpy(s->hosts[1], "www.example.org");
    for (unsigned i = 0; i < 2; i++) {
        strcpy(s->secrets[i].placeholder, placeholders[i]);
        s->secrets[i].hosts = hosts[i];
        s->secrets[i].value_len = strlen(values[i]);
        memcpy(s->secrets[i].value, values[i], strlen(values[i]));
    }
}

static void expect(const struct swap *s, unsigned host, enum swap_place place, const char *text,
                   const char *wanted, uint32_t found)
{
    uint8_t room[8192];
    struct buffer out = {.bytes = room, .size = sizeof(room)};
    assert_int_equal(swap_text(s, host, place, text, strlen(text), &out), found);
    assert_false(out.full);
    assert_int_equal(buffer_len(&out), strlen(wanted));
    assert_memory_equal(buffer_data(&out), wanted, strlen(wanted));
    assert_int_equal(swap_find(s, host, place, text, strlen(text)), found);
}

static void test_fields(void **state)
{
    static struct swap s;
    fill(&s);
    expect(&s, 0, SWAP_FIELD, "", "", 0);
    expect(&s, 0, SWAP_FIELD, "Bearer " A, "Bearer s3cr3t value/+", 1);
    expect(&s, 0, SWAP_FIELD, A A "x", "s3cr3t value/+s3cr3t value/+x", 1);
    expect(&s, 0, SWAP_FIELD, "dayfly-secret-dayfly-secret-" A,
           "dayfly-secret-dayfly-secret-s3cr3t value/+", 1);
    expect(&s, 0, SWAP_FIELD, "dayfly-secret-0011223344556677", "dayfly-secret-0011223344556677", 0);
    expect(&s, 0, SWAP_FIELD, A B, "s3cr3t value/+" B, 1);
}

static void test_only_for_its_host(void **state)
{
    static struct swap s;
    fill(&s);
    expect(&s, 1, SWAP_FIELD, "Bearer " A, "Bearer " A, 0);
    expect(&s, 1, SWAP_FIELD, B " " A, "other:secret " A, 2);
    s.secrets[0].hosts = 3;
    expect(&s, 1, SWAP_FIELD, B " " A, "other:secret s3cr3t value/+", 3);
}

static void test_queries(void **state)
{
    static struct swap s;
    fill(&s);
    expect(&s, 0, SWAP_QUERY, "key=" A "&b=1", "key=s3cr3t%20value%2F%2B&b=1", 1);
    s.secrets[0].no_query = true;
    expect(&s, 0, SWAP_QUERY, "key=" A, "key=" A, 0);
    expect(&s, 0, SWAP_FIELD, A, "s3cr3t value/+", 1);
}

static void test_basic_credentials(void **state)
{
    static struct swap s;
    fill(&s);
    /* user:A, with and without padding, in any case of the scheme */
    static const char user[] = "dXNlcjpkYXlmbHktc2VjcmV0LTAwMTEyMjMzNDQ1NTY2Nzc4ODk5YWFiYmNjZGRlZWZm";
    char text[256];
    static const char *const schemes[] = {"Basic ", "basic  ", "BASIC "};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        char wanted[256];
        snprintf(text, sizeof(text), "%s%s", schemes[i], user);
        snprintf(wanted, sizeof(wanted), "%sdXNlcjpzM2NyM3QgdmFsdWUvKw==", schemes[i]);
        expect(&s, 0, SWAP_BASIC, text, wanted, 1);
    }
    expect(&s, 1, SWAP_BASIC, text, text, 0);
    expect(&s, 0, SWAP_FIELD, text, text, 0);
    /* none in it, no base64, a placeholder as it is, too long */
    expect(&s, 0, SWAP_BASIC, "Basic dXNlcjp4", "Basic dXNlcjp4", 0);
    expect(&s, 0, SWAP_BASIC, "Basic %%%", "Basic %%%", 0);
    expect(&s, 0, SWAP_BASIC, "Basic", "Basic", 0);
    expect(&s, 0, SWAP_BASIC, "Basic ", "Basic ", 0);
    expect(&s, 0, SWAP_BASIC, "Basic " A, "Basic s3cr3t value/+", 1);
    expect(&s, 0, SWAP_BASIC, "Bearer " A, "Bearer s3cr3t value/+", 1);
    static char long_one[3000] = "Basic ";
    memset(long_one + 6, 'A', sizeof(long_one) - 7);
    expect(&s, 0, SWAP_BASIC, long_one, long_one, 0);
}

static void test_no_room_is_noticed(void **state)
{
    static struct swap s;
    uint8_t room[20];
    struct buffer out = {.bytes = room, .size = sizeof(room)};
    fill(&s);
    swap_text(&s, 0, SWAP_FIELD, "Bearer " A, strlen("Bearer " A), &out);
    assert_true(out.full);
    assert_true(buffer_len(&out) <= sizeof(room));
}

static void test_hosts(void **state)
{
    static struct swap s;
    fill(&s);
    assert_int_equal(swap_host(&s, "API.example.ORG", 15), 0);
    assert_int_equal(swap_host(&s, "www.example.org", 15), 1);
    assert_int_equal(swap_host(&s, "api.example.org", 14), -1);
    assert_int_equal(swap_host(&s, "api.example.org.", 16), -1);
    assert_int_equal(swap_host(&s, "", 0), -1);
}

static void test_values(void **state)
{
    static uint8_t large[SWAP_VALUE_MAX + 1];
    memset(large, 'x', sizeof(large));
    assert_true(swap_value_fits(large, SWAP_VALUE_MAX));
    assert_false(swap_value_fits(large, SWAP_VALUE_MAX + 1));
    assert_true(swap_value_fits((const uint8_t *)"12345678", 8));
    assert_false(swap_value_fits((const uint8_t *)"1234567", 7));
    static const char *const wrong[] = {"1234\r\n5678", "12345678\n", "1234567\t8",
                                        " 12345678",    "12345678 ",  "1234\177-5678"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_false(swap_value_fits((const uint8_t *)wrong[i], strlen(wrong[i])));
    assert_true(swap_value_fits((const uint8_t *)"h\303\266her als", 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_only_for_its_host),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_basic_credentials),
        cmocka_unit_test(test_no_room_is_noticed),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
