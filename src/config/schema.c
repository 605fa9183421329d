/* SPDX-License-Identifier: Apache-2.0 */
#include "config/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/schema_rows.h"

static const struct schema_row boot_rows[] = {
    {"kernel", PATH(struct config_boot, kernel), .required = true, .example = "vmlinuz",
     .beside = AT(struct config_boot, kernel_fd, int),
     .help = "The kernel: a bzImage as distributions ship it, or an ELF file with a PVH entry."},
    {"initrd", PATH(struct config_boot, initrd), .example = "initrd.img",
     .beside = AT(struct config_boot, initrd_fd, int), .fallback = "none",
     .help = "The initial RAM disk."},
    {"command_line", TEXT(struct config_boot, command_line), .max = CONFIG_MAX_COMMAND_LINE,
     .example = "\"console=hvc0 root=/dev/vda\"", .fallback = "empty",
     .help = "What the kernel is told."},
    {0},
};

static const char *const disk_cache_words[] = {[DAYFLY_DISK_CACHE_AUTO] = "auto",
                                               [DAYFLY_DISK_CACHE_CACHED] = "cached",
                                               [DAYFLY_DISK_CACHE_DIRECT] = "direct",
                                               NULL};
static const char *const disk_sync_words[] = {[DAYFLY_DISK_SYNC_AUTO] = "auto",
                                              [DAYFLY_DISK_SYNC_FULL] = "full",
                                              [DAYFLY_DISK_SYNC_FSYNC] = "fsync",
                                              [DAYFLY_DISK_SYNC_NONE] = "none",
                                              NULL};
static const char *const disk_full_words[] = {[DAYFLY_DISK_FULL_AUTO] = "auto",
                                              [DAYFLY_DISK_FULL_FAIL] = "fail",
                                              [DAYFLY_DISK_FULL_PAUSE] = "pause",
                                              NULL};

static const struct config_disk blank_disk = {.fd = -1};
static const struct schema_row disk_rows[] = {
    {"path", PATH(struct config_disk, path), .required = true, .example = "root.img",
     .beside = AT(struct config_disk, fd, int),
     .help = "A regular file or a block device; byte N of it is byte N of the disk. Formats are never "
             "guessed. Its size is a multiple of 512 bytes. The guest's logical blocks are a device's "
             "own, and 512 bytes of a file."},
    {"id", NAME(struct config_disk, id), .unique = true, .max = CONFIG_MAX_DISK_ID, .example = "root",
     .fallback = "none",
     .help = "The serial number that the guest reads; udev there calls the disk "
             "/dev/disk/by-id/virtio-ID."},
    {"read_only", BOOL(struct config_disk, read_only), .example = "true", .fallback = "false",
     .help =
         "Whether the guest may only read it. A disk that is written belongs to one machine at a time; "
         "one that is only read can be shared."},
    {"ephemeral", BOOL(struct config_disk, ephemeral), .example = "true", .fallback = "false",
     .help = "Whether the disk's file is only where the guest begins. The file itself is only read and "
             "can be shared; what the guest writes goes to a nameless file, encrypted with a key that "
             "nobody else has, and is gone with the machine."},
    {"scratch", PATH(struct config_disk, scratch), .example = "/var/tmp", .fallback = "$TMPDIR",
     .help = "The folder of that nameless file. Where none can be made in it, $TMPDIR, /var/tmp and "
             "/tmp are tried."},
    {"cache", CHOICE(struct config_disk, cache, disk_cache_words), .example = "direct",
     .fallback = "auto",
     .help =
         "Whether the host's page cache stands between the file and the guest. `cached`: yes. "
         "`direct`: no (O_DIRECT); the file system must be able to, and what the guest asks is copied "
         "where it does not suit its alignment. `auto` is `cached`."},
    {"sync", CHOICE(struct config_disk, sync, disk_sync_words), .example = "none", .fallback = "auto",
     .help =
         "What has happened when a flush of the guest's is answered. `full`: what was written is on "
         "the medium (fdatasync). `fsync`: the same, as Linux has nothing in between. `none`: "
         "nothing; a crash of the host can lose any of it, the end of the machine loses nothing. "
         "`auto` is `full`, and `none` for an ephemeral disk, of which nothing is to survive."},
    {"on_full", CHOICE(struct config_disk, on_full, disk_full_words), .example = "fail",
     .fallback = "auto",
     .help = "What happens when the host has no room for what the guest writes. `fail`: the guest sees "
             "an I/O error. `pause`: what it writes waits, a message says so, and it goes on by itself "
             "when there is room. `auto` is `pause`, and `fail` for an ephemeral disk."},
    {0},
};

