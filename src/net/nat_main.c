/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dayfly-nat: the helper of nat.h. Started by nat.c and by nobody else, as util/helper.h says. In
 * order: read the set-up, open what needs rights, lock up, say so, serve. Whatever is wrong is said on
 * the control socket.
 *
 * Locked up means: an empty root, namespaces of its own but the host's network, another user if it was
 * root, no capabilities, no file (landlock), the listed system calls, bounded memory. What is left to a
 * guest that takes this process over is the host's network, as an ordinary user without files.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/nat_serve.h"
#include "net/route.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/helper_main.h"
#include "util/nameless.h"

#define NOBODY 65534

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

/* ---- the border's sockets ---- */

#define BORDER_BACKLOG 128

static const char *const border_names[NAT_BORDER_PORTS] = {"border-80", "border-443"};

struct border_paths {
    char paths[NAT_BORDER_PORTS][32]; /* that lead there from within */
};

static int listen_at(int fd, const char *path, struct dayfly_err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, path, sizeof(at.sun_path) - 1);
    mode_t before = umask(0); /* who will connect may be another user by then */
    int r = bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, BORDER_BACKLOG) < 0
                ? err_errno(err, errno, "listen for secrets' hosts")
                : 0;
    umask(before);
    return r;
}

/* Names in an empty root, which nobody else has. */
static int listen_in_root(struct border_paths *out, int root, struct dayfly_err *err)
{
    int r = 0;
    _cleanup_close_ int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (before < 0 || fchdir(root) < 0)
        return err_errno(err, errno, "enter an empty root");
    for (int i = 0; i < NAT_BORDER_PORTS && r == 0; i++) {
        r = listen_at(NAT_FD_BORDER + i, border_names[i], err);
        snprintf(out->paths[i], sizeof(out->paths[i]), "/%s", border_names[i]);
    }
    if (fchdir(before) < 0 && r == 0)
        r = err_errno(err, errno, "return from an empty root");
    return r;
}

/* Without such a root: no names at all. */
static int listen_unnamed(struct border_paths *out, struct dayfly_err *err)
{
    mode_t before = umask(0);
    int r = 0;
    for (int i = 0; i < NAT_BORDER_PORTS && r == 0; i++) {
        int door, fd = NAT_FD_BORDER + i;
        if ((r = nameless_socket_bind(fd, &door, err)) == 0 && listen(fd, BORDER_BACKLOG) < 0)
            r = err_errno(err, errno, "listen for secrets' hosts");
        snprintf(out->paths[i], sizeof(out->paths[i]), "/proc/self/fd/%d", door);
    }
    umask(before);
    return r;
}

static int furnish(void *opaque, int root, struct dayfly_err *err)
{
    return root >= 0 ? listen_in_root(opaque, root, err) : listen_unnamed(opaque, err);
}

/* ---- */

static int lock_up(struct border_paths *border, uint32_t *lacks, struct dayfly_err *err)
{
    const struct isolate_options options = {
        .calls = {isolate_base_calls, route_calls, nat_serve_calls,
                  border ? nat_serve_border_calls : (struct isolate_calls){0}},
        .keep_network = true,
        .new_user = geteuid() != 0,
        .change_user = geteuid() == 0,
        .uid = NOBODY,
        .gid = NOBODY,
        .furnish = border ? furnish : NULL,
        .opaque = border,
    };
    unsigned applied;
    helper_main_limit(NAT_MEMORY_BYTES);
    int r = isolate_thread(&options, &applied, err);
    *lacks = isolate_wanted(&options) & ~applied;
    return r;
}

/* The sockets go to the library, which has them already: when nobody accepts any more, connecting is to
 * fail. */
static int splice_border(struct nat_serve *serve, const struct border_paths *border,
                         struct dayfly_err *err)
{
    static const uint16_t ports[NAT_BORDER_PORTS] = {POLICY_BORDER_HTTP, POLICY_BORDER_HTTPS};
    int r = 0;
    for (int i = 0; i < NAT_BORDER_PORTS && r == 0; i++) {
        r = nat_serve_border(serve, ports[i], border->paths[i], err);
        close(NAT_FD_BORDER + i);
    }
    return r;
}

int main(void)
{
    static struct nat_setup setup;
    static struct border_paths paths;
    struct dayfly_err err = {0};
    struct nat_serve *serve;
    struct nat_shared *shared = helper_main_begin("dayfly-nat", sizeof(*shared));
    if (!shared)
        return 1;
    setup = shared->setup;
    g_log_set_default_handler(say_nothing, NULL);
    setup.addresses.ipv6 = setup.addresses.ipv6 && host_has_ipv6();
    struct border_paths *border = setup.addresses.border ? &paths : NULL;
    if (nat_serve_new(&serve, &setup, &shared->report, &err) < 0 ||
        lock_up(border, &shared->lacks, &err) < 0 || (border && splice_border(serve, border, &err) < 0))
        return helper_main_fail(&err);
    shared->ipv6 = setup.addresses.ipv6;
    if (helper_main_ready())
        nat_serve_run(serve);
    _exit(0);
}
