/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAYFLY_CONFIG_H
#define DAYFLY_CONFIG_H

/*
 * The description of a virtual machine, as data.
 *
 *     struct dayfly_config *config;
 *     struct dayfly_linux linux_boot = DAYFLY_LINUX_INIT;
 *     struct dayfly_disk disk = DAYFLY_DISK_INIT;
 *
 *     dayfly_config_new(&config);
 *     dayfly_config_set_cpus(config, 2);
 *     dayfly_config_set_memory(config, 512 << 20);
 *     linux_boot.kernel = "vmlinuz";
 *     dayfly_config_set_linux(config, &linux_boot);
 *     disk.path = "root.img";
 *     dayfly_config_add_disk(config, &disk);
 *     if (dayfly_config_validate(config, NULL, NULL, &err) < 0) ...
 *
 * Setting says only what is wanted; nothing is opened or looked at before dayfly_config_validate,
 * which changes nothing and keeps nothing open. The same description as YAML: doc/machine-file.md.
 *
 * Options structs: start from the INIT macro beside the struct, which fills in `size`, so that a
 * program built against an older header keeps its meaning with a newer library. A setter copies the
 * struct and its strings. A descriptor is borrowed, not copied: it stays the caller's, and stays open
 * for as long as the description is used.
 *
 * Where a path and a descriptor say the same thing, the path counts if both are given.
 *
 * Threads: one description, one thread at a time.
 *
 * Setters return 0, -ENOMEM, -EINVAL (`size` is none this library knows) or -E2BIG (a newer struct
 * uses a field that this library does not have). Whether the *values* make sense is validate's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dayfly_config;

/* A machine with 1 processor, 512 MiB, an entropy device, and nothing else. */
int dayfly_config_new(struct dayfly_config **out);

/* NULL is legal. */
void dayfly_config_free(struct dayfly_config *config);

int dayfly_config_set_cpus(struct dayfly_config *config, unsigned count);
int dayfly_config_set_memory(struct dayfly_config *config, uint64_t bytes);

/* The kernel to boot: an ELF file with a PVH note, or a bzImage. */
struct dayfly_linux {
    size_t size;
    const char *kernel;
    const char *initrd;       /* optional */
    const char *command_line; /* optional */
    int kernel_fd;            /* instead of the path; -1: none */
    int initrd_fd;
};
#define DAYFLY_LINUX_INIT                                                                              \
    {                                                                                                  \
        .size = sizeof(struct dayfly_linux), .kernel_fd = -1, .initrd_fd = -1                          \
    }

int dayfly_config_set_linux(struct dayfly_config *config, const struct dayfly_linux *options);

/*
 * Whether the host's page cache stands between a disk's file and the guest.
 *   cached  yes: what was read is read from memory the next time, by any machine. A write is done when
 *           the cache has it, and on the medium when the guest has flushed.
 *   direct  no: O_DIRECT. For disks larger than the host's memory, and so that the guest alone decides
 *           what is kept in memory. The file system must be able to, and the size of the file be a
 *           multiple of what it asks, or validation says so. The guest need not know of it: what does
 *           not suit is copied, and a write of less than the host's block reads that first. Whole
 *           pages of 4 KiB suit nearly every host.
 * Auto is cached.
 */
enum dayfly_disk_cache {
    DAYFLY_DISK_CACHE_AUTO,
    DAYFLY_DISK_CACHE_CACHED,
    DAYFLY_DISK_CACHE_DIRECT,
};

/*
 * What has happened when a flush of the guest's is answered.
 *   full   fdatasync(2): what was written before is on the medium, and the host finds it there after a
 *          loss of power, as far as its devices keep their word.
 *   fsync  the same. On macOS this mode leaves data in the device's own cache, and so is quicker. Linux
 *          has no such call: fsync and fdatasync empty that cache, unless the file system was mounted
 *          not to, and what does not (sync_file_range) leaves new blocks where nobody finds them
 *          again. The word is there for descriptions that come from there.
 *   none   nothing. What was written survives the end of the machine and of its process, since the host
 *          has it; but a crash of the host can lose any part of it, in any order.
 * Auto is full; for an ephemeral disk, of which nothing is to survive a crash, it is none.
 */
enum dayfly_disk_sync {
    DAYFLY_DISK_SYNC_AUTO,
    DAYFLY_DISK_SYNC_FULL,
    DAYFLY_DISK_SYNC_FSYNC,
    DAYFLY_DISK_SYNC_NONE,
};

