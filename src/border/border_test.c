/* SPDX-License-Identifier: Apache-2.0 */
/* The helper from its library, as any user and with whatever network there is: connections come from
 * this process, and none leaves it. With a guest, hosts and TLS it is tests/net/border_test.py's. */
#include "border/border.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

#define LIMIT_MS 20000

/* A certificate of nobody's: there has to be one. */
static const char trust[] = "-----BEGIN CERTIFICATE-----\n"
                            "MIIBjzCCATWgAwIBAgIUPJBse/jooBxrhJpaZm/LHDmldzUwCgYIKoZIzj0EAwIw\n"
                            "HDEaMBgGA1UEAwwRbm9ib2R5LCBmb3IgdGVzdHMwIBcNMjYxMTIzMTQzNTE1WhgP\n"
                            "MjEyNjEwMzAxNDM1MTVaMBwxGjAYBgNVBAMMEW5vYm9keSwgZm9yIHRlc3RzMFkw\n"
                            "EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEGooRH0mG6P/WASQo3ZX4Rlu/dOsO/hvw\n"
                            "YHZZLht+kLF6kT5ilsnUeJjJ02j6tj48+lxPRJ0CLPdDsjEpXQE/sqNTMFEwHQYD\n"
                            "VR0OBBYEFGsfC/ayau6Fjg6ZZpir2cFeWYz1MB8GA1UdIwQYMBaAFGsfC/ayau6F\n"
                            "jg6ZZpir2cFeWYz1MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIg\n"
                            "Rj93uthgMr2actOQjo4jrLSLtSutyB+GVTWkDuiumMoCIQCCS2nZP0bt4jbnsvA7\n"
                            "L/nIauhoZDP1ytt+bTKM0v3McQ==\n"
                            "-----END CERTIFICATE-----\n";

struct world {
    struct border *border;
    struct dayfly_err err;
    char logged[4096];
    char folder[32];
    char paths[NAT_BORDER_PORTS][64], trust[64];
};

static void keep_log(void *opaque, enum log_level level, const char *line)
{
    struct world *w = opaque;
    size_t len = strlen(w->logged);
    (void)level;
    snprintf(w->logged + len, sizeof(w->logged) - len, "%s\n", line);
}

