/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_FILTER_H
#define SANDBOX_FILTER_H

#include <stdbool.h>

#include "dayfly/error.h"

/*
 * What a job in a sandbox may not ask the host's kernel for: a seccomp filter in a fresh memfd
 * (isolate_denials). `shared_writes`: it writes to directories of the host, where it must make no
 * program that runs as its owner (setuid, setgid). Returns the descriptor, or -errno.
 */
int filter_make(bool shared_writes, struct dayfly_err *err);

#endif
