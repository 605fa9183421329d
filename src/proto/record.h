/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_RECORD_H
#define PROTO_RECORD_H

/*
 * Files on their way out of a guest: what a session with PROTO_EXEC_COLLECT writes to its standard
 * output.
 *
 * A record is a header of 16 bytes, little-endian, a name and a text:
 *
 *     u16 kind     enum proto_record_kind
 *     u16 mode     permission bits of DIR and FILE, else zero
 *     u32 pattern  which of the patterns it is of, from 0
 *     u32 bytes of the name, u32 bytes of the text (no NUL is sent)
 *
 *     MATCH    name: one component, what the match is called; text: where it is in the guest
 *     DIR      name: below the match, "" for the match itself
 *     FILE     likewise; text: when it was changed (proto_record_time_put), or "";
 *              its content follows in pieces: u32 bytes (1 to PROTO_PIECE_MAX), the bytes; a
 *              u32 0 ends it, and a u32 errno value says whether all of it could be read (0)
 *     LINK     name as of DIR, never ""; text: where it leads
 *     NOTE     name: something in the guest; text: why it is not there
 *     MISSING  nothing matched the pattern
 *     DONE     the end; what ends without it was cut
 *
 * DIR, FILE and LINK belong to the MATCH in front of them, a directory comes before what is in it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define PROTO_RECORD_BYTES    16
#define PROTO_RECORD_NAME_MAX 4095
#define PROTO_RECORD_DEPTH    64 /* components of a name */
#define PROTO_PIECE_MAX       65536

enum proto_record_kind {
    PROTO_RECORD_MATCH = 1,
    PROTO_RECORD_DIR,
    PROTO_RECORD_FILE,
    PROTO_RECORD_LINK,
    PROTO_RECORD_NOTE,
    PROTO_RECORD_MISSING,
    PROTO_RECORD_DONE,
    PROTO_RECORD_KINDS,
};

struct proto_record {
    uint16_t kind, mode;
    uint32_t pattern;
    const char *name, *text; /* terminated */
};

/* Write the header of a record whose name and text are of these lengths. */
void proto_record_put(uint8_t out[PROTO_RECORD_BYTES], const struct proto_record *r, size_t name_len,
                      size_t text_len);

/*
 * Whether a link at `name` (of a record) that leads to `target` stays within the match, whatever other
 * such links there are: it is relative, and goes up only at its beginning, and not beyond the match.
 */
bool proto_record_link_stays(const char *name, const char *target);

/*
 * A time as a text: seconds since 1970, a dot, nine digits of nanoseconds. One before 1970 or after the
 * year 9999 is "", which stands for none. The reader's half: false for a text that the other half does
 * not make; a time that is none is -1 seconds.
 */
#define PROTO_RECORD_TIME_BYTES 24
void proto_record_time_put(char out[PROTO_RECORD_TIME_BYTES], const struct timespec *time);
bool proto_record_time_take(const char *text, struct timespec *time);

/* -- the reader ---------------------------------------------------------------------------------------
 */

struct proto_record_ops {
    int (*record)(void *opaque, const struct proto_record *r);
    int (*data)(void *opaque, const uint8_t *bytes, size_t len); /* of the FILE before */
    int (*file_end)(void *opaque, uint32_t code);
};

/* A zeroed one is at the stream's beginning. */
struct proto_record_reader {
    uint8_t head[PROTO_RECORD_BYTES];
    char strings[2][PROTO_RECORD_NAME_MAX + 1]; /* name, text */
    size_t have;                                /* bytes of the part that is being read */
    uint32_t left;                              /* of a piece */
    uint8_t part;
    bool matched, done;
};

/* Take the next bytes of a stream. 0; -EPROTO: no agent writes that; or what an op returned. After a
 * failure the reader is of no use. */
int proto_record_take(struct proto_record_reader *reader, const struct proto_record_ops *ops,
                      void *opaque, const uint8_t *bytes, size_t len);

#endif
