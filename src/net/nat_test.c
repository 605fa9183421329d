/* SPDX-License-Identifier: Apache-2.0 */
/* The helper from its socket, as any user and with whatever network there is: nothing leaves it here.
 * What it does for a whole TCP/IP stack is tests/net/nat_test.py's. */
#include "net/nat.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "isolate/isolate.h"
#include "isolate/program.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

#define LIMIT_MS 20000

struct world {
    struct nat *nat;
    int frames;
    struct dayfly_err err;
    char logged[4096];
    uint8_t frame[NAT_FRAME_MAX];
};

static void keep_log(void *opaque, enum log_level level, const char *line)
{
    struct world *w = opaque;
    (void)level;
    size_t len = strlen(w->logged);
    snprintf(w->logged + len, sizeof(w->logged) - len, "%s\n", line);
}

static int begin(struct world *w, const char *rule, const char *publish)
{
    static struct net_rule rules[1];
    static struct net_publish publishes[1];
    static struct log log = {.write = keep_log, .level = LOG_DEBUG};
    memset(w, 0, sizeof(*w));
    w->frames = -1;
    log.opaque = w;
    struct nat_options options = {.log = &log, .rules = rules, .publish = publishes};
    if (rule)
        assert_int_equal(net_rule_parse(rule, &rules[options.rule_count++], NULL), 0);
    if (publish)
        assert_int_equal(net_publish_parse(publish, &publishes[options.publish_count++], NULL), 0);
    return nat_start(&w->nat, &options, &w->frames, &w->err);
}

static void end(struct world *w)
{
    nat_stop(w->nat);
    close_fd(&w->frames);
}

static bool readable(int fd)
{
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, LIMIT_MS) == 1;
}

/* The next frame from the NAT that is of this kind. */
static bool receive(struct world *w, enum packet_kind kind, struct packet *out)
{
    while (readable(w->frames)) {
        ssize_t n = recv(w->frames, w->frame, sizeof(w->frame), 0);
        if (n <= 0)
            return false;
        if (packet_parse(w->frame, (size_t)n, out) == PACKET_FINE && out->kind == kind)
            return true;
    }
    return false;
}

static struct packet_ends from_guest(const struct nat *nat, const char *to, uint16_t port)
{
    struct packet_ends ends = {.ours = nat_addresses(nat)->guest4,
                               .our_port = 40000,
                               .guest_port = port,
                               .our_mac = {2, 0, 0, 0, 0, 1},
                               .guest_mac = {0x52, 0x55, 10, 0, 2, 2}};
    assert_true(net_addr_parse(to, &ends.guest));
    return ends;
}

static void send_syn(struct world *w, const char *to, uint16_t port)
{
    const struct packet_ends ends = from_guest(w->nat, to, port);
    const struct packet_tcp syn = {.seq = 1, .flags = PACKET_TCP_SYN, .window = 1000};
    uint8_t frame[128];
    size_t len = packet_tcp(&ends, &syn, NULL, 0, frame, sizeof(frame));
    assert_int_equal(send(w->frames, frame, len, 0), (ssize_t)len);
}

/* Whether libslirp is there: it answers who has the gateway's address. */
static bool gateway_answers(struct world *w)
{
    static const uint8_t request[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,  1, 8, 6,
                                      0,    1,    8,    0,    6,    4,    0, 1, 2, 0, 0,  0, 0, 1,
                                      10,   0,    2,    15,   0,    0,    0, 0, 0, 0, 10, 0, 2, 2};
    struct packet p;
    return send(w->frames, request, sizeof(request), 0) == sizeof(request) &&
           receive(w, PACKET_ARP, &p) && net_addr_equal(&p.src, &nat_addresses(w->nat)->gateway4);
}

