/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

/*
 * A sandbox of namespaces with an ephemeral user: engine user.
 *
 * Its init is the guests' agent, started from memory, which speaks the same protocol (proto/proto.h)
 * over a socket pair. What the commands in it have: an id of their own (uids.h); PID, mount, network,
 * IPC, UTS and cgroup namespaces; a root of an image or of the host's own programs, on which what they
 * write goes to a layer in memory; a home, /tmp, /dev and session keyring of their own; no capability,
 * no way to get one, and a filter of system calls (filter.h).
 *
 * Nothing of it has a name on the host but its cgroups (cgroup.h): mounts are its namespace's own,
 * files are in memory, its id is a lock. Its init dies with the thread that made it, and everything
 * else in it with its init. So however the runner ends, at most empty cgroups stay, which the next run
 * removes.
 *
 * Root has all of this. Others need a user namespace: the job then has their own id outside (and
 * another one inside), no image, since only root mounts one, and no cgroup; sandbox_shortcomings says
 * so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dayfly/config.h"
#include "dayfly/error.h"
#include "sandbox/cgroup.h"

#define SANDBOX_USER       "job"                         /* its name inside, and its group's */
#define SANDBOX_EXEC_USER  SANDBOX_USER ":" SANDBOX_USER /* as EXEC has it; no other group */
#define SANDBOX_HOME       "/home/job"
#define SANDBOX_MAX_SHARES 32

struct sandbox_share {
    const char *source; /* on the host */
    int fd;             /* the same, as it was looked at; what has the path later must be it */
    const char *path;   /* inside: absolute */
    enum dayfly_share_mode mode;
    const char
        *changes;  /* with COW: a directory that keeps the difference (fs/cow.h); NULL: in memory */
    bool same_ids; /* owners are shown as they are, not the owner of the source as the job */
};

struct sandbox_options {
    int root_fd; /* the image's EROFS; -1: the host's own programs */
    const struct sandbox_share *shares;
    size_t share_count;
    uint64_t layer_bytes; /* what the job may write outside of shares */
    struct cgroup_limits limits;
    bool network; /* with a device of this address; else nothing but a loopback of its own */
    uint8_t mac[6];
};

struct sandbox;

/* Can this host and user have one? 0, or -errno with the cause and the remedy; a remark on what would
 * be missing may stand in *why all the same. */
int sandbox_probe(struct dayfly_err *why);

/* Take an id, make the groups, and a process in namespaces of its own that waits for sandbox_start. */
int sandbox_new(struct sandbox **out, const struct sandbox_options *options, struct dayfly_err *err);

/* Have it build its root and become the agent. */
int sandbox_start(struct sandbox *sandbox, struct dayfly_err *err);

/* Wait until it has: the stream to the agent, the caller's, or -errno with what the sandbox could not
 * do. -ECANCELED when cancel_fd (-1: none) became readable before; then it may be called again. */
int sandbox_call(struct sandbox *sandbox, int cancel_fd, struct dayfly_err *err);

/* The other end of its network device: a tap, one Ethernet frame a read or write. The caller's, once;
 * -1: there is none. After sandbox_call. */
int sandbox_take_tap(struct sandbox *sandbox);

/* The id that was made for it, with a group of the same number; 0 without root. */
uid_t sandbox_uid(const struct sandbox *sandbox);

/* What it has not of what was asked for, for people, or "". */
const char *sandbox_shortcomings(const struct sandbox *sandbox);

/* 0 as long as its init is alive, or when sandbox_call has said already why it is not; else -errno and
 * how it ended. */
int sandbox_ended(struct sandbox *sandbox, struct dayfly_err *err);

pid_t sandbox_init_pid(const struct sandbox *sandbox);

/* What its group says. */
void sandbox_measure(const struct sandbox *sandbox, struct cgroup_figures *out);

/* Kill what runs in it and wait until all of it is gone. NULL is legal. */
void sandbox_free(struct sandbox *sandbox);

#endif
