/* SPDX-License-Identifier: Apache-2.0 */
#include "util/helper_main.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/err.h"

/* A sanitizer's shadow is larger than any limit. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static void *map_shared(size_t bytes)
{
    struct stat st;
    if (fstat(HELPER_FD_SHARED, &st) < 0 || (size_t)st.st_size != bytes)
        return NULL;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, HELPER_FD_SHARED, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *helper_main_begin(const char *name, size_t bytes)
{
    struct dayfly_err err;
    struct helper_head *head = map_shared(bytes);
    if (!head || head->bytes != bytes) {
        err_set(&err, EINVAL, "this program is Dayfly's own, and is started by its library");
        fprintf(stderr, "%s: %s\n", name, err.msg);
        helper_main_fail(&err);
        return NULL;
    }
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (getppid() != head->parent) { /* who died before we asked to be told */
        err_set(&err, ESRCH, "the parent is gone");
        helper_main_fail(&err);
        return NULL;
    }
    setsid(); /* Ctrl-C is for the job */
    return head;
}

void helper_main_limit(uint64_t bytes)
{
    const struct rlimit none = {0, 0}, memory = {bytes, bytes};
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &none);
    if (!SANITIZED)
        setrlimit(RLIMIT_DATA, &memory);
}

static bool say(const char *message, int len, int flags)
{
    size_t bytes = MIN((size_t)len, (size_t)HELPER_MESSAGE_BYTES - 1);
    return send(HELPER_FD_CONTROL, message, bytes, flags | MSG_NOSIGNAL) == (ssize_t)bytes;
}

int helper_main_fail(const struct dayfly_err *err)
{
    char message[HELPER_MESSAGE_BYTES];
    say(message, snprintf(message, sizeof(message), "%c%d %s", HELPER_FAILED, err->code, err->msg), 0);
    return 1;
}

bool helper_main_ready(void)
{
    return say((const char[]){HELPER_READY}, 1, 0);
}

void helper_main_log(void *opaque, enum log_level level, const char *line)
{
    char message[HELPER_MESSAGE_BYTES];
    (void)opaque;
    say(message, snprintf(message, sizeof(message), "%c%c%s", HELPER_LOG, 'a' + (int)level, line),
        MSG_DONTWAIT);
}
