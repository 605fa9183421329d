/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

/*
 * What a description is made of, for the engines: they read it, and change nothing. The values have
 * been validated only if dayfly_config_validate said so, and files can have changed since: whoever
 * opens one checks it again.
 *
 * Every field is a row of the schema (schema.c), which is why strings are plain `char *` and owned.
 * (The boot section is called `boot`: `linux` is a macro of GNU C.)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dayfly/config.h"

enum {
    CONFIG_MAX_CPUS = 254, /* 8-bit local APIC ids, 255 being "all of them" */
    CONFIG_MAX_DISKS = 24, /* each is a PCI slot of the one bus */
    CONFIG_MAX_SHARES = 16,
    CONFIG_MAX_NETWORKS = 8,
    CONFIG_MAX_SLOTS = 27, /* of all these together: the bus has room for three devices more */
    CONFIG_MAX_CONSOLES = 16,
    CONFIG_MAX_DISK_ID = 20, /* VIRTIO_BLK_ID_BYTES */
    CONFIG_MAX_CONSOLE_NAME = 31,
    CONFIG_MAX_SHARE_TAG = 36, /* virtio_fs_config.tag */
    CONFIG_MAX_SHARE_QUEUES = 16,
    CONFIG_MAX_DIRECTORIES = 16, /* of one share */
    CONFIG_MAX_DIRECTORY_NAME = 255,
    CONFIG_MAX_ID_EXTENTS = 8,
    CONFIG_MAX_COMMAND_LINE = 2047, /* x86's COMMAND_LINE_SIZE, less the NUL */
    CONFIG_MAX_SOCKET_PATH = 96,    /* sun_path, less "_4294967295" and the NUL */
    CONFIG_MAX_INTERFACE = 15,      /* IFNAMSIZ, less the NUL */
    CONFIG_MIN_MTU = 68,            /* RFC 791 */
    CONFIG_MAX_MTU = 65535,
    CONFIG_MAX_RULES = 256, /* of one network; NAT_RULES_MAX, NAT_PUBLISH_MAX */
    CONFIG_MAX_PUBLISHED = 64,
    CONFIG_MAX_RULE_BYTES = 320,
    CONFIG_MAX_PATH = 4095,
};

#define CONFIG_MIN_MEMORY (UINT64_C(16) << 20)
#define CONFIG_MIN_WINDOW (UINT64_C(2) << 20) /* what Linux maps at a time */
#define CONFIG_MAX_WINDOW (UINT64_C(16) << 30)
#define CONFIG_MIN_CID    3
#define CONFIG_MAX_CID    (UINT32_MAX - 1)

/* Where a device's output goes: path (created, appended to), else output_fd, else nowhere. */
struct config_stream {
    char *path;
    int output_fd, input_fd; /* -1: none; borrowed */
};

struct config_boot {
    char *kernel, *initrd, *command_line; /* initrd and command_line may be NULL */
    int kernel_fd, initrd_fd;             /* where the path is NULL; -1: none; borrowed */
};

struct config_disk {
    char *path;
    int fd;   /* where the path is NULL; borrowed */
    char *id; /* may be NULL */
    bool read_only, ephemeral;
    char *scratch; /* for `ephemeral`; may be NULL */
    enum dayfly_disk_cache cache;
    enum dayfly_disk_sync sync;
    enum dayfly_disk_full on_full;
};

/* A directory of a share. */
struct config_directory {
    char *path;
    int fd;     /* where the path is NULL; borrowed */
    char *name; /* NULL in `only` of a share */
    enum dayfly_share_mode mode;
    char *changes; /* DAYFLY_SHARE_COW; may be NULL */
    enum dayfly_share_ids ids;
    uint32_t shown_uid, shown_gid;        /* DAYFLY_SHARE_SQUASH */
    struct dayfly_id_extent *uids, *gids; /* DAYFLY_SHARE_MAP */
    size_t uid_count, gid_count;
};

/* A virtio file system device. config_share_directories says what it shows. */
struct config_share {
    char *tag;
    enum dayfly_share_cache cache;
    bool writeback;
    bool xattr;
    uint64_t window_bytes;                /* 0: none */
    uint32_t queues;                      /* of requests, without the one for what is urgent */
    struct config_directory only;         /* the share's root, where directory_count is 0 */
    struct config_directory *directories; /* else: those below a made-up root, each with a name */
    size_t directory_count;
};

/* What the enums are called, each word at its value's index; NULL behind the last. */
extern const char *const config_mode_words[], *const config_cache_words[], *const config_ids_words[];
extern const char *const config_net_words[];
extern const char *const config_jail_words[];

/* Whether a share can have such a window, or none. */
static inline bool config_window_fits(uint64_t bytes)
{
    return bytes == 0 ||
           (bytes >= CONFIG_MIN_WINDOW && bytes <= CONFIG_MAX_WINDOW && (bytes & (bytes - 1)) == 0);
}

/* The directories of a share: *count of them. With one whose name is NULL it is the share's root. */
static inline const struct config_directory *config_share_directories(const struct config_share *share,
                                                                      size_t *count)
{
    *count = share->directory_count ? share->directory_count : 1;
    return share->directory_count ? share->directories : &share->only;
}

struct config_text {
    char *text;
};

/* A virtio network device. */
struct config_network {
    enum dayfly_net_mode mode;
    char *interface;                     /* DAYFLY_NET_TAP */
    char *socket;                        /* DAYFLY_NET_SOCKET */
    int fd;                              /* where `socket` is NULL; -1: none; borrowed */
    char *mac;                           /* NULL: a random one */
    uint32_t mtu;                        /* 0: the interface's, or the mode's own */
    struct config_text *allow, *publish; /* DAYFLY_NET_NAT */
    size_t allow_count, publish_count;
    struct config_secrets *secrets; /* NULL: none; not of a file */
};

struct config_console {
    char *name;
    bool primary;
    struct config_stream stream;
};

struct config_serial {
    struct config_stream stream;
};

struct config_vsock {
    bool present;
    uint32_t cid;
    char *socket; /* may be NULL */
};

/* Where in the YAML a value stood. */
struct config_mark {
    char *where; /* "disks[1].path" */
    unsigned line, column;
    bool faulty; /* already reported: the value in the struct is not what the person wrote */
};

struct dayfly_config {
    uint32_t cpus;
    uint64_t memory_bytes;
    struct config_boot boot;
    struct config_disk *disks;
    size_t disk_count;
    struct config_share *shares;
    size_t share_count;
    struct config_network *networks;
    size_t network_count;
    struct config_console *consoles;
    size_t console_count;
    struct config_vsock vsock;
    bool entropy;
    struct config_serial serial;
    enum dayfly_jail jail;

    char *source;    /* the YAML's name, or NULL */
    bool incomplete; /* the YAML could not be read to its end: nothing is known to be missing */
    struct config_mark *marks;
    size_t mark_count;
};

/* As dayfly_config_validate, against limits that the caller brings (tests). */
int config_validate(const struct dayfly_config *config, const struct dayfly_limits *limits,
                    dayfly_report_fn *report, void *opaque, struct dayfly_err *err);

/* Note where `where` stood. Returns 0 or -ENOMEM. A second mark for the same place is ignored. */
int config_mark(struct dayfly_config *config, const char *where, unsigned line, unsigned column);

/* The mark of `where`, or of the nearest thing around it; NULL when there is none. */
const struct config_mark *config_mark_of(const struct dayfly_config *config, const char *where);

/* The mark of exactly `where`, or NULL. */
struct config_mark *config_mark_at(const struct dayfly_config *config, const char *where);

#endif
