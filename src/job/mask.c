/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The words as an automaton of Aho and Corasick: a tree of their prefixes, in which each node knows the
 * longest proper suffix of its own text that is in the tree as well. The state after each byte is the
 * longest end of the stream that begins a word; so its depth is what has to be held back, and the time
 * for a byte does not depend on how many words there are, or how long. A stream is hostile: with plain
 * comparing, a job that prints the beginnings of a long word could keep us busy for ever.
 *
 * Children stand in a list, as nearly all nodes have one. Matches end where the stream does, so a new
 * one swallows or extends those at the end of the list of spans: that list is a stack.
 */
#include "job/mask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/err.h"

static const uint8_t STARS[] = {'*', '*', '*'};

/* Node 0 is the root, and "none" as a child or sibling. */
struct node {
    uint32_t child, sibling;
    uint32_t fail;  /* of the longest suffix; breadth first: the next one in the queue */
    uint32_t depth; /* bytes of its text */
    uint32_t match; /* bytes of the longest word that its text ends with; 0: none */
    uint8_t byte;
};

struct mask {
    struct secret memory;
    struct node *nodes;
    uint32_t node_count;
    uint32_t longest;   /* bytes of the longest word */
    uint32_t root[256]; /* the root's children, by their bytes: most of a stream stays there */
};

/* Bytes [start, end) of the stream, counted from its beginning, are of words. */
struct span {
    uint64_t start, end;
    bool told; /* its stars have been given */
};

struct mask_stream {
    const struct mask *mask;
    struct secret memory;
    uint8_t *held; /* a ring of `size` bytes, of which those from `given` to `seen` count */
    uint32_t size;
    uint32_t state;
    uint64_t seen, given; /* bytes of the stream */
    struct span *spans;   /* those that end behind `given`, first to last: a ring as well */
    uint32_t span_size, first_span, span_count;
};

/* -- words --------------------------------------------------------------------------------------------
 */

typedef int word_fn(void *opaque, const uint8_t *word, size_t len);

static size_t without_breaks(const uint8_t *bytes, size_t len)
{
    while (len && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
        len--;
    return len;
}

/* The lines of a value that has several. */
static int each_line(const struct mask_value *value, word_fn *fn, void *opaque)
{
    const uint8_t *p = value->bytes, *end = p + value->len;
    int r = 0;
    while (p < end && r == 0) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        const uint8_t *stop = newline ? newline : end;
        r = fn(opaque, p, without_breaks(p, (size_t)(stop - p)));
        p = stop + 1;
    }
    return r;
}

/*
 * Base64 makes four characters of three bytes. Within a longer text the value begins at the first,
 * second or third byte of such a group; then of the characters those are known that come from bytes of
 * the value alone.
 */
static int each_base64(const struct mask_value *value, const char *alphabet, uint8_t *room, word_fn *fn,
                       void *opaque)
{
    int r = 0;
    for (size_t skip = 0; skip < 3 && r == 0; skip++) {
        if (value->len < skip)
            break;
        const uint8_t *p = value->bytes + skip;
        size_t groups = (value->len - skip) / 3;
        for (size_t i = 0; i < groups; i++, p += 3) {
            uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
            for (int k = 0; k < 4; k++)
                room[4 * i + (size_t)k] = (uint8_t)alphabet[bits >> (18 - 6 * k) & 63];
        }
        /* Two groups at least: four characters of base64 alone are in every text. */
        if (groups >= 2)
            r = fn(opaque, room, 4 * groups);
    }
    return r;
}

/* room: of 4/3 of the longest value's bytes. */
static int each_word(const struct mask_value *values, size_t count, uint8_t *room, word_fn *fn,
                     void *opaque)
{
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        struct mask_value value = values[i];
        value.len = without_breaks(value.bytes, value.len);
        r = fn(opaque, value.bytes, value.len);
        if (r == 0)
            r = each_line(&value, fn, opaque);
        if (r == 0)
            r = each_base64(&value, LETTERS "+/", room, fn, opaque);
        if (r == 0)
            r = each_base64(&value, LETTERS "-_", room, fn, opaque);
    }
    return r;
}

