/* SPDX-License-Identifier: Apache-2.0 */
#include "job/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dayfly/net.h"
#include "net/rule.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/mac.h"
#include "util/units.h"

/* Of every machine's device with a network of its own: nothing else is on its cable. */
static const uint8_t nat_mac[MAC_BYTES] = {0x02, 'd', 'a', 'y', 'f', 'l'};

/* The text behind "key=", or NULL. */
static const char *value_of(const char *option, const char *key)
{
    size_t len = strlen(key);
    return strncmp(option, key, len) == 0 && option[len] == '=' ? option + len + 1 : NULL;
}

/* "10.0.2.15/24", or "10.0.2.2" where no prefix belongs to it. */
static int parse_address(const char *text, bool with_prefix, struct proto_address *out,
                         struct dayfly_err *err)
{
    char ip[INET6_ADDRSTRLEN];
    const char *slash = strchrnul(text, '/');
    uint64_t prefix = 0;
    *out = (struct proto_address){0};
    if ((size_t)(slash - text) >= sizeof(ip) || (*slash != '\0') != with_prefix)
        return err_set(err, EINVAL, "\"%.60s\" is no address%s", text,
                       with_prefix ? " with its prefix, such as 10.0.0.2/24" : "");
    snprintf(ip, sizeof(ip), "%.*s", (int)(slash - text), text);
    if (inet_pton(AF_INET, ip, out->bytes) == 1)
        out->family = 4;
    else if (inet_pton(AF_INET6, ip, out->bytes) == 1)
        out->family = 6;
    else
        return err_set(err, EINVAL, "\"%.60s\" is no IP address", ip);
    if (with_prefix && units_parse_number(slash + 1, 0, out->family == 4 ? 32 : 128, &prefix, err) < 0)
        return err_wrap(err, "prefix of %.60s", text);
    out->prefix = (uint16_t)prefix;
    return 0;
}

static int append_address(const char *text, bool with_prefix, struct proto_address *list,
                          uint32_t *count, size_t max, struct dayfly_err *err)
{
    if (*count == max)
        return err_set(err, E2BIG, "%.60s is one too many: at most %zu", text, max);
    int r = parse_address(text, with_prefix, &list[*count], err);
    *count += r == 0;
    return r;
}

static int append_domain(struct job_net *net, const char *domain, struct dayfly_err *err)
{
    size_t len = strlen(net->search);
    if (!*domain || strpbrk(domain, " \t\r\n") || len + 1 + strlen(domain) >= sizeof(net->search))
        return err_set(err, EINVAL, "\"%.60s\" is no domain, or there are too many", domain);
    snprintf(net->search + len, sizeof(net->search) - len, "%s%s", len ? " " : "", domain);
    return 0;
}

/* -ENOENT for an option that is none of these. */
static int parse_set_up(struct job_net *net, const char *option, struct dayfly_err *err)
{
    struct proto_net *guest = &net->guest;
    const char *value;
    if ((value = value_of(option, "address")))
        return append_address(value, true, guest->addresses, &guest->address_count,
                              ARRAY_SIZE(guest->addresses), err);
    if ((value = value_of(option, "gateway"))) {
        int r = append_address(value, false, guest->gateways, &guest->gateway_count,
                               ARRAY_SIZE(guest->gateways), err);
        if (r == 0 && guest->gateway_count == 2 &&
            guest->gateways[0].family == guest->gateways[1].family)
            return err_set(err, EINVAL, "two gateways of one family");
        return r;
    }
    if ((value = value_of(option, "dns")))
        return append_address(value, false, net->servers, &net->server_count, ARRAY_SIZE(net->servers),
                              err);
    if ((value = value_of(option, "search")))
        return append_domain(net, value, err);
    return -ENOENT;
}

static int parse_option(struct job_net *net, const char *option, struct dayfly_err *err)
{
    struct proto_net *guest = &net->guest;
    const char *value;
    uint64_t mtu;
    int r = net->mode == DAYFLY_NET_NAT ? -ENOENT : parse_set_up(net, option, err);
    if (r != -ENOENT)
        return r;
    if ((value = value_of(option, "mtu"))) {
        r = units_parse_number(value, CONFIG_MIN_MTU, CONFIG_MAX_MTU, &mtu, err);
        if (r == 0)
            guest->mtu = (uint32_t)mtu;
        return r < 0 ? err_wrap(err, "mtu") : 0;
    }
    if ((value = value_of(option, "mac"))) {
        if (!mac_parse(value, guest->mac) || !mac_is_one(guest->mac))
            return err_set(err, EINVAL, "\"%.40s\" is no address for a device, as 02:00:00:00:00:01 is",
                           value);
        return 0;
    }
    return err_set(
        err, EINVAL, "\"%.40s\" is no option; there are %smtu=N and mac=ADDRESS", option,
        net->mode == DAYFLY_NET_NAT ? "" : "address=IP/PREFIX, gateway=IP, dns=IP, search=DOMAIN, ");
}

static int parse_cable(struct job_net *net, const char *word, const char *comma, struct dayfly_err *err)
{
    if (comma - word == 3 && strncmp(word, "nat", 3) == 0) {
        net->present = true;
        net->mode = DAYFLY_NET_NAT;
        return 0;
    }
    for (int mode = DAYFLY_NET_TAP; config_net_words[mode]; mode++) {
        size_t len = strlen(config_net_words[mode]);
        if (strncmp(word, config_net_words[mode], len) != 0 || word[len] != ':')
            continue;
        word += len + 1;
        if (word >= comma || (size_t)(comma - word) >= sizeof(net->cable))
            break;
        net->present = true;
        net->mode = (enum dayfly_net_mode)mode;
        memcpy(net->cable, word, (size_t)(comma - word));
        return 0;
    }
    return err_set(err, EINVAL, "\"%.60s\" is none of nat, none, tap:INTERFACE and socket:PATH", word);
}

