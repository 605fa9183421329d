/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"
#include "util/arith.h"

#define TIME_MAX_S 253402300799 /* the year 9999 */

/* What the reader is in the middle of. */
enum { AT_HEAD, AT_NAME, AT_TEXT, AT_PIECE, AT_DATA, AT_CODE };

void proto_record_put(uint8_t out[PROTO_RECORD_BYTES], const struct proto_record *r, size_t name_len,
                      size_t text_len)
{
    wire_store16(out, r->kind);
    wire_store16(out + 2, r->mode);
    wire_store32(out + 4, r->pattern);
    wire_store32(out + 8, (uint32_t)name_len);
    wire_store32(out + 12, (uint32_t)text_len);
}

/* How many components a relative path has that stays where it begins; -1: it does not, or is none. */
static int components(const char *path)
{
    int count = 0;
    for (const char *p = path;; p++) {
        size_t len = strcspn(p, "/");
        if (len == 0 || len > 255 || (len == 1 && p[0] == '.') ||
            (len == 2 && p[0] == '.' && p[1] == '.'))
            return -1;
        count++;
        p += len;
        if (!*p)
            return count;
    }
}

bool proto_record_link_stays(const char *name, const char *target)
{
    int depth = components(name);
    while (depth > 0 && strncmp(target, "../", 3) == 0) {
        target += 3;
        depth--;
    }
    /* The last component of the name is the link itself: from there one less can be gone up. */
    if (depth > 0 && strcmp(target, "..") == 0)
        return depth > 1;
    return depth > 0 && components(target) > 0;
}

void proto_record_time_put(char out[PROTO_RECORD_TIME_BYTES], const struct timespec *time)
{
    out[0] = '\0';
    if (time->tv_sec >= 0 && time->tv_sec <= TIME_MAX_S)
        snprintf(out, PROTO_RECORD_TIME_BYTES, "%lld.%09ld", (long long)time->tv_sec, time->tv_nsec);
}

bool proto_record_time_take(const char *text, struct timespec *time)
{
    char again[PROTO_RECORD_TIME_BYTES], *dot;
    *time = (struct timespec){.tv_sec = -1};
    if (!*text)
        return true;
    time->tv_sec = strtoll(text, &dot, 10);
    time->tv_nsec = *dot == '.' ? strtol(dot + 1, NULL, 10) : -1;
    if (time->tv_nsec < 0 || time->tv_nsec > 999999999)
        return false;
    proto_record_time_put(again, time);
    return strcmp(text, again) == 0; /* it has one form, and is in range */
}

static bool valid(const struct proto_record_reader *reader, const struct proto_record *r)
{
    int depth = r->name[0] ? components(r->name) : 0;
    struct timespec changed;
    bool in_match = reader->matched && depth >= 0 && depth <= PROTO_RECORD_DEPTH && r->mode <= 0777;
    switch (r->kind) {
    case PROTO_RECORD_MATCH:
        return depth == 1 && !r->mode && r->text[0];
    case PROTO_RECORD_DIR:
        return in_match && !r->text[0];
    case PROTO_RECORD_FILE:
        return in_match && proto_record_time_take(r->text, &changed);
    case PROTO_RECORD_LINK:
        return in_match && depth > 0 && !r->mode && proto_record_link_stays(r->name, r->text);
    case PROTO_RECORD_NOTE:
        return !r->mode && r->name[0] && r->text[0];
    case PROTO_RECORD_MISSING:
    case PROTO_RECORD_DONE:
        return !r->mode && !r->name[0] && !r->text[0];
    }
    return false;
}

static int take_record(struct proto_record_reader *reader, const struct proto_record_ops *ops,
                       void *opaque)
{
    const struct proto_record r = {
        .kind = wire_load16(reader->head),
        .mode = wire_load16(reader->head + 2),
        .pattern = wire_load32(reader->head + 4),
        .name = reader->strings[0],
        .text = reader->strings[1],
    };
    /* A NUL in what was sent would cut it short here. */
    if (strlen(r.name) != wire_load32(reader->head + 8) ||
        strlen(r.text) != wire_load32(reader->head + 12) || !valid(reader, &r))
        return -EPROTO;
    reader->matched =
        r.kind == PROTO_RECORD_MATCH || (reader->matched && r.kind != PROTO_RECORD_MISSING);
    reader->done = r.kind == PROTO_RECORD_DONE;
    reader->part = r.kind == PROTO_RECORD_FILE ? AT_PIECE : AT_HEAD;
    return ops->record(opaque, &r);
}

/* Take what there is of a part of `want` bytes. True when it is whole. */
static bool gather(struct proto_record_reader *reader, void *part, size_t want, const uint8_t **bytes,
                   size_t *len)
{
    size_t n = MIN(want - reader->have, *len);
    if (n)
        memcpy((uint8_t *)part + reader->have, *bytes, n);
    reader->have += n;
    *bytes += n;
    *len -= n;
    if (reader->have < want)
        return false;
    reader->have = 0;
    return true;
}

static int take_string(struct proto_record_reader *reader, int index, const uint8_t **bytes,
                       size_t *len)
{
    uint32_t want = wire_load32(reader->head + 8 + 4 * index);
    if (!gather(reader, reader->strings[index], want, bytes, len))
        return 0;
    reader->strings[index][want] = '\0';
    reader->part++;
    return 1;
}

int proto_record_take(struct proto_record_reader *reader, const struct proto_record_ops *ops,
                      void *opaque, const uint8_t *bytes, size_t len)
{
    int r = 0;
    /* A part of no bytes is whole before there are any more: go on while something moved. */
    for (bool moved = true; r >= 0 && (len || moved);) {
        const uint8_t *before = bytes;
        uint8_t part = reader->part;
        size_t n;
        if (reader->done && len)
            return -EPROTO;
        switch (part) {
        case AT_HEAD:
            if (!gather(reader, reader->head, sizeof(reader->head), &bytes, &len))
                break;
            if (wire_load32(reader->head + 8) > PROTO_RECORD_NAME_MAX ||
                wire_load32(reader->head + 12) > PROTO_RECORD_NAME_MAX)
                return -EPROTO;
            reader->part = AT_NAME;
            break;
        case AT_NAME:
            take_string(reader, 0, &bytes, &len);
            break;
        case AT_TEXT:
            if (take_string(reader, 1, &bytes, &len))
                r = take_record(reader, ops, opaque);
            break;
        case AT_PIECE:
            if (!gather(reader, reader->head, 4, &bytes, &len))
                break;
            reader->left = wire_load32(reader->head);
            if (reader->left > PROTO_PIECE_MAX)
                return -EPROTO;
            reader->part = reader->left ? AT_DATA : AT_CODE;
            break;
        case AT_DATA:
            n = MIN(len, (size_t)reader->left);
            if (n)
                r = ops->data(opaque, bytes, n);
            bytes += n;
            len -= n;
            reader->left -= (uint32_t)n;
            if (!reader->left)
                reader->part = AT_PIECE;
            break;
        case AT_CODE:
            if (!gather(reader, reader->head, 4, &bytes, &len))
                break;
            reader->part = AT_HEAD;
            r = ops->file_end(opaque, wire_load32(reader->head));
            break;
        }
        moved = bytes != before || reader->part != part;
    }
    return r;
}