/* -- the automaton ------------------------------------------------------------------------------------
 */

static int count_nodes(void *opaque, const uint8_t *word, size_t len)
{
    size_t *total = opaque;
    (void)word;
    return __builtin_add_overflow(*total, len, total) || *total >= UINT32_MAX ? -EFBIG : 0;
}

static uint32_t child_of(const struct mask *mask, uint32_t node, uint8_t byte)
{
    if (node == 0)
        return mask->root[byte];
    uint32_t at = mask->nodes[node].child;
    while (at && mask->nodes[at].byte != byte)
        at = mask->nodes[at].sibling;
    return at;
}

static int add_word(void *opaque, const uint8_t *word, size_t len)
{
    struct mask *mask = opaque;
    uint32_t at = 0;
    if (len < MASK_MIN_BYTES)
        return 0;
    for (size_t i = 0; i < len; i++) {
        uint32_t next = child_of(mask, at, word[i]);
        if (!next) {
            next = mask->node_count++;
            mask->nodes[next] = (struct node){
                .byte = word[i], .depth = mask->nodes[at].depth + 1, .sibling = mask->nodes[at].child};
            mask->nodes[at].child = next;
            if (at == 0)
                mask->root[word[i]] = next;
        }
        at = next;
    }
    mask->nodes[at].match = (uint32_t)len;
    mask->longest = MAX(mask->longest, (uint32_t)len);
    return 0;
}

static uint32_t step(const struct mask *mask, uint32_t state, uint8_t byte)
{
    for (;;) {
        uint32_t next = child_of(mask, state, byte);
        if (next || state == 0)
            return next;
        state = mask->nodes[state].fail;
    }
}

/* Breadth first: a node's suffix is of a lesser depth, and so is known. `queue` has room for all. */
static void link_suffixes(struct mask *mask, uint32_t *queue)
{
    uint32_t head = 0, tail = 0;
    for (uint32_t c = mask->nodes[0].child; c; c = mask->nodes[c].sibling)
        queue[tail++] = c;
    while (head < tail) {
        uint32_t at = queue[head++];
        for (uint32_t c = mask->nodes[at].child; c; c = mask->nodes[c].sibling) {
            struct node *node = &mask->nodes[c];
            node->fail = step(mask, mask->nodes[at].fail, node->byte);
            node->match = MAX(node->match, mask->nodes[node->fail].match);
            queue[tail++] = c;
        }
    }
}

int mask_new(const struct mask_value *values, size_t count, const struct log *log, struct mask **out,
             struct dayfly_err *err)
{
    struct secret scratch = {0}, memory = {0};
    size_t longest = 0, total = 1;
    for (size_t i = 0; i < count; i++)
        longest = MAX(longest, values[i].len);
    int r = secret_new(&scratch, longest / 3 * 4 + 4, log, err);
    if (r < 0)
        return r;
    r = each_word(values, count, scratch.bytes, count_nodes, &total);
    if (r < 0)
        err_set(err, EFBIG, "the secrets are too large to be masked");
    if (r == 0)
        r = secret_new(&memory, sizeof(struct mask) + total * sizeof(struct node), log, err);
    if (r == 0) {
        struct mask *mask = memory.bytes;
        mask->memory = memory;
        mask->nodes = (struct node *)(mask + 1);
        mask->node_count = 1;
        each_word(values, count, scratch.bytes, add_word, mask);
        uint32_t *queue = calloc(total, sizeof(*queue));
        if (queue) {
            link_suffixes(mask, queue);
            *out = mask;
        } else {
            mask_free(mask);
            r = err_set(err, ENOMEM, "out of memory");
        }
        free(queue);
    }
    secret_finish(&scratch);
    return r;
}

void mask_free(struct mask *mask)
{
    if (!mask)
        return;
    struct secret memory = mask->memory; /* which holds this very struct */
    secret_finish(&memory);
}

/* -- a stream -----------------------------------------------------------------------------------------
 */

