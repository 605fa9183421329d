/* SPDX-License-Identifier: Apache-2.0 */
#include "border/echo.h"

#include <assert.h>
#include <ctype.h>

#include "util/arith.h"

struct word {
    const uint8_t *text;
    const uint16_t *shorter; /* by bytes matched, less one: the longest proper prefix that ends there */
    const char *placeholder; /* NULL: '*' in its length */
    uint32_t len;
};

struct echo {
    unsigned word_count;
    bool begins[256]; /* the first bytes of words */
    struct word words[ECHO_WORDS_MAX];
};

/* ---- words ---- */

/* Those that are all of a value, and those that are parts of it. */
#define FORMS_WHOLE 3
#define FORMS       (FORMS_WHOLE + 6)

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
static const char *const alphabets[] = {LETTERS "+/", LETTERS "-_"};

/* Memory that is given out from one end. Without bytes: only counted. */
struct pool {
    uint8_t *bytes;
    size_t used;
};

static void *take(struct pool *pool, size_t bytes, size_t align)
{
    pool->used = align_up(pool->used, align);
    void *p = pool->bytes ? pool->bytes + pool->used : NULL;
    pool->used += bytes;
    return p;
}

/* The groups of base64 that are of the value alone, if it begins `skip` bytes into the second one. */
static size_t base64_groups(const struct swap_secret *s, const char *alphabet, size_t skip,
                            struct buffer *out)
{
    const uint8_t *p = s->value + skip;
    size_t groups = (s->value_len - skip) / 3;
    for (size_t i = 0; i < groups; i++, p += 3) {
        uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        for (int k = 0; k < 4; k++)
            buffer_put(out, &alphabet[bits >> (18 - 6 * k) & 63], 1);
    }
    return 4 * groups;
}

/* Hexadecimal digits have no case (RFC 3986, 2.1), and servers write both. */
static void lower_percent(struct buffer *text)
{
    for (size_t i = text->start; i < text->end; i++)
        if (text->bytes[i] == '%')
            for (size_t k = 1; k < 3 && i + k < text->end; k++)
                text->bytes[i + k] = (uint8_t)tolower(text->bytes[i + k]);
}

/* Of the nine forms of a value; a form that another one has already is found twice, and does no harm.
 */
static void write_form(const struct swap_secret *s, unsigned form, struct buffer *out)
{
    if (form == 0)
        buffer_put(out, s->value, s->value_len);
    else if (form < FORMS_WHOLE)
        swap_percent(s->value, s->value_len, out);
    else
        base64_groups(s, alphabets[(form - FORMS_WHOLE) / 3], (form - FORMS_WHOLE) % 3, out);
    if (form == 2)
        lower_percent(out);
}

static void fill_shorter(const uint8_t *text, uint32_t len, uint16_t *shorter)
{
    uint32_t k = 0;
    shorter[0] = 0;
    for (uint32_t i = 1; i < len; i++) {
        while (k && text[i] != text[k])
            k = shorter[k - 1];
        k += text[i] == text[k];
        shorter[i] = (uint16_t)k;
    }
}

static void add_word(const struct swap_secret *s, unsigned form, struct pool *pool, struct word *out)
{
    uint8_t scratch[3 * SWAP_VALUE_MAX];
    struct buffer text = {.bytes = scratch, .size = sizeof(scratch)};
    write_form(s, form, &text);
    uint32_t len = (uint32_t)buffer_len(&text);
    uint8_t *bytes = take(pool, len, 1);
    uint16_t *shorter = take(pool, len * sizeof(*shorter), _Alignof(uint16_t));
    if (bytes) {
        memcpy(bytes, scratch, len);
        fill_shorter(bytes, len, shorter);
        *out = (struct word){bytes, shorter, form < FORMS_WHOLE ? s->placeholder : NULL, len};
    }
    explicit_bzero(scratch, sizeof(scratch));
}

static_assert(ECHO_WORDS_MAX == SWAP_SECRETS_MAX * FORMS, "room for every form");

static void make_all(const struct swap *swap, struct pool *pool, const struct echo **hosts)
{
    struct word words[SWAP_SECRETS_MAX][FORMS];
    for (unsigned i = 0; i < swap->secret_count; i++)
        for (unsigned form = 0; form < FORMS; form++)
            add_word(&swap->secrets[i], form, pool, &words[i][form]);
    for (unsigned h = 0; h < swap->host_count; h++) {
        struct echo *echo = take(pool, sizeof(*echo), _Alignof(struct echo));
        for (unsigned i = 0; echo && i < swap->secret_count; i++)
            for (unsigned form = 0; form < FORMS && (swap->secrets[i].hosts >> h & 1); form++) {
                echo->words[echo->word_count++] = words[i][form];
                echo->begins[words[i][form].text[0]] = true;
            }
        if (hosts)
            hosts[h] = echo;
    }
}

