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

#include "config/secrets.h"
#include "config/validate.h"
#include "net/nat.h"
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

/* The texts of a network of ours: what they say, not yet whether the host's ports are free. */
static void check_rules(struct validator *v, const struct config_network *network, size_t index)
{
    struct net_rule rule;
    struct net_publish publish;
    struct dayfly_err why;
    place where;
    for (size_t i = 0; i < MIN(network->allow_count, (size_t)CONFIG_MAX_RULES); i++) {
        const char *text = network->allow[i].text;
        snprintf(where, sizeof(where), "networks[%zu].allow[%zu]", index, i);
        if (text && net_rule_parse(text, &rule, &why) < 0)
            validate_fault(v, where, NULL, "%s", why.msg);
    }
    for (size_t i = 0; i < MIN(network->publish_count, (size_t)CONFIG_MAX_PUBLISHED); i++) {
        const char *text = network->publish[i].text;
        snprintf(where, sizeof(where), "networks[%zu].publish[%zu]", index, i);
        if (text && net_publish_parse(text, &publish, &why) < 0)
            validate_fault(v, where, NULL, "%s", why.msg);
    }
}

static void check_secrets(struct validator *v, const struct config_network *network, size_t index)
{
    const struct config_secrets *secrets = network->secrets;
    struct dayfly_err why;
    place where;
    key(where, index, "secrets");
    if (secrets && border_check(secrets->all, secrets->count, &why) < 0)
        validate_fault(v, where, NULL, "%s", why.msg);
}

/* What counts with another mode than the one that there is. */
static void check_idle(struct validator *v, const struct config_network *network, size_t index)
{
    const struct {
        const char *name;
        bool given;
        enum dayfly_net_mode mode;
    } keys[] = {
        {"interface", network->interface != NULL, DAYFLY_NET_TAP},
        {"socket", network->socket || network->fd >= 0, DAYFLY_NET_SOCKET},
        {"allow", network->allow_count > 0, DAYFLY_NET_NAT},
        {"publish", network->publish_count > 0, DAYFLY_NET_NAT},
        {"secrets", network->secrets != NULL, DAYFLY_NET_NAT},
    };
    char hint[64];
    place where;
    if (network->mode > DAYFLY_NET_SOCKET)
        return; /* the schema has told of it */
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *mode = config_net_words[keys[i].mode];
        if (!keys[i].given || keys[i].mode == network->mode)
            continue;
        key(where, index, keys[i].name);
        snprintf(hint, sizeof(hint), "write `mode: %s`, or leave it out", mode);
        validate_fault(v, where, hint, "it counts with `mode: %s` only", mode);
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
    case DAYFLY_NET_NAT:
        check_rules(v, network, index);
        check_secrets(v, network, index);
        break;
    case DAYFLY_NET_TAP:
        if (network->interface)
            check_tap(v, interface, network->interface);
        else if (!incomplete)
            validate_fault(v, interface, "write `interface: tap0`", "missing");
        break;
    case DAYFLY_NET_SOCKET:
        if (has_socket)
            check_socket(v, socket, network);
        else if (!incomplete)
            validate_fault(v, socket, "write `socket: switch.sock`", "missing");
        break;
    }
    check_idle(v, network, index);
}

static void check_mtu(struct validator *v, const struct config_network *network, size_t index)
{
    bool nat = network->mode == DAYFLY_NET_NAT;
    unsigned least = nat ? NAT_MTU_MIN : CONFIG_MIN_MTU, most = nat ? NAT_MTU_MAX : CONFIG_MAX_MTU;
    char hint[64];
    place where;
    if (!network->mtu || (network->mtu >= least && network->mtu <= most))
        return;
    key(where, index, "mtu");
    snprintf(hint, sizeof(hint), "from %u to %u is possible", least, most);
    validate_fault(v, where, hint, "%u is out of range", network->mtu);
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
    check_mtu(v, network, index);
}

void validate_networks(struct validator *v, const struct dayfly_config *config)
{
    for (size_t i = 0; i < MIN(config->network_count, (size_t)CONFIG_MAX_NETWORKS); i++)
        check_network(v, &config->networks[i], i, config->incomplete);
}
