/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dayfly-nat: the helper of nat.h. Started by nat.c and by nobody else, with the descriptors of
 * nat_wire.h and an empty environment. In order: read the set-up, open what needs rights, lock up, say
 * so, serve. Whatever is wrong is said on the control socket.
 *
 * Locked up means: an empty root, namespaces of its own but the host's network, another user if it was
 * root, no capabilities, no file (landlock), the listed system calls, bounded memory. What is left to a
 * guest that takes this process over is the host's network, as an ordinary user without files.
 */
#include <errno.h>
#include <glib.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/nat_serve.h"
#include "net/route.h"
#include "util/err.h"

#define NOBODY 65534

/* Buffers of 2,048 connections, twice over. A sanitizer's shadow is larger. */
#define MEMORY_BYTES (UINT64_C(1) << 30)
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static int fail(struct nat_shared *shared, const struct dayfly_err *err)
{
    char message[NAT_MESSAGE_BYTES];
    int n = snprintf(message, sizeof(message), "%c%s", NAT_FAILED, err->msg);
    if (shared)
        shared->code = err->code;
    send(NAT_FD_CONTROL, message, (size_t)n, MSG_NOSIGNAL);
    return 1;
}

static struct nat_shared *map_shared(void)
{
    void *p =
        mmap(NULL, sizeof(struct nat_shared), PROT_READ | PROT_WRITE, MAP_SHARED, NAT_FD_SHARED, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* What libslirp and GLib have to say is about us, and nobody reads it. */
static void say_nothing(const char *domain, GLogLevelFlags level, const char *text, gpointer opaque)
{
    (void)domain;
    (void)level;
    (void)text;
    (void)opaque;
}

/* An address that others can be reached from: no loopback, no link-local. */
static bool host_has_ipv6(void)
{
    struct ifaddrs *list = NULL;
    bool found = false;
    if (getifaddrs(&list) < 0)
        return false;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET6)
            continue;
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)i->ifa_addr;
        found = !IN6_IS_ADDR_LOOPBACK(&in->sin6_addr) && !IN6_IS_ADDR_LINKLOCAL(&in->sin6_addr);
    }
    freeifaddrs(list);
    return found;
}

static void limit_resources(void)
{
    const struct rlimit none = {0, 0}, memory = {MEMORY_BYTES, MEMORY_BYTES};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &none);
    if (!SANITIZED)
        setrlimit(RLIMIT_DATA, &memory);
}

static int lock_up(struct dayfly_err *err)
{
    const struct isolate_options options = {
        .calls = {isolate_base_calls, route_calls, nat_serve_calls},
        .keep_network = true,
        .new_user = geteuid() != 0,
        .change_user = geteuid() == 0,
        .uid = NOBODY,
        .gid = NOBODY,
    };
    unsigned applied;
    limit_resources();
    return isolate_thread(&options, &applied, err);
}

int main(void)
{
    static struct nat_setup setup;
    struct dayfly_err err = {0};
    struct nat_serve *serve;
    struct nat_shared *shared = map_shared();
    if (!shared) {
        err_set(&err, EINVAL, "this program is Dayfly's own, and is started by its library");
        fprintf(stderr, "dayfly-nat: %s\n", err.msg);
        return fail(NULL, &err);
    }
    setup = shared->setup;
    prctl(PR_SET_NAME, "dayfly-nat");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (setup.bytes != sizeof(struct nat_shared) || getppid() != setup.parent) {
        err_set(&err, EINVAL, "the helper is of another build, or too late");
        return fail(shared, &err);
    }
    setsid(); /* Ctrl-C is for the job */
    g_log_set_default_handler(say_nothing, NULL);
    setup.addresses.ipv6 = setup.addresses.ipv6 && host_has_ipv6();
    if (nat_serve_new(&serve, &setup, &shared->report, &err) < 0 || lock_up(&err) < 0)
        return fail(shared, &err);
    shared->ipv6 = setup.addresses.ipv6;
    if (send(NAT_FD_CONTROL, (const char[]){NAT_READY}, 1, MSG_NOSIGNAL) == 1)
        nat_serve_run(serve);
    _exit(0);
}
