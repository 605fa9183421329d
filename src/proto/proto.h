/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_PROTO_H
#define PROTO_PROTO_H

/*
 * The conversation between the host and the agent that is PID 1 of a guest.
 *
 * One byte stream (vsock, or a virtio console port) carries frames: a 12 byte header, little-endian,
 * and at most PROTO_PAYLOAD_MAX bytes of payload.
 *
 *     u32 length    of the payload
 *     u16 type      enum proto_type
 *     u16 stream    enum proto_stream for DATA, END, WINDOW and CLOSE; zero otherwise
 *     u32 session   chosen by the host with EXEC, never used again; zero for the machine's own messages
 *
 * The agent speaks first:
 *
 *     agent                       host
 *     HELLO ->                                     the agent runs
 *                             <- SETUP             what the machine is to become
 *     READY -> (or FAIL)                           the root file system is up
 *                             <- SECRET            as many as there are; what fails, EXEC_FAILED tells
 *                             <- EXEC s
 *     STARTED s -> (or EXEC_FAILED s, the end)
 *     DATA s, END s, WINDOW s, CLOSE s in both directions; SIGNAL s, RESIZE s, KILL s from the host
 *     EXIT s ->                                    the last message of a session
 *                             <- STAT, SHUTDOWN at any time after READY
 *     STAT_REPLY, BYE ->
 *
 * Credit. The receiver of a stream says how many bytes of DATA it is able to hold; the sender never
 * has more outstanding. The first credit stands in EXEC (stdout, stderr) and in STARTED (stdin), WINDOW
 * adds to it. So each end is always able to take every frame off the connection, and a stream that
 * nobody reads stops neither another stream nor a signal.
 *
 * An EXEC with PROTO_EXEC_COLLECT runs no command: the agent itself writes files to the session's
 * stdout (proto/record.h).
 *
 * END s says that a stream holds no more. CLOSE s is the receiver's word that it wants no more of a
 * stream (its reader has gone): what arrives after it was under way and is dropped.
 *
 * A message for a session that has ended, or never was, is no fault: it crossed with EXIT. Anything
 * else that breaks these rules is: the end that sees it gives the connection up. The host believes
 * nothing that a guest says; the agent trusts the host's intentions, not its bytes.
 */

#include <stdint.h>

#define PROTO_VERSION      3
#define PROTO_VSOCK_PORT   1024 /* on the host, CID 2 */
#define PROTO_HEADER_BYTES 12
#define PROTO_PAYLOAD_MAX  65536
#define PROTO_SESSIONS_MAX 64 /* alive at one time */

/* No end may be given more credit for one stream than this. */
#define PROTO_WINDOW_MAX   (1u << 20)
#define PROTO_WINDOW_BYTES (256u << 10) /* what the host grants to stdout and stderr at first */

enum proto_type {
    PROTO_HELLO = 1,
    PROTO_SETUP,
    PROTO_READY,
    PROTO_FAIL,
    PROTO_EXEC,
    PROTO_STARTED,
    PROTO_EXEC_FAILED,
    PROTO_DATA,
    PROTO_END,
    PROTO_WINDOW,
    PROTO_CLOSE,
    PROTO_SIGNAL,
    PROTO_RESIZE,
    PROTO_KILL,
    PROTO_EXIT,
    PROTO_STAT,
    PROTO_STAT_REPLY,
    PROTO_SHUTDOWN = 20, /* 18 and 19 were others */
    PROTO_BYE,
    PROTO_SECRET,
    PROTO_TYPE_COUNT,
};

enum proto_stream { PROTO_STDIN, PROTO_STDOUT, PROTO_STDERR, PROTO_STREAMS };

/* One frame. The payload is borrowed from where the frame was read. */
struct proto_frame {
    uint16_t type;
    uint16_t stream;
    uint32_t session;
    uint32_t len;
    const uint8_t *payload;
};

/* Write the header of a frame. */
void proto_put_header(uint8_t out[PROTO_HEADER_BYTES], uint16_t type, uint16_t stream, uint32_t session,
                      uint32_t len);

/* Read one: 0, or -EPROTO when the type, the stream, the session or the length cannot be. Says nothing
 * about the payload; f->payload is left NULL. */
int proto_get_header(const uint8_t in[PROTO_HEADER_BYTES], struct proto_frame *f);

/* The message's name for diagnostics: "EXEC", or "?" for a number that is none. */
const char *proto_type_name(unsigned type);

#endif
