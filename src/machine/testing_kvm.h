/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_TESTING_KVM_H
#define MACHINE_TESTING_KVM_H

/* For tests that run guests of their own, which even a software KVM does. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine/kvm.h"
#include "util/testing.h"

#define TESTING_TIMEOUT_MS 20000 /* how long what must come may take: only ever ends a failing test */

/* Skip the test, with the reason, where KVM is not there; fail if DAYFLY_MUST_KVM=1 says that it must
 * be. */
static inline void need_kvm(void)
{
    struct dayfly_err err = {0};
    int fd = kvm_open(KVM_PATH, &err);
    if (fd >= 0) {
        close(fd);
        return;
    }
    const char *must = getenv("DAYFLY_MUST_KVM");
    if (must && must[0] == '1')
        fail_msg("%s", err.msg);
    fprintf(stderr, "skipped: %s\n", err.msg);
    skip();
}

#endif
