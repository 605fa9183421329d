/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/proto.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "proto/wire.h"
#include "util/arith.h"

/* What a header may say, one row a message. */
static const struct {
    const char *name;
    bool session; /* belongs to a session; otherwise its session number is zero */
    bool stream;  /* belongs to a stream of it */
} TYPES[] = {
    [PROTO_HELLO] = {"HELLO"},
    [PROTO_SETUP] = {"SETUP"},
    [PROTO_READY] = {"READY"},
    [PROTO_FAIL] = {"FAIL"},
    [PROTO_EXEC] = {"EXEC", .session = true},
    [PROTO_STARTED] = {"STARTED", .session = true},
    [PROTO_EXEC_FAILED] = {"EXEC_FAILED", .session = true},
    [PROTO_DATA] = {"DATA", .session = true, .stream = true},
    [PROTO_END] = {"END", .session = true, .stream = true},
    [PROTO_WINDOW] = {"WINDOW", .session = true, .stream = true},
    [PROTO_CLOSE] = {"CLOSE", .session = true, .stream = true},
    [PROTO_SIGNAL] = {"SIGNAL", .session = true},
    [PROTO_RESIZE] = {"RESIZE", .session = true},
    [PROTO_KILL] = {"KILL", .session = true},
    [PROTO_EXIT] = {"EXIT", .session = true},
    [PROTO_STAT] = {"STAT"},
    [PROTO_STAT_REPLY] = {"STAT_REPLY"},
    [PROTO_SHUTDOWN] = {"SHUTDOWN"},
    [PROTO_BYE] = {"BYE"},
    [PROTO_SECRET] = {"SECRET"},
};
static_assert(ARRAY_SIZE(TYPES) == PROTO_TYPE_COUNT, "a row for each message");

void proto_put_header(uint8_t out[PROTO_HEADER_BYTES], uint16_t type, uint16_t stream, uint32_t session,
                      uint32_t len)
{
    wire_store32(out, len);
    wire_store16(out + 4, type);
    wire_store16(out + 6, stream);
    wire_store32(out + 8, session);
}

int proto_get_header(const uint8_t in[PROTO_HEADER_BYTES], struct proto_frame *f)
{
    *f = (struct proto_frame){
        .len = wire_load32(in),
        .type = wire_load16(in + 4),
        .stream = wire_load16(in + 6),
        .session = wire_load32(in + 8),
    };
    if (f->len > PROTO_PAYLOAD_MAX || f->type >= PROTO_TYPE_COUNT || !TYPES[f->type].name)
        return -EPROTO;
    if (TYPES[f->type].session != (f->session != 0))
        return -EPROTO;
    if (f->stream >= (TYPES[f->type].stream ? PROTO_STREAMS : 1))
        return -EPROTO;
    return 0;
}

const char *proto_type_name(unsigned type)
{
    return type < PROTO_TYPE_COUNT && TYPES[type].name ? TYPES[type].name : "?";
}
