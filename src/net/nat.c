/* SPDX-License-Identifier: Apache-2.0 */
/* The library's side of the helper. */
#include "net/nat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/nat_wire.h"
#include "net/resolv_conf.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/text.h"

/* The program: blob.sh puts it there. */
extern const uint8_t nat_helper_start[], nat_helper_end[];

static const struct helper_program program = {.name = "dayfly-nat",
                                              .what = "the network's helper",
                                              .needs = "libslirp",
                                              .start = nat_helper_start,
                                              .end = nat_helper_end};

struct nat {
    struct helper helper;
    struct nat_addresses addresses;
    int border[NAT_BORDER_PORTS]; /* until they are taken */
    unsigned lacks;               /* read once, before there is a guest */
    const struct log *log;
};

static struct nat_shared *shared_of(const struct nat *nat)
{
    return nat->helper.shared;
}

static int write_border_hosts(struct nat_setup *setup, const struct nat_options *options,
                              struct dayfly_err *err)
{
    if (options->border_host_count > NAT_BORDER_HOSTS_MAX)
        return err_set(err, E2BIG, "more than %d hosts of secrets", NAT_BORDER_HOSTS_MAX);
    for (size_t i = 0; i < options->border_host_count; i++) {
        size_t len = strlen(options->border_hosts[i]);
        if (!len || len >= NET_NAME_BYTES)
            return err_set(err, EINVAL, "a secret's host is no name");
        memcpy(setup->border_hosts[i], options->border_hosts[i], len + 1);
    }
    setup->border_host_count = (uint32_t)options->border_host_count;
    return 0;
}

static int write_setup(struct nat *nat, const struct nat_options *options, struct dayfly_err *err)
{
    struct nat_setup *setup = &shared_of(nat)->setup;
    if (options->rule_count > NAT_RULES_MAX)
        return err_set(err, E2BIG, "more than %d rules for the network", NAT_RULES_MAX);
    if (options->publish_count > NAT_PUBLISH_MAX)
        return err_set(err, E2BIG, "more than %d ports to publish", NAT_PUBLISH_MAX);
    nat_addresses_default(&nat->addresses);
    nat->addresses.ipv6 = !options->no_ipv6;
    if (options->mtu)
        nat->addresses.mtu = options->mtu;
    if (nat->addresses.mtu < NAT_MTU_MIN || nat->addresses.mtu > NAT_MTU_MAX)
        return err_set(err, EINVAL, "the network's MTU is %d to %d", NAT_MTU_MIN, NAT_MTU_MAX);
    nat->addresses.border = options->border_host_count > 0;
    *setup = (struct nat_setup){.addresses = nat->addresses,
                                .ttl_min_s = options->ttl_min_s,
                                .rule_count = (uint32_t)options->rule_count,
                                .publish_count = (uint32_t)options->publish_count};
    setup->resolver_count =
        resolv_conf_read(options->resolv_conf ? options->resolv_conf : "/etc/resolv.conf",
                         setup->resolvers, NAT_RESOLVERS_MAX);
    for (size_t i = 0; i < options->rule_count; i++)
        setup->rules[i] = options->rules[i];
    for (size_t i = 0; i < options->publish_count; i++)
        setup->publish[i] = options->publish[i];
    return write_border_hosts(setup, options, err);
}

/* Sockets without a name: the helper gives them one where nobody else is, and listens. */
static int make_border(struct nat *nat, struct dayfly_err *err)
{
    for (int i = 0; i < NAT_BORDER_PORTS; i++) {
        nat->border[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (nat->border[i] < 0)
            return err_errno(err, errno, "make a socket for secrets");
    }
    return 0;
}

static int start(struct nat *nat, const struct nat_options *options, int *frame_fd,
                 struct dayfly_err *err)
{
    int frames[2];
    int r = helper_share(&nat->helper, sizeof(struct nat_shared), err);
    if (r == 0)
        r = write_setup(nat, options, err);
    if (r == 0 && options->border_host_count)
        r = make_border(nat, err);
    if (r == 0)
        r = helper_pair(frames, SOCK_NONBLOCK, err);
    if (r < 0)
        return r;
    const int fds[] = {frames[1], nat->border[0], nat->border[1]};
    r = helper_start(&nat->helper, &program, fds, options->border_host_count ? ARRAY_SIZE(fds) : 1,
                     err);
    close(frames[1]);
    if (r == 0)
        r = helper_wait(&nat->helper, nat->log, err);
    if (r < 0) {
        close(frames[0]);
        return r;
    }
    nat->addresses.ipv6 = nat->addresses.ipv6 && shared_of(nat)->ipv6 != 0;
    nat->lacks = shared_of(nat)->lacks;
    *frame_fd = frames[0];
    return 0;
}

int nat_start(struct nat **out, const struct nat_options *options, int *frame_fd,
              struct dayfly_err *err)
{
    struct nat *nat = calloc(1, sizeof(*nat));
    if (!nat)
        return err_set(err, ENOMEM, "no memory");
    nat->helper = HELPER_NONE;
    nat->border[0] = nat->border[1] = -1;
    nat->log = options->log;
    int r = start(nat, options, frame_fd, err);
    if (r < 0) {
        nat_stop(nat);
        return r;
    }
    *out = nat;
    return 0;
}

void nat_stop(struct nat *nat)
{
    if (!nat)
        return;
    helper_stop(&nat->helper);
    for (int i = 0; i < NAT_BORDER_PORTS; i++)
        close_fd(&nat->border[i]);
    free(nat);
}

int nat_take_border(struct nat *nat, int listeners[static NAT_BORDER_PORTS])
{
    if (nat->border[0] < 0)
        return -ENOENT;
    for (int i = 0; i < NAT_BORDER_PORTS; i++)
        listeners[i] = steal_fd(&nat->border[i]);
    return 0;
}

unsigned nat_lacks(const struct nat *nat)
{
    return nat->lacks;
}

pid_t nat_pid(const struct nat *nat)
{
    return nat->helper.pid;
}

const struct nat_addresses *nat_addresses(const struct nat *nat)
{
    return &nat->addresses;
}

int nat_events_fd(const struct nat *nat)
{
    return nat->helper.control;
}

int nat_handle_events(struct nat *nat)
{
    return helper_handle_events(&nat->helper, nat->log);
}

void nat_read_report(const struct nat *nat, struct nat_report *out)
{
    const struct nat_report *from = &shared_of(nat)->report;
    uint32_t names = __atomic_load_n(&from->name_count, __ATOMIC_ACQUIRE);
    uint32_t addrs = __atomic_load_n(&from->addr_count, __ATOMIC_ACQUIRE);
    uint32_t refusals = __atomic_load_n(&from->refusal_count, __ATOMIC_ACQUIRE);
    *out = *from;
    out->name_count = MIN(names, (uint32_t)NAT_NAMES_LISTED);
    out->addr_count = MIN(addrs, (uint32_t)NAT_ADDRS_LISTED);
    out->refusal_count = MIN(refusals, (uint32_t)NAT_REFUSALS_LISTED);
    for (uint32_t i = 0; i < out->name_count; i++) {
        out->names[i].name[NET_NAME_BYTES - 1] = '\0';
        text_make_printable(out->names[i].name);
    }
    for (uint32_t i = 0; i < out->addr_count; i++) {
        out->addrs[i].name = MIN(out->addrs[i].name, (uint32_t)NAT_NAMES_LISTED);
        out->addrs[i].open = out->addrs[i].open != 0;
    }
}
