/* SPDX-License-Identifier: Apache-2.0 */
/* The library's side of the helper. */
#include "border/border.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "border/border_wire.h"
#include "net/resolv_conf.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

/* The program: blob.sh puts it there. */
extern const uint8_t border_helper_start[], border_helper_end[];

static const struct helper_program program = {.name = "dayfly-border",
                                              .what = "the helper for secrets",
                                              .needs = "libssl3 or libhttp-parser2.9",
                                              .start = border_helper_start,
                                              .end = border_helper_end};

struct border {
    struct helper helper;
    const struct log *log;
    size_t secret_count;
    struct border_hosts hosts;
    char names[BORDER_SECRETS_MAX][BORDER_NAME_BYTES];
    char placeholders[BORDER_SECRETS_MAX][BORDER_PLACEHOLDER_BYTES];
    char ca_pem[BORDER_CA_PEM_BYTES];
};

static struct border_shared *shared_of(const struct border *border)
{
    return border->helper.shared;
}

/* ---- what is asked for ---- */

static int add_host(const char *text, struct border_hosts *out, struct dayfly_err *err)
{
    struct net_rule rule;
    int r = net_rule_parse(text, &rule, err);
    if (r < 0)
        return r;
    if (rule.kind != NET_RULE_NAME || rule.port)
        return err_set(err, EINVAL, "'%s' is not the name of a host", text);
    for (size_t i = 0; i < out->count; i++)
        if (strcmp(out->texts[i], rule.name) == 0)
            return (int)i;
    if (out->count == BORDER_HOSTS_MAX)
        return err_set(err, E2BIG, "more than %d hosts of secrets", BORDER_HOSTS_MAX);
    memcpy(out->texts[out->count], rule.name, sizeof(rule.name));
    out->names[out->count] = out->texts[out->count];
    return (int)out->count++;
}

int border_hosts_of(const struct border_secret *secrets, size_t count, struct border_hosts *out,
                    struct dayfly_err *err)
{
    out->count = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < secrets[i].host_count; j++) {
            int r = add_host(secrets[i].hosts[j], out, err);
            if (r < 0)
                return err_wrap(err, "secret %s", secrets[i].name);
        }
    return 0;
}

static int make_placeholder(char out[static BORDER_PLACEHOLDER_BYTES], struct dayfly_err *err)
{
    uint8_t random[16];
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return err_errno(err, errno, "draw a placeholder");
    char *p = stpcpy(out, SWAP_PLACEHOLDER_PREFIX);
    for (size_t i = 0; i < sizeof(random); i++)
        p += snprintf(p, 3, "%02x", random[i]);
    return 0;
}

static int check_secret(const struct border_secret *secret, struct dayfly_err *err)
{
    if (!secret->host_count)
        return err_set(err, EINVAL, "secret %s is for no host", secret->name);
    if (secret->value_bytes < BORDER_VALUE_MIN || secret->value_bytes > BORDER_VALUE_MAX)
        return err_set(
            err, EINVAL,
            "secret %s has %s bytes; one for a host has %d to %d, so that it can be told from "
            "other text",
            secret->name, secret->value_bytes < BORDER_VALUE_MIN ? "too few" : "too many",
            BORDER_VALUE_MIN, BORDER_VALUE_MAX);
    if (!swap_value_fits(secret->value, secret->value_bytes))
        return err_set(
            err, EINVAL,
            "secret %s cannot stand in a header: it has control characters, or a space at an "
            "end",
            secret->name);
    return 0;
}

int border_check(const struct border_secret *secrets, size_t count, struct dayfly_err *err)
{
    struct border_hosts hosts;
    if (count > BORDER_SECRETS_MAX)
        return err_set(err, E2BIG, "more than %d secrets for hosts", BORDER_SECRETS_MAX);
    int r = border_hosts_of(secrets, count, &hosts, err);
    for (size_t i = 0; i < count && r == 0; i++)
        r = check_secret(&secrets[i], err);
    return r;
}

static int write_secret(struct border *b, const struct border_secret *secret, size_t index,
                        struct dayfly_err *err)
{
    struct border_setup_secret *out = &shared_of(b)->setup.secrets[index];
    int r = make_placeholder(b->placeholders[index], err);
    if (r < 0)
        return r;
    *out = (struct border_setup_secret){.allow_http = secret->allow_http,
                                        .no_query = secret->no_query,
                                        .value_bytes = (uint32_t)secret->value_bytes};
    memcpy(out->placeholder, b->placeholders[index], sizeof(out->placeholder));
    snprintf(b->names[index], sizeof(b->names[index]), "%s", secret->name);
    for (size_t i = 0; i < secret->host_count; i++)
        out->hosts |= UINT64_C(1) << add_host(secret->hosts[i], &b->hosts, NULL);
    return 0;
}

static void add_name_rule(struct border_setup *setup, const char *host, uint16_t port)
{
    struct net_rule *rule = &setup->rules[setup->rule_count++];
    *rule = (struct net_rule){.kind = NET_RULE_NAME, .port = port};
    memcpy(rule->name, host, strlen(host) + 1);
}

