/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_PROBE_H
#define MACHINE_PROBE_H

/*
 * Does /dev/kvm run guests? Found out by running one: a page of ring 0 code of ours, in a throw-away
 * VM, that executes what every kernel executes. A KVM that interprets, or that is a stub, fails here as
 * it would fail a kernel, whatever it calls itself.
 */

#include "dayfly/error.h"

enum probe_answer {
    PROBE_WORKS,
    PROBE_MISSING,       /* no /dev/kvm, or nothing behind it */
    PROBE_NO_PERMISSION, /* it is there, and not for us */
    PROBE_UNUSABLE,      /* it is there, and cannot run an ordinary kernel */
};

struct probe_result {
    enum probe_answer answer;
    char reason[DAYFLY_ERR_MSG_BYTES]; /* for people: what failed, and what helps; "" when it works */
    char detail[DAYFLY_ERR_MSG_BYTES]; /* for developers: what KVM said; often "" */
};

/* Takes some milliseconds, at most about two seconds. Leaves nothing, but its VM is closed in a thread
 * of its own, which has ended some milliseconds later. path NULL: /dev/kvm. Any thread. */
void probe_kvm(const char *path, struct probe_result *out);

/* "works", "missing", "no permission", "cannot run kernels" */
const char *probe_answer_name(enum probe_answer answer);

#endif
