/* SPDX-License-Identifier: Apache-2.0 */
/* Masking, against the plain definition of it: however a stream is cut, the same comes out. */
#include "job/mask.h"

#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

#define TEXT_MAX 4096

struct text {
    uint8_t bytes[TEXT_MAX];
    size_t len;
};

static void append(void *opaque, const uint8_t *bytes, size_t len)
{
    struct text *text = opaque;
    assert_true(len > 0 && len <= TEXT_MAX - text->len);
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
}

static struct mask *mask_of(const char *const *words, size_t count)
{
    struct mask_value values[8];
    struct mask *mask;
    assert_true(count <= ARRAY_SIZE(values));
    for (size_t i = 0; i < count; i++)
        values[i] = (struct mask_value){(const uint8_t *)words[i], strlen(words[i])};
    assert_int_equal(mask_new(values, count, NULL, &mask, NULL), 0);
    return mask;
}

/* What is to come out, by comparing every word with every place. */
static void expect_of(const char *const *words, size_t count, const char *in, struct text *out)
{
    bool hidden[TEXT_MAX + 1] = {false};
    size_t len = strlen(in);
    for (size_t w = 0; w < count; w++)
        for (size_t i = 0, n = strlen(words[w]); n >= MASK_MIN_BYTES && i + n <= len; i++)
            if (memcmp(in + i, words[w], n) == 0)
                memset(hidden + i, true, n);
    out->len = 0;
    for (size_t i = 0; i < len; i++) {
        if (!hidden[i])
            append(out, (const uint8_t *)in + i, 1);
        else if (i == 0 || !hidden[i - 1])
            append(out, (const uint8_t *)"***", 3);
    }
}

static void take(struct mask_stream *s, const char *in, size_t from, size_t to, struct text *out)
{
    mask_stream_take(s, (const uint8_t *)in + from, to - from, append, out);
}

static void assert_text(const struct text *have, const struct text *want)
{
    if (have->len != want->len || memcmp(have->bytes, want->bytes, have->len) != 0)
        fail_msg("have \"%.*s\", want \"%.*s\"", (int)have->len, have->bytes, (int)want->len,
                 want->bytes);
}

/* Cut at i and at j. */
static void try_cut(const struct mask *mask, const char *in, size_t i, size_t j,
                    const struct text *want)
{
    struct text have = {.len = 0};
    struct mask_stream *s = mask_stream_new(mask);
    size_t len = strlen(in);
    assert_non_null(s);
    take(s, in, 0, i, &have);
    take(s, in, i, j, &have);
    take(s, in, j, len, &have);
    assert_true(have.len <= len);
    mask_stream_release(s, append, &have);
    assert_int_equal(mask_stream_held(s), 0);
    mask_stream_free(s);
    assert_text(&have, want);
}

static void try_text(const char *const *words, size_t count, const char *in)
{
    struct mask *mask = mask_of(words, count);
    struct text want;
    expect_of(words, count, in, &want);
    for (size_t i = 0; i <= strlen(in); i++)
        for (size_t j = i; j <= strlen(in); j++)
            try_cut(mask, in, i, j, &want);

    struct text have = {.len = 0};
    struct mask_stream *s = mask_stream_new(mask);
    for (size_t i = 0; i < strlen(in); i++)
        take(s, in, i, i + 1, &have);
    mask_stream_release(s, append, &have);
    mask_stream_free(s);
    assert_text(&have, &want);
    mask_free(mask);
}

static void test_every_cut_gives_the_same(void **state)
{
    static const char *const words[] = {"hunter22", "hunt", "erhu", "22hun", "aaaa"};
    static const char *const texts[] = {
        "",
        "hunter22",
        "xhunter22x",
        "hunter2hunter22hunter",
        "erhunter22hunt",
        "hun ter22 hunthunt aaaaaaa",
        "aaa aaaa aaaaa hhunter222hunthun",
        "no word here at all",
        "huntehuntehunter2hunter22erhu",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        try_text(words, ARRAY_SIZE(words), texts[i]);
}

/* A small alphabet, so that words overlap and fall back all the time. */
static void test_random_words_and_texts(void **state)
{
    unsigned seed = 1;
    for (int round = 0; round < 300; round++) {
        char words[4][12], text[40];
        const char *list[4];
        for (size_t w = 0; w < 4; w++) {
            size_t n = 4 + (size_t)rand_r(&seed) % 6;
            for (size_t i = 0; i < n; i++)
                words[w][i] = (char)('a' + rand_r(&seed) % 2);
            words[w][n] = '\0';
            list[w] = words[w];
        }
        size_t n = (size_t)rand_r(&seed) % (sizeof(text) - 1);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + rand_r(&seed) % 3);
        text[n] = '\0';
        try_text(list, ARRAY_SIZE(list), text);
    }
}

/* The masked form of `in` in one piece, as a string. */
static const char *masked(const char *const *words, size_t count, const char *in, struct text *out)
{
    struct mask *mask = mask_of(words, count);
    struct mask_stream *s = mask_stream_new(mask);
    out->len = 0;
    take(s, in, 0, strlen(in), out);
    mask_stream_release(s, append, out);
    mask_stream_free(s);
    mask_free(mask);
    out->bytes[out->len] = '\0';
    return (const char *)out->bytes;
}