static int write_setup(struct border *b, const struct border_options *options, struct dayfly_err *err)
{
    struct border_setup *setup = &shared_of(b)->setup;
    const char *trust = options->trust_file ? options->trust_file : "";
    if (options->rule_count > NAT_RULES_MAX)
        return err_set(err, E2BIG, "more than %d rules for the network", NAT_RULES_MAX);
    if (strlen(trust) >= sizeof(setup->trust_file))
        return err_set(err, ENAMETOOLONG, "the file of certificates has too long a name");
    int r = border_check(options->secrets, options->secret_count, err);
    if (r == 0)
        r = border_hosts_of(options->secrets, options->secret_count, &b->hosts, err);
    for (size_t i = 0; i < options->secret_count && r == 0; i++)
        r = write_secret(b, &options->secrets[i], i, err);
    if (r < 0)
        return r;
    b->secret_count = options->secret_count;
    setup->peer = options->peer;
    setup->secret_count = (uint32_t)options->secret_count;
    setup->host_count = (uint32_t)b->hosts.count;
    memcpy(setup->hosts, b->hosts.texts, sizeof(setup->hosts));
    memcpy(setup->trust_file, trust, strlen(trust) + 1);
    setup->resolver_count =
        resolv_conf_read(options->resolv_conf ? options->resolv_conf : "/etc/resolv.conf",
                         setup->resolvers, BORDER_RESOLVERS_MAX);
    for (size_t i = 0; i < options->rule_count; i++)
        setup->rules[setup->rule_count++] = options->rules[i];
    if (!options->rule_count)
        setup->rules[setup->rule_count++].kind = NET_RULE_ANY;
    for (size_t i = 0; i < b->hosts.count; i++) {
        add_name_rule(setup, b->hosts.names[i], POLICY_BORDER_HTTP);
        add_name_rule(setup, b->hosts.names[i], POLICY_BORDER_HTTPS);
    }
    return 0;
}

/* ---- start and stop ---- */

static int send_values(const struct border *b, const struct border_options *options,
                       struct dayfly_err *err)
{
    for (size_t i = 0; i < options->secret_count; i++) {
        const struct border_secret *secret = &options->secrets[i];
        ssize_t n;
        do
            n = send(b->helper.control, secret->value, secret->value_bytes, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno != EPIPE) /* one that has ended says why, or helper_wait does */
            return err_errno(err, errno, "hand over the secret %s", secret->name);
    }
    return 0;
}

static int start(struct border *b, const struct border_options *options,
                 const int listeners[static NAT_BORDER_PORTS], struct dayfly_err *err)
{
    int r = helper_share(&b->helper, sizeof(struct border_shared), err);
    if (r == 0)
        r = write_setup(b, options, err);
    if (r == 0)
        r = helper_start(&b->helper, &program, listeners, NAT_BORDER_PORTS, err);
    if (r == 0)
        r = send_values(b, options, err);
    if (r == 0)
        r = helper_wait(&b->helper, b->log, err);
    if (r < 0)
        return r;
    memcpy(b->ca_pem, shared_of(b)->ca_pem, sizeof(b->ca_pem));
    b->ca_pem[sizeof(b->ca_pem) - 1] = '\0';
    return 0;
}

int border_start(struct border **out, const struct border_options *options,
                 int listeners[static NAT_BORDER_PORTS], struct dayfly_err *err)
{
    struct border *b = calloc(1, sizeof(*b));
    int r = b ? 0 : err_set(err, ENOMEM, "no memory");
    if (b) {
        b->helper = HELPER_NONE;
        b->log = options->log;
        r = start(b, options, listeners, err);
    }
    for (int i = 0; i < NAT_BORDER_PORTS; i++)
        close_fd(&listeners[i]);
    if (r < 0) {
        border_stop(b);
        return r;
    }
    *out = b;
    return 0;
}

void border_stop(struct border *b)
{
    if (!b)
        return;
    helper_stop(&b->helper);
    free(b);
}

/* ---- questions ---- */

const char *border_ca_pem(const struct border *b)
{
    return b->ca_pem;
}

size_t border_secret_count(const struct border *b)
{
    return b->secret_count;
}

const char *border_name(const struct border *b, size_t secret)
{
    return secret < b->secret_count ? b->names[secret] : NULL;
}

const char *border_placeholder(const struct border *b, size_t secret)
{
    return secret < b->secret_count ? b->placeholders[secret] : NULL;
}

size_t border_host_count(const struct border *b)
{
    return b->hosts.count;
}

const char *border_host(const struct border *b, size_t host)
{
    return host < b->hosts.count ? b->hosts.texts[host] : NULL;
}

int border_events_fd(const struct border *b)
{
    return b->helper.control;
}

int border_handle_events(struct border *b)
{
    return helper_handle_events(&b->helper, b->log);
}

void border_read_report(const struct border *b, struct border_report *out)
{
    *out = shared_of(b)->report;
}