/*
 * What happens when the host has no room for what the guest writes (ENOSPC, EDQUOT).
 *   fail   the request fails, and the guest does what it does about I/O errors: a file system of
 *          Linux's stops writing.
 *   pause  the request waits, and with it whatever in the guest waits for it, until there is room. The
 *          log (vm.h) says so by a line of DAYFLY_LOG_ERROR, and by another when it goes on, which it
 *          does by itself. The end of the machine, or a reset of the device, ends the waiting by an
 *          I/O error. So does dayfly_vm_pause with engine tcg: a device that stands still there must
 *          hold no request.
 * Auto is pause, since an error costs the guest what it has in memory. For an ephemeral disk it is
 * fail: of that nothing is kept anyway, and a job that fails is worth more than one that hangs.
 */
enum dayfly_disk_full {
    DAYFLY_DISK_FULL_AUTO,
    DAYFLY_DISK_FULL_FAIL,
    DAYFLY_DISK_FULL_PAUSE,
};

/* A virtio block device over a raw image or a block device: byte N of the disk is byte N of the file.
 * Formats are never guessed from the content. Disks appear in the guest in the order of adding. An
 * ephemeral disk's file is only read: what the guest writes goes encrypted to a file without a name,
 * and is gone, with its key, when the machine is.
 *
 * One machine at a time writes to a disk, and then none reads it elsewhere: each keeps a lock on the
 * file (an open file description lock, on all of it). A block device that is written is claimed as
 * well, as by mount(8), so a descriptor of one must not have been opened with O_EXCL.
 *
 * The guest's logical blocks are a device's own, and 512 bytes of a file. What it cannot read or write
 * for an error of the host's, it hears of as an I/O error. After a flush that failed all later ones
 * fail: the host has dropped what it could not write. */
struct dayfly_disk {
    size_t size;
    const char *path;
    const char *id; /* what the guest reads as serial number; at most 20 bytes; optional */
    int fd;         /* instead of the path; -1: none */
    bool read_only;
    bool ephemeral;      /* not with read_only */
    const char *scratch; /* the folder of that file without a name, if its file system has such files;
                          * else, and where it is NULL: $TMPDIR, /var/tmp or /tmp */
    enum dayfly_disk_cache cache;
    enum dayfly_disk_sync sync;
    enum dayfly_disk_full on_full;
};
#define DAYFLY_DISK_INIT                                                                               \
    {                                                                                                  \
        .size = sizeof(struct dayfly_disk), .fd = -1                                                   \
    }

int dayfly_config_add_disk(struct dayfly_config *config, const struct dayfly_disk *options);

/* What the guest may do with a shared directory. It holds on the host's side, whatever the guest does.
 */
enum dayfly_share_mode {
    DAYFLY_SHARE_RW,
    DAYFLY_SHARE_RO,
    DAYFLY_SHARE_COW, /* it may change it; the host's directory stays as it is */
};

/* When the guest sees what the host changed in a share. */
enum dayfly_share_cache {
    DAYFLY_SHARE_CACHE_AUTO,   /* within a second; a file's content when it is opened the next time */
    DAYFLY_SHARE_CACHE_NONE,   /* at once: nothing is kept in the guest */
    DAYFLY_SHARE_CACHE_ALWAYS, /* perhaps never: for what nobody else changes */
};

/*
 * Whose files the guest's users make on the host, and as whose it sees those that are there.
 *   squash    all of them act as one user of the host: the directory's owner when the machine's process
 *             is root, else the user whose process it is. Files of that user are shown as shown_uid's
 *             and shown_gid's, all others as nobody's (65534).
 *   identity  the guest's ids are the host's: root there is root on these files. Needs root.
 *   map       by extents, like user_namespaces(7); an id without one is nobody. Needs root.
 */
enum dayfly_share_ids { DAYFLY_SHARE_SQUASH, DAYFLY_SHARE_IDENTITY, DAYFLY_SHARE_MAP };

/* `count` ids from `guest` are those from `host`. (No options struct: it stays as it is.) */
struct dayfly_id_extent {
    uint32_t guest, host, count;
};

/* A directory of the host, as a part of a share. */
struct dayfly_share_directory {
    size_t size;
    const char *path;
    const char *name; /* its name below the share's root; NULL: it is the root, and alone */
    int fd;           /* instead of the path; -1: none */
    enum dayfly_share_mode mode;
    const char *changes; /* cow: a directory that keeps the difference, made if it is missing; NULL: in
                            memory, and gone with the machine */
    enum dayfly_share_ids ids;
    uint32_t shown_uid, shown_gid;              /* squash */
    const struct dayfly_id_extent *uids, *gids; /* map */
    size_t uid_count, gid_count;
};
#define DAYFLY_SHARE_DIRECTORY_INIT                                                                    \
    {                                                                                                  \
        .size = sizeof(struct dayfly_share_directory), .fd = -1                                        \
    }

/* A virtio file system device: in the guest, `mount -t virtiofs TAG /somewhere`. It shows one
 * directory, or several under their names. */
