/* SPDX-License-Identifier: Apache-2.0 */
#include "border/serve.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/secret.h"
#include "border/conn.h"
#include "net/route.h"
#include "util/arith.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/helper_main.h"

#define CONNECTIONS_MAX 64
#define ACCEPT_A_TURN   16
#define ACCEPT_AGAIN_NS (100 * NS_PER_MS)

enum { FD_CONTROL, FD_LISTEN, FIXED_FDS = FD_LISTEN + NAT_BORDER_PORTS };

static_assert(TLS_CA_PEM_BYTES == BORDER_CA_PEM_BYTES, "the authority has room");

struct serve {
    const struct border_setup *setup;
    struct border_shared *shared;
    struct secret memory; /* of swap and what echo_make makes of it */
    struct swap *swap;
    const struct echo *echoes[SWAP_HOSTS_MAX];
    struct policy *policy;
    int route;
    struct conn_shared conns_shared;
    struct conn *conns[CONNECTIONS_MAX];
    unsigned conn_count;
    uint64_t accept_ns; /* when nobody could be accepted: not before then */
    struct log log;
    struct log_limit limit;
    struct pollfd fds[FIXED_FDS + RESOLVE_FDS_MAX + CONNECTIONS_MAX * CONN_FDS];
};

static const struct isolate_call calls[] = {
    ISOLATE_CALL_IF(socket, 0, UINT64_MAX, AF_INET),
    ISOLATE_CALL_IF(socket, 0, UINT64_MAX, AF_INET6),
    ISOLATE_CALL(connect),
    ISOLATE_CALL(accept4),
    ISOLATE_CALL(shutdown),
    ISOLATE_CALL(getsockopt),
    ISOLATE_CALL(poll),
    ISOLATE_CALL(ppoll),
    ISOLATE_CALL(mlock),
    ISOLATE_CALL_IF(prctl, 0, UINT64_MAX, PR_SET_DUMPABLE),
};
const struct isolate_calls serve_calls = ISOLATE_CALLS(calls);

/* ---- the report ---- */

static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static void take_event(void *opaque, enum exchange_event event, int host, const char *why)
{
    static const size_t fields[EXCHANGE_EVENTS] = {
        [EXCHANGE_REQUEST] = offsetof(struct border_host_report, requests),
        [EXCHANGE_REPLACED] = offsetof(struct border_host_report, replaced),
        [EXCHANGE_MASKED] = offsetof(struct border_host_report, masked),
        [EXCHANGE_REFUSED] = offsetof(struct border_host_report, refused),
        [EXCHANGE_FAILED] = offsetof(struct border_host_report, failed),
    };
    struct serve *s = opaque;
    struct border_report *report = &s->shared->report;
    if (host < 0)
        count(&report->refused);
    else
        count((uint64_t *)((char *)&report->hosts[host] + fields[event]));
    if (why)
        log_limited(&s->log, &s->limit, event == EXCHANGE_FAILED ? LOG_WARN : LOG_INFO,
                    "secrets: %s %s%s: %s", event == EXCHANGE_FAILED ? "no answer from" : "refused",
                    host < 0 ? "" : "a request for ", host < 0 ? "a connection" : s->swap->hosts[host],
                    why);
}

/* ---- connections ---- */

static void remove_conn(struct serve *s, unsigned index)
{
    conn_free(s->conns[index]);
    s->conns[index] = s->conns[--s->conn_count];
}

/* The one that has been idle for the longest time, which a client that keeps it open is prepared for.
 */
static bool make_room(struct serve *s)
{
    unsigned oldest = s->conn_count;
    uint64_t since = UINT64_MAX;
    for (unsigned i = 0; i < s->conn_count; i++)
        if (conn_idle_since(s->conns[i]) < since) {
            since = conn_idle_since(s->conns[i]);
            oldest = i;
        }
    if (oldest == s->conn_count)
        return false;
    remove_conn(s, oldest);
    return true;
}

static bool is_peer(const struct serve *s, int fd)
{
    struct ucred who;
    socklen_t len = sizeof(who);
    return !s->setup->peer ||
           (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.pid == s->setup->peer);
}

/* Always taken, if only to be closed: while they wait, the network's helper does, too. But where
 * nothing idle is left to give its descriptor, who cannot be taken would be reported without end. */
static void accept_some(struct serve *s, unsigned listener, uint64_t now_ns)
{
    for (int i = 0; i < ACCEPT_A_TURN; i++) {
        int fd = accept4(BORDER_FD_LISTEN + (int)listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            bool none = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
            if (none && !make_room(s))
                s->accept_ns = now_ns + ACCEPT_AGAIN_NS;
            return;
        }
        bool fine = is_peer(s, fd) && (s->conn_count < CONNECTIONS_MAX || make_room(s));
        if (!fine) {
            close(fd);
            count(&s->shared->report.refused);
            log_limited(&s->log, &s->limit, LOG_INFO, "secrets: refused a connection: %s",
                        s->conn_count == CONNECTIONS_MAX ? "there are too many"
                                                         : "not from this machine");
            continue;
        }
        struct conn *conn = conn_new(&s->conns_shared, fd, listener == 1, now_ns);
        if (conn) {
            s->conns[s->conn_count++] = conn;
            count(&s->shared->report.connections);
        }
    }
}

/* ---- the loop ---- */