const char *const config_mode_words[] = {
    [DAYFLY_SHARE_RW] = "rw", [DAYFLY_SHARE_RO] = "ro", [DAYFLY_SHARE_COW] = "cow", NULL};
const char *const config_cache_words[] = {[DAYFLY_SHARE_CACHE_AUTO] = "auto",
                                          [DAYFLY_SHARE_CACHE_NONE] = "none",
                                          [DAYFLY_SHARE_CACHE_ALWAYS] = "always",
                                          NULL};
const char *const config_ids_words[] = {[DAYFLY_SHARE_SQUASH] = "squash",
                                        [DAYFLY_SHARE_IDENTITY] = "identity",
                                        [DAYFLY_SHARE_MAP] = "map",
                                        NULL};

static const struct dayfly_id_extent blank_extent = {.count = 1};
static const struct schema_row extent_rows[] = {
    {"guest", NUMBER(struct dayfly_id_extent, guest), .max = UINT32_MAX - 1, .example = "0",
     .fallback = "0", .help = "The first id in the guest."},
    {"host", NUMBER(struct dayfly_id_extent, host), .max = UINT32_MAX - 1, .example = "100000",
     .fallback = "0", .help = "The first id on the host."},
    {"count", NUMBER(struct dayfly_id_extent, count), .min = 1, .max = UINT32_MAX, .example = "65536",
     .fallback = "1", .help = "How many ids from there on."},
    {0},
};

/* The keys of one directory: of a share's only one (`in` is `only.`), and of each of several. */
/* clang-format off */
#define DIRECTORY_ROWS(type, in, about_mode, about_changes, about_ids, about_shown, about_map, map_at) \
    {"mode", CHOICE(type, in mode, config_mode_words), .example = "ro", .fallback = "rw",              \
     .help = about_mode},                                                                              \
    {"changes", PATH(type, in changes), .example = "changes", .fallback = "in memory",                 \
     .help = about_changes},                                                                           \
    {"ids", CHOICE(type, in ids, config_ids_words), .example = "identity", .fallback = "squash",       \
     .help = about_ids},                                                                               \
    {"shown_uid", NUMBER(type, in shown_uid), .max = UINT32_MAX - 1, .example = "1000",                \
     .fallback = "0", .help = about_shown},                                                            \
    {"shown_gid", NUMBER(type, in shown_gid), .max = UINT32_MAX - 1, .example = "1000",                \
     .fallback = "0", .help = "The same for its group."},                                              \
    {"uids", LIST(type, in uids, in uid_count, extent_rows, blank_extent),                             \
     .max = CONFIG_MAX_ID_EXTENTS, .fallback = "none", .help = about_map, .described_at = map_at},     \
    {"gids", LIST(type, in gids, in gid_count, extent_rows, blank_extent),                             \
     .max = CONFIG_MAX_ID_EXTENTS, .fallback = "none", .help = "The same for groups.",                 \
     .described_at = "shares[].uids"}
/* clang-format on */