struct dayfly_share {
    size_t size;
    const char *tag;                                  /* 1 to 36 bytes, no two shares have the same */
    const struct dayfly_share_directory *directories; /* each from the INIT macro above */
    size_t directory_count;                           /* 1 to 16 */
    enum dayfly_share_cache cache;
    uint32_t queues; /* of requests */
    bool writeback;  /* the guest gathers writes in its page cache; not with DAYFLY_SHARE_CACHE_NONE */
    uint64_t window_bytes; /* DAX: this much of the guest's address space for mapping the host's page
                              cache; a power of two, 2 MiB to 16 GiB; 0: none. Engine kvm alone. */
    bool xattr; /* extended attributes and ACLs; each file that the guest writes to costs it a request
                   more */
};
#define DAYFLY_SHARE_INIT                                                                              \
    {                                                                                                  \
        .size = sizeof(struct dayfly_share), .queues = 1                                               \
    }

/* All directories have the first one's size. */
int dayfly_config_add_share(struct dayfly_config *config, const struct dayfly_share *options);

/* Where the cable of a network device goes. */
enum dayfly_net_mode {
    DAYFLY_NET_NAT,    /* to a network of the machine's own, and through the host's sockets to others */
    DAYFLY_NET_TAP,    /* to a tap interface of the host's */
    DAYFLY_NET_SOCKET, /* to a program: each message of a Unix socket is a frame */
};

/*
 * A secret that the guest uses and never has: it is given a placeholder (dayfly_vm_net_report), and
 * where an HTTP request of its leaves for one of the hosts, the value takes the placeholder's place, on
 * the host (doc/network.md). The guest has to trust the authority that the report has.
 */
struct dayfly_net_secret {
    size_t size;
    const char *name;  /* for messages and the report */
    const void *value; /* 8 to 4,096 bytes, without control characters; copied into locked memory,
                          which dayfly_config_free wipes */
    size_t value_bytes;
    const char *const *hosts; /* names, with a NULL behind; at most 64 of all secrets together */
    bool allow_http;          /* also into requests without TLS */
    bool no_query;            /* not into the query of a URL */
};
#define DAYFLY_NET_SECRET_INIT                                                                         \
    {                                                                                                  \
        .size = sizeof(struct dayfly_net_secret)                                                       \
    }

/* A virtio network device. Frames on a socket are of at most 65,550 bytes and have neither a check
 * sequence nor another header. */
struct dayfly_net {
    size_t size;
    enum dayfly_net_mode mode;
    const char *interface; /* tap: it has to exist, and its user has to be ours */
    const char *socket;    /* socket: the path of one of type SOCK_SEQPACKET that is listened on */
    int fd;                /* instead of that path: connected, SOCK_SEQPACKET or SOCK_DGRAM; -1: none */
    const char *mac; /* "02:00:00:00:00:01"; NULL: a random one, another for each machine made from
                        the description */
    uint32_t mtu;    /* 68 to 65535, nat: 1280 to 65520; 0: the interface's; for a socket 1500, for nat
                        65520 */
    /* nat: all that the guest may reach, up to 256 rules with a NULL behind: NAME, *.NAME, ADDRESS,
     * ADDRESS/BITS or *, each with :PORT or without, and host:PORT, a port of the host's loopback
     * (doc/network.md). NULL or none: everything but the host and link-local addresses, as *. */
    const char *const *allow;
    /* nat: [ADDRESS:]HOST:GUEST[/udp], up to 64 with a NULL behind: ports of the host, of 127.0.0.1
     * unless an address is given, that lead to the guest's. dayfly_vm_new takes them. */
    const char *const *publish;
    const struct dayfly_net_secret *secrets; /* nat: up to 16 of them; all have the first one's size */
    size_t secret_count;
};
#define DAYFLY_NET_INIT                                                                                \
    {                                                                                                  \
        .size = sizeof(struct dayfly_net), .fd = -1                                                    \
    }

int dayfly_config_add_net(struct dayfly_config *config, const struct dayfly_net *options);

/* A port of the virtio console. Output goes to output_path (created, appended to) or output_fd, else it
 * is dropped; input comes from input_fd. */
struct dayfly_console {
    size_t size;
    const char *name; /* the guest finds the port by it: /dev/virtio-ports/NAME */
    const char *output_path;
    int output_fd;
    int input_fd;
    bool primary; /* the kernel's console, hvc0; at most one */
};
#define DAYFLY_CONSOLE_INIT                                                                            \
    {                                                                                                  \
        .size = sizeof(struct dayfly_console), .output_fd = -1, .input_fd = -1                         \
    }

int dayfly_config_add_console(struct dayfly_config *config, const struct dayfly_console *options);

