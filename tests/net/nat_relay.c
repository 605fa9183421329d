/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A NAT with a Linux network stack as its guest: frames between nat.h's socket and a tap device in
 * another network namespace. The NAT's side is the namespace that it was started in.
 *
 *   nat-relay NAMESPACE_FD RESOLV_CONF TTL_MIN MTU [RULE ...] [-- PUBLISH ... [-- TRUST CA SECRET ...]]
 *
 * A secret is HOST=VALUE, with http: in front where it may go out so; the border's authority is written
 * to the file CA, and hosts are verified by the certificates in TRUST.
 *
 * Prints "ready MTU IPV6 PLACEHOLDER ..." or the error; then what nat.h and border.h log. When its
 * input ends it prints the reports and ends. "stop" and "go" on its input: leave the frames for the tap
 * alone, and take them again; "end": stop the border.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "border/border.h"
#include "util/io.h"

#define TURN 64

static void print_log(void *opaque, enum log_level level, const char *line)
{
    (void)opaque;
    (void)level;
    printf("log %s\n", line);
    fflush(stdout);
}

static int open_tap(int namespace_fd)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    strcpy(request.ifr_name, "guest0");
    if (setns(namespace_fd, CLONE_NEWNET) < 0)
        return -1;
    int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    return tap >= 0 && ioctl(tap, TUNSETIFF, &request) == 0 ? tap : -1;
}

/* Up to a turn of frames from one to the other. -1 at an end; `*held` keeps one that found no room. */
static int relay(int from, int to, uint8_t *held, size_t *held_len)
{
    for (int i = 0; i < TURN; i++) {
        if (!*held_len) {
            ssize_t n = read(from, held, NAT_FRAME_MAX);
            if (n <= 0)
                return n < 0 && errno == EAGAIN ? 0 : -1;
            *held_len = (size_t)n;
        }
        if (write(to, held, *held_len) < 0 && errno == EAGAIN)
            return 0;
        *held_len = 0; /* a tap that is down takes nothing, and that is a loss as on a wire */
    }
    return 0;
}

/* ---- secrets ---- */

struct secrets {
    struct border *border; /* NULL: none */
    struct border_secret all[BORDER_SECRETS_MAX];
    size_t count;
    const char *hosts[BORDER_SECRETS_MAX];
    struct border_hosts names;
};

static void add_secret(struct secrets *s, char *text)
{
    struct border_secret *secret = &s->all[s->count];
    bool http = strncmp(text, "http:", 5) == 0;
    char *value = strchr(text, '=');
    if (!value)
        return;
    *value++ = '\0';
    s->hosts[s->count] = text + (http ? 5 : 0);
    *secret = (struct border_secret){.name = "TEST",
                                     .value = value,
                                     .value_bytes = strlen(value),
                                     .hosts = &s->hosts[s->count],
                                     .host_count = 1,
                                     .allow_http = http};
    s->count++;
}

static int start_border(struct secrets *s, struct nat *nat, const struct nat_options *from,
                        const char *trust, const char *ca, struct dayfly_err *err)
{
    const struct border_options options = {.secrets = s->all,
                                           .secret_count = s->count,
                                           .rules = from->rules,
                                           .rule_count = from->rule_count,
                                           .peer = nat_pid(nat),
                                           .log = from->log,
                                           .resolv_conf = from->resolv_conf,
                                           .trust_file = trust};
    int listeners[NAT_BORDER_PORTS];
    nat_take_border(nat, listeners);
    int r = border_start(&s->border, &options, listeners, err);
    int fd = r == 0 ? open(ca, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        r = io_write_full(fd, border_ca_pem(s->border), strlen(border_ca_pem(s->border)));
        close(fd);
    }
    return r;
}

static void print_border_report(const struct border *border)
{
    static struct border_report r;
    border_read_report(border, &r);
    for (size_t i = 0; i < border_host_count(border); i++)
        printf("border %s %llu %llu %llu %llu %llu\n", border_host(border, i),
               (unsigned long long)r.hosts[i].requests, (unsigned long long)r.hosts[i].replaced,
               (unsigned long long)r.hosts[i].masked, (unsigned long long)r.hosts[i].refused,
               (unsigned long long)r.hosts[i].failed);
}

/* ---- */

