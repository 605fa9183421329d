/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_ECHO_H
#define BORDER_ECHO_H

/*
 * Values in what a host says to the guest become placeholders again. Looked for is each value as it is,
 * percent-encoded, and in base64 of either alphabet at any of the three alignments that it can have
 * within a longer text. (Of base64 the whole groups: up to two bytes at either end of the value stay.)
 *
 * A stream may break a value anywhere. Held back is only what can be the beginning of one: the longest
 * end of what has come that begins a word. It is known by its length, since it reads as the word does:
 * so there is nothing to store but how far into each word the stream is (Knuth, Morris and Pratt), and
 * time does not depend on what comes. Where words overlap, all of what belongs to any of them is
 * replaced at once.
 */

#include "border/swap.h"

#define ECHO_WORDS_MAX (SWAP_SECRETS_MAX * 9)

/* The words of one host's secrets. */
struct echo;

/* The memory that echo_make needs for all hosts. */
size_t echo_bytes(const struct swap *swap);

/* Make one for each host, in memory of echo_bytes zeroes, which has to live as long. */
void echo_make(const struct swap *swap, void *memory, const struct echo *hosts[static SWAP_HOSTS_MAX]);

struct echo_stream {
    const struct echo *echo;
    bool keep_length; /* a body whose length has been told: a placeholder is cut, or filled with '*' */
    bool hit, told;   /* some of what is held belongs to a word; its replacement has been given */
    uint32_t hit_start, hit_end; /* counted from the first byte that is held */
    uint32_t hit_done;           /* bytes of it that have been given, with keep_length */
    unsigned hit_word;
    uint32_t held;
    unsigned held_word;               /* of which it is the beginning */
    uint16_t matched[ECHO_WORDS_MAX]; /* how far into each */
};

void echo_begin(struct echo_stream *stream, const struct echo *echo, bool keep_length);

/* Take the next bytes; then, at the end of the stream, give what is held. The two put at most
 * ECHO_GROWTH(len) into `out`. Returns how many words were found. */
unsigned echo_take(struct echo_stream *stream, const uint8_t *bytes, size_t len, struct buffer *out);
void echo_end(struct echo_stream *stream, struct buffer *out);

/* What was held (the longest word is percent-encoded) and what comes: at worst all of it words. */
#define ECHO_GROWTH(len)                                                                               \
    (3 * SWAP_VALUE_MAX + ((len) / SWAP_VALUE_MIN + 2) * SWAP_PLACEHOLDER_LEN + (len))

/* A whole text at once. */
unsigned echo_text(const struct echo *echo, const void *text, size_t len, struct buffer *out);

#endif