static const struct config_directory blank_directory = {.fd = -1};
static const struct schema_row directory_rows[] = {
    {"name", TEXT(struct config_directory, name), .required = true, .unique = true,
     .max = CONFIG_MAX_DIRECTORY_NAME, .example = "src",
     .help = "Its name in the share: one component of a path."},
    {"path", PATH(struct config_directory, path), .required = true, .example = "src",
     .beside = AT(struct config_directory, fd, int), .help = "The directory."},
    DIRECTORY_ROWS(struct config_directory, , "As the share's `mode`, for this directory.",
                   "As the share's `changes`.", "As the share's `ids`.", "As the share's `shown_uid`.",
                   "As the share's `uids`.", "shares[].uids"),
    {0},
};

static const struct config_share blank_share = {.only = {.fd = -1}, .queues = 1};
static const struct schema_row share_rows[] = {
    {"tag", TEXT(struct config_share, tag), .required = true, .unique = true,
     .max = CONFIG_MAX_SHARE_TAG, .example = "src",
     .help = "What the guest calls it: `mount -t virtiofs TAG /somewhere`."},
    {"path", PATH(struct config_share, only.path), .beside = AT(struct config_share, only.fd, int),
     .example = "src", .fallback = "none; then `directories` has several",
     .help = "The directory that the guest sees. Nothing outside of it can be reached through it, "
             "whatever its links say."},
    DIRECTORY_ROWS(
        struct config_share, only.,
        "What the guest may do with it: `rw` read and write; `ro` read, which holds on the host's "
        "side whatever the guest does; `cow` also write, with the host's directory staying as it is.",
        "With `mode: cow`, an empty directory (made if it is missing) that keeps the difference, or "
        "one "
        "that has kept it before; `dayfly changes` lists, promotes and drops it. Otherwise the "
        "difference is gone with the machine.",
        "Whose files the guest's users make on the host. `squash`: all of them act as one user of the "
        "host, who is the directory's owner when Dayfly runs as root, and otherwise the user who runs "
        "it; files of others are shown as nobody's (65534). `identity`: the guest's ids are the "
        "host's, and root there is root on these files. `map`: as `uids` and `gids` say. The latter "
        "two need root.",
        "With `ids: squash`, whose the files of that one user are in the guest.",
        "With `ids: map`, which ids of the guest are which of the host. An id without an extent is "
        "nobody, and can own nothing.",
        NULL),
    {"directories",
     LIST(struct config_share, directories, directory_count, directory_rows, blank_directory),
     .max = CONFIG_MAX_DIRECTORIES, .fallback = "none",
     .help = "Several directories under one tag, each below its name, instead of `path` and what goes "
             "with it."},
    {"cache", CHOICE(struct config_share, cache, config_cache_words), .example = "always",
     .fallback = "auto",
     .help = "When the guest sees what the host changed. `auto`: names and attributes after a second "
             "at most, the content of a file when it is opened the next time. `none`: at once; "
             "nothing is kept in the guest. `always`: perhaps never; for what nobody else changes."},
    {"writeback", BOOL(struct config_share, writeback), .example = "true", .fallback = "false",
     .help = "Whether the guest gathers what is written in its page cache, and writes it later. Not "
             "with `cache: none`."},
    {"xattr", BOOL(struct config_share, xattr), .example = "true", .fallback = "false",
     .help = "Whether files have extended attributes, among them file capabilities and access control "
             "lists. Each file that is written to then costs the guest a request more."},
    {"dax", SIZE(struct config_share, window_bytes), .example = "1GiB", .fallback = "none",
     .help =
         "A window of this size, a power of two from 2MiB to 16GiB, through which the guest maps "
         "files of 64KiB and more straight from the host's page cache, with no copy of its own. It "
         "costs the guest a sixty-fourth of the size in memory. For directories on ext4, xfs, "
         "btrfs, f2fs, erofs and tmpfs; not with `mode: cow` or `cache: none`; with engine tcg there "
         "is none. If the host makes a file shorter while it is mapped, the guest reads zeroes where "
         "it was."},
    {"queues", NUMBER(struct config_share, queues), .min = 1, .max = CONFIG_MAX_SHARE_QUEUES,
     .example = "2", .fallback = "1", .help = "How many queues carry requests."},
    {0},
};