static void print_report(const struct nat *nat)
{
    static struct nat_report r;
    char text[NET_ENDPOINT_TEXT_BYTES];
    nat_read_report(nat, &r);
    for (int i = 0; i < NAT_COUNTERS; i++)
        printf("counter %d %llu\n", i, (unsigned long long)r.counters[i]);
    for (int i = 0; i < PACKET_FAULTS; i++)
        printf("fault %d %llu\n", i, (unsigned long long)r.faults[i]);
    for (uint32_t i = 0; i < r.name_count; i++)
        printf("name %s %u %u\n", r.names[i].name, r.names[i].asked, r.names[i].refused);
    for (uint32_t i = 0; i < r.addr_count; i++) {
        net_addr_text(&r.addrs[i].addr, text);
        printf("addr %s %u\n", text, r.addrs[i].open);
    }
    for (uint32_t i = 0; i < r.refusal_count; i++) {
        net_endpoint_text(&r.refusals[i].addr, r.refusals[i].port, text);
        printf("refused %s %u %s\n", text, r.refusals[i].count,
               policy_reason_text((enum policy_reason)r.refusals[i].reason));
    }
    printf("end\n");
}

static int serve(struct nat *nat, struct secrets *secrets, int frames, int tap)
{
    static uint8_t to_guest[NAT_FRAME_MAX], from_guest[NAT_FRAME_MAX];
    size_t to_len = 0, from_len = 0;
    bool taking = true;
    char word[64];
    for (;;) {
        struct pollfd fds[] = {
            {frames, (short)((to_len || !taking ? 0 : POLLIN) | (from_len ? POLLOUT : 0)), 0},
            {tap, (short)((from_len ? 0 : POLLIN) | (to_len ? POLLOUT : 0)), 0},
            {0, POLLIN, 0},
            {nat_events_fd(nat), POLLIN, 0},
            {secrets->border ? border_events_fd(secrets->border) : -1, POLLIN, 0},
        };
        if (poll(fds, 5, -1) < 0)
            return 1;
        if (fds[2].revents) {
            ssize_t n = read(0, word, sizeof(word) - 1);
            if (n <= 0)
                return 0;
            taking = strncmp(word, "stop", 4) != 0;
            if (strncmp(word, "end", 3) == 0) {
                border_stop(secrets->border);
                secrets->border = NULL;
                printf("log ended\n");
                fflush(stdout);
                continue;
            }
        }
        if (fds[4].revents && border_handle_events(secrets->border) < 0) {
            printf("the border's helper ended\n");
            return 1;
        }
        if (fds[3].revents && nat_handle_events(nat) < 0) {
            printf("the helper ended\n");
            return 1;
        }
        if ((taking && relay(frames, tap, to_guest, &to_len) < 0) ||
            relay(tap, frames, from_guest, &from_len) < 0)
            return 1;
    }
}

int main(int argc, char **argv)
{
    static struct net_rule rules[NAT_RULES_MAX];
    static struct net_publish publish[NAT_PUBLISH_MAX];
    static struct secrets secrets;
    const struct log log = {.write = print_log, .level = LOG_DEBUG};
    struct dayfly_err err = {0};
    struct nat *nat;
    int frames, i = 5;
    if (argc < 5)
        return 2;
    struct nat_options options = {.rules = rules,
                                  .publish = publish,
                                  .resolv_conf = argv[2],
                                  .ttl_min_s = (uint32_t)atoi(argv[3]),
                                  .mtu = (uint16_t)atoi(argv[4]),
                                  .log = &log};
    bool ok = true;
    for (; ok && i < argc && strcmp(argv[i], "--") != 0; i++)
        ok = net_rule_parse(argv[i], &rules[options.rule_count++], &err) == 0;
    for (i++; ok && i < argc && strcmp(argv[i], "--") != 0; i++)
        ok = net_publish_parse(argv[i], &publish[options.publish_count++], &err) == 0;
    const char *trust = i + 2 < argc ? argv[i + 1] : NULL, *ca = trust ? argv[i + 2] : NULL;
    for (i += 3; ok && i < argc && secrets.count < BORDER_SECRETS_MAX; i++)
        add_secret(&secrets, argv[i]);
    ok = ok && border_hosts_of(secrets.all, secrets.count, &secrets.names, &err) == 0;
    options.border_hosts = secrets.names.names;
    options.border_host_count = secrets.names.count;
    if (!ok || nat_start(&nat, &options, &frames, &err) < 0 ||
        (secrets.count && start_border(&secrets, nat, &options, trust, ca, &err) < 0)) {
        printf("error %s\n", err.msg);
        return 1;
    }
    int tap = open_tap(atoi(argv[1]));
    if (tap < 0) {
        printf("error no tap device: %s\n", strerror(errno));
        return 1;
    }
    printf("ready %u %d", nat_addresses(nat)->mtu, nat_addresses(nat)->ipv6);
    for (size_t j = 0; j < secrets.count; j++)
        printf(" %s", border_placeholder(secrets.border, j));
    printf("\n");
    fflush(stdout);
    int status = serve(nat, &secrets, frames, tap);
    if (secrets.border)
        print_border_report(secrets.border);
    print_report(nat);
    border_stop(secrets.border);
    nat_stop(nat);
    return status;
}
