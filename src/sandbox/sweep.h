/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_SWEEP_H
#define SANDBOX_SWEEP_H

/*
 * What sandboxes of killed runners left on the host, found without knowing of them: by the ids of the
 * range (uids.h) that nobody has a lease for.
 *
 *   cgroups       as every run removes them (cgroup_sweep)
 *   processes     of such an id: killed
 *   ipc           System V objects that such an id owns or made
 *   files         of such an id in folders where anybody may write
 *   keys          in the keyrings that the kernel has for such an id
 *
 * By construction (sandbox.h) only cgroups stay. The rest is for what should not be: a kernel that did
 * not do as told, an older version, somebody who gave a job's files away.
 */

#include "dayfly/error.h"
#include "util/sweep.h"

/* As root; others' sandboxes have nothing with a name. 0, or -errno when it cannot be looked. */
int sandbox_sweep(const struct sweep *sweep, struct dayfly_err *err);

#endif
