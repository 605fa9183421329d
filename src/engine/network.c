/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/network.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "config/secrets.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

struct network {
    struct nat *nat;
    struct border *border; /* NULL: no secrets */
    struct loop_source events, border_events;
    const struct log *log;
};

static_assert(CONFIG_MAX_RULES == NAT_RULES_MAX && CONFIG_MAX_PUBLISHED == NAT_PUBLISH_MAX,
              "a description has room for what the NAT has");

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

static void helper_speaks(struct loop_source *source, uint32_t events)
{
    (void)events;
    struct network *network = container_of(source, struct network, events);
    if (nat_handle_events(network->nat) == 0)
        return;
    loop_remove(source);
    log_line(network->log, LOG_ERROR,
             "network: its helper has ended; the guest has no network any more");
}

static void border_speaks(struct loop_source *source, uint32_t events)
{
    (void)events;
    struct network *network = container_of(source, struct network, border_events);
    if (border_handle_events(network->border) == 0)
        return;
    loop_remove(source);
    log_line(network->log, LOG_ERROR,
             "network: the helper for secrets has ended; their hosts cannot be reached any more");
}

/* The texts of the description as rules. */
static int parse_rules(const struct config_network *config, struct net_rule *rules,
                       struct net_publish *publish, struct dayfly_err *err)
{
    int r = 0;
    for (size_t i = 0; i < config->allow_count && r == 0; i++)
        r = net_rule_parse(config->allow[i].text, &rules[i], err);
    for (size_t i = 0; i < config->publish_count && r == 0; i++)
        r = net_publish_parse(config->publish[i].text, &publish[i], err);
    return r;
}

/* With the NAT that is there. */
static int open_border(struct network *network, const struct config_secrets *secrets,
                       const struct nat_options *nat, struct loop *loop, struct dayfly_err *err)
{
    const struct border_options options = {
        .secrets = secrets->all,
        .secret_count = secrets->count,
        .rules = nat->rules,
        .rule_count = nat->rule_count,
        .peer = nat_pid(network->nat),
        .log = network->log,
    };
    int listeners[NAT_BORDER_PORTS], r = nat_take_border(network->nat, listeners);
    if (r < 0)
        return err_errno(err, -r, "a way to the secrets' hosts");
    if ((r = border_start(&network->border, &options, listeners, err)) < 0)
        return r;
    network->border_events = (struct loop_source){
        .fd = border_events_fd(network->border), .events = EPOLLIN, .ready = border_speaks};
    r = loop_add(loop, &network->border_events);
    return r < 0 ? err_errno(err, -r, "watch the helper for secrets") : 0;
}

static int open_nat(struct network *network, struct net **out, const struct config_network *config,
                    struct loop *loop, struct dayfly_err *err)
{
    if (config->allow_count > NAT_RULES_MAX || config->publish_count > NAT_PUBLISH_MAX)
        return err_set(err, E2BIG, "more than %d rules, or %d ports to publish", NAT_RULES_MAX,
                       NAT_PUBLISH_MAX);
    _cleanup_free_ struct net_rule *rules = calloc(config->allow_count + 1, sizeof(*rules));
    _cleanup_free_ struct net_publish *publish = calloc(config->publish_count + 1, sizeof(*publish));
    if (!rules || !publish)
        return err_set(err, ENOMEM, "out of memory");
    struct border_hosts hosts = {0};
    if (config->secrets &&
        border_hosts_of(config->secrets->all, config->secrets->count, &hosts, err) < 0)
        return -err->code;
    const struct nat_options options = {
        .rules = rules,
        .rule_count = config->allow_count,
        .publish = publish,
        .publish_count = config->publish_count,
        .mtu = (uint16_t)config->mtu,
        .log = network->log,
        .border_hosts = hosts.names,
        .border_host_count = hosts.count,
    };
    int fd, r = parse_rules(config, rules, publish, err);
    if (r < 0 || (r = nat_start(&network->nat, &options, &fd, err)) < 0)
        return r;
    const struct net_socket_options socket = {.fd = fd, .mtu = nat_addresses(network->nat)->mtu};
    if ((r = net_socket_open(out, &socket, err)) < 0)
        return r;
    if (config->secrets && (r = open_border(network, config->secrets, &options, loop, err)) < 0) {
        net_destroy(*out);
        return r;
    }
    network->events = (struct loop_source){
        .fd = nat_events_fd(network->nat), .events = EPOLLIN, .ready = helper_speaks};
    if ((r = loop_add(loop, &network->events)) == 0)
        return 0;
    net_destroy(*out);
    return err_errno(err, -r, "watch the network's helper");
}

static int open_back_end(struct network *network, struct net **out, const struct config_network *config,
                         unsigned cpus, struct loop *loop, struct dayfly_err *err)
{
    switch (config->mode) {
    case DAYFLY_NET_NAT:
        return open_nat(network, out, config, loop, err);
    case DAYFLY_NET_TAP:
        return open_tap(out, config, cpus, err);
    case DAYFLY_NET_SOCKET:
        return open_socket(out, config, err);
    }
    return err_set(err, EINVAL, "there is no mode %u", config->mode);
}

int network_open(struct network **out, struct net **net, const struct config_network *config,
                 unsigned cpus, uint8_t mac[MAC_BYTES], struct loop *loop, const struct log *log,
                 struct dayfly_err *err)
{
    int r = 0;
    if (config->mac && (!mac_parse(config->mac, mac) || !mac_is_one(mac)))
        return err_set(err, EINVAL, "network: %.40s is no address for a device", config->mac);
    if (!config->mac && (r = mac_random(mac)) < 0)
        return err_errno(err, -r, "network: an address");
    if (config->mtu && (config->mtu < NET_MTU_MIN || config->mtu > NET_MTU_MAX))
        return err_set(err, EINVAL, "network: an MTU of %u is not possible", config->mtu);
    struct network *network = calloc(1, sizeof(*network));
    if (!network)
        return err_set(err, ENOMEM, "network: out of memory");
    network->log = log;
    if ((r = open_back_end(network, net, config, cpus, loop, err)) < 0) {
        network_close(network);
        return err_wrap(err, "network");
    }
    *out = network;
    return 0;
}

void network_close(struct network *network)
{
    if (!network)
        return;
    loop_remove(&network->events);
    loop_remove(&network->border_events);
    nat_stop(network->nat);
    border_stop(network->border);
    free(network);
}

unsigned network_lacks(const struct network *network)
{
    return network->nat ? nat_lacks(network->nat) : 0;
}

const struct nat *network_nat(const struct network *network)
{
    return network->nat;
}

const struct border *network_border(const struct network *network)
{
    return network->border;
}

static const struct isolate_call loop_side[] = {ISOLATE_CALL(recvfrom)};

const struct isolate_calls network_loop_calls = ISOLATE_CALLS(loop_side);
