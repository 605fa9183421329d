/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/devices.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "block/patient.h"
#include "engine/disk.h"
#include "engine/network.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "virtio/block.h"
#include "virtio/console.h"
#include "virtio/entropy.h"
#include "virtio/fs.h"
#include "virtio/net.h"
#include "virtio/vsock.h"

int stream_open_output(const struct config_stream *stream, int *fd, struct dayfly_err *err)
{
    *fd = -1;
    if (!stream->path)
        return 0;
    *fd = open(stream->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    return *fd < 0 ? err_errno(err, errno, "open %s for a console's output", stream->path) : 0;
}

static void add(struct device_set *set, struct virtio_device *device,
                void (*free_device)(struct virtio_device *))
{
    set->devices[set->count] = device;
    set->free[set->count] = free_device;
    set->count++;
}

/* With a queue a processor, so that none waits for another's lock and each has its own interrupt. */
static int add_disk(struct device_set *set, const struct config_disk *disk, uint32_t cpus,
                    const struct device_setup *setup, struct dayfly_err *err)
{
    struct virtio_block_options options = {.queues = MIN(cpus, VIRTIO_BLOCK_QUEUES_MAX),
                                           .jail = setup->jail,
                                           .carrier_calls = setup->engine->carrier_calls};
    struct loop *loop = setup->loop;
    const struct log *log = setup->log;
    struct attached_disk attached;
    struct virtio_device *device;
    int r = disk_attach(&attached, disk, log, err);
    if (r < 0)
        return r;
    if (disk->id)
        memcpy(options.serial, disk->id, strnlen(disk->id, sizeof(options.serial)));
    if (!attached.block->read_only)
        loop = NULL;
    if ((r = virtio_block_new(&device, attached.block, &options, loop, log, err)) < 0)
        return r;
    set->patient[set->count] = attached.patient;
    add(set, device, virtio_block_free);
    return 0;
}

static int add_share(struct device_set *set, const struct config_share *share, size_t shares,
                     const struct device_setup *setup, struct dayfly_err *err)
{
    const struct engine_ops *engine = setup->engine;
    const struct log *log = setup->log;
    const struct virtio_fs_options options = {.tag = share->tag,
                                              .queues = share->queues,
                                              .carrier_calls = engine->carrier_calls,
                                              .jail = setup->jail};
    struct config_share made = *share;
    struct virtio_device *device;
    struct fs *server;
    if (made.window_bytes && !engine->shows_memory) {
        log_line(log, LOG_WARN, "share %s: no DAX window with engine %s", share->tag, engine->name);
        made.window_bytes = 0;
    }
    int r = share_open(&set->shares[set->share_count], &server, &made, shares, log, err);
    if (r < 0)
        return r;
    set->share_count++;
    if ((r = virtio_fs_new(&device, server, &options, log, err)) == 0)
        add(set, device, virtio_fs_free);
    return r;
}

static int add_network(struct device_set *set, const struct config_network *network, unsigned cpus,
                       const struct device_setup *setup, struct dayfly_err *err)
{
    struct virtio_net_options options = {.carrier_calls = setup->engine->carrier_calls,
                                         .jail = setup->jail};
    struct virtio_device *device;
    struct net *net;
    int r = network_open(&set->networks[set->network_count], &net, network, cpus, options.mac,
                         setup->loop, setup->log, err);
    if (r < 0)
        return r;
    struct network *made = set->networks[set->network_count++];
    /* The border's helper, where there is one, is locked up as this one is. */
    if (jail_is_on(setup->jail) &&
        (r = jail_account(setup->jail, "the network's helper", network_lacks(made), err)) < 0) {
        net_destroy(net);
        return r;
    }
    if ((r = virtio_net_new(&device, net, &options, setup->log, err)) == 0)
        add(set, device, virtio_net_free);
    return r;
}

static int add_vsock(struct device_set *set, const struct config_vsock *vsock, struct loop *loop,
                     const struct log *log, struct dayfly_err *err)
{
    struct virtio_vsock_options options = {.guest_cid = vsock->cid, .path = vsock->socket};
    int r = virtio_vsock_new(&set->vsock, &options, loop, log, err);
    if (r == 0)
        add(set, set->vsock, virtio_vsock_free);
    return r;
}

/* Fill in a port of the console device; its descriptors are the device's to close, even on failure. */
static int open_port(struct virtio_console_port *port, const struct config_console *console,
                     struct dayfly_err *err)
{
    const struct config_stream *stream = &console->stream;
    *port = (struct virtio_console_port){
        .name = console->name, .console = console->primary, .in_fd = -1, .out_fd = -1};
    int r = stream_open_output(stream, &port->out_fd, err);
    if (r < 0)
        return r;
    if ((port->out_fd < 0 && stream->output_fd >= 0 &&
         (port->out_fd = fcntl(stream->output_fd, F_DUPFD_CLOEXEC, 0)) < 0) ||
        (stream->input_fd >= 0 && (port->in_fd = fcntl(stream->input_fd, F_DUPFD_CLOEXEC, 0)) < 0))
        return err_errno(err, errno, "console %s", console->name);
    return 0;
}

/* One device with a port for each console. The primary one comes first: it is the one that a driver
 * which knows only a single port talks to. */
static int add_consoles(struct device_set *set, const struct dayfly_config *config, struct loop *loop,
                        const struct log *log, struct dayfly_err *err)
{
    struct virtio_console_port ports[CONFIG_MAX_CONSOLES];
    struct virtio_console_options options = {.ports = ports};
    struct virtio_device *device;
    int r = 0;

    for (int primary = 1; primary >= 0; primary--)
        for (size_t i = 0; i < config->console_count && r == 0; i++)
            if (config->consoles[i].primary == (primary == 1))
                r = open_port(&ports[options.port_count++], &config->consoles[i], err);
    if (r < 0) {
        for (unsigned i = 0; i < options.port_count; i++) {
            close_fd(&ports[i].in_fd);
            close_fd(&ports[i].out_fd);
        }
        return r;
    }
    if ((r = virtio_console_new(&device, &options, loop, log, err)) == 0)
        add(set, device, virtio_console_free);
    return r;
}

static_assert(CONFIG_MAX_SLOTS + 3 <= DEVICES_MAX, "vsock, entropy and consoles besides");

static int make_all(struct device_set *set, const struct dayfly_config *config,
                    const struct device_setup *setup, struct dayfly_err *err)
{
    struct loop *loop = setup->loop;
    const struct log *log = setup->log;
    int r;
    if (config->disk_count + config->share_count + config->network_count > CONFIG_MAX_SLOTS ||
        config->share_count > CONFIG_MAX_SHARES || config->network_count > CONFIG_MAX_NETWORKS)
        return err_set(err, EINVAL,
                       "more than %d disks, shares and networks, than %d shares or %d networks",
                       CONFIG_MAX_SLOTS, CONFIG_MAX_SHARES, CONFIG_MAX_NETWORKS);
    for (size_t i = 0; i < config->disk_count; i++)
        if ((r = add_disk(set, &config->disks[i], config->cpus, setup, err)) < 0)
            return r;
    for (size_t i = 0; i < config->share_count; i++)
        if ((r = add_share(set, &config->shares[i], config->share_count, setup, err)) < 0)
            return r;
    for (size_t i = 0; i < config->network_count; i++)
        if ((r = add_network(set, &config->networks[i], config->cpus, setup, err)) < 0)
            return r;
    if (config->vsock.present && (r = add_vsock(set, &config->vsock, loop, log, err)) < 0)
        return r;
    if (config->entropy) {
        struct virtio_device *device;
        if ((r = virtio_entropy_new(&device, loop, log, err)) < 0)
            return r;
        add(set, device, virtio_entropy_free);
    }
    return !setup->engine->has_consoles && config->console_count
               ? add_consoles(set, config, loop, log, err)
               : 0;
}

int devices_make(struct device_set *set, const struct dayfly_config *config,
                 const struct device_setup *setup, struct dayfly_err *err)
{
    *set = (struct device_set){0};
    int r = make_all(set, config, setup, err);
    if (r < 0)
        devices_finish(set);
    return r;
}

bool devices_isolate(const struct device_set *set, struct isolate_options *options)
{
    for (unsigned i = 0; i < set->count; i++) {
        const struct isolate_calls *const *calls = set->devices[i]->ops->calls;
        if (calls && !isolate_add_calls(options, calls))
            return false;
    }
    static const struct isolate_calls *const helpers[] = {&network_loop_calls, NULL};
    if (set->network_count && !isolate_add_calls(options, helpers))
        return false;
    return !set->vsock || virtio_vsock_isolate(set->vsock, options);
}

void devices_resumed(struct device_set *set)
{
    for (unsigned i = 0; i < set->count; i++) {
        if (!set->patient[i])
            continue;
        pthread_mutex_lock(&set->devices[i]->lock);
        block_patient_retry(set->patient[i]);
        pthread_mutex_unlock(&set->devices[i]->lock);
    }
}

void devices_finish(struct device_set *set)
{
    while (set->count) {
        set->count--;
        set->free[set->count](set->devices[set->count]);
    }
    while (set->network_count)
        network_close(set->networks[--set->network_count]);
    while (set->share_count)
        share_close(set->shares[--set->share_count]);
    *set = (struct device_set){0};
}
