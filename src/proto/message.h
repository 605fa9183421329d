/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_MESSAGE_H
#define PROTO_MESSAGE_H

/*
 * The payloads, each with its encoder and its decoder.
 *
 * proto_X_encode writes to out (cap bytes) and returns the length, or -EMSGSIZE when it does not fit.
 * proto_X_decode returns 0 or -EPROTO; it accepts exactly what the encoder is able to make, so a
 * payload with bytes behind its end is refused. Strings that a struct holds as arrays are copies and
 * always terminated; those it holds as pointers are borrowed from the payload.
 *
 * DATA's payload is the bytes; END, CLOSE, KILL, STAT and BYE have none.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROTO_TEXT_BYTES    256
#define PROTO_SERIAL_BYTES  21 /* virtio-blk's 20, and a NUL */
#define PROTO_FSTYPE_BYTES  16
#define PROTO_PATH_BYTES    256
#define PROTO_OPTIONS_BYTES 128
#define PROTO_HOST_BYTES    65
#define PROTO_USER_BYTES    128
#define PROTO_MOUNTS_MAX    32
#define PROTO_NETS_MAX      8
#define PROTO_ADDRESSES_MAX 8 /* of one network */
#define PROTO_SERVERS_MAX   3 /* as many as a resolver takes */
#define PROTO_MAC_BYTES     6
#define PROTO_ENTROPY_MIN   32
#define PROTO_ENTROPY_MAX   512
/* argv and environment together; more than a payload of sensible strings holds */
#define PROTO_STRINGS_MAX 8192

#define PROTO_SECRET_NAME_BYTES 128
#define PROTO_SECRET_MAX        (48 << 10) /* bytes of one */
#define PROTO_SECRETS_MAX       64

struct proto_hello {
    uint32_t version;
    uint32_t pid;      /* the agent's: 1 */
    uint64_t start_ns; /* CLOCK_MONOTONIC (since the kernel started) when the agent began */
    uint64_t age_ns;   /* from then until this message */
    char release[PROTO_HOST_BYTES];
};

/* A block device by its virtio serial number, and how to mount it. An empty serial: there is none. */
struct proto_disk {
    char serial[PROTO_SERIAL_BYTES];
    char fstype[PROTO_FSTYPE_BYTES];
    char options[PROTO_OPTIONS_BYTES]; /* of the file system, comma-separated; may be empty */
};

#define PROTO_MOUNT_READONLY 1u

struct proto_mount {
    struct proto_disk disk;
    char path[PROTO_PATH_BYTES]; /* absolute, made where it is missing */
    uint32_t flags;
};

struct proto_address {
    uint16_t family; /* 4 or 6 */
    uint16_t prefix; /* bits of the network; 0 where it says nothing */
    uint8_t bytes[16];
};

/* A network device by its address, and what it is to be. */
struct proto_net {
    uint8_t mac[PROTO_MAC_BYTES];
    uint32_t mtu; /* 0: leave it */
    uint32_t address_count, gateway_count;
    struct proto_address addresses[PROTO_ADDRESSES_MAX];
    struct proto_address gateways[2]; /* default routes, at most one of each family */
};

struct proto_setup {
    struct proto_disk root;    /* read-only lower layer; none: the root is there already */
    struct proto_disk scratch; /* what is written goes here; none: to a tmpfs */
    char hostname[PROTO_HOST_BYTES];
    uint64_t wall_ns;     /* CLOCK_REALTIME; 0: leave the clock */
    uint64_t deadline_ns; /* how long a disk may take to appear */
    uint32_t entropy_len;
    uint8_t entropy[PROTO_ENTROPY_MAX];
    uint32_t mount_count;
    struct proto_mount mounts[PROTO_MOUNTS_MAX];
    uint32_t net_count;
    struct proto_net nets[PROTO_NETS_MAX];
    uint32_t server_count; /* of names. With neither these nor `search` the image's resolver stays. */
    struct proto_address servers[PROTO_SERVERS_MAX];
    char search[PROTO_TEXT_BYTES]; /* domains, separated by spaces; may be empty */
};

struct proto_ready {
    uint64_t age_ns;     /* since the agent began */
    uint64_t modules_ns; /* of those, spent on kernel modules */
    uint64_t setup_ns;   /* from SETUP's arrival to this message */
};

struct proto_fail {
    uint32_t code; /* an errno value */
    char text[PROTO_TEXT_BYTES];
};

#define PROTO_EXEC_TTY   1u /* one terminal instead of three pipes: all output is stdout */
#define PROTO_EXEC_STDIN 2u /* stdin is a stream; otherwise /dev/null */
#define PROTO_EXEC_MKCWD 4u /* make the working directory, for the user, where it is missing */
/* SECRETs were sent: the command finds them, and does not run when the agent could not keep one. */
#define PROTO_EXEC_SECRETS 8u
/* argv are patterns, and the files that match them are the output (proto/record.h). */
#define PROTO_EXEC_COLLECT 16u
#define PROTO_EXEC_FLAGS   31u

struct proto_exec {
    uint32_t flags;
    uint16_t rows, cols; /* of the terminal */
    uint32_t stdout_window, stderr_window;
    const char *user; /* "": root; "name", "uid", "name:group", "uid:gid" */
    const char *cwd;  /* "": the user's home, or / */
    uint32_t argc, envc;
    const char *const *argv; /* argc >= 1; NULL behind the last */
    const char *const *env;  /* NAME=value; NULL behind the last */
};