/* In place of dayfly-nat's: names in a folder of our own. */
static void listen_here(struct world *w, int listeners[NAT_BORDER_PORTS])
{
    strcpy(w->folder, "/tmp/unit-border-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->trust, sizeof(w->trust), "%s/trust", w->folder);
    FILE *file = fopen(w->trust, "we");
    assert_non_null(file);
    fputs(trust, file);
    fclose(file);
    for (int i = 0; i < NAT_BORDER_PORTS; i++) {
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        snprintf(w->paths[i], sizeof(w->paths[i]), "%s/%d", w->folder, i);
        strcpy(at.sun_path, w->paths[i]);
        listeners[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(bind(listeners[i], (struct sockaddr *)&at, sizeof(at)), 0);
        assert_int_equal(listen(listeners[i], 8), 0);
    }
}

static int begin(struct world *w, const struct border_secret *secrets, size_t count, pid_t peer)
{
    static struct log log = {.write = keep_log, .level = LOG_DEBUG};
    int listeners[NAT_BORDER_PORTS];
    memset(w, 0, sizeof(*w));
    log.opaque = w;
    listen_here(w, listeners);
    const struct border_options options = {.secrets = secrets,
                                           .secret_count = count,
                                           .peer = peer,
                                           .log = &log,
                                           .resolv_conf = "/dev/null",
                                           .trust_file = w->trust};
    int r = border_start(&w->border, &options, listeners, &w->err);
    for (int i = 0; i < NAT_BORDER_PORTS; i++)
        assert_int_equal(listeners[i], -1);
    return r;
}

static void end(struct world *w)
{
    border_stop(w->border);
    for (int i = 0; i < NAT_BORDER_PORTS; i++)
        unlink(w->paths[i]);
    unlink(w->trust);
    rmdir(w->folder);
}

static int connect_to(const struct world *w, int port)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strcpy(at.sun_path, w->paths[port]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* What comes until the end. */
static void ask(const struct world *w, const char *request, char *out, size_t size)
{
    _cleanup_close_ int fd = connect_to(w, 0);
    size_t len = 0;
    ssize_t sent = send(fd, request, strlen(request), MSG_NOSIGNAL);
    assert_true(sent == (ssize_t)strlen(request) ||
                errno == EPIPE); /* who is not served learns early */
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
        ssize_t n = recv(fd, out + len, size - 1 - len, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    out[len] = '\0';
}

static const char *const api[] = {"api.example.org"};
static const char *const both[] = {"API.example.org", "www.example.org"};

static void test_starts_and_serves(void **state)
{
    static const struct border_secret secrets[] = {
        {.name = "A", .value = "value-of-a", .value_bytes = 10, .hosts = api, .host_count = 1},
        {.name = "B", .value = "value-of-b", .value_bytes = 10, .hosts = both, .host_count = 2},
    };
    static struct world w;
    static struct border_report report;
    char answer[1000], request[300];
    assert_int_equal(begin(&w, secrets, 2, getpid()), 0);
    assert_int_equal(border_host_count(w.border), 2);
    assert_int_equal(border_secret_count(w.border), 2);
    assert_string_equal(border_name(w.border, 1), "B");
    assert_string_equal(border_host(w.border, 0), "api.example.org");
    assert_string_equal(border_host(w.border, 1), "www.example.org");
    assert_null(border_host(w.border, 2));
    assert_int_equal(strncmp(border_ca_pem(w.border), "-----BEGIN CERTIFICATE-----\n", 28), 0);
    const char *a = border_placeholder(w.border, 0), *b = border_placeholder(w.border, 1);
    assert_int_equal(strlen(a), BORDER_PLACEHOLDER_BYTES - 1);
    assert_string_not_equal(a, b);
    assert_null(border_placeholder(w.border, 2));

    ask(&w, "GET / HTTP/1.1\r\nHost: else.example.org\r\n\r\n", answer, sizeof(answer));
    assert_int_equal(strncmp(answer, "HTTP/1.1 421 ", 13), 0);
    snprintf(request, sizeof(request), "GET /?%s HTTP/1.1\r\nHost: www.example.org\r\n\r\n", b);
    ask(&w, request, answer, sizeof(answer));
    assert_int_equal(strncmp(answer, "HTTP/1.1 403 ", 13), 0);
    snprintf(request, sizeof(request), "GET /?%s HTTP/1.1\r\nHost: www.example.org\r\n\r\n", a);
    ask(&w, request, answer, sizeof(answer)); /* nothing to put in; and nobody to ask for the name */
    assert_int_equal(strncmp(answer, "HTTP/1.1 502 ", 13), 0);

    border_read_report(w.border, &report);
    assert_int_equal(report.connections, 3);
    assert_int_equal(report.refused, 1);
    assert_int_equal(report.hosts[1].refused, 1);
    assert_int_equal(report.hosts[1].requests, 1);
    assert_int_equal(report.hosts[1].failed, 1);
    assert_int_equal(report.hosts[1].replaced, 0);
    struct pollfd p = {border_events_fd(w.border), POLLIN, 0};
    assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
    assert_int_equal(border_handle_events(w.border), 0);
    assert_non_null(
        strstr(w.logged, "refused a request for www.example.org: a secret does not go out"));
    assert_null(strstr(w.logged, "value-of-b"));
    end(&w);
}

/* Whoever can reach its sockets, only the network's helper is served. */
static void test_only_its_peer(void **state)
{
    static const struct border_secret secret = {
        .name = "A", .value = "value-of-a", .value_bytes = 10, .hosts = api, .host_count = 1};
    static struct world w;
    char answer[100];
    assert_int_equal(begin(&w, &secret, 1, 1), 0);
    ask(&w, "GET / HTTP/1.1\r\nHost: else.example.org\r\n\r\n", answer, sizeof(answer));
    assert_string_equal(answer, "");
    end(&w);
}

static void test_secrets_that_cannot_be_used(void **state)
{
    static const char *const wrong_hosts[] = {
        "*.example.org", "192.0.2.1", "host:80", "api.example.org:443", "*", "", "two words"};
    static char large[BORDER_VALUE_MAX + 1];
    static const struct {
        const char *value;
        size_t len;
        const char *says;
    } values[] = {
        {"short", 5, "too few bytes"},
        {large, sizeof(large), "too many bytes"},
        {"with\r\nnewline", 13, "control characters"},
        {"newline-behind\n", 15, "control characters"},
    };
    static struct world w;
    memset(large, 'x', sizeof(large));
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        const struct border_secret secret = {.name = "TOKEN",
                                             .value = values[i].value,
                                             .value_bytes = values[i].len,
                                             .hosts = api,
                                             .host_count = 1};
        assert_int_equal(begin(&w, &secret, 1, 0), -EINVAL);
        assert_non_null(strstr(w.err.msg, "TOKEN"));
        assert_non_null(strstr(w.err.msg, values[i].says));
        assert_null(w.border);
        end(&w);
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong_hosts); i++) {
        const struct border_secret secret = {.name = "TOKEN",
                                             .value = "long enough",
                                             .value_bytes = 11,
                                             .hosts = &wrong_hosts[i],
                                             .host_count = 1};
        assert_int_equal(begin(&w, &secret, 1, 0), -EINVAL);
        assert_non_null(strstr(w.err.msg, "TOKEN"));
        end(&w);
    }
    const struct border_secret nowhere = {.name = "TOKEN", .value = "long enough", .value_bytes = 11};
    assert_int_equal(begin(&w, &nowhere, 1, 0), -EINVAL);
    assert_non_null(strstr(w.err.msg, "for no host"));
    end(&w);
}

static void test_counts_have_bounds(void **state)
{
    static struct border_secret secrets[BORDER_SECRETS_MAX + 1];
    static char names[BORDER_HOSTS_MAX + 1][NET_NAME_BYTES];
    static const char *hosts[BORDER_HOSTS_MAX + 1];
    static struct world w;
    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
        char *p = names[i];
        for (int label = 0; label < 4; label++) /* as long as names may be */
            p += snprintf(p, 65, "%sx%0*zu", label ? "." : "", label ? 61 : 60, i);
        hosts[i] = names[i];
    }
    for (size_t i = 0; i < ARRAY_SIZE(secrets); i++)
        secrets[i] = (struct border_secret){.name = "TOKEN",
                                            .value = "long enough",
                                            .value_bytes = 11,
                                            .hosts = hosts,
                                            .host_count = BORDER_HOSTS_MAX};
    assert_int_equal(begin(&w, secrets, BORDER_SECRETS_MAX + 1, 0), -E2BIG);
    end(&w);
    assert_int_equal(begin(&w, secrets, BORDER_SECRETS_MAX, 0), 0);
    assert_int_equal(border_host_count(w.border), BORDER_HOSTS_MAX);
    end(&w);
    secrets[0].host_count++;
    assert_int_equal(begin(&w, secrets, 1, 0), -E2BIG);
    end(&w);
}

static void test_no_trust_is_an_error(void **state)
{
    static const struct border_secret secret = {
        .name = "A", .value = "value-of-a", .value_bytes = 10, .hosts = api, .host_count = 1};
    static struct world w;
    int listeners[NAT_BORDER_PORTS];
    memset(&w, 0, sizeof(w));
    listen_here(&w, listeners);
    const struct border_options options = {
        .secrets = &secret, .secret_count = 1, .trust_file = "/dev/null"};
    assert_int_equal(border_start(&w.border, &options, listeners, &w.err), -EINVAL);
    assert_non_null(strstr(w.err.msg, "/dev/null has no certificates"));
    end(&w);
}

static void test_any_user(void **state)
{
    if (geteuid() != 0)
        skip(); /* all the others show it */
    pid_t pid = fork();
    if (pid == 0) {
        static void *none;
        if (setgid(65533) < 0 || setuid(65533) < 0)
            _exit(2);
        test_starts_and_serves(&none);
        test_only_its_peer(&none);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_and_serves),           cmocka_unit_test(test_only_its_peer),
        cmocka_unit_test(test_secrets_that_cannot_be_used), cmocka_unit_test(test_counts_have_bounds),
        cmocka_unit_test(test_no_trust_is_an_error),        cmocka_unit_test(test_any_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
