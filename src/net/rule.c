/* SPDX-License-Identifier: Apache-2.0 */
#include "net/rule.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/err.h"

#define LABEL_MAX     63
#define NAME_TEXT_MAX 253

static bool parse_number(const char *text, unsigned long max, unsigned long *out)
{
    *out = 0;
    if (!*text || strlen(text) > 5)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        *out = *out * 10 + (unsigned long)(*text - '0');
    }
    return *out <= max;
}

static bool parse_port(const char *text, uint16_t *out)
{
    unsigned long port;
    if (!parse_number(text, UINT16_MAX, &port) || port == 0)
        return false;
    *out = (uint16_t)port;
    return true;
}

/* Letters, digits, hyphens and underscores in labels of 1 to 63; the last one is not a number, so that
 * a mistyped address is none. In lower case, without the dot of an absolute name. */
static bool parse_name(const char *text, char *out)
{
    size_t len = strlen(text), label = 0, digits = 0;
    if (len && text[len - 1] == '.')
        len--;
    if (!len || len > NAME_TEXT_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '.') {
            if (!label)
                return false;
            label = digits = 0;
        } else if (!(isascii(c) && isalnum(c)) && c != '-' && c != '_') {
            return false;
        } else {
            digits += isdigit(c) != 0;
            if (++label > LABEL_MAX)
                return false;
        }
        out[i] = (char)tolower(c);
    }
    out[len] = '\0';
    return label && digits < label;
}

/* ADDRESS or ADDRESS/BITS. Nothing may stand behind the prefix: 10.1.2.3/8 is a mistake in one of the
 * two. NULL, or what is wrong. */
static const char *parse_network(char *text, struct net_rule *out)
{
    char *slash = strchr(text, '/');
    if (slash)
        *slash = '\0';
    if (!net_addr_parse(text, &out->net))
        return "this is no address";
    unsigned long bits, most = net_addr_is_v4(&out->net) ? 32 : 128;
    if (!slash)
        bits = most;
    else if (!parse_number(slash + 1, most, &bits))
        return most == 32 ? "a prefix has 0 to 32 bits" : "a prefix has 0 to 128 bits";
    out->bits = (uint8_t)(bits + 128 - most);
    for (unsigned bit = out->bits; bit < 128; bit++)
        if (out->net.bytes[bit / 8] >> (7 - bit % 8) & 1)
            return "the address has bits behind its prefix";
    out->kind = NET_RULE_NETWORK;
    out->name[0] = '\0';
    return NULL;
}

#define NO_TARGET "write NAME, *.NAME, ADDRESS[/BITS], each with or without :PORT; host:PORT; or *"

/* `text` without its port; NULL, or what is wrong. */
static const char *parse_target(char *text, bool bracketed, struct net_rule *out)
{
    if (bracketed || strchr(text, '/') || strchr(text, ':'))
        return parse_network(text, out);
    if (strcmp(text, "*") == 0) {
        out->kind = NET_RULE_ANY;
        return NULL;
    }
    if (strcmp(text, "host") == 0) {
        out->kind = NET_RULE_HOST;
        return out->port ? NULL : "the host is reached at a port: host:PORT";
    }
    out->kind = strncmp(text, "*.", 2) == 0 ? NET_RULE_BELOW : NET_RULE_NAME;
    if (parse_name(out->kind == NET_RULE_BELOW ? text + 2 : text, out->name))
        return NULL;
    return parse_network(text, out) ? NO_TARGET : NULL;
}

static const char *parse_rule(char *text, struct net_rule *out)
{
    char *port = NULL;
    bool bracketed = text[0] == '[';
    if (bracketed) {
        char *end = strchr(++text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return "brackets go around an address, and a port stands behind them";
        *end = '\0';
        port = end[1] ? end + 2 : NULL;
    } else if (strchr(text, ':') && strchr(text, ':') == strrchr(text, ':')) {
        port = strchr(text, ':');
        *port++ = '\0';
    }
    if (port && !parse_port(port, &out->port))
        return "a port is a number from 1 to 65535";
    return parse_target(text, bracketed, out);
}

int net_rule_parse(const char *text, struct net_rule *out, struct dayfly_err *err)
{
    char copy[NET_NAME_BYTES + 16];
    *out = (struct net_rule){0};
    if (strlen(text) >= sizeof(copy))
        return err_set(err, EINVAL, "'%.40s...': too long for a rule", text);
    strcpy(copy, text);
    const char *wrong = parse_rule(copy, out);
    return wrong ? err_set(err, EINVAL, "'%s': %s", text, wrong) : 0;
}

static const char *parse_publish(char *text, struct net_publish *out)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    out->host = net_addr_v4(loopback);
    char *slash = strchr(text, '/');
    if (slash) {
        *slash++ = '\0';
        out->udp = strcmp(slash, "udp") == 0;
        if (!out->udp && strcmp(slash, "tcp") != 0)
            return "behind the slash stands tcp or udp";
    }
    char *guest = strrchr(text, ':');
    if (!guest || !parse_port(guest + 1, &out->guest_port))
        return "say [ADDRESS:]HOST:GUEST, ports from 1 to 65535";
    *guest = '\0';
    char *host = strrchr(text, ':');
    if (!parse_port(host ? host + 1 : text, &out->host_port))
        return "say [ADDRESS:]HOST:GUEST, ports from 1 to 65535";
    if (!host)
        return NULL;
    *host = '\0';
    if (text[0] == '[' && host[-1] == ']') {
        host[-1] = '\0';
        text++;
    }
    return net_addr_parse(text, &out->host) ? NULL : "the part before the ports is no address";
}

int net_publish_parse(const char *text, struct net_publish *out, struct dayfly_err *err)
{
    char copy[96];
    *out = (struct net_publish){0};
    if (strlen(text) >= sizeof(copy))
        return err_set(err, EINVAL, "'%.40s...': too long for a port to publish", text);
    strcpy(copy, text);
    const char *wrong = parse_publish(copy, out);
    return wrong ? err_set(err, EINVAL, "'%s': %s", text, wrong) : 0;
}

bool net_rule_covers_name(const struct net_rule *rule, const char *name)
{
    size_t len = strlen(name), tail = strlen(rule->name);
    switch (rule->kind) {
    case NET_RULE_ANY:
        return true;
    case NET_RULE_NAME:
        return strcmp(rule->name, name) == 0;
    case NET_RULE_BELOW:
        return len > tail + 1 && name[len - tail - 1] == '.' &&
               strcmp(name + len - tail, rule->name) == 0;
    case NET_RULE_NETWORK:
    case NET_RULE_HOST:
        break;
    }
    return false;
}

void net_endpoint_text(const struct net_addr *addr, uint16_t port,
                       char out[static NET_ENDPOINT_TEXT_BYTES])
{
    char text[NET_ADDR_TEXT_BYTES];
    net_addr_text(addr, text);
    snprintf(out, NET_ENDPOINT_TEXT_BYTES, net_addr_is_v4(addr) ? "%s:%u" : "[%s]:%u", text, port);
}