const char *const config_net_words[] = {
    [DAYFLY_NET_NAT] = "nat", [DAYFLY_NET_TAP] = "tap", [DAYFLY_NET_SOCKET] = "socket", NULL};
static const struct config_network blank_network = {.fd = -1};
static const struct config_text blank_text = {0};
static const struct schema_row rule_rows[] = {
    {"", TEXT(struct config_text, text), .max = CONFIG_MAX_RULE_BYTES, .unique = true,
     .example = "example.org"},
    {0},
};
static const struct schema_row publish_rows[] = {
    {"", TEXT(struct config_text, text), .max = CONFIG_MAX_RULE_BYTES, .unique = true,
     .example = "8080:80"},
    {0},
};
static const struct schema_row network_rows[] = {
    {"mode", CHOICE(struct config_network, mode, config_net_words), .example = "tap", .fallback = "nat",
     .help =
         "Where the device's cable goes. `nat`: to a network of the machine's own, from which the "
         "host's sockets lead out, without privileges; DHCP tells the guest its addresses. `tap`: to a "
         "tap interface of the host's, which connects it "
         "with whatever that is a part of. `socket`: to a program that speaks frames, each a message "
         "of a Unix socket; two machines can be joined so."},
    {"allow", LIST(struct config_network, allow, allow_count, rule_rows, blank_text),
     .max = CONFIG_MAX_RULES, .example = "[example.org, \"198.51.100.0/24:443\"]",
     .fallback = "everything but the host and link-local addresses",
     .help =
         "With `mode: nat`, all that the guest may reach: names, which are looked up for it and open "
         "the addresses that they have; `*.` and a name for all below it; addresses and networks; "
         "`host:PORT` for a port of the host's loopback; `*` for what holds without the key. "
         "Each but `host` may have a port behind it."},
    {"publish", LIST(struct config_network, publish, publish_count, publish_rows, blank_text),
     .max = CONFIG_MAX_PUBLISHED, .example = "[\"8080:80\", \"0.0.0.0:5353:53/udp\"]",
     .fallback = "none",
     .help =
         "With `mode: nat`, ports of the host that lead to the guest, as [ADDRESS:]HOST:GUEST[/udp]. "
         "The address is 127.0.0.1 unless one is given. In quotes: YAML has numbers with colons."},
    {"interface", NAME(struct config_network, interface), .max = CONFIG_MAX_INTERFACE, .unique = true,
     .example = "tap0", .fallback = "none",
     .help =
         "With `mode: tap`, the interface. It has to be there: `ip tuntap add dev tap0 mode tap user "
         "USER multi_queue`. With multi_queue each processor of the guest has queues of its own."},
    {"socket", PATH(struct config_network, socket), .beside = AT(struct config_network, fd, int),
     .max = CONFIG_MAX_SOCKET_PATH, .example = "switch.sock", .fallback = "none",
     .help = "With `mode: socket`, a Unix socket of type SOCK_SEQPACKET on which somebody listens. A "
             "frame is a message of at most 65550 bytes, without its check sequence."},
    {"mac", TEXT(struct config_network, mac), .max = 17, .unique = true,
     .example = "\"02:00:00:00:00:01\"", .fallback = "a random one, another each time",
     .help = "The device's address. In quotes: YAML has numbers with colons."},
    {"mtu", NUMBER(struct config_network, mtu), .max = CONFIG_MAX_MTU, .example = "9000",
     .fallback = "the interface's; with `nat` 65520, with `socket` 1500",
     .help = "The largest packet in bytes, at least 68, and 1280 for IPv6. The guest is told."},
    {0},
};