static void test_starts_and_serves(void **state)
{
    static struct world w;
    assert_int_equal(begin(&w, NULL, NULL), 0);
    assert_true(gateway_answers(&w));
    assert_int_equal(nat_addresses(w.nat)->mtu, NAT_MTU_MAX);
    assert_int_equal(fcntl(w.frames, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(w.frames, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    end(&w);
}

static void test_two_at_once(void **state)
{
    static struct world a, b;
    assert_int_equal(begin(&a, NULL, NULL), 0);
    assert_int_equal(begin(&b, NULL, NULL), 0);
    assert_true(gateway_answers(&a) && gateway_answers(&b));
    end(&a);
    assert_true(gateway_answers(&b));
    end(&b);
}

static void test_refuses_and_reports(void **state)
{
    static struct world w;
    static struct nat_report report;
    struct packet p;
    static const uint8_t query[] = "\0\7\1\0\0\1\0\0\0\0\0\0\3www\7example\3net\0\0\1\0\1";
    uint8_t frame[256];
    assert_int_equal(begin(&w, "*.example.org", NULL), 0);
    for (int i = 0; i < 3; i++) {
        send_syn(&w, "198.51.100.7", 80);
        assert_true(receive(&w, PACKET_TCP, &p));
        assert_true(p.tcp_flags & PACKET_TCP_RST);
    }
    const struct packet_ends ends = from_guest(w.nat, "10.0.2.3", 53);
    size_t len = packet_udp(&ends, query, sizeof(query) - 1, frame, sizeof(frame));
    assert_int_equal(send(w.frames, frame, len, 0), (ssize_t)len);
    assert_true(receive(&w, PACKET_UDP, &p));
    assert_true(packet_checksum_ok(&p));
    assert_int_equal(w.frame[p.payload + 3] & 15, 3); /* NXDOMAIN */
    assert_int_equal(send(w.frames, frame, 20, 0), 20);
    assert_true(gateway_answers(&w));

    nat_read_report(w.nat, &report);
    assert_int_equal(report.refusal_count, 1);
    assert_int_equal(report.refusals[0].count, 3);
    assert_int_equal(report.refusals[0].port, 80);
    assert_int_equal(report.refusals[0].reason, POLICY_NO_RULE);
    assert_int_equal(report.name_count, 1);
    assert_string_equal(report.names[0].name, "www.example.net");
    assert_int_equal(report.names[0].refused, 1);
    assert_int_equal(report.counters[NAT_FRAMES_INVALID], 1);
    assert_int_equal(report.faults[PACKET_RUNT], 1);
    assert_true(readable(nat_events_fd(w.nat)));
    assert_int_equal(nat_handle_events(w.nat), 0);
    assert_non_null(strstr(w.logged, "refused TCP to 198.51.100.7:80: no rule allows it"));
    assert_non_null(strstr(w.logged, "refused the name www.example.net"));
    end(&w);
}

/* A guest that asks gets the same addresses as one that is told. */
static void test_dhcp(void **state)
{
    static struct world w;
    static uint8_t request[300] = {
        1, 1, 6, 0, 1, 2, 3, 4, [28] = 2, [33] = 1, [236] = 99, 130, 83, 99, 53, 1, 1, 255};
    static const uint8_t resolver[] = {6, 4, 10, 0, 2, 3}, router[] = {3, 4, 10, 0, 2, 2};
    struct packet p;
    uint8_t frame[400];
    assert_int_equal(begin(&w, NULL, NULL), 0);
    struct packet_ends ends = from_guest(w.nat, "255.255.255.255", 67);
    ends.our_port = 68;
    assert_true(net_addr_parse("0.0.0.0", &ends.ours));
    size_t len = packet_udp(&ends, request, sizeof(request), frame, sizeof(frame));
    assert_int_equal(send(w.frames, frame, len, 0), (ssize_t)len);
    assert_true(receive(&w, PACKET_UDP, &p));
    assert_int_equal(p.dst_port, 68);
    const uint8_t *offer = w.frame + p.payload;
    size_t offered = p.len - p.payload;
    assert_memory_equal(offer + 16, nat_addresses(w.nat)->guest4.bytes + 12, 4);
    assert_non_null(memmem(offer + 240, offered - 240, resolver, sizeof(resolver)));
    assert_non_null(memmem(offer + 240, offered - 240, router, sizeof(router)));
    end(&w);
}

static void test_a_port_in_use_is_an_error(void **state)
{
    static struct world w;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(in);
    char text[64], name[64];
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    snprintf(text, sizeof(text), "%u:80", ntohs(in.sin_port));
    snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(in.sin_port));
    assert_int_equal(begin(&w, NULL, text), -EADDRINUSE);
    assert_int_equal(w.err.code, EADDRINUSE);
    assert_non_null(strstr(w.err.msg, name));
    assert_int_equal(w.frames, -1);
    assert_null(w.nat);
    close_fd(&fd);
    assert_int_equal(begin(&w, NULL, text), 0);
    end(&w);
}

static void test_options_have_bounds(void **state)
{
    static struct net_rule rules[NAT_RULES_MAX + 1];
    static struct net_publish publish[NAT_PUBLISH_MAX + 1];
    const struct nat_options wrong[] = {
        {.rules = rules, .rule_count = NAT_RULES_MAX + 1},
        {.publish = publish, .publish_count = NAT_PUBLISH_MAX + 1},
        {.mtu = NAT_MTU_MIN - 1},
        {.mtu = NAT_MTU_MAX + 1},
    };
    struct nat *nat = NULL;
    struct dayfly_err err;
    int frames = -1;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_true(nat_start(&nat, &wrong[i], &frames, &err) < 0);
    assert_null(nat);
    assert_int_equal(frames, -1);
}

/* The helper ends with its socket, and what it knew is still there. */
static void test_the_end(void **state)
{
    static struct world w;
    static struct nat_report report;
    struct packet p;
    assert_int_equal(begin(&w, NULL, NULL), 0);
    send_syn(&w, "169.254.169.254", 80);
    assert_true(receive(&w, PACKET_TCP, &p));
    close_fd(&w.frames);
    int r;
    do
        assert_true(readable(nat_events_fd(w.nat)));
    while ((r = nat_handle_events(w.nat)) == 0);
    assert_int_equal(r, -EPIPE);
    nat_read_report(w.nat, &report);
    assert_int_equal(report.refusals[0].reason, POLICY_LINK_LOCAL);
    end(&w);

    /* And the device sees the end of the helper. */
    assert_int_equal(begin(&w, NULL, NULL), 0);
    nat_stop(w.nat);
    assert_true(readable(w.frames));
    assert_int_equal(recv(w.frames, w.frame, sizeof(w.frame), 0), 0);
    close_fd(&w.frames);
}

/* ---- the border's sockets ---- */

/* A whole handshake with a port, of which libslirp connects the other end. */
static void shake_hands(struct world *w, const char *to, uint16_t port)
{
    struct packet p;
    uint8_t frame[128];
    send_syn(w, to, port);
    do /* one that was closed may say so in between */
        assert_true(receive(w, PACKET_TCP, &p));
    while (p.src_port != port);
    assert_int_equal(p.tcp_flags, PACKET_TCP_SYN | PACKET_TCP_ACK);
    const uint8_t *at = w->frame + 14 + 20 + 4;
    uint32_t seq = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    const struct packet_ends ends = from_guest(w->nat, to, port);
    const struct packet_tcp ack = {.seq = 2, .ack = seq + 1, .flags = PACKET_TCP_ACK, .window = 1000};
    size_t len = packet_tcp(&ends, &ack, NULL, 0, frame, sizeof(frame));
    assert_int_equal(send(w->frames, frame, len, 0), (ssize_t)len);
}

static void check_border(void)
{
    static const char *const hosts[] = {"api.example.org"};
    static const uint16_t ports[] = {80, 443};
    static struct world w;
    struct nat_options options = {.border_hosts = hosts, .border_host_count = 1};
    int listeners[NAT_BORDER_PORTS];
    memset(&w, 0, sizeof(w));
    w.frames = -1;
    assert_int_equal(nat_start(&w.nat, &options, &w.frames, &w.err), 0);
    assert_true(nat_addresses(w.nat)->border);
    assert_true(gateway_answers(&w)); /* and knows our hardware address from now on */
    assert_int_equal(nat_take_border(w.nat, listeners), 0);
    for (int i = 0; i < NAT_BORDER_PORTS; i++) {
        struct ucred who;
        socklen_t len = sizeof(who);
        assert_int_equal(accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC), -1);
        shake_hands(&w, "10.0.2.4", ports[i]);
        assert_true(readable(listeners[i]));
        _cleanup_close_ int fd = accept4(listeners[i], NULL, NULL, SOCK_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len), 0);
        assert_int_equal(who.pid, nat_pid(w.nat));
        close(listeners[i]);
    }
    assert_int_equal(nat_take_border(w.nat, listeners), -ENOENT);
    end(&w);
}

