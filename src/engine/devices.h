/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_DEVICES_H
#define ENGINE_DEVICES_H

/*
 * The virtio devices of a description, made once for whichever engine carries them: disks, shares
 * and networks in the order of the description, then vsock, entropy and the consoles.
 */

#include <stdbool.h>

#include "block/block.h"
#include "config/config.h"
#include "dayfly/error.h"
#include "engine/engine.h"
#include "engine/network.h"
#include "engine/share.h"
#include "machine/loop.h"
#include "util/log.h"
#include "virtio/device.h"

#define DEVICES_MAX 30 /* functions of a PCI bus, less the host bridge and a reserve */

struct device_set {
    struct virtio_device *devices[DEVICES_MAX];
    void (*free[DEVICES_MAX])(struct virtio_device *);
    struct block *patient[DEVICES_MAX]; /* of a disk that waits for room; else NULL */
    unsigned count;
    struct share *shares[CONFIG_MAX_SHARES];
    unsigned share_count;
    struct network *networks[CONFIG_MAX_NETWORKS]; /* in the order of the description */
    unsigned network_count;
    struct virtio_device *vsock; /* one of them, or NULL */
};

struct device_setup { /* all borrowed */
    const struct engine_ops *engine;
    struct loop *loop;
    struct jail *jail; /* of the threads that devices have */
    const struct log *log;
};

/* Open what the description names and make the devices for an engine, on the loop or with one of their
 * own; the console device only if the engine has none. On failure the set is empty. */
int devices_make(struct device_set *set, const struct dayfly_config *config,
                 const struct device_setup *setup, struct dayfly_err *err);

/* Add what the devices need of the thread of that loop, which is then to be locked up so. False: it is
 * too much. */
bool devices_isolate(const struct device_set *set, struct isolate_options *options);

/* The machine goes on after a pause: what waits for room on the host is tried again. Any thread. */
void devices_resumed(struct device_set *set);

/* Open the file that a stream's output goes to: *fd is -1 when it names none (output_fd counts then).
 * The caller closes *fd. */
int stream_open_output(const struct config_stream *stream, int *fd, struct dayfly_err *err);

/* After their transports let go of them, and when the loop runs no more. Safe on a zeroed set and safe
 * to call twice. */
void devices_finish(struct device_set *set);

#endif
