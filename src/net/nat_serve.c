/* SPDX-License-Identifier: Apache-2.0 */
#include "net/nat_serve.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/frames.h"
#include "net/nat_dns.h"
#include "net/route.h"
#include "net/slirp.h"
#include "util/arith.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/helper_main.h"

/* Of the descriptors that there may be, a connection takes one, and so do a conversation of UDP and
 * each echo. */
#define DESCRIPTORS_MAX  8192
#define DESCRIPTORS_OURS (FORWARDER_QUESTIONS_MAX + NAT_PUBLISH_MAX + 32)
#define LISTEN_BACKLOG   128
#define MEMORY_CROWDED   (NAT_MEMORY_BYTES / 4 * 3)
#define BATCHES          4 /* of frames from the guest, between two looks at everything else */
#define SWEEP_NS         NS_PER_S
#define FIXED_FDS        2
#define WAIT_FOR_EVER_MS UINT32_MAX

struct nat_serve {
    const struct nat_setup *setup;
    struct nat_report *report;
    struct frames *frames;
    struct policy *policy;
    struct nat_dns *dns;
    Slirp *slirp;
    int route;
    uint64_t now_ns;
    uint64_t router_ns; /* when libslirp wants to advertise itself; 0: not */
    uint64_t sweep_ns;
    struct pollfd *fds;
    unsigned fd_count, fds_max;
    unsigned conversations, connections_max;
    bool crowded; /* who asks for a published port has to wait */
    unsigned listener_count;
    int listeners[NAT_PUBLISH_MAX];
    struct log_limit limit;
    struct log log;
};

static const struct isolate_call calls[] = {
    ISOLATE_CALL_IF(socket, 0, UINT64_MAX, AF_INET),
    ISOLATE_CALL_IF(socket, 0, UINT64_MAX, AF_INET6),
    ISOLATE_CALL(connect),
    ISOLATE_CALL(accept),
    ISOLATE_CALL(accept4),
    ISOLATE_CALL(sendmsg),
    ISOLATE_CALL(sendmmsg),
    ISOLATE_CALL(recvmsg),
    ISOLATE_CALL(recvmmsg),
    ISOLATE_CALL(shutdown),
    ISOLATE_CALL(getsockname),
    ISOLATE_CALL(getpeername),
    ISOLATE_CALL(getsockopt),
    ISOLATE_CALL(setsockopt),
    ISOLATE_CALL_IF(ioctl, 1, UINT64_MAX, FIONBIO),
    ISOLATE_CALL_IF(ioctl, 1, UINT64_MAX, FIONREAD),
    ISOLATE_CALL(poll),
    ISOLATE_CALL(ppoll),
};
const struct isolate_calls nat_serve_calls = ISOLATE_CALLS(calls);

static const struct isolate_call border_calls[] = {ISOLATE_CALL_IF(socket, 0, UINT64_MAX, AF_UNIX)};
const struct isolate_calls nat_serve_border_calls = ISOLATE_CALLS(border_calls);

/* ---- to the library ---- */

static void log_refusal(struct nat_serve *s, const struct packet *p, enum policy_reason reason)
{
    static const char *const kinds[] = {
        [PACKET_ARP] = "ARP", [PACKET_TCP] = "TCP", [PACKET_UDP] = "UDP", [PACKET_ICMP] = "ICMP"};
    char text[NET_ENDPOINT_TEXT_BYTES];
    if (p->kind == PACKET_ICMP)
        net_addr_text(&p->dst, text);
    else
        net_endpoint_text(&p->dst, p->dst_port, text);
    log_limited(&s->log, &s->limit, LOG_INFO, "network: refused %s to %s: %s", kinds[p->kind], text,
                policy_reason_text(reason));
}

static void name_refused(void *opaque, const char *name)
{
    struct nat_serve *s = opaque;
    log_limited(&s->log, &s->limit, LOG_INFO, "network: refused the name %s", name);
}

/* ---- to the guest ---- */

static void send_frame(void *opaque, const uint8_t *frame, size_t len)
{
    struct nat_serve *s = opaque;
    if (!frames_send(s->frames, frame, len)) {
        book_count(s->report, NAT_FRAMES_LOST, 1);
        return;
    }
    book_count(s->report, NAT_FRAMES_TO_GUEST, 1);
    book_count(s->report, NAT_BYTES_TO_GUEST, len);
}