static void test_connections_to_the_border(void **state)
{
    check_border();
}

/* A host that gives no namespaces: the same, and nothing of it is left in /tmp. */
static void test_the_border_without_namespaces(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        static const struct isolate_call calls[] = {
            ISOLATE_CALL_IF(unshare, 0, CLONE_NEWNS, CLONE_NEWNS),
        };
        static const struct isolate_calls table = ISOLATE_CALLS(calls);
        struct sock_fprog program;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            isolate_denials(&table, UINT32_MAX, &program, NULL) < 0 ||
            isolate_program(&program, NULL) < 0)
            _exit(2);
        check_border();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_any_user(void **state)
{
    static struct world w;
    if (geteuid() != 0)
        skip(); /* all the others show it */
    pid_t pid = fork();
    if (pid == 0) {
        bool ok = setgid(65533) == 0 && setuid(65533) == 0 && begin(&w, NULL, NULL) == 0 &&
                  gateway_answers(&w);
        if (!ok)
            fprintf(stderr, "%s\n", w.err.msg);
        nat_stop(w.nat);
        _exit(!ok);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_and_serves),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_refuses_and_reports),
        cmocka_unit_test(test_dhcp),
        cmocka_unit_test(test_a_port_in_use_is_an_error),
        cmocka_unit_test(test_options_have_bounds),
        cmocka_unit_test(test_the_end),
        cmocka_unit_test(test_connections_to_the_border),
        cmocka_unit_test(test_the_border_without_namespaces),
        cmocka_unit_test(test_any_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