/* Where a decoded EXEC keeps its arrays. Large: not for a stack. */
struct proto_exec_strings {
    const char *at[PROTO_STRINGS_MAX + 2];
};

#define PROTO_SECRET_ENV 1u /* a variable of every command's environment, instead of a file */
#define PROTO_SECRET_TRUST                                                                             \
    2u /* none at all: a certificate (PEM) for the file system's trust stores                          \
        */
#define PROTO_SECRET_FLAGS 3u

/* Its bytes stay where the frame was until proto_link_wipe. */
struct proto_secret {
    uint32_t flags;
    char name[PROTO_SECRET_NAME_BYTES]; /* one component of a path, without a dot at its beginning */
    uint32_t len;                       /* at most PROTO_SECRET_MAX */
    const uint8_t *bytes;               /* borrowed from the payload */
};

struct proto_started {
    uint32_t pid;
    uint32_t stdin_window;
};

/* What could not be done. Tied to names in message.c. */
enum proto_exec_step {
    PROTO_STEP_RESOURCES, /* processes, descriptors, memory of the guest */
    PROTO_STEP_USER,      /* there is no such user or group */
    PROTO_STEP_CWD,       /* the working directory */
    PROTO_STEP_COMMAND,   /* argv[0]: ENOENT is the shell's 127, the rest its 126 */
    PROTO_STEP_SECRETS,
    PROTO_STEP_COUNT,
};

struct proto_exec_failed {
    uint32_t code; /* an errno value */
    uint32_t step; /* enum proto_exec_step */
    char text[PROTO_TEXT_BYTES];
};

struct proto_window {
    uint32_t bytes; /* 1 to PROTO_WINDOW_MAX */
};

struct proto_signal {
    uint32_t number; /* 1 to 64 */
};

struct proto_resize {
    uint16_t rows, cols;
};

struct proto_exit {
    uint32_t code;   /* 0 to 255, when signal is 0 */
    uint32_t signal; /* 0 to 64 */
    uint64_t wall_ns;
};

struct proto_stat {
    uint64_t memory_total_bytes; /* of the guest */
    uint64_t memory_bytes;       /* of all jobs, page cache included */
    uint64_t memory_peak_bytes;
    uint64_t cpu_us; /* of all jobs, user and system */
    uint64_t pids;
    uint64_t pids_refused; /* forks beyond the limit */
    uint64_t oom_kills;
    uint64_t disk_bytes; /* of the writable layer */
    uint64_t disk_used_bytes;
};

#define PROTO_SHUTDOWN_SYNC 1u /* write back the scratch disk as well */

struct proto_shutdown {
    uint32_t flags;
};

ssize_t proto_hello_encode(const struct proto_hello *m, uint8_t *out, size_t cap);
int proto_hello_decode(struct proto_hello *m, const uint8_t *in, size_t len);
ssize_t proto_setup_encode(const struct proto_setup *m, uint8_t *out, size_t cap);
int proto_setup_decode(struct proto_setup *m, const uint8_t *in, size_t len);
ssize_t proto_ready_encode(const struct proto_ready *m, uint8_t *out, size_t cap);
int proto_ready_decode(struct proto_ready *m, const uint8_t *in, size_t len);
ssize_t proto_fail_encode(const struct proto_fail *m, uint8_t *out, size_t cap);
int proto_fail_decode(struct proto_fail *m, const uint8_t *in, size_t len);
ssize_t proto_exec_encode(const struct proto_exec *m, uint8_t *out, size_t cap);
int proto_exec_decode(struct proto_exec *m, struct proto_exec_strings *strings, const uint8_t *in,
                      size_t len);
ssize_t proto_secret_encode(const struct proto_secret *m, uint8_t *out, size_t cap);
int proto_secret_decode(struct proto_secret *m, const uint8_t *in, size_t len);
ssize_t proto_started_encode(const struct proto_started *m, uint8_t *out, size_t cap);
int proto_started_decode(struct proto_started *m, const uint8_t *in, size_t len);
ssize_t proto_exec_failed_encode(const struct proto_exec_failed *m, uint8_t *out, size_t cap);
int proto_exec_failed_decode(struct proto_exec_failed *m, const uint8_t *in, size_t len);
ssize_t proto_window_encode(const struct proto_window *m, uint8_t *out, size_t cap);
int proto_window_decode(struct proto_window *m, const uint8_t *in, size_t len);
ssize_t proto_signal_encode(const struct proto_signal *m, uint8_t *out, size_t cap);
int proto_signal_decode(struct proto_signal *m, const uint8_t *in, size_t len);
ssize_t proto_resize_encode(const struct proto_resize *m, uint8_t *out, size_t cap);
int proto_resize_decode(struct proto_resize *m, const uint8_t *in, size_t len);
ssize_t proto_exit_encode(const struct proto_exit *m, uint8_t *out, size_t cap);
int proto_exit_decode(struct proto_exit *m, const uint8_t *in, size_t len);
ssize_t proto_stat_encode(const struct proto_stat *m, uint8_t *out, size_t cap);
int proto_stat_decode(struct proto_stat *m, const uint8_t *in, size_t len);
ssize_t proto_shutdown_encode(const struct proto_shutdown *m, uint8_t *out, size_t cap);
int proto_shutdown_decode(struct proto_shutdown *m, const uint8_t *in, size_t len);

/* "user", "working directory", ... */
const char *proto_step_name(unsigned step);

#endif
