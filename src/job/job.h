/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_JOB_H
#define JOB_JOB_H

/*
 * A job: one command, or steps, in a fresh machine or another place (place.h) that starts from an image
 * and is gone afterwards.
 *
 * Everything a job makes on the host is unnamed (memfds, unnamed files, socketpairs, anonymous memory)
 * or is a process that dies with the calling one, so that however the caller ends, nothing is left.
 * What it writes to its shares is what it is there for, and stays; of what it writes to caches there
 * may be some in their .work, if the caller is killed, until caches are opened the next time.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "dayfly/vm.h"
#include "job/artifact.h"
#include "job/cache.h"
#include "job/guest_pump.h"
#include "job/net.h"
#include "job/secret.h"
#include "job/share.h"
#include "util/log.h"
#include "util/trace.h"

#define JOB_DEFAULT_MEMORY_BYTES (UINT64_C(1) << 30)
#define JOB_DEFAULT_DISK_BYTES   (UINT64_C(10) << 30)

/* One of several commands in one machine. */
struct job_step {
    const char *name;
    const char *const *argv; /* NULL-terminated; the image's entrypoint is not put in front */
};

/* What a job runs in. */
enum job_wall {
    JOB_IN_MACHINE, /* a virtual machine: `engine` says which */
    JOB_AS_USER,    /* a sandbox of namespaces, on the host's kernel, with a user of its own */
    JOB_BARE,       /* nothing: as the caller */
};

/* What the person asked for. Strings are borrowed during the call. */
struct job_options {
    const char *image;              /* NAME[:TAG], sha256:HEX, or "host": no image but the host */
    const char *kernel;             /* NULL: the default one */
    const char *const *argv;        /* NULL-terminated; empty: the image's own command */
    const struct job_step *steps;   /* instead of argv: one after another, up to the first that fails */
    size_t step_count;              /* 0: argv counts */
    const char *expect_state;       /* the digest of the only state to start from; NULL: any */
    const char *entrypoint;         /* instead of the image's, "" for none; NULL: the image's */
    const char *const *env;         /* NAME=value, over the image's; NULL-terminated, NULL: none */
    const char *workdir;            /* NULL: the image's */
    const char *user;               /* NULL: the image's */
    const struct job_share *shares; /* from job_shares_parse */
    size_t share_count;
    const struct job_cache *caches; /* from job_caches_parse */
    size_t cache_count;
    bool trusted;               /* a cache of policy promote may become what the job made of it */
    const struct job_net *net;  /* from job_net_parse; NULL: none */
    struct job_secret *secrets; /* from job_secrets_load; wiped once they have been sent */
    size_t secret_count;
    const struct job_artifact *artifacts; /* from job_artifacts_parse */
    size_t artifact_count;
    uint64_t artifact_limit_bytes;
    enum job_wall wall;
    enum dayfly_engine engine;
    enum dayfly_jail jail; /* of a machine */
    unsigned cpus;         /* 0: as many as the host has; of a machine at most 8 */
    uint64_t memory_bytes; /* 0: a machine has JOB_DEFAULT_MEMORY_BYTES, others have no limit */
    uint64_t disk_bytes;   /* 0: JOB_DEFAULT_DISK_BYTES, or what memory there is for it */
    uint64_t timeout_ns;   /* of the command, or all steps together; 0: none */
    bool tty;
    uint16_t rows, cols;
    bool want_report; /* make result->report: it costs some milliseconds */

    int in_fd, out_fd, err_fd; /* as in struct guest_command */
    int signal_fd; /* as in struct guest_pump; while the machine starts a signal ends the run; -1 */
    int tty_fd;

    /* Told what goes on, for people: "starting the machine". May be NULL. */
    void (*progress)(void *opaque, const char *what);
    /* Told as step `index` begins. May be NULL. */
    void (*step)(void *opaque, size_t index);
    /* Told as soon as the engine is chosen. May be NULL. */
    void (*chosen)(void *opaque, const char *engine, const char *why);
    void *opaque;
    const struct log *log;
    struct trace *trace; /* NULL: nobody wants to know */
};

/* Nanoseconds since job_run began, but for `command` and `destroy`, which are lengths. 0: not reached.
 */
struct job_timings {
    uint64_t create_ns;  /* the machine is built */
    uint64_t boot_ns;    /* the guest's first userland code runs */
    uint64_t ready_ns;   /* the agent has the root file system up */
    uint64_t command_ns; /* how long the command, or the steps, ran */
    uint64_t destroy_ns; /* how long the end took */
    uint64_t total_ns;
};

struct job_result {
    struct guest_result guest; /* of the last step */
    size_t last_step;          /* its index */
    int interrupted;           /* the signal that ended the run before the command began, or 0 */
    struct job_artifact_result artifacts; /* the caller json_decrefs its rows */
    void *caches; /* a json_t of rows (job/cache.h), NULL: none; the caller json_decrefs it */
    struct job_timings timings;
    char engine[8];
    uid_t uid;     /* made for the job on this host, and nobody's now; 0: none */
    void *report;  /* a json_t, when wanted and the command ran; the caller json_decrefs it */
    char *console; /* what the guest's kernel said, when the machine failed; NULL; the caller frees */
};

/*
 * Run it. 0: the command ran, or was refused by the guest: result->guest says how it ended. -EINTR: a
 * signal ended it before, or while its shares were written back (result->interrupted). Another -errno:
 * Dayfly failed, err says why.
 */
int job_run(const struct job_options *options, struct job_result *result, struct dayfly_err *err);

#endif
