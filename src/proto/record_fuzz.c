/* SPDX-License-Identifier: Apache-2.0 */

/* The stream of artifacts, in pieces whose size is the first byte: what is let through keeps the rules
 * that the host relies on. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/record.h"
#include "util/arith.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    bool in_file, matched, done;
};

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_name(const char *name)
{
    must(name[0] != '/' && strlen(name) <= PROTO_RECORD_NAME_MAX);
    for (const char *p = name; *p;) {
        size_t len = strcspn(p, "/");
        must(len > 0 && len <= 255 && strncmp(p, "..", MAX(len, (size_t)2)) != 0);
        p += len + (p[len] == '/');
    }
}

static int record(void *opaque, const struct proto_record *r)
{
    struct seen *seen = opaque;
    must(!seen->in_file && !seen->done);
    must(r->mode <= 0777);
    seen->done = r->kind == PROTO_RECORD_DONE;
    seen->in_file = r->kind == PROTO_RECORD_FILE;
    if (r->kind == PROTO_RECORD_DIR || r->kind == PROTO_RECORD_FILE || r->kind == PROTO_RECORD_LINK) {
        must(seen->matched);
        check_name(r->name);
    }
    if (r->kind == PROTO_RECORD_LINK)
        must(r->text[0] && r->text[0] != '/');
    if (r->kind == PROTO_RECORD_MATCH) {
        check_name(r->name);
        must(!strchr(r->name, '/') && r->name[0]);
        seen->matched = true;
    }
    return 0;
}

static int data_of_file(void *opaque, const uint8_t *bytes, size_t len)
{
    struct seen *seen = opaque;
    must(seen->in_file && len > 0 && len <= PROTO_PIECE_MAX);
    must((bytes[0] | bytes[len - 1]) <= UINT8_MAX); /* reads both ends */
    return 0;
}

static int file_end(void *opaque, uint32_t code)
{
    struct seen *seen = opaque;
    must(seen->in_file);
    seen->in_file = false;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct proto_record_ops ops = {record, data_of_file, file_end};
    static struct proto_record_reader reader;
    struct seen seen = {0};
    if (size < 1)
        return 0;
    size_t piece = data[0] ? data[0] : size;
    memset(&reader, 0, sizeof(reader));
    for (size_t at = 1; at < size; at += piece) {
        size_t n = MIN(piece, size - at);
        /* A copy of just this size, so that a read behind its end is seen. */
        uint8_t *copy = malloc(n);
        memcpy(copy, data + at, n);
        int r = proto_record_take(&reader, &ops, &seen, copy, n);
        free(copy);
        if (r < 0)
            break;
    }
    return 0;
}
