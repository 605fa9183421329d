/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the file system device over `fake`: the device, not the server (src/fs/fs_fuzz.c), whose place a
 * toy takes that defines what fs/fs.h declares. It touches every byte of a request, and answers as the
 * opcode says: at once, as one that waits, as one that a lock holds up, as one that breaks a rule. So
 * requests go through the device's loop, its workers and its second tries, while the driver stops
 * queues and resets.
 *
 * The device has threads of its own: which of them comes first is not in the input. It is made once.
 */
#include <endian.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "driver.h"
#include "util/arith.h"
#include "util/iov.h"
#include "virtio/fs.h"

#define OPS_MAX 100

/* Opcodes of the toy's own. */
enum { ECHO, FILL, COLD, LOCKED, UNLOCK, SILENT, BROKEN, OPCODES };

struct fs {
    atomic_uint unlocked;
    atomic_uint serving;
    int events;
};

void fs_free(struct fs *fs)
{
    (void)fs; /* there is one, for ever */
}

void fs_reset(struct fs *fs)
{
    check(fs->serving == 0);
}

void *fs_window(const struct fs *fs, uint64_t *bytes)
{
    *bytes = 0;
    return NULL;
}

void fs_show_window(struct fs *fs, bool shown)
{
}

int fs_window_events(const struct fs *fs)
{
    return fs->events;
}

void fs_heed_window(struct fs *fs)
{
}

bool fs_mend_window(struct fs *fs)
{
    return false;
}

int fs_lock_up(struct fs *fs, struct jail *jail, const struct isolate_calls *more, size_t more_count,
               struct dayfly_err *err)
{
    return 0;
}

int fs_thread_enter(struct fs *fs, struct fs_thread *thread, struct dayfly_err *err)
{
    return 0;
}

void fs_thread_leave(struct fs_thread *thread)
{
}

static uint32_t opcode_of(const struct fs_request *request)
{
    struct fuse_in_header header = {0};
    iov_copy_out(request->in, request->in_count, 0, &header, sizeof(header));
    return header.opcode % OPCODES;
}

uint64_t fs_unlocked(struct fs *fs)
{
    return fs->unlocked;
}

static void touch(const struct fs_request *request)
{
    static const uint8_t zeroes[FUZZ_SLOT];
    uint8_t bytes[FUZZ_SLOT];
    check(iov_bytes(request->in, request->in_count) == request->in_bytes &&
          iov_bytes(request->out, request->out_count) == request->out_bytes);
    iov_copy_out(request->in, request->in_count, 0, bytes, MIN(request->in_bytes, sizeof(bytes)));
    iov_copy_in(request->out, request->out_count, 0, zeroes, MIN(request->out_bytes, sizeof(zeroes)));
}

ssize_t fs_serve(struct fs *fs, struct fs_thread *thread, struct fs_request *request)
{
    ssize_t result = (ssize_t)MIN(request->in_bytes, request->out_bytes);
    if (request->in_bytes < sizeof(struct fuse_in_header))
        return FS_BROKEN;
    fs->serving++;
    touch(request);
    switch (opcode_of(request)) {
    case FILL:
        result = (ssize_t)request->out_bytes;
        break;
    case COLD:
        result = request->at_once ? FS_WAITS : result;
        break;
    case LOCKED:
        result = fs->unlocked % 2 ? result : FS_LATER;
        break;
    case UNLOCK:
        fs->unlocked++;
        break;
    case SILENT:
        result = 0;
        break;
    case BROKEN:
        result = FS_BROKEN;
        break;
    }
    fs->serving--;
    return result;
}

/* -- the driver -------------------------------------------------------------------------------- */

static void send_request(struct fuzz_driver *d)
{
    struct {
        struct fuse_in_header header;
        uint8_t data[64];
    } request = {0};
    uint8_t how = u8(&d->in);
    uint32_t bytes = sizeof(request.header) + how % sizeof(request.data);
    request.header = (struct fuse_in_header){.len = bytes, .opcode = u8(&d->in) % OPCODES};
    if (how & 64)
        request.header.len = u16(&d->in);
    fuzz_driver_send(d, u8(&d->in) % d->dev->queue_count, &request, bytes);
}

static struct virtio_device *the_device(void)
{
    static struct fs fs;
    static struct virtio_device *dev;
    const struct virtio_fs_options options = {.tag = "fuzz", .queues = 2, .workers_max = 2};
    struct dayfly_err err;
    if (!dev) {
        fs.events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        check(fs.events >= 0 && virtio_fs_new(&dev, &fs, &options, NULL, &err) == 0);
    }
    return dev;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_driver d;
    fuzz_driver_init(&d, data, size);
    fuzz_driver_carry(&d, the_device());
    fuzz_driver_start(&d);
    for (unsigned i = 0; i < OPS_MAX && d.in.left > 0; i++) {
        if (u8(&d.in) < 128)
            send_request(&d);
        else
            fuzz_driver_step(&d);
    }
    fuzz_driver_release(&d);
    fuzz_driver_finish(&d);
    return 0;
}
