/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_FS_PRIVATE_H
#define VIRTIO_FS_PRIVATE_H

/*
 * Shared by the parts of the file system device:
 *   fs.c          the device: its making, its threads, what a transport asks for
 *   fs_serve.c    requests, from the pop to the push, and turns
 *   fs_workers.c  the threads for requests that wait
 *
 * Everything here is used with the device's lock held.
 */

#include "util/arith.h"
#include "util/careful.h"
#include "util/list.h"
#include "virtio/fs.h"
#include "virtio/fs_workers.h"

#define VIRTIO_FS_HIPRIO 0u

struct virtio_fs_queue {
    unsigned index;
    unsigned busy;     /* popped, and neither pushed nor parked */
    unsigned parked;   /* of virtio_fs.parked */
    unsigned draining; /* who waits for busy to become 0 */
    bool pushed;       /* since the last interrupt, and somebody waits for it */
    unsigned unsaid;   /* pushed since then, and nobody does */
};

struct virtio_fs {
    struct virtio_device dev;
    struct fs *fs;
    struct virtio_fs_config {
        uint8_t tag[VIRTIO_FS_TAG_BYTES];
        uint32_t num_request_queues;
    } config;
    struct loop_source wake;   /* an eventfd: another thread has something for the loop */
    struct loop_source window; /* files in the DAX window have changed their sizes */
    struct loop_timer turn;    /* due: some queue is noted */
    struct loop_timer retry;   /* due: try what is parked */
    struct loop_timer say;     /* due: interrupt for what is unsaid */
    pthread_t thread;          /* the loop's */
    struct fs_hand hand;       /* and its means to serve */
    struct fs_workers workers;
    struct iovec popped[FS_SEGMENTS_MAX]; /* by the loop's thread */
    struct careful careful;               /* likewise */
    bool processors_spare;

    uint32_t noted; /* queues to serve, a bit each */
    bool entered;   /* fs_thread_enter succeeded */
    struct list parked;
    uint64_t unlocked; /* fs_unlocked when the parked ones were last tried */
    struct list kept;  /* for the next requests */
    unsigned kept_count;
    pthread_cond_t quiet; /* some queue's busy became 0 */
    struct virtio_fs_queue queues[1 + VIRTIO_FS_QUEUES_MAX];
};

static inline struct virtio_fs *virtio_fs_of(struct virtio_device *dev)
{
    return container_of(dev, struct virtio_fs, dev);
}

/* -- fs_serve.c -- */

/* A queue has something: the next turn serves it. */
void virtio_fs_note(struct virtio_fs *f, unsigned queue);

/* In the loop's thread, without the lock: serve what is noted; try what is parked; interrupt for what
 * is unsaid. */
void virtio_fs_take_turn(struct virtio_fs *f);
void virtio_fs_try_parked(struct virtio_fs *f);
void virtio_fs_say(struct virtio_fs *f);

/* fs_workers' `run`. */
void virtio_fs_run_job(struct fs_workers *workers, struct fs_hand *hand, struct list *job);

/* Interrupt now, if anything was pushed since the last time. */
void virtio_fs_interrupt(struct virtio_fs *f, struct virtio_fs_queue *q);

/* Answer the parked requests of a queue with EINTR. */
void virtio_fs_give_up_parked(struct virtio_fs *f, const struct virtio_fs_queue *q);

/* Drop, without an answer, all that is parked or that no worker has begun. */
void virtio_fs_drop_waiting(struct virtio_fs *f);

/* Free what is kept for the next requests. */
void virtio_fs_free_kept(struct virtio_fs *f);

#endif
