/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_SETUP_H
#define SANDBOX_SETUP_H

/*
 * A sandbox from within: what its first process does from its birth in fresh namespaces to the moment
 * when it becomes the agent. Private to src/sandbox.
 *
 * The process is a copy of the runner, which may have threads: no allocation, no stdio, no locks;
 * system calls and buffers of fixed size. What it has to say goes over report_fd, one message each: its
 * end of the network device's cable, or a struct dayfly_err, the last. A report that ends without one
 * says that the agent runs.
 *
 * In stages, each of which needs what the one before has left:
 *   1. born     die with the runner; enter its groups; wait for its word (ids are mapped); a keyring of
 *               its own; no mount of ours gets out; the network device
 *   2. gather   by the host's paths, which are gone afterwards: copies of the mounts that are to be
 *               seen inside. Must follow nothing that the job or the image controls
 *   3. root     the layer in memory, and on it the image or the host's programs. From here on every
 *               path is resolved within the new root, whatever links the image has
 *   4. system   /proc, /sys, /dev and their private file systems
 *   5. people   the job's entries in passwd and group, its home and /tmp
 *   6. shares   where they were asked for
 *   7. leave    the new root is the root; the host's is mounted nowhere any more
 *   8. become   a cgroup namespace, no descriptor but the agent's own, and the agent
 */

#include <stdbool.h>
#include <sys/types.h>

#include "dayfly/error.h"
#include "sandbox/sandbox.h"

/* Decided before the process exists. Descriptors are those of the runner, at the same numbers. */
struct setup {
    const struct sandbox_options *options;
    uid_t uid; /* the job's, as seen inside; the group has the same number */
    bool user_namespace;
    int link_fd; /* to the runner: the agent's */
    int go_fd;   /* a byte comes when the runner has done its part; its end: the runner has gone */
    int report_fd;
    int agent_fd;  /* the program */
    int filter_fd; /* from filter_make */
    const struct cgroup *group;
    int lease_fd;                      /* kept open */
    int idmap_fds[SANDBOX_MAX_SHARES]; /* user namespaces that show a share's owner as the job; -1 */
    int cow_fds[SANDBOX_MAX_SHARES];   /* shares whose changes are kept, mounted nowhere yet; -1 */
};

void setup_run(const struct setup *setup) __attribute__((noreturn));

/* ---- the stages' parts ---- */

/* What is mounted nowhere yet. -1: not there. */
#define SETUP_DEVICES      6
#define SETUP_HOST_FOLDERS 10
struct setup_gathered {
    int image;
    int devices[SETUP_DEVICES];
    int folders[SETUP_HOST_FOLDERS];
    int shares[SANDBOX_MAX_SHARES];
};

/* "null", ...; and of the host's root what holds programs and what they are set up with. All else of it
 * (people's files, other services' state) is not there. */
extern const char *const setup_devices[SETUP_DEVICES];
extern const char *const setup_host_folders[SETUP_HOST_FOLDERS];

#define SETUP_SYSTEM 4

/* Directories that the agent writes to, as they are before shares are placed: one could cover them, and
 * what is written then would come to stand on the host. Links of an image lead there, too. */
struct setup_kept {
    int etc, secrets;
    dev_t system[SETUP_SYSTEM]; /* of /proc and the like; 0: it is not there */
};

/* Stage 2. */
int gather(const struct setup *setup, struct setup_gathered *out, struct dayfly_err *err);

/* Directories of the layer, which so count as one: for /dev/shm, for what is written to a share with
 * `cow`, and one that stays empty. Mounted nowhere yet. */
struct setup_parts {
    int shm, empty, cow[SANDBOX_MAX_SHARES];
};

/* Stage 3: returns the new root, open. */
int root_make(const struct setup *setup, const struct setup_gathered *gathered,
              struct setup_parts *parts, struct dayfly_err *err);

/* In stage 1: make the network device and send its other end. */
int device_make(const struct setup *setup, struct dayfly_err *err);

/* Stages 4, 5, 6, below the directory `root`. */
int system_make(const struct setup *setup, const struct setup_gathered *gathered,
                const struct setup_parts *parts, int root, struct setup_kept *kept,
                struct dayfly_err *err);
int people_make(const struct setup *setup, int root, struct setup_kept *kept, struct dayfly_err *err);
int shares_place(const struct setup *setup, const struct setup_gathered *gathered,
                 const struct setup_parts *parts, int root, struct dayfly_err *err);

/* Then: are /proc and the like still to be seen? A link in an image, or in a share that another one is
 * placed below, may have led a share there; and the agent relies on them. */
int system_check(int root, const struct setup_kept *kept, struct dayfly_err *err);

#endif