static int parse_word(struct job_net *out, const char *word, struct dayfly_err *err)
{
    const char *comma = strchrnul(word, ',');
    int r = parse_cable(out, word, comma, err);
    if (r == 0 && out->mode == DAYFLY_NET_NAT)
        memcpy(out->guest.mac, nat_mac, sizeof(nat_mac));
    else if (r == 0 && (r = mac_random(out->guest.mac)) < 0)
        err_errno(err, -r, "an address");
    out->options = *comma ? comma + 1 : "";
    _cleanup_free_ char *options = strdup(out->options);
    if (r == 0 && !options)
        r = err_set(err, ENOMEM, "out of memory");
    for (char *rest = *comma ? options : NULL, *option; r == 0 && (option = strsep(&rest, ","));)
        r = parse_option(out, option, err);
    return r < 0 ? err_wrap(err, "--net %.100s", word) : 0;
}

/* Whether the texts are rules and ports: the machine's description keeps them as they are. */
static int parse_rules(struct job_net *out, const struct job_net_words *words, struct dayfly_err *err)
{
    struct net_rule rule;
    struct net_publish publish;
    bool nat = out->present && out->mode == DAYFLY_NET_NAT;
    if (!nat && (words->allow_count || words->publish_count))
        return err_set(err, EINVAL, "%s counts with --net nat alone",
                       words->allow_count ? "--allow" : "--publish");
    if (words->allow_count > CONFIG_MAX_RULES || words->publish_count > CONFIG_MAX_PUBLISHED)
        return err_set(err, E2BIG, "more than %d times --allow, or %d times --publish",
                       CONFIG_MAX_RULES, CONFIG_MAX_PUBLISHED);
    for (size_t i = 0; i < words->allow_count; i++) {
        out->allow[i] = words->allow[i];
        if (net_rule_parse(words->allow[i], &rule, err) < 0)
            return err_wrap(err, "--allow");
    }
    for (size_t i = 0; i < words->publish_count; i++) {
        out->publish[i] = words->publish[i];
        if (net_publish_parse(words->publish[i], &publish, err) < 0)
            return err_wrap(err, "--publish");
    }
    return 0;
}

int job_net_parse(const struct job_net_words *words, struct job_net *out, struct dayfly_err *err)
{
    const char *word = words->net ? words->net : config_net_words[DAYFLY_NET_NAT];
    *out = (struct job_net){0};
    int r = strcmp(word, "none") == 0 ? 0 : parse_word(out, word, err);
    return r < 0 ? r : parse_rules(out, words, err);
}

int job_net_describe(const struct job_net *net, const struct dayfly_net_secret *secrets,
                     size_t secret_count, struct dayfly_config *config)
{
    struct dayfly_net options = DAYFLY_NET_INIT;
    const uint8_t *m = net->guest.mac;
    char mac[3 * MAC_BYTES];
    if (!net->present)
        return 0;
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    options.mode = net->mode;
    options.mac = mac;
    options.mtu = net->guest.mtu;
    if (net->mode == DAYFLY_NET_TAP)
        options.interface = net->cable;
    else if (net->mode == DAYFLY_NET_SOCKET)
        options.socket = net->cable;
    options.allow = net->allow;
    options.publish = net->publish;
    options.secrets = secrets;
    options.secret_count = secret_count;
    return dayfly_config_add_net(config, &options);
}

/* The addresses of one version of IP, if there are any. */
static int take_version(struct proto_setup *setup, const char *guest, const char *gateway,
                        const char *resolver, struct dayfly_err *err)
{
    struct proto_net *net = &setup->nets[0];
    int r;
    if (!guest)
        return 0;
    if ((r = append_address(guest, true, net->addresses, &net->address_count,
                            ARRAY_SIZE(net->addresses), err)) < 0 ||
        (r = append_address(gateway, false, net->gateways, &net->gateway_count,
                            ARRAY_SIZE(net->gateways), err)) < 0)
        return r;
    return append_address(resolver, false, setup->servers, &setup->server_count,
                          ARRAY_SIZE(setup->servers), err);
}

/* The first device is the nat's. */
static int take_nat(const struct dayfly_net_report *nat, struct proto_setup *setup,
                    struct dayfly_err *err)
{
    setup->nets[0].mtu = nat->mtu;
    int r = take_version(setup, nat->guest4, nat->gateway4, nat->resolver4, err);
    return r < 0 ? r : take_version(setup, nat->guest6, nat->gateway6, nat->resolver6, err);
}

int job_net_rules(const struct job_net *net, struct net_rule *rules, size_t *rule_count,
                  struct net_publish *publish, size_t *publish_count, struct dayfly_err *err)
{
    int r = 0;
    for (*rule_count = 0; net->allow[*rule_count] && r == 0; ++*rule_count)
        r = net_rule_parse(net->allow[*rule_count], &rules[*rule_count], err);
    for (*publish_count = 0; net->publish[*publish_count] && r == 0; ++*publish_count)
        r = net_publish_parse(net->publish[*publish_count], &publish[*publish_count], err);
    return r;
}

int job_net_setup(const struct job_net *net, const struct dayfly_net_report *nat,
                  struct proto_setup *setup, struct dayfly_err *err)
{
    if (!net->present)
        return 0;
    setup->nets[setup->net_count++] = net->guest;
    memcpy(setup->servers, net->servers, sizeof(net->servers));
    setup->server_count = net->server_count;
    memcpy(setup->search, net->search, sizeof(net->search));
    return net->mode == DAYFLY_NET_NAT ? take_nat(nat, setup, err) : 0;
}