void serve_run(struct serve *s)
{
    for (;;) {
        uint64_t now = clock_ns(), deadline = UINT64_MAX;
        unsigned n = FIXED_FDS;
        s->fds[FD_CONTROL] = (struct pollfd){HELPER_FD_CONTROL, POLLIN, 0};
        bool accepts = now >= s->accept_ns;
        if (!accepts)
            deadline = s->accept_ns;
        for (int i = 0; i < NAT_BORDER_PORTS; i++)
            s->fds[FD_LISTEN + i] = (struct pollfd){accepts ? BORDER_FD_LISTEN + i : -1, POLLIN, 0};
        struct pollfd *names = s->fds + n;
        n += resolve_fill(s->conns_shared.resolve, names, &deadline);
        struct pollfd *conns = s->fds + n;
        for (unsigned i = 0; i < s->conn_count; i++, n += CONN_FDS)
            conn_fill(s->conns[i], s->fds + n, &deadline);
        uint64_t wait = deadline > now ? deadline - now : 0;
        struct timespec limit = {.tv_sec = (time_t)(wait / NS_PER_S),
                                 .tv_nsec = (long)(wait % NS_PER_S)};
        if (ppoll(s->fds, n, deadline == UINT64_MAX ? NULL : &limit, NULL) < 0)
            for (unsigned i = 0; i < n; i++)
                s->fds[i].revents = 0;
        now = clock_ns();
        if (s->fds[FD_CONTROL].revents)
            return;
        resolve_poll(s->conns_shared.resolve, names, now);
        for (unsigned i = s->conn_count;
             i-- > 0;) /* backwards: a removed one is replaced by the last */
            if (!conn_poll(s->conns[i], conns + i * CONN_FDS, now))
                remove_conn(s, i);
        for (unsigned i = 0; i < NAT_BORDER_PORTS; i++)
            if (s->fds[FD_LISTEN + i].revents)
                accept_some(s, i, now);
    }
}

/* ---- set-up ---- */

static bool is_own(void *opaque, const struct net_addr *addr)
{
    return route_is_own(((struct serve *)opaque)->route, addr);
}

static int make_names(struct serve *s, struct dayfly_err *err)
{
    const struct border_setup *setup = s->setup;
    const struct policy_options policy = {
        .rules = setup->rules, .rule_count = setup->rule_count, .is_own = is_own, .opaque = s};
    s->route = route_open();
    if (s->route < 0)
        return err_errno(err, -s->route, "open a netlink socket");
    s->policy = policy_new(&policy);
    const struct resolve_options resolve = {.swap = s->swap,
                                            .policy = s->policy,
                                            .servers = setup->resolvers,
                                            .server_count = setup->resolver_count};
    s->conns_shared.resolve = s->policy ? resolve_new(&resolve) : NULL;
    return s->conns_shared.resolve ? 0 : err_set(err, ENOMEM, "no memory");
}

int serve_new(struct serve **out, const struct border_setup *setup, struct border_shared *shared,
              struct dayfly_err *err)
{
    struct serve *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ENOMEM, "no memory");
    s->setup = setup;
    s->shared = shared;
    s->log = (struct log){.write = helper_main_log, .level = LOG_INFO};
    int r = secret_new(&s->memory, sizeof(struct swap), &s->log, err);
    if (r < 0)
        return r;
    s->swap = s->memory.bytes;
    s->swap->host_count = setup->host_count;
    memcpy(s->swap->hosts, setup->hosts, sizeof(s->swap->hosts));
    r = tls_new(&s->conns_shared.tls, s->swap, setup->trust_file[0] ? setup->trust_file : NULL,
                shared->ca_pem, err);
    if (r == 0)
        r = make_names(s, err);
    for (int i = 0; i < NAT_BORDER_PORTS; i++)
        fcntl(BORDER_FD_LISTEN + i, F_SETFL, O_NONBLOCK);
    s->conns_shared.exchange = (struct exchange_options){
        .swap = s->swap, .echoes = s->echoes, .event = take_event, .opaque = s};
    *out = s;
    return r;
}

static int take_value(struct serve *s, unsigned index, struct dayfly_err *err)
{
    const struct border_setup_secret *from = &s->setup->secrets[index];
    struct swap_secret *to = &s->swap->secrets[index];
    *to = (struct swap_secret){
        .allow_http = from->allow_http, .no_query = from->no_query, .hosts = from->hosts};
    memcpy(to->placeholder, from->placeholder, sizeof(to->placeholder));
    ssize_t n = recv(HELPER_FD_CONTROL, to->value, sizeof(to->value), MSG_TRUNC);
    if (n < 0)
        return err_errno(err, errno, "receive a secret");
    if ((size_t)n != from->value_bytes || !swap_value_fits(to->value, (size_t)n))
        return err_set(err, EINVAL, "a secret did not arrive as it was sent");
    to->value_len = (size_t)n;
    return 0;
}

int serve_take_values(struct serve *s, struct dayfly_err *err)
{
    for (unsigned i = 0; i < s->setup->secret_count; i++) {
        int r = take_value(s, i, err);
        if (r < 0)
            return r;
    }
    s->swap->secret_count = s->setup->secret_count;
    struct secret words;
    int r = secret_new(&words, echo_bytes(s->swap), &s->log, err);
    if (r == 0)
        echo_make(s->swap, words.bytes, s->echoes);
    return r;
}