size_t echo_bytes(const struct swap *swap)
{
    struct pool pool = {0};
    make_all(swap, &pool, NULL);
    return pool.used;
}

void echo_make(const struct swap *swap, void *memory, const struct echo *hosts[static SWAP_HOSTS_MAX])
{
    struct pool pool = {.bytes = memory};
    make_all(swap, &pool, hosts);
}

/* ---- streams ---- */

void echo_begin(struct echo_stream *s, const struct echo *echo, bool keep_length)
{
    *s = (struct echo_stream){.echo = echo, .keep_length = keep_length};
}

/* Give `len` more bytes of a hit. */
static void give_hit(struct echo_stream *s, uint32_t len, struct buffer *out)
{
    const struct word *word = &s->echo->words[s->hit_word];
    if (!s->keep_length && word->placeholder) {
        if (!s->told)
            buffer_put(out, word->placeholder, SWAP_PLACEHOLDER_LEN);
        s->told = true;
        return;
    }
    for (uint32_t i = 0; i < len; i++, s->hit_done++) {
        bool text = word->placeholder && s->hit_done < SWAP_PLACEHOLDER_LEN;
        buffer_put(out, text ? &word->placeholder[s->hit_done] : "*", 1);
    }
}

/* Give the first `len` bytes of `text`, which is what was held. */
static void give(struct echo_stream *s, const uint8_t *text, uint32_t len, struct buffer *out)
{
    uint32_t before = s->hit ? MIN(s->hit_start, len) : len;
    buffer_put(out, text, before);
    if (!s->hit)
        return;
    uint32_t inside = MIN(s->hit_end, len) - before;
    if (inside)
        give_hit(s, inside, out);
    if (len >= s->hit_end) {
        buffer_put(out, text + s->hit_end, len - s->hit_end);
        s->hit = false;
        return;
    }
    s->hit_start -= before;
    s->hit_end -= len;
    if (inside)
        s->hit_start = 0;
}

/* The last `len` of `held` bytes are a word. Together with one before, whatever stands between. */
static void mark(struct echo_stream *s, unsigned word, uint32_t held)
{
    uint32_t start = held - s->echo->words[word].len;
    if (!s->hit) {
        s->hit = true;
        s->told = false;
        s->hit_done = 0;
        s->hit_start = start;
        s->hit_word = word;
    } else if (start <= s->hit_start && !s->told && !s->hit_done) {
        s->hit_start = start;
        s->hit_word = word;
    }
    s->hit_end = held;
}

static unsigned take_byte(struct echo_stream *s, uint8_t byte, struct buffer *out)
{
    const struct echo *echo = s->echo;
    uint32_t before = s->held, longest = 0, found = UINT32_MAX;
    unsigned longest_word = 0;
    uint8_t one = byte;
    for (unsigned i = 0; i < echo->word_count; i++) {
        const struct word *w = &echo->words[i];
        uint32_t k = s->matched[i];
        while (k && w->text[k] != byte)
            k = w->shorter[k - 1];
        k += w->text[k] == byte;
        if (k == w->len) {
            if (found == UINT32_MAX || w->len > echo->words[found].len)
                found = i;
            k = w->shorter[k - 1];
        }
        s->matched[i] = (uint16_t)k;
        if (k > longest) {
            longest = k;
            longest_word = i;
        }
    }
    if (found != UINT32_MAX)
        mark(s, found, before + 1);
    /* What was held reads as the word that it was the beginning of, and this byte comes behind it. */
    uint32_t given = before + 1 - longest;
    const uint8_t *text = before ? echo->words[s->held_word].text : NULL;
    give(s, text, MIN(given, before), out);
    if (given > before)
        give(s, &one, 1, out);
    s->held = longest;
    s->held_word = longest_word;
    return found != UINT32_MAX;
}

unsigned echo_take(struct echo_stream *s, const uint8_t *bytes, size_t len, struct buffer *out)
{
    unsigned found = 0;
    for (size_t i = 0; i < len;) {
        size_t run = i;
        while (!s->held && run < len && !s->echo->begins[bytes[run]])
            run++;
        buffer_put(out, bytes + i, run - i);
        if (run < len)
            found += take_byte(s, bytes[run++], out);
        i = run;
    }
    return found;
}

void echo_end(struct echo_stream *s, struct buffer *out)
{
    if (s->held)
        give(s, s->echo->words[s->held_word].text, s->held, out);
    echo_begin(s, s->echo, s->keep_length);
}

unsigned echo_text(const struct echo *echo, const void *text, size_t len, struct buffer *out)
{
    struct echo_stream stream;
    echo_begin(&stream, echo, false);
    unsigned found = echo_take(&stream, text, len, out);
    echo_end(&stream, out);
    return found;
}
