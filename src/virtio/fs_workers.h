/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_FS_WORKERS_H
#define VIRTIO_FS_WORKERS_H

/*
 * Threads for requests to a file server that may wait, started when there is work for them and not
 * before. Jobs stand in a list under the lock of the device, so that a reset takes back those that
 * nobody has begun.
 *
 * Threads: all functions with that lock held, submit from one thread.
 */

#include <pthread.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "fs/fs.h"
#include "machine/memory.h"
#include "util/list.h"
#include "util/log.h"
#include "virtio/fs.h"
#include "virtio/ring.h"

/* The longest chain: as many descriptors as a ring may walk, cut where memory regions meet. */
#define FS_SEGMENTS_MAX (RING_SIZE_MAX + MEMORY_REGIONS_MAX)

/* One who serves: the loop's thread, or a worker. */
struct fs_hand {
    struct fs_thread thread;
    bool unawaited;                    /* the last request was: fs_request.unawaited */
    struct iovec iov[FS_SEGMENTS_MAX]; /* a copy of the request's segments, which the server may cut */
};

struct fs_worker;

struct fs_workers {
    pthread_mutex_t *lock; /* the device's */
    struct fs *fs;
    const struct log *log;
    /* Serve a job, which is the callee's from here on; called with the lock held, and returns so. */
    void (*run)(struct fs_workers *workers, struct fs_hand *hand, struct list *job);

    struct list jobs; /* waiting */
    unsigned job_count;
    unsigned idle, count, max;
    bool stop;
    pthread_cond_t wake;    /* a job, or stop */
    pthread_cond_t started; /* a worker can serve, or cannot */
    struct fs_worker *workers[VIRTIO_FS_WORKERS_MAX];
};

/* Without the lock. The first five fields are set by the caller. */
void fs_workers_init(struct fs_workers *workers);

/* Without the lock: end the threads. There are no jobs any more. */
void fs_workers_finish(struct fs_workers *workers);

/* False when no thread is to be had: serve it yourself. Lets go of the lock while a thread starts. */
bool fs_workers_submit(struct fs_workers *workers, struct list *job);

/* Somebody is idle, or can be started. */
bool fs_workers_have_room(const struct fs_workers *workers);

/* Take back a job that nobody has begun. */
void fs_workers_cancel(struct fs_workers *workers, struct list *job);

#endif
