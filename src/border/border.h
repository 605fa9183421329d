/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_BORDER_H
#define BORDER_BORDER_H

/*
 * Secrets that a guest uses and never has. The guest holds a placeholder; where a request of its leaves
 * for one of the secret's hosts, the value takes the placeholder's place. That happens in a process of
 * its own, "dayfly-border", to which the network's helper (net/nat.h) passes connections to these hosts
 * and nothing else. It alone has the values: neither the guest nor that helper, whose code is old and
 * whose bytes are the guest's, ever does. doc/network.md says what is promised.
 *
 * HTTPS is ended and begun anew, with certificates of an authority that lives as long as this process
 * and is good for these hosts alone; the guest has to trust border_ca_pem.
 *
 * It is started as nat.h's helper is, locked up before it takes a value or the guest's first byte, and
 * dies with the thread that started it, or with the last holder of struct border.
 */

#include <sys/types.h>

#include "dayfly/error.h"
#include "net/nat.h"
#include "util/log.h"

#define BORDER_SECRETS_MAX 16
#define BORDER_HOSTS_MAX   64 /* of all secrets together */
#define BORDER_VALUE_MIN   8  /* a shorter one cannot be told from other text */
#define BORDER_VALUE_MAX   4096

struct border_secret {
    const char *name; /* for messages */
    const void *value;
    size_t value_bytes;
    const char *const
        *hosts; /* names, as net_rule_parse takes them; the same in several secrets is fine */
    size_t host_count;
    bool allow_http; /* also into requests without TLS */
    bool no_query;   /* not into the query of a URL */
};

struct border_options {
    const struct border_secret *secrets;
    size_t secret_count;
    const struct net_rule *rules; /* the machine's: where a host's address may be private, see below */
    size_t rule_count;
    pid_t peer;              /* the process whose connections are taken; 0: any */
    const struct log *log;   /* borrowed until border_stop */
    const char *resolv_conf; /* NULL: /etc/resolv.conf; read once, at the start */
    const char *trust_file;  /* certificates that hosts' own are verified by; NULL: the system's */
};

struct border;

/*
 * Start it. `listeners` (from nat_take_border) are taken, also on failure. Values are handed over and
 * kept nowhere here; wiping them is their owner's. Nothing else of `options` but the log is used after
 * the return. Any thread may call it, and should live as long.
 *
 * A host is connected to at its public addresses, at a private one if there are no rules or one covers
 * address and port, and at the machine's own loopback if a rule for the host names the port.
 *
 * -EINVAL with a message when a secret cannot be used so: a value that is too short to be told from
 * other text, or that cannot stand in a header.
 */
int border_start(struct border **out, const struct border_options *options,
                 int listeners[static NAT_BORDER_PORTS], struct dayfly_err *err);

/* End it now, with every connection. NULL is legal. */
void border_stop(struct border *border);

#define BORDER_CA_PEM_BYTES      32768 /* with 64 hosts of the longest names */
#define BORDER_NAME_BYTES        64    /* longer ones are cut */
#define BORDER_PLACEHOLDER_BYTES 47

/* All until border_stop; NULL behind the last. */
const char *border_ca_pem(const struct border *border);
size_t border_secret_count(const struct border *border);
const char *border_name(const struct border *border, size_t secret);
const char *border_placeholder(const struct border *border, size_t secret);
size_t border_host_count(const struct border *border);
const char *border_host(const struct border *border, size_t host);

/* The hosts of some secrets, each once, lower case: nat_options.border_hosts. As border_start it
 * refuses what cannot be one. */
struct border_hosts {
    size_t count;
    const char *names[BORDER_HOSTS_MAX];
    char texts[BORDER_HOSTS_MAX][NET_NAME_BYTES];
};
int border_hosts_of(const struct border_secret *secrets, size_t count, struct border_hosts *out,
                    struct dayfly_err *err);

/* What border_start refuses of secrets: 0, or -EINVAL or -E2BIG with a message. */
int border_check(const struct border_secret *secrets, size_t count, struct dayfly_err *err);

/* Readable when it has something for the log or has ended: then call border_handle_events, which does
 * not block. It returns 0, or -EPIPE once there is no helper any more. */
int border_events_fd(const struct border *border);
int border_handle_events(struct border *border);

/* ---- what happened ---- */

struct border_host_report {
    uint64_t requests; /* that went out */
    uint64_t replaced; /* of these, with a secret put in */
    uint64_t masked;   /* responses that had a value in them */
    uint64_t refused;  /* requests that were not passed on */
    uint64_t failed;   /* the host could not be reached, or did not prove who it is */
};

struct border_report {
    uint64_t connections;
    uint64_t refused; /* connections and requests of which no host is known */
    struct border_host_report hosts[BORDER_HOSTS_MAX]; /* by border_host's index */
};

/* A copy of what is known by now, also after the helper has ended. */
void border_read_report(const struct border *border, struct border_report *out);

#endif
