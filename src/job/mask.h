/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_MASK_H
#define JOB_MASK_H

/*
 * Words that must not be seen in a job's output, and streams in which they are replaced by "***".
 *
 * What is masked of a value: the whole of it (without line breaks at its end), each of its lines, and
 * its base64 in both alphabets at any of the three alignments that it can have within a longer text. A
 * word of less than MASK_MIN_BYTES is not looked for: it would be found everywhere. Other encodings
 * (hex, percent, JSON's escapes, base64 broken into lines) pass. This keeps a value out of a log by
 * accident; a command that wants to tell it can.
 *
 * A stream may break a word anywhere. The end of what has come, as long as it could be a word's
 * beginning, is held back; never more than that. Words may overlap: everything that belongs to any of
 * them is masked, and what is masked without a gap becomes one "***". The output is never longer than
 * the input, as no word is shorter than what stands for it.
 *
 * All memory that tells of words is that of util/secret.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/secret.h"

#define MASK_MIN_BYTES ((size_t)4)

struct mask_value {
    const uint8_t *bytes;
    size_t len;
};

/* The words of some values. Not changed once it is made, so that several streams may use it. */
struct mask;

/* Returns 0 or -errno. NULL is what mask_free may be given. */
int mask_new(const struct mask_value *values, size_t count, const struct log *log, struct mask **out,
             struct dayfly_err *err);
void mask_free(struct mask *mask);

/* Mask a text in place. */
void mask_text(const struct mask *mask, char *text);

/* One stream. */
struct mask_stream;

/* `mask` is borrowed until the stream is freed. NULL: no memory. */
struct mask_stream *mask_stream_new(const struct mask *mask);
void mask_stream_free(struct mask_stream *stream);

/* Where what may be seen goes to, in order; `bytes` is valid during the call. */
typedef void mask_emit_fn(void *opaque, const uint8_t *bytes, size_t len);

/* Take the next bytes of the stream, and give what has been decided. */
void mask_stream_take(struct mask_stream *stream, const uint8_t *bytes, size_t len, mask_emit_fn *emit,
                      void *opaque);

/* Give what is held back. When it was a word's beginning after all, the rest of it is still masked. */
void mask_stream_release(struct mask_stream *stream, mask_emit_fn *emit, void *opaque);

/* How many bytes are held back. */
size_t mask_stream_held(const struct mask_stream *stream);

#endif
