/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the networks of a description make sense, and whether this host has what they need. Nothing
 * is attached to or connected: an interface or a listener would notice.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/validate.h"
#include "util/arith.h"
#include "util/mac.h"

#define TUN_PATH "/dev/net/tun"

static void key(place out, size_t index, const char *name)
{
    snprintf(out, sizeof(place), "networks[%zu].%s", index, name);
}

static void check_tap(struct validator *v, const char *where, const char *interface)
{
    char path[96], hint[128];
    if (!*interface || strlen(interface) > CONFIG_MAX_INTERFACE)
        return; /* the schema has told of it */
    snprintf(hint, sizeof(hint), "ip tuntap add dev %s mode tap user %u", interface,
             (unsigned)geteuid());
    if (if_nametoindex(interface) == 0) {
        validate_fault(v, where, hint, "there is no network interface %s", interface);
        return;
    }
    /* What /sys shows may be another network namespace's: then nothing is known. */
    snprintf(path, sizeof(path), "/sys/class/net/%s", interface);
    bool shown = access(path, F_OK) == 0;
    strcat(path, "/tun_flags");
    if (shown && access(path, F_OK) < 0)
        validate_fault(v, where, "name a tap interface, and put that into the same bridge",
                       "network interface %s is no tap", interface);
    else if (faccessat(AT_FDCWD, TUN_PATH, R_OK | W_OK, AT_EACCESS) < 0)
        validate_fault(
            v, where,
            errno == ENOENT ? "modprobe tun" : "your user must be allowed to read and write it",
            errno == ENOENT ? "%s is missing, and with it tap interfaces" : "no permission to use %s",
            TUN_PATH);
}

static void check_socket(struct validator *v, const char *where, const struct config_network *network)
{
    struct stat st;
    int type = -1;
    socklen_t len = sizeof(type);
    if (network->socket) {
        if (!*network->socket)
            return;
        if (stat(network->socket, &st) < 0)
            validate_cannot_use(v, where, network->socket, "socket", errno, "reach");
        else if (!S_ISSOCK(st.st_mode))
            validate_fault(v, where, NULL, "%s is no socket", network->socket);
        else if (faccessat(AT_FDCWD, network->socket, W_OK, AT_EACCESS) < 0)
            validate_cannot_use(v, where, network->socket, "socket", errno, "write");
    } else if (fcntl(network->fd, F_GETFD) < 0) {
        validate_fault(v, where, NULL, "descriptor %d is not open", network->fd);
    } else if (getsockopt(network->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
               (type != SOCK_SEQPACKET && type != SOCK_DGRAM)) {
        validate_fault(v, where, "take an end of a socketpair of type SOCK_SEQPACKET",
                       "descriptor %d is no socket that keeps messages apart", network->fd);
    }
}

static void check_cable(struct validator *v, const struct config_network *network, size_t index,
                        bool incomplete)
{
    bool has_socket = network->socket || network->fd >= 0;
    place interface, socket;
    key(interface, index, "interface");
    key(socket, index, "socket");
    switch (network->mode) {
    case DAYFLY_NET_TAP:
        if (network->interface)
            check_tap(v, interface, network->interface);
        else if (!incomplete)
            validate_fault(v, interface, "write `interface: tap0`", "missing");
        if (has_socket)
            validate_fault(v, socket, "write `mode: socket`, or leave it out",
                           "it counts with `mode: socket` only");
        break;
    case DAYFLY_NET_SOCKET:
        if (has_socket)
            check_socket(v, socket, network);
        else if (!incomplete)
            validate_fault(v, socket, "write `socket: switch.sock`", "missing");
        if (network->interface)
            validate_fault(v, interface, "write `mode: tap`, or leave it out",
                           "it counts with `mode: tap` only");
        break;
    }
}

static void check_network(struct validator *v, const struct config_network *network, size_t index,
                          bool incomplete)
{
    uint8_t mac[MAC_BYTES];
    place where;
    check_cable(v, network, index, incomplete);
    key(where, index, "mac");
    if (network->mac && !mac_parse(network->mac, mac))
        validate_fault(v, where, "write it as \"02:00:00:00:00:01\", in quotes",
                       "\"%.40s\" is no Ethernet address", network->mac);
    else if (network->mac && !mac_is_one(mac))
        validate_fault(v, where, "let it begin with 02: that is nobody else's", "%s is %s address",
                       network->mac, mac[0] & 1 ? "a group's" : "nobody's");
    key(where, index, "mtu");
    if (network->mtu && network->mtu < CONFIG_MIN_MTU)
        validate_fault(v, where, "from 68 to 65535 is possible", "%u is out of range", network->mtu);
}

void validate_networks(struct validator *v, const struct dayfly_config *config)
{
    for (size_t i = 0; i < MIN(config->network_count, (size_t)CONFIG_MAX_NETWORKS); i++)
        check_network(v, &config->networks[i], i, config->incomplete);
}
