/* SPDX-License-Identifier: Apache-2.0 */

/* Each payload decoder, for both ends: the first byte is the message's type. What a decoder accepts,
 * its encoder makes again, byte for byte. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TRY(kind)                                                                                      \
    ({                                                                                                 \
        static struct proto_##kind m;                                                                  \
        n = proto_##kind##_decode(&m, in, size) == 0 ? proto_##kind##_encode(&m, out, sizeof(out))     \
                                                     : -1;                                             \
    })

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[PROTO_PAYLOAD_MAX];
    static struct proto_exec_strings strings;
    struct proto_exec exec;
    struct proto_frame f;
    ssize_t n = -1;
    if (size >= PROTO_HEADER_BYTES)
        (void)proto_get_header(data, &f);
    if (size < 1 || size > PROTO_PAYLOAD_MAX)
        return 0;
    /* A copy of just this size, so that a read behind its end is seen. */
    uint8_t *in = malloc(--size ? size : 1);
    memcpy(in, data + 1, size);
    switch (data[0]) {
    case PROTO_HELLO:
        TRY(hello);
        break;
    case PROTO_SETUP:
        TRY(setup);
        break;
    case PROTO_READY:
        TRY(ready);
        break;
    case PROTO_FAIL:
        TRY(fail);
        break;
    case PROTO_EXEC:
        if (proto_exec_decode(&exec, &strings, in, size) == 0)
            n = proto_exec_encode(&exec, out, sizeof(out));
        break;
    case PROTO_SECRET:
        TRY(secret);
        break;
    case PROTO_STARTED:
        TRY(started);
        break;
    case PROTO_EXEC_FAILED:
        TRY(exec_failed);
        break;
    case PROTO_WINDOW:
        TRY(window);
        break;
    case PROTO_SIGNAL:
        TRY(signal);
        break;
    case PROTO_RESIZE:
        TRY(resize);
        break;
    case PROTO_EXIT:
        TRY(exit);
        break;
    case PROTO_STAT_REPLY:
        TRY(stat);
        break;
    case PROTO_SHUTDOWN:
        TRY(shutdown);
        break;
    }
    if (n >= 0 && ((size_t)n != size || memcmp(in, out, size) != 0))
        abort();
    free(in);
    return 0;
}