static ssize_t slirp_sends(const void *buf, size_t len, void *opaque)
{
    struct nat_serve *s = opaque;
    struct packet packet;
    if (packet_parse(buf, len, &packet) != PACKET_FINE || policy_deliver(s->policy, &packet, s->now_ns))
        send_frame(s, buf, len);
    return (ssize_t)len;
}

/* ---- from the guest ---- */

static void refuse(struct nat_serve *s, const struct packet *p, enum policy_reason reason)
{
    uint8_t frame[PACKET_REFUSAL_MAX];
    size_t len = packet_refuse(p, frame, sizeof(frame));
    if (len)
        send_frame(s, frame, len);
    book_count(s->report, NAT_REFUSED, 1);
    if (book_refusal(s->report, p, reason))
        log_refusal(s, p, reason);
}

static void take_frame(struct nat_serve *s, const uint8_t *frame, size_t len)
{
    struct packet p;
    enum policy_reason reason;
    book_count(s->report, NAT_FRAMES_FROM_GUEST, 1);
    book_count(s->report, NAT_BYTES_FROM_GUEST, len);
    enum packet_fault fault = packet_parse(frame, len, &p);
    if (fault != PACKET_FINE) {
        book_count(s->report, NAT_FRAMES_INVALID, 1);
        s->report->faults[fault]++;
        return;
    }
    switch (policy_check(s->policy, &p, s->now_ns, &reason)) {
    case POLICY_PASS:
        slirp_input(s->slirp, frame, (int)p.len);
        break;
    case POLICY_DROP:
        book_count(s->report, NAT_FRAMES_DROPPED, 1);
        break;
    case POLICY_REFUSE:
        refuse(s, &p, reason);
        break;
    case POLICY_DNS:
        nat_dns_input(s->dns, &p, s->now_ns);
        break;
    }
}

static int take_frames(struct nat_serve *s)
{
    for (int i = 0; i < BATCHES; i++) {
        int n = frames_receive(s->frames);
        if (n <= 0)
            return n;
        for (int j = 0; j < n; j++) {
            size_t len;
            const uint8_t *frame = frames_get(s->frames, j, &len);
            take_frame(s, frame, len);
        }
        if (n < FRAMES_BATCH)
            break;
    }
    return 0;
}

/* ---- what libslirp asks for ---- */

static void slirp_says(const char *msg, void *opaque)
{
    struct nat_serve *s = opaque;
    log_limited(&s->log, &s->limit, LOG_DEBUG, "network: %s", msg);
}

static int64_t slirp_clock(void *opaque)
{
    (void)opaque;
    return (int64_t)clock_ns();
}

/* There is one timer, of one purpose. */
static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
    (void)id;
    (void)cb_opaque;
    return &((struct nat_serve *)opaque)->router_ns;
}

static void timer_free(void *timer, void *opaque)
{
    (void)opaque;
    *(uint64_t *)timer = 0;
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    (void)opaque;
    *(uint64_t *)timer = (uint64_t)expire_ms * NS_PER_MS;
}

static void ignore_fd(int fd, void *opaque)
{
    (void)fd;
    (void)opaque;
}

static void ignore(void *opaque)
{
    (void)opaque;
}

static const SlirpCb callbacks = {
    .send_packet = slirp_sends,
    .guest_error = slirp_says,
    .clock_get_ns = slirp_clock,
    .timer_new_opaque = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = ignore_fd,
    .unregister_poll_fd = ignore_fd,
    .notify = ignore,
};

/* ---- what libslirp may take ---- */

/* What the guest said (flow.h) and what libslirp has of it are two things: it takes no reset that lies
 * outside of its window, has a socket and a frame's memory for each echo, for minutes, and keeps what
 * it cannot send since the guest answers no ARP. So what counts in the end is what is there. A new
 * descriptor is the lowest one that is free. */
static bool have_room(const struct nat_serve *s, unsigned descriptors)
{
    const struct mallinfo2 memory = mallinfo2();
    int lowest = fcntl(NAT_FD_FRAMES, F_DUPFD_CLOEXEC, 0);
    if (lowest < 0)
        return false;
    close(lowest);
    return (unsigned)lowest < descriptors && memory.uordblks + memory.hblkhd < MEMORY_CROWDED;
}

/* For what the guest begins: an eighth is left for who calls it. */
static bool has_room(void *opaque)
{
    const struct nat_serve *s = opaque;
    return have_room(s, s->conversations / 8 * 7);
}

static bool is_crowded(const struct nat_serve *s)
{
    return s->listener_count &&
           (policy_connections(s->policy) >= s->connections_max || !have_room(s, s->conversations));
}

