/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_FRAMES_H
#define NET_FRAMES_H

/*
 * Frames over a SOCK_SEQPACKET socket, several a system call. What the other end does not take waits in
 * a queue of fixed size; what does not fit there is lost, as on a wire.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct frames;

/* The socket is borrowed. NULL without memory. */
struct frames *frames_new(int fd);
void frames_free(struct frames *frames);

#define FRAMES_BATCH 16

/* Receive what is there, up to a batch. The number of frames, 0, or -EPIPE at the end. Frame i (below
 * that number) stays until the next call; one that was too long is cut to PACKET_FRAME_MAX + 1 bytes.
 */
int frames_receive(struct frames *frames);
const uint8_t *frames_get(const struct frames *frames, int i, size_t *len);

/* Send a frame, at the latest with frames_flush. False: lost. */
bool frames_send(struct frames *frames, const void *frame, size_t len);
void frames_flush(struct frames *frames);

/* Bytes that the other end has not taken yet. From FRAMES_CROWDED on nothing more should be produced.
 */
size_t frames_waiting(const struct frames *frames);
#define FRAMES_CROWDED (512 * 1024)

#endif
