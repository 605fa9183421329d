/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

/*
 * A block back end: bytes at offsets, asynchronously. What the virtio block device and stacked formats
 * (overlay.h, crypt.h) speak to. A format is one file and one struct block_ops; nothing is probed.
 *
 * Threads: one caller at a time (the device holds its lock), but for block_transfer. Completions are
 * delivered only from block_reap and block_drain, in the caller's thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "dayfly/error.h"
#include "isolate/isolate.h"

struct block;

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

/* One request; the caller owns it, and iov, until done is called. */
struct block_request {
    enum block_op op;
    uint64_t offset_bytes;
    uint64_t length_bytes; /* for reads and writes: the sum of iov */
    const struct iovec *iov;
    unsigned iov_count;
    bool unmap; /* WRITE_ZEROES may deallocate */
    /* result: 0 or -errno. A short transfer is never reported: it is completed or an error. After a
     * FLUSH completed with 0, everything completed before its submission is on stable storage. */
    void (*done)(struct block_request *request, int result);
    void *private; /* the back end's */
};

struct block_ops {
    const char *name;
    /* Queue a request; it may complete at once by a later reap. Returns 0 or -errno (then done is not
     * called): -EBUSY when the back end is full (reap, then again). The range has been checked. */
    int (*submit)(struct block *block, struct block_request *request);
    /* Do a read or a write here and now, provided that it is a copy from or to the host's memory. From
     * any thread, while others call this or anything above. `done` is not called. Returns 0 or -errno;
     * -EAGAIN when it might have to wait: then some of it may have been done, and it is to be
     * submitted. NULL: always that. */
    int (*transfer)(struct block *block, const struct block_request *request);
    /* Hand what was queued to the kernel (batching point). */
    int (*kick)(struct block *block);
    /* Deliver what has completed; never blocks. Returns how many. */
    unsigned (*reap)(struct block *block);
    /* Wait until nothing is in flight, delivering completions. */
    void (*drain)(struct block *block);
    void (*destroy)(struct block *block);
};

struct block {
    const struct block_ops *ops;
    uint64_t size_bytes;  /* a multiple of 512 */
    uint32_t block_bytes; /* preferred I/O size, e.g. 4096 */
    /* What changes the disk begins and ends at multiples of it: 512, or more of a format below others
     * that would else have to read before it writes. Reads go by 512 everywhere. */
    uint32_t unit_bytes;
    bool read_only;
    bool discard; /* DISCARD and WRITE_ZEROES with unmap give space back. What a discarded range then
                   * reads as is the format's to say, and is in its header. */
    int event_fd; /* readable when reap has something to deliver; owned by the back end */
};

/* Checks range, units and read_only (-EROFS, -EINVAL), then ops->submit. */
int block_submit(struct block *block, struct block_request *request);
int block_transfer(struct block *block, const struct block_request *request); /* so does this */
int block_kick(struct block *block);
unsigned block_reap(struct block *block);
void block_drain(struct block *block);
void block_destroy(struct block *block); /* drains first; NULL is legal */

/* How raw.c does its I/O. AUTO takes io_uring where the kernel allows it, else threads. */
enum block_io { BLOCK_IO_AUTO, BLOCK_IO_URING, BLOCK_IO_THREADS };

struct block_raw_options {
    int fd; /* a regular file or block device; taken, even on failure */
    bool read_only;
    enum block_io io;
    bool direct;   /* past the host's page cache; requests that do not suit it are copied (fit.h) */
    bool unsynced; /* FLUSH does nothing: what was written may be lost with the host, though not with
                    * this process */
};

/*
 * A raw image: byte N of the disk is byte N of the file. A discarded range reads as zeroes where the
 * file system can punch holes, and as before elsewhere. The units of a block device are its logical
 * blocks; those of a file have 512 bytes.
 *
 * Errors: -EBUSY (somebody else has it, config/disk_lock.h), -EOPNOTSUPP (`direct`, and the file system
 * cannot), ... Once a FLUSH failed, all that follow fail.
 */
int block_raw_open(struct block **out, const struct block_raw_options *options, struct dayfly_err *err);

/*
 * The system calls that a back end of any of the formats makes in the threads that submit and reap, up
 * to a NULL. To open one takes more, which a thread that is locked up has not got.
 */
extern const struct isolate_calls *const block_calls[];

extern const struct isolate_calls block_raw_calls, block_patient_calls; /* parts of it */

#endif
