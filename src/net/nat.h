/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_NAT_H
#define NET_NAT_H

/*
 * A network for one machine without privileges: addresses of its own, and the host's sockets as the way
 * out. libslirp turns the guest's packets into sockets; our own code in front of it decides what may
 * get out (policy.h) and answers DNS.
 *
 * All of that runs in a process of its own, "dayfly-nat", which is a program within this library: it is
 * started from memory (memfd_create, execveat), so that it has none of the caller's memory,
 * descriptors, locks or threads, and the library does not depend on libslirp. It is locked up before it
 * takes the first frame, and dies with the thread that started it, or with the last holder of struct
 * nat.
 *
 * Frames: one Ethernet frame a message, without FCS and without a header of virtio's, at most
 * NAT_FRAME_MAX bytes, checksums complete, over an AF_UNIX socket of type SOCK_SEQPACKET.
 */

#include <sys/types.h>

#include "dayfly/error.h"
#include "net/policy.h"
#include "util/log.h"

#define NAT_FRAME_MAX        PACKET_FRAME_MAX
#define NAT_RULES_MAX        256
#define NAT_PUBLISH_MAX      64
#define NAT_MTU_MAX          65520
#define NAT_MTU_MIN          1280
#define NAT_BORDER_HOSTS_MAX 64
#define NAT_BORDER_PORTS     2 /* POLICY_BORDER_HTTP, POLICY_BORDER_HTTPS, in this order */

struct nat_options {
    const struct net_rule *rules; /* none: everything but the host and link-local addresses */
    size_t rule_count;
    const struct net_publish *publish;
    size_t publish_count;
    uint16_t mtu;            /* 0: NAT_MTU_MAX, which is also the fastest */
    bool no_ipv6;            /* also off where the host has no address of IPv6 but its own loopback */
    const struct log *log;   /* borrowed until nat_stop */
    const char *resolv_conf; /* NULL: /etc/resolv.conf; read once, at the start */
    uint32_t ttl_min_s;      /* 0: POLICY_TTL_MIN_S */
    /* Names, lower case, for which the border stands (border/border.h): the resolver says that they are
     * addresses.border4, which is there if there are any. */
    const char *const *border_hosts;
    size_t border_host_count;
};

struct nat;

/*
 * Start it. On return the ports are published, and the helper is locked up. *frame_fd is the end of the
 * frame socket for the device: the caller's, non-blocking, close-on-exec. When the helper ends, for
 * whatever reason, it reads as at its end. Nothing of `options` but the log is used after the return.
 * -EADDRINUSE and the like name the port to publish. Any thread may call it, and should live as long.
 */
int nat_start(struct nat **out, const struct nat_options *options, int *frame_fd,
              struct dayfly_err *err);

/* End it now, with every connection. frame_fd stays the caller's. NULL is legal. */
void nat_stop(struct nat *nat);

/*
 * With border hosts: the listening sockets (AF_UNIX, stream, non-blocking) on which the guest's
 * connections to the border arrive; the caller's from now on, once. They have no name that anybody but
 * the helper could use, and whoever connects is the process nat_pid. While nobody accepts there, the
 * helper's network stands still when 128 connections wait. -ENOENT when there are none (any more).
 */
int nat_take_border(struct nat *nat, int listeners[static NAT_BORDER_PORTS]);

pid_t nat_pid(const struct nat *nat);

/* The stages of being locked up (isolate.h) that the helper went without, by its own word before it
 * served anybody. */
unsigned nat_lacks(const struct nat *nat);

/* What the guest is to be set up with. Until nat_stop. */
const struct nat_addresses *nat_addresses(const struct nat *nat);

/* Readable when the helper has something for the log or has ended: then call nat_handle_events, which
 * does not block. It returns 0, or -EPIPE once there is no helper any more. */
int nat_events_fd(const struct nat *nat);
int nat_handle_events(struct nat *nat);

/* ---- what happened ---- */

enum nat_counter {
    NAT_FRAMES_FROM_GUEST,
    NAT_BYTES_FROM_GUEST,
    NAT_FRAMES_TO_GUEST,
    NAT_BYTES_TO_GUEST,
    NAT_FRAMES_LOST,    /* to the guest, which did not take them in time */
    NAT_FRAMES_INVALID, /* not of the form that packet.h describes */
    NAT_FRAMES_DROPPED, /* well-formed, and for nobody: multicast and the like */
    NAT_REFUSED,        /* packets that the policy refused */
    NAT_NAMES_ASKED,
    NAT_NAMES_REFUSED,
    NAT_NAMES_FAILED, /* no server answered */
    NAT_COUNTERS,
};

#define NAT_NAMES_LISTED    256
#define NAT_ADDRS_LISTED    256
#define NAT_REFUSALS_LISTED 256

struct nat_name {
    char name[NET_NAME_BYTES];
    uint32_t asked, refused;
};

/* An address that a name's answer gave. */
struct nat_named_addr {
    struct net_addr addr;
    uint32_t name; /* index of nat_report.names, or NAT_NAMES_LISTED */
    uint8_t open;  /* 0 or 1. 0: a name may not open it: private, the host's, ... */
};

struct nat_refusal {
    struct net_addr addr;
    uint16_t port;  /* 0 for ICMP */
    uint8_t kind;   /* enum packet_kind */
    uint8_t reason; /* enum policy_reason */
    uint32_t count;
};

/* Lists are in the order of first appearance; what came when they were full is only counted. */
struct nat_report {
    uint64_t counters[NAT_COUNTERS];
    uint64_t faults[PACKET_FAULTS];
    uint32_t name_count, addr_count, refusal_count;
    uint32_t names_unlisted, addrs_unlisted, refusals_unlisted;
    struct nat_name names[NAT_NAMES_LISTED];
    struct nat_named_addr addrs[NAT_ADDRS_LISTED];
    struct nat_refusal refusals[NAT_REFUSALS_LISTED];
};

/* A copy of what is known by now, also after the helper has ended; it was checked, and names are
 * printable. About 90 KiB. */
void nat_read_report(const struct nat *nat, struct nat_report *out);

#endif
