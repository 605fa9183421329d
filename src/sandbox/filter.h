/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_FILTER_H
#define SANDBOX_FILTER_H

#include <stdbool.h>

#include "dayfly/error.h"

struct filter_options {
    bool shared_writes; /* it writes to directories of the host, where it must make no program that runs
                           as its owner (setuid, setgid) */
    bool shared_user;   /* others outside of the sandbox have its id */
};

/* What a job in a sandbox may not ask the host's kernel for: a seccomp filter in a fresh memfd,
 * as the kernel's array of struct sock_filter. Returns the descriptor, or -errno. */
int filter_make(const struct filter_options *options, struct dayfly_err *err);

#endif