static bool listens(const struct nat_serve *s, int fd)
{
    for (unsigned i = 0; i < s->listener_count; i++)
        if (s->listeners[i] == fd)
            return true;
    return false;
}

static int add_poll(int fd, int events, void *opaque)
{
    struct nat_serve *s = opaque;
    /* A caller whom nobody can accept would be reported without end. */
    if (s->fd_count == s->fds_max || (s->crowded && listens(s, fd)))
        return -1;
    s->fds[s->fd_count] = (struct pollfd){.fd = fd,
                                          .events = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) |
                                                            (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                                                            (events & SLIRP_POLL_PRI ? POLLPRI : 0))};
    return (int)s->fd_count++;
}

static int get_revents(int index, void *opaque)
{
    const struct nat_serve *s = opaque;
    int events = index >= 0 ? s->fds[index].revents : 0;
    return (events & POLLIN ? SLIRP_POLL_IN : 0) | (events & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (events & POLLPRI ? SLIRP_POLL_PRI : 0) | (events & POLLERR ? SLIRP_POLL_ERR : 0) |
           (events & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* ---- the loop ---- */

/* Wait for something to do. While the guest takes nothing, libslirp gets nothing to say to it: what is
 * meant for the guest then waits in the kernel's sockets, where it has a bound. Returns whether
 * libslirp takes part. */
static bool wait_for_work(struct nat_serve *s, unsigned *dns_fds)
{
    bool sweeps = s->crowded || policy_remembers(s->policy);
    uint64_t now = clock_ns(), deadline = sweeps ? s->sweep_ns : UINT64_MAX;
    size_t waiting = frames_waiting(s->frames);
    bool with_slirp = waiting < FRAMES_CROWDED;
    s->fds[0] = (struct pollfd){NAT_FD_FRAMES, (short)(POLLIN | (waiting ? POLLOUT : 0)), 0};
    s->fds[1] = (struct pollfd){HELPER_FD_CONTROL, POLLIN, 0};
    *dns_fds = nat_dns_fill(s->dns, s->fds + FIXED_FDS, &deadline);
    s->fd_count = FIXED_FDS + *dns_fds;
    uint32_t slirp_ms = WAIT_FOR_EVER_MS;
    if (with_slirp)
        slirp_pollfds_fill(s->slirp, &slirp_ms, add_poll, s);
    if (s->router_ns)
        deadline = MIN(deadline, s->router_ns);
    uint64_t wait = deadline > now ? deadline - now : 0;
    if (slirp_ms != WAIT_FOR_EVER_MS)
        wait = MIN(wait, slirp_ms * NS_PER_MS);
    struct timespec limit = {.tv_sec = (time_t)(wait / NS_PER_S), .tv_nsec = (long)(wait % NS_PER_S)};
    if (ppoll(s->fds, s->fd_count, &limit, NULL) < 0)
        for (unsigned i = 0; i < s->fd_count; i++)
            s->fds[i].revents = 0;
    s->now_ns = clock_ns();
    return with_slirp;
}

static void run_timers(struct nat_serve *s)
{
    if (s->router_ns && s->now_ns >= s->router_ns) {
        s->router_ns = 0;
        slirp_handle_timer(s->slirp, SLIRP_TIMER_RA, NULL);
    }
    if (s->now_ns >= s->sweep_ns) {
        policy_sweep(s->policy, s->now_ns);
        s->crowded = is_crowded(s);
        s->sweep_ns = s->now_ns + SWEEP_NS;
    }
}

int nat_serve_run(struct nat_serve *s)
{
    for (;;) {
        unsigned dns_fds;
        bool with_slirp = wait_for_work(s, &dns_fds);
        if (s->fds[1].revents)
            return 0;
        frames_flush(s->frames);
        if (s->fds[0].revents & ~POLLOUT && take_frames(s) < 0)
            return 0;
        if (with_slirp)
            slirp_pollfds_poll(s->slirp, 0, get_revents, s);
        nat_dns_poll(s->dns, s->fds + FIXED_FDS, s->now_ns);
        run_timers(s);
        frames_flush(s->frames);
    }
}

/* ---- set-up ---- */

static bool is_own(void *opaque, const struct net_addr *addr)
{
    return route_is_own(((struct nat_serve *)opaque)->route, addr);
}

static int publish(struct nat_serve *s, const struct net_publish *p, struct dayfly_err *err)
{
    const struct nat_addresses *a = &s->setup->addresses;
    struct sockaddr_storage host, guest;
    char text[NET_ENDPOINT_TEXT_BYTES];
    bool v4 = net_addr_is_v4(&p->host);
    net_endpoint_text(&p->host, p->host_port, text);
    if (!v4 && !a->ipv6)
        return err_set(err, EAFNOSUPPORT, "cannot publish %s: the machine has no IPv6", text);
    socklen_t host_len = net_addr_sockaddr(&p->host, p->host_port, &host);
    socklen_t guest_len = net_addr_sockaddr(v4 ? &a->guest4 : &a->guest6, p->guest_port, &guest);
    int flags = (p->udp ? SLIRP_HOSTFWD_UDP : 0) | SLIRP_HOSTFWD_V6ONLY;
    if (slirp_add_hostxfwd(s->slirp, (struct sockaddr *)&host, host_len, (struct sockaddr *)&guest,
                           guest_len, flags) == 0)
        return 0;
    return err_errno(err, errno, "cannot publish %s/%s", text, p->udp ? "udp" : "tcp");
}

int nat_serve_border(struct nat_serve *s, uint16_t port, const char *path, struct dayfly_err *err)
{
    struct in_addr at;
    memcpy(&at, s->setup->addresses.border4.bytes + 12, sizeof(at));
    if (slirp_add_unix(s->slirp, path, &at, port) == 0)
        return 0;
    return err_set(err, EINVAL, "libslirp does not take the border's address");
}

/* libslirp listens with room for one caller. */
static void widen_backlogs(struct nat_serve *s)
{
    uint32_t timeout = 0;
    s->fd_count = 0;
    slirp_pollfds_fill(s->slirp, &timeout, add_poll, s);
    for (unsigned i = 0; i < s->fd_count; i++)
        if (listen(s->fds[i].fd, LISTEN_BACKLOG) == 0) /* UDP has none */
            s->listeners[s->listener_count++] = s->fds[i].fd;
}

/* How many descriptors there are, after asking for as many as there may be. */
static unsigned descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)DESCRIPTORS_MAX);
    limit.rlim_max = limit.rlim_cur;
    setrlimit(RLIMIT_NOFILE, &limit);
    return (unsigned)MAX(limit.rlim_cur, (rlim_t)DESCRIPTORS_OURS + 64);
}