struct mask_stream *mask_stream_new(const struct mask *mask)
{
    struct mask_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->mask = mask;
    /* The byte that decides comes on top of what is held. */
    s->size = mask->longest + 1;
    /* Spans do not touch, and each is of a word at least; one may have been given in part. */
    s->span_size = s->size / (uint32_t)MASK_MIN_BYTES + 2;
    s->spans = calloc(s->span_size, sizeof(*s->spans));
    if (!s->spans || secret_new(&s->memory, s->size, NULL, NULL) < 0) {
        mask_stream_free(s);
        return NULL;
    }
    s->held = s->memory.bytes;
    return s;
}

void mask_stream_free(struct mask_stream *s)
{
    if (!s)
        return;
    secret_finish(&s->memory);
    free(s->spans);
    free(s);
}

size_t mask_stream_held(const struct mask_stream *s)
{
    return (size_t)(s->seen - s->given);
}

static struct span *span_at(const struct mask_stream *s, uint32_t index)
{
    return &s->spans[(s->first_span + index) % s->span_size];
}

/* The last `len` bytes are a word. */
static void add_span(struct mask_stream *s, uint32_t len)
{
    struct span span = {.start = s->seen - len, .end = s->seen};
    while (s->span_count) {
        const struct span *last = span_at(s, s->span_count - 1);
        if (last->end < span.start)
            break;
        span.start = MIN(span.start, last->start);
        span.told |= last->told;
        s->span_count--;
    }
    *span_at(s, s->span_count++) = span;
}

/* Give the bytes in front of `until`. */
static void give(struct mask_stream *s, uint64_t until, mask_emit_fn *emit, void *opaque)
{
    while (s->given < until) {
        struct span *span = s->span_count ? span_at(s, 0) : NULL;
        if (span && span->end <= s->given) {
            s->first_span = (s->first_span + 1) % s->span_size;
            s->span_count--;
            continue;
        }
        if (span && span->start <= s->given) {
            if (!span->told)
                emit(opaque, STARS, sizeof(STARS));
            span->told = true;
            s->given = MIN(until, span->end);
            continue;
        }
        uint64_t stop = span ? MIN(until, span->start) : until;
        uint32_t at = (uint32_t)(s->given % s->size);
        size_t len = (size_t)MIN(stop - s->given, (uint64_t)(s->size - at));
        emit(opaque, s->held + at, len);
        s->given += len;
    }
}

void mask_stream_take(struct mask_stream *s, const uint8_t *bytes, size_t len, mask_emit_fn *emit,
                      void *opaque)
{
    const struct mask *mask = s->mask;
    for (size_t i = 0; i < len;) {
        if (s->state == 0 && s->given == s->seen) {
            size_t run = i;
            while (run < len && !mask->root[bytes[run]])
                run++;
            if (run > i) {
                emit(opaque, bytes + i, run - i);
                s->given = s->seen += run - i;
                i = run;
                continue;
            }
        }
        s->held[s->seen++ % s->size] = bytes[i];
        s->state = step(mask, s->state, bytes[i++]);
        const struct node *node = &mask->nodes[s->state];
        if (node->match)
            add_span(s, node->match);
        give(s, s->seen - node->depth, emit, opaque);
    }
}

void mask_stream_release(struct mask_stream *s, mask_emit_fn *emit, void *opaque)
{
    give(s, s->seen, emit, opaque);
}

/* -- a text -------------------------------------------------------------------------------------------
 */

static void append(void *opaque, const uint8_t *bytes, size_t len)
{
    char **at = opaque;
    memmove(*at, bytes, len); /* runs that hold nothing are given from where they stand */
    *at += len;
}

void mask_text(const struct mask *mask, char *text)
{
    struct mask_stream *s = mask_stream_new(mask);
    char *at = text;
    /* Without memory nothing may be seen. */
    if (s) {
        mask_stream_take(s, (const uint8_t *)text, strlen(text), append, &at);
        mask_stream_release(s, append, &at);
    }
    *at = '\0';
    mask_stream_free(s);
}
