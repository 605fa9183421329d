/* SPDX-License-Identifier: Apache-2.0 */
#include "border/echo.h"

#include <stdlib.h>

#include "util/arith.h"
#include "util/testing.h"

#define A "dayfly-secret-00112233445566778899aabbccddeeff"
#define B "dayfly-secret-ffeeddccbbaa99887766554433221100"

struct world {
    struct swap swap;
    void *memory;
    const struct echo *echoes[SWAP_HOSTS_MAX];
};

static void begin(struct world *w, const char *a, const char *b)
{
    const char *const values[] = {a, b};
    static const char *const placeholders[] = {A, B};
    *w = (struct world){.swap = {.secret_count = b ? 2 : 1, .host_count = 1}};
    for (unsigned i = 0; i < w->swap.secret_count; i++) {
        struct swap_secret *s = &w->swap.secrets[i];
        strcpy(s->placeholder, placeholders[i]);
        s->hosts = 1;
        s->value_len = strlen(values[i]);
        memcpy(s->value, values[i], s->value_len);
    }
    w->memory = calloc(1, echo_bytes(&w->swap));
    echo_make(&w->swap, w->memory, w->echoes);
}

/* The text in pieces of every length, and in all pairs of pieces. */
static void expect(const struct world *w, bool keep, const char *text, const char *wanted)
{
    static uint8_t room[65536];
    size_t len = strlen(text);
    for (size_t piece = 1; piece <= len; piece++) {
        struct buffer out = {.bytes = room, .size = sizeof(room)};
        struct echo_stream s;
        echo_begin(&s, w->echoes[0], keep);
        for (size_t at = 0; at < len; at += piece)
            echo_take(&s, (const uint8_t *)text + at, MIN(piece, len - at), &out);
        echo_end(&s, &out);
        assert_false(out.full);
        assert_int_equal(buffer_len(&out), strlen(wanted));
        assert_memory_equal(buffer_data(&out), wanted, strlen(wanted));
    }
}

static void test_values_become_placeholders(void **state)
{
    static struct world w;
    begin(&w, "hunter2-hunter3", NULL);
    expect(&w, false, "", "");
    expect(&w, false, "nothing here, hunter2-hunter", "nothing here, hunter2-hunter");
    expect(&w, false, "hunter2-hunter3", A);
    expect(&w, false, "{\"token\":\"hunter2-hunter3\"}", "{\"token\":\"" A "\"}");
    expect(&w, false, "hunter2-hunter3hunter2-hunter3", A A);
    expect(&w, false, "hunter2-hunter2-hunter3!", "hunter2-" A "!");
    expect(&w, false, "hhhhunter2-hunter3", "hhh" A);
    free(w.memory);
}

static void test_lengths_can_stay(void **state)
{
    static struct world w;
    begin(&w, "hunter2-hunter3", NULL);
    expect(&w, true, "x hunter2-hunter3 y", "x dayfly-secret-0 y");
    free(w.memory);
    begin(&w, "0123456789-0123456789-0123456789-0123456789-0123456789", NULL);
    expect(&w, true, "<0123456789-0123456789-0123456789-0123456789-0123456789>", "<" A "********>");
    free(w.memory);
}

static void test_other_forms(void **state)
{
    static struct world w;
    begin(&w, "s3cr3t value/+", NULL);
    expect(&w, false, "/next?key=s3cr3t%20value%2F%2B&x", "/next?key=" A "&x");
    expect(&w, false, "/next?key=s3cr3t%20value%2f%2b&x", "/next?key=" A "&x");
    /* "user:" and the value; one and two bytes more in front */
    expect(&w, false, "dXNlcjpzM2NyM3QgdmFsdWUvKw==", "dXNlcjpz****************Kw==");
    expect(&w, false, "eHVzZXI6czNjcjN0IHZhbHVlLys=", "eHVzZXI6****************Lys=");
    expect(&w, false, "eHh1c2VyOnMzY3IzdCB2YWx1ZS8r", "eHh1c2VyOnMz****************");
    free(w.memory);
}

/* Words that begin alike, contain each other, or overlap: nothing of any is left. */
static void test_words_that_meet(void **state)
{
    static struct world w;
    begin(&w, "abcdefgh", "abcdefgh-and-more");
    expect(&w, false, "abcdefgh-and-mare", A "-and-mare");
    expect(&w, false, "<abcdefgh-and-more>", "<" B ">");
    expect(&w, false, "abcdefgh-abcdefgh-and-more", A "-" B);
    free(w.memory);
    begin(&w, "12345678", "more-12345678-more");
    expect(&w, false, "more-12345678-more", B);
    expect(&w, false, "more-12345678-mor.", "more-" A "-mor.");
    free(w.memory);
    begin(&w, "aaaabbbb", "bbbbcccc");
    expect(&w, false, "aaaabbbbcccc", A);
    expect(&w, true, "aaaabbbbcccc", "dayfly-secre");
    free(w.memory);
    begin(&w, "aaaaaaaa", NULL);
    expect(&w, true, ".aaaaaaaaaaa.", ".dayfly-secr.");
    free(w.memory);
}

/* Against a plain search, with texts of few letters. */
static void test_random_texts(void **state)
{
    static struct world w;
    static uint8_t room[65536];
    unsigned seed = 7;
    for (int round = 0; round < 400; round++) {
        char value[16] = {0}, text[200] = {0}, wanted[200];
        for (int i = 0; i < 8 + round % 4; i++)
            value[i] = (char)('a' + rand_r(&seed) % 2);
        for (size_t i = 0; i < sizeof(text) - 1; i++)
            text[i] = (char)('a' + rand_r(&seed) % 2);
        memcpy(wanted, text, sizeof(text));
        size_t len = strlen(value);
        for (size_t i = 0; i + len < sizeof(text); i++)
            if (memcmp(text + i, value, len) == 0)
                memset(wanted + i, '#', len);
        begin(&w, value, NULL);
        struct buffer out = {.bytes = room, .size = sizeof(room)};
        struct echo_stream s;
        echo_begin(&s, w.echoes[0], true);
        for (size_t at = 0; at < sizeof(text) - 1;) {
            size_t n = 1 + (size_t)rand_r(&seed) % 30;
            n = MIN(n, sizeof(text) - 1 - at);
            echo_take(&s, (uint8_t *)text + at, n, &out);
            at += n;
        }
        echo_end(&s, &out);
        assert_int_equal(buffer_len(&out), sizeof(text) - 1);
        assert_null(memmem(room, buffer_len(&out), value, len));
        for (size_t i = 0; i < sizeof(text) - 1; i++)
            assert_true(wanted[i] == '#' || room[i] == (uint8_t)wanted[i]);
        free(w.memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_become_placeholders),
        cmocka_unit_test(test_lengths_can_stay),
        cmocka_unit_test(test_other_forms),
        cmocka_unit_test(test_words_that_meet),
        cmocka_unit_test(test_random_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