int nat_serve_new(struct nat_serve **out, const struct nat_setup *setup, struct nat_report *report,
                  struct dayfly_err *err)
{
    struct nat_serve *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ENOMEM, "no memory");
    s->setup = setup;
    s->report = report;
    s->log = (struct log){.write = helper_main_log, .level = LOG_INFO};
    s->now_ns = clock_ns();
    s->fds_max = descriptors();
    s->fds = calloc(s->fds_max, sizeof(*s->fds));
    s->route = route_open();
    if (s->route < 0)
        return err_errno(err, -s->route, "open a netlink socket");
    s->conversations = s->fds_max - DESCRIPTORS_OURS;
    const struct policy_options policy = {.rules = setup->rules,
                                          .rule_count = setup->rule_count,
                                          .publish = setup->publish,
                                          .publish_count = setup->publish_count,
                                          .addresses = setup->addresses,
                                          .tcp_max = MIN(s->conversations / 2, 2048u),
                                          .other_max = MIN(s->conversations / 2, 4096u),
                                          .ttl_min_s = setup->ttl_min_s,
                                          .is_own = is_own,
                                          .has_room = has_room,
                                          .opaque = s};
    s->connections_max = policy.tcp_max;
    s->policy = policy_new(&policy);
    const struct nat_dns_options dns = {.policy = s->policy,
                                        .report = report,
                                        .mtu = setup->addresses.mtu,
                                        .servers = setup->resolvers,
                                        .server_count = setup->resolver_count,
                                        .border_hosts = setup->border_hosts,
                                        .border_host_count = setup->border_host_count,
                                        .border = setup->addresses.border4,
                                        .send = send_frame,
                                        .refused = name_refused,
                                        .opaque = s};
    s->dns = nat_dns_new(&dns);
    s->frames = frames_new(NAT_FD_FRAMES);
    s->slirp = slirp_of(&setup->addresses, &callbacks, s);
    if (!s->fds || !s->policy || !s->dns || !s->frames || !s->slirp)
        return err_set(err, ENOMEM, "no memory for a network");
    for (uint32_t i = 0; i < setup->publish_count; i++) {
        int r = publish(s, &setup->publish[i], err);
        if (r < 0)
            return r;
    }
    widen_backlogs(s);
    *out = s;
    return 0;
}