static void test_lines_are_masked_one_by_one(void **state)
{
    static const char *const words[] = {"first line\r\nab\nthird line\n"};
    struct text out;
    assert_string_equal(masked(words, 1, "1: first line\n2: ab\n3: third line\n", &out),
                        "1: ***\n2: ab\n3: ***\n");
    /* In one piece the short line goes with the others, and the break at the end is no part of it. */
    assert_string_equal(masked(words, 1, "<first line\r\nab\nthird line\n>", &out), "<***\n>");
    /* A terminal has made other breaks of them. */
    assert_string_equal(masked(words, 1, "first line\r\nab\r\nthird line\r\n", &out),
                        "***\r\nab\r\n***\r\n");
}

static void test_base64_is_masked_wherever_it_begins(void **state)
{
    static const char *const words[] = {"s3cr3t-v\xc3\xbf-alu\xc3\xbe"};
    /* base64 of "s3cr3t-vÿ-aluþ", of "u:" and "us:" in front of it, and with the other alphabet */
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"czNjcjN0LXbDvy1hbHXDvg==", "***vg=="}, {"<czNjcjN0LXbDvy1hbHXDvgo=>", "<***vgo=>"},
        {"dTpzM2NyM3QtdsO/LWFsdcO+", "dTpz***"}, {"dXM6czNjcjN0LXbDvy1hbHXDvg==", "dXM6***vg=="},
        {"dTpzM2NyM3QtdsO_LWFsdcO-", "dTpz***"}, {"dXM1OnMzY3IzdC12w78tYWx1w74=", "dXM1OnMz***w74="},
    };
    struct text out;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_string_equal(masked(words, 1, cases[i].in, &out), cases[i].out);
}

static void test_only_a_beginning_is_held_back(void **state)
{
    static const char *const words[] = {"password"};
    struct mask *mask = mask_of(words, 1);
    struct mask_stream *s = mask_stream_new(mask);
    struct text out = {.len = 0};
    take(s, "a pass", 0, 6, &out);
    assert_int_equal(out.len, 2);
    assert_int_equal(mask_stream_held(s), 4);
    take(s, "age ", 0, 4, &out);
    assert_int_equal(out.len, 10);
    assert_int_equal(mask_stream_held(s), 0);

    /* Released early, the rest is masked all the same. */
    take(s, "pass", 0, 4, &out);
    mask_stream_release(s, append, &out);
    assert_int_equal(out.len, 14);
    take(s, "word.", 0, 5, &out);
    out.bytes[out.len] = '\0';
    assert_string_equal((char *)out.bytes, "a passage pass***.");
    mask_stream_free(s);
    mask_free(mask);
}

static void test_two_streams_of_one_mask(void **state)
{
    static const char *const words[] = {"password"};
    struct mask *mask = mask_of(words, 1);
    struct mask_stream *a = mask_stream_new(mask), *b = mask_stream_new(mask);
    struct text out_a = {.len = 0}, out_b = {.len = 0};
    take(a, "pass", 0, 4, &out_a);
    take(b, "word", 0, 4, &out_b);
    assert_int_equal(out_b.len, 4);
    take(a, "word", 0, 4, &out_a);
    mask_stream_release(a, append, &out_a);
    assert_int_equal(out_a.len, 3);
    mask_stream_free(a);
    mask_stream_free(b);
    mask_free(mask);
}

static void count(void *opaque, const uint8_t *bytes, size_t len)
{
    *(size_t *)opaque += len;
}

/* A job that prints beginnings of a long word costs no more than one that does not. */
static void test_a_hostile_stream_takes_linear_time(void **state)
{
    enum { WORD = 40000, TEXT = 4000000 };
    _cleanup_free_ char *word = malloc(WORD + 1), *text = malloc(TEXT);
    memset(word, 'a', WORD);
    word[WORD - 1] = 'b';
    word[WORD] = '\0';
    memset(text, 'a', TEXT);
    const struct mask_value value = {(const uint8_t *)word, WORD};
    struct mask *mask;
    size_t given = 0;
    assert_int_equal(mask_new(&value, 1, NULL, &mask, NULL), 0);
    struct mask_stream *s = mask_stream_new(mask);
    mask_stream_take(s, (const uint8_t *)text, TEXT, count, &given);
    assert_int_equal(given + mask_stream_held(s), TEXT);
    assert_int_equal(mask_stream_held(s), WORD - 1);
    mask_stream_free(s);
    mask_free(mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut_gives_the_same),
        cmocka_unit_test(test_random_words_and_texts),
        cmocka_unit_test(test_lines_are_masked_one_by_one),
        cmocka_unit_test(test_base64_is_masked_wherever_it_begins),
        cmocka_unit_test(test_only_a_beginning_is_held_back),
        cmocka_unit_test(test_two_streams_of_one_mask),
        cmocka_unit_test(test_a_hostile_stream_takes_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