static const struct config_console blank_console = {.stream = {.output_fd = -1, .input_fd = -1}};
static const struct schema_row console_rows[] = {
    {"name", NAME(struct config_console, name), .required = true, .unique = true,
     .max = CONFIG_MAX_CONSOLE_NAME, .example = "log",
     .help = "The guest finds the port as /dev/virtio-ports/NAME."},
    {"output", STREAM(struct config_console, stream), .example = "log.txt", .fallback = "none",
     .help = "Where the output goes."},
    {"primary", BOOL(struct config_console, primary), .example = "true", .fallback = "false",
     .help = "Whether it is the kernel's console, hvc0. At most one console is."},
    {0},
};

static const struct schema_row vsock_rows[] = {
    {"cid", NUMBER(struct config_vsock, cid), .min = CONFIG_MIN_CID, .max = CONFIG_MAX_CID,
     .example = "3", .fallback = "3",
     .help = "The guest's address. It is private to the machine: two machines may have the same."},
    {"socket", PATH(struct config_vsock, socket), .max = CONFIG_MAX_SOCKET_PATH, .example = "vm.sock",
     .fallback = "none",
     .help =
         "A Unix socket that the machine makes on the host. Connect to it, write `CONNECT PORT`, and "
         "the "
         "stream is the guest's. A guest's connection to the host's port P goes to the socket of this "
         "name with `_P` behind it. At most 96 bytes, folder included."},
    {0},
};

const char *const config_jail_words[] = {
    [DAYFLY_JAIL_AUTO] = "auto", [DAYFLY_JAIL_REQUIRED] = "required", [DAYFLY_JAIL_OFF] = "off", NULL};
static const struct schema_row serial_rows[] = {
    {"output", STREAM(struct config_serial, stream), .example = "early.log", .fallback = "none",
     .help = "Where the kernel's first words go."},
    {0},
};

const struct schema_row config_schema[] = {
    {"cpus", NUMBER(struct dayfly_config, cpus), .min = 1, .max = CONFIG_MAX_CPUS, .example = "2",
     .fallback = "1", .help = "How many processors. At most as many as KVM allows on the host."},
    {"memory", SIZE(struct dayfly_config, memory_bytes), .min = CONFIG_MIN_MEMORY, .max = UINT64_MAX,
     .example = "512MiB", .fallback = "512MiB",
     .help =
         "The guest's memory: a multiple of 4 KiB, at least 16 MiB, and no more than the host has."},
    {"linux", MAP(struct dayfly_config, boot, boot_rows), .required = true, .help = "What to boot."},
    {"disks", LIST(struct dayfly_config, disks, disk_count, disk_rows, blank_disk),
     .max = CONFIG_MAX_DISKS, .fallback = "none",
     .help = "Virtio block devices; the guest sees them in this order."},
    {"shares", LIST(struct dayfly_config, shares, share_count, share_rows, blank_share),
     .max = CONFIG_MAX_SHARES, .fallback = "none",
     .help = "Directories of the host as virtio file systems; the guest mounts them by their tags. "
             "Disks, shares and networks are 27 together at most."},
    {"networks", LIST(struct dayfly_config, networks, network_count, network_rows, blank_network),
     .max = CONFIG_MAX_NETWORKS, .fallback = "none",
     .help = "Virtio network devices; the guest sees them in this order."},
    {"consoles", LIST(struct dayfly_config, consoles, console_count, console_rows, blank_console),
     .max = CONFIG_MAX_CONSOLES, .fallback = "none", .help = "Ports of the virtio console."},
    {"vsock", MAP(struct dayfly_config, vsock, vsock_rows),
     .beside = AT(struct dayfly_config, vsock.present, bool), .fallback = "none",
     .help = "A virtio socket device. `vsock: {}` is one with every default."},
    {"entropy", BOOL(struct dayfly_config, entropy), .example = "false", .fallback = "true",
     .help = "Whether there is a virtio entropy device, fed by the host's random numbers."},
    {"serial", MAP(struct dayfly_config, serial, serial_rows), .fallback = "none",
     .help = "The 16550 serial port, which works before any driver does."},
    {"jail", CHOICE(struct dayfly_config, jail, config_jail_words), .example = "required",
     .fallback = "auto",
     .help =
         "How what serves the guest is locked up. `auto`: as far as this host and user can, which "
         "`dayfly doctor jail` tells. `required`: wholly, or the machine does not start. `off`: not "
         "at all; for debugging."},
    {0},
};

