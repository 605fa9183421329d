/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dayfly-border: the helper of border.h. Started by border.c and by nobody else, as util/helper.h says.
 * In order: read the set-up; load the trust store and make certificates; lock up; see that nobody looks
 * into this memory; take the values; say so; serve.
 *
 * Locked up means: an empty root, namespaces of its own but the host's network, another user if it was
 * root, no capabilities, no file (landlock), the listed system calls, bounded memory. Who takes this
 * process over has the values, and the host's network as an ordinary user without files.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "border/serve.h"
#include "net/route.h"
#include "util/err.h"
#include "util/helper_main.h"

#define NOBODY 65534

/* 64 connections with a quarter of a megabyte each, and as much again for TLS. */
#define MEMORY_BYTES (UINT64_C(128) << 20)

static int lock_up(struct dayfly_err *err)
{
    const struct isolate_options options = {
        .calls = {isolate_base_calls, route_calls, serve_calls},
        .keep_network = true,
        .new_user = geteuid() != 0,
        .change_user = geteuid() == 0,
        .uid = NOBODY,
        .gid = NOBODY,
    };
    unsigned applied;
    helper_main_limit(MEMORY_BYTES);
    return isolate_thread(&options, &applied, err);
}

/* TLS keys, and what has been decrypted, lie on OpenSSL's heap. All memory is locked where the host
 * lets us lock so much, which takes CAP_SYS_RESOURCE; where not, the values' and connections' own pages
 * are, as far as its limit goes (8 MiB, mostly). */
static void lock_memory(void)
{
    const struct rlimit limit = {2 * MEMORY_BYTES, 2 * MEMORY_BYTES};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

int main(void)
{
    static struct border_setup setup;
    struct dayfly_err err = {0};
    struct serve *serve;
    struct border_shared *shared = helper_main_begin("dayfly-border", sizeof(*shared));
    if (!shared)
        return 1;
    setup = shared->setup;
    if (serve_new(&serve, &setup, shared, &err) < 0)
        return helper_main_fail(&err);
    lock_memory();
    if (lock_up(&err) < 0)
        return helper_main_fail(&err);
    if (prctl(PR_SET_DUMPABLE, 0) < 0) {
        err_errno(&err, errno, "close this memory to others");
        return helper_main_fail(&err);
    }
    if (serve_take_values(serve, &err) < 0)
        return helper_main_fail(&err);
    if (helper_main_ready())
        serve_run(serve);
    _exit(0);
}
