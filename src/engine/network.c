/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/network.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

/* Connected to who listens at `path`; never waits for one that does not accept. */
static int connect_to(const char *path, struct dayfly_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, ENAMETOOLONG, "%s is too long for a socket's path", path);
    strcpy(address.sun_path, path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, errno, "connect to %s", path);
    return steal_fd(&fd);
}

static int open_socket(struct net **out, const struct config_network *network, struct dayfly_err *err)
{
    int fd =
        network->socket ? connect_to(network->socket, err) : fcntl(network->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return network->socket ? fd : err_errno(err, errno, "descriptor %d", network->fd);
    const struct net_socket_options options = {.fd = fd, .mtu = (uint16_t)network->mtu};
    return net_socket_open(out, &options, err);
}

static int open_tap(struct net **out, const struct config_network *network, unsigned cpus,
                    struct dayfly_err *err)
{
    const struct net_tap_options options = {
        .interface = network->interface ? network->interface : "",
        .queues = MIN(cpus, (unsigned)NET_QUEUES_MAX),
        .mtu = (uint16_t)network->mtu,
    };
    return net_tap_open(out, &options, err);
}

int network_open(struct net **out, const struct config_network *network, unsigned cpus,
                 uint8_t mac[MAC_BYTES], struct dayfly_err *err)
{
    int r = 0;
    if (network->mac && (!mac_parse(network->mac, mac) || !mac_is_one(mac)))
        return err_set(err, EINVAL, "network: %.40s is no address for a device", network->mac);
    if (!network->mac && (r = mac_random(mac)) < 0)
        return err_errno(err, -r, "network: an address");
    if (network->mtu && (network->mtu < NET_MTU_MIN || network->mtu > NET_MTU_MAX))
        return err_set(err, EINVAL, "network: an MTU of %u is not possible", network->mtu);
    switch (network->mode) {
    case DAYFLY_NET_TAP:
        return open_tap(out, network, cpus, err);
    case DAYFLY_NET_SOCKET:
        return open_socket(out, network, err);
    }
    return err_set(err, EINVAL, "network: there is no mode %u", network->mode);
}