const struct schema_file config_schema_file = {
    .rows = config_schema,
    .what = "machine",
    .example = "`cpus: 2`, `memory: 512MiB`",
};

unsigned schema_word_count(const struct schema_row *row)
{
    unsigned count = 0;
    while (row->words[count])
        count++;
    return count;
}

char *schema_kind_text(const struct schema_row *row, char text[SCHEMA_KIND_TEXT_BYTES])
{
    static const char *const names[] = {
        [SCHEMA_NUMBER] = "a whole number",
        [SCHEMA_SIZE] = "a size",
        [SCHEMA_DURATION] = "a duration",
        [SCHEMA_BOOL] = "true or false",
        [SCHEMA_TEXT] = "text",
        [SCHEMA_NAME] = "a name",
        [SCHEMA_PATH] = "a path",
        [SCHEMA_STREAM] = "a path, stdio or none",
        [SCHEMA_CHOICE] = "one of",
        [SCHEMA_WORDS] = "a list of texts",
        [SCHEMA_PAIRS] = "a mapping of names to texts",
        [SCHEMA_MAP] = "a mapping",
        [SCHEMA_LIST] = "a list",
    };
    int len = snprintf(text, SCHEMA_KIND_TEXT_BYTES, "%s",
                       schema_is_plain(row) ? "a list of texts" : names[row->kind]);
    for (unsigned i = 0; row->kind == SCHEMA_CHOICE && row->words[i]; i++)
        len += snprintf(text + len, (size_t)(SCHEMA_KIND_TEXT_BYTES - len), "%s %s", i ? "," : "",
                        row->words[i]);
    return text;
}

void *schema_append(void *base, const struct schema_row *row)
{
    void **items = schema_field(base, row);
    size_t *count = schema_beside(base, row);
    void *bigger = reallocarray(*items, *count + 1, row->item_bytes);
    if (!bigger)
        return NULL;
    *items = bigger;
    void *item = schema_item(base, row, *count);
    memcpy(item, row->blank_item, row->item_bytes);
    ++*count;
    return item;
}

int schema_append_word(struct schema_words *words, const char *word)
{
    char **bigger = reallocarray(words->words, words->count + 2, sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    words->words = bigger;
    char *copy = strdup(word);
    if (!copy)
        return -ENOMEM;
    bigger[words->count++] = copy;
    bigger[words->count] = NULL;
    return 0;
}

void schema_free(void *base, const struct schema_row *rows)
{
    for (const struct schema_row *row = rows; row->key; row++) {
        void *field = schema_field(base, row);
        switch (row->kind) {
        case SCHEMA_TEXT:
        case SCHEMA_NAME:
        case SCHEMA_PATH:
            free(*(char **)field);
            break;
        case SCHEMA_STREAM:
            free(((struct config_stream *)field)->path);
            break;
        case SCHEMA_WORDS:
        case SCHEMA_PAIRS: {
            struct schema_words *words = field;
            for (size_t i = 0; i < words->count; i++)
                free(words->words[i]);
            free(words->words);
            break;
        }
        case SCHEMA_MAP:
            schema_free(field, row->children);
            break;
        case SCHEMA_LIST:
            for (size_t i = 0; i < *(size_t *)schema_beside(base, row); i++)
                schema_free(schema_item(base, row, i), row->children);
            free(*(void **)field);
            break;
        case SCHEMA_NUMBER:
        case SCHEMA_SIZE:
        case SCHEMA_DURATION:
        case SCHEMA_BOOL:
        case SCHEMA_CHOICE:
            break;
        }
    }
}