/* A virtio socket device. On the host: connect to `socket`, write "CONNECT <port>\n", read
 * "OK <number>\n", and the stream is the guest's. A guest that connects to the host's port P reaches
 * whoever listens on "<socket>_P". */
struct dayfly_vsock {
    size_t size;
    const char *socket; /* created by the machine; optional */
    uint32_t cid;       /* the guest's address, 3 or more; private to the machine */
};
#define DAYFLY_VSOCK_INIT                                                                              \
    {                                                                                                  \
        .size = sizeof(struct dayfly_vsock), .cid = 3                                                  \
    }

/* NULL takes the device away. */
int dayfly_config_set_vsock(struct dayfly_config *config, const struct dayfly_vsock *options);

int dayfly_config_set_entropy(struct dayfly_config *config, bool present);

/*
 * How the threads and processes that a guest's data reaches are locked up: namespaces, no capabilities,
 * landlock, a list of system calls for each kind (doc/security.md). Only those that the library makes;
 * never the program's own.
 */
enum dayfly_jail {
    DAYFLY_JAIL_AUTO,     /* as far as this host and user can; dayfly_vm_jail says how far */
    DAYFLY_JAIL_REQUIRED, /* wholly, or the machine is not made or does not start (EPERM) */
    DAYFLY_JAIL_OFF,      /* not at all: for debugging */
};

/* AUTO, unless set. */
int dayfly_config_set_jail(struct dayfly_config *config, enum dayfly_jail jail);

/* Where the 16550 serial port's output goes: the kernel's first words. Nowhere, unless set. */
struct dayfly_serial {
    size_t size;
    const char *output_path;
    int output_fd;
    int input_fd;
};
#define DAYFLY_SERIAL_INIT                                                                             \
    {                                                                                                  \
        .size = sizeof(struct dayfly_serial), .output_fd = -1, .input_fd = -1                          \
    }

int dayfly_config_set_serial(struct dayfly_config *config, const struct dayfly_serial *options);

enum dayfly_severity {
    DAYFLY_FAULT_ERROR,   /* the machine cannot start so */
    DAYFLY_FAULT_WARNING, /* it can, but look at it */
};

/* One fault. The strings live until the callback returns; message and hint are printable UTF-8, however
 * hostile what they quote. */
struct dayfly_fault {
    size_t size;
    enum dayfly_severity severity;
    const char *file;    /* the YAML file's name; NULL where there is none */
    unsigned line;       /* from 1; 0 when the value was set by a call */
    unsigned column;     /* in characters, from 1 */
    const char *where;   /* "disks[1].path"; "" is the whole description */
    const char *message; /* what is wrong, naming the value */
    const char *hint;    /* what to do about it; NULL where it is plain */
};

typedef void dayfly_report_fn(void *opaque, const struct dayfly_fault *fault);

/*
 * Read a description from YAML, into a fresh `config`. Every fault of form (syntax, unknown or doubled
 * keys, types, units) is reported, not only the first; `report` may be NULL. What could be read has
 * been set even then, so that dayfly_config_validate can go on to name the faults of substance; it
 * keeps quiet about values that were reported here. Paths are relative to the file's folder (`load`)
 * or to base_dir (`parse`; NULL: the working directory). `name` stands in faults and may be NULL.
 *
 * Returns 0; -EINVAL when there was an error, the first of which is in *err; another -errno when the
 * file could not be read (nothing is reported then).
 */
int dayfly_config_load_yaml(struct dayfly_config *config, const char *path, dayfly_report_fn *report,
                            void *opaque, struct dayfly_err *err);
int dayfly_config_parse_yaml(struct dayfly_config *config, const char *name, const char *text,
                             size_t text_bytes, const char *base_dir, dayfly_report_fn *report,
                             void *opaque, struct dayfly_err *err);

/*
 * Whether this host can start this machine: values in range, files there and usable, no disk in use
 * for writing elsewhere, nothing twice that must be unique. Reports every fault (`report` may be NULL),
 * changes nothing, keeps nothing open. What it saw can change before the start, which checks again.
 *
 * Returns 0 (warnings may have been reported) or -EINVAL, the first error in *err; -ENOMEM.
 */
int dayfly_config_validate(const struct dayfly_config *config, dayfly_report_fn *report, void *opaque,
                           struct dayfly_err *err);

/* What this host allows. */
struct dayfly_limits {
    size_t size;                                 /* set by the caller to sizeof(struct dayfly_limits) */
    unsigned min_cpus, max_cpus;                 /* as KVM says, and at most 254 */
    uint64_t min_memory_bytes, max_memory_bytes; /* the latter is what the host has */
};

/* Returns 0 or -EINVAL (size). */
int dayfly_limits_get(struct dayfly_limits *limits);

#ifdef __cplusplus
}
#endif
#endif
