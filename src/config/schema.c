/* SPDX-License-Identifier: Apache-2.0 */
#include "config/schema.h"

#include <stdlib.h>
#include <string.h>

#include "config/config.h"

/* offsetof, and a compile error unless the member has the type that the row's kind reads and writes. */
#define AT(type, member, want)                                                                         \
    (offsetof(type, member) +                                                                          \
     0 * sizeof(char[__builtin_types_compatible_p(__typeof__(((type *)0)->member), want) ? 1 : -1]))

#define NUMBER(type, member)    .kind = SCHEMA_NUMBER, .offset = AT(type, member, uint32_t)
#define SIZE(type, member)      .kind = SCHEMA_SIZE, .offset = AT(type, member, uint64_t)
#define BOOL(type, member)      .kind = SCHEMA_BOOL, .offset = AT(type, member, bool)
#define TEXT(type, member)      .kind = SCHEMA_TEXT, .offset = AT(type, member, char *)
#define NAME(type, member)      .kind = SCHEMA_NAME, .offset = AT(type, member, char *)
#define PATH(type, member)      .kind = SCHEMA_PATH, .offset = AT(type, member, char *)
#define STREAM(type, member)    .kind = SCHEMA_STREAM, .offset = AT(type, member, struct config_stream)
#define MAP(type, member, rows) .kind = SCHEMA_MAP, .offset = offsetof(type, member), .children = rows
#define LIST(type, member, n, rows, blank)                                                             \
    .kind = SCHEMA_LIST, .offset = offsetof(type, member), .beside = AT(type, n, size_t),              \
    .children = rows, .item_bytes = sizeof(blank), .blank_item = &blank

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

static const struct config_disk blank_disk = {.fd = -1};
static const struct schema_row disk_rows[] = {
    {"path", PATH(struct config_disk, path), .required = true, .example = "root.img",
     .beside = AT(struct config_disk, fd, int),
     .help = "A regular file or a block device; byte N of it is byte N of the disk. Formats are never "
             "guessed. Its size is a multiple of 512 bytes."},
    {"id", NAME(struct config_disk, id), .unique = true, .max = CONFIG_MAX_DISK_ID, .example = "root",
     .fallback = "none",
     .help = "The serial number that the guest reads; udev there calls the disk "
             "/dev/disk/by-id/virtio-ID."},
    {"read_only", BOOL(struct config_disk, read_only), .example = "true", .fallback = "false",
     .help =
         "Whether the guest may only read it. A disk that is written belongs to one machine at a time; "
         "one that is only read can be shared."},
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
    {"consoles", LIST(struct dayfly_config, consoles, console_count, console_rows, blank_console),
     .max = CONFIG_MAX_CONSOLES, .fallback = "none", .help = "Ports of the virtio console."},
    {"vsock", MAP(struct dayfly_config, vsock, vsock_rows),
     .beside = AT(struct dayfly_config, vsock.present, bool), .fallback = "none",
     .help = "A virtio socket device. `vsock: {}` is one with every default."},
    {"entropy", BOOL(struct dayfly_config, entropy), .example = "false", .fallback = "true",
     .help = "Whether there is a virtio entropy device, fed by the host's random numbers."},
    {"serial", MAP(struct dayfly_config, serial, serial_rows), .fallback = "none",
     .help = "The 16550 serial port, which works before any driver does."},
    {0},
};

const char *schema_kind_name(enum schema_kind kind)
{
    static const char *const names[] = {
        [SCHEMA_NUMBER] = "a whole number",
        [SCHEMA_SIZE] = "a size",
        [SCHEMA_BOOL] = "true or false",
        [SCHEMA_TEXT] = "text",
        [SCHEMA_NAME] = "a name",
        [SCHEMA_PATH] = "a path",
        [SCHEMA_STREAM] = "a path, stdio or none",
        [SCHEMA_MAP] = "a mapping",
        [SCHEMA_LIST] = "a list",
    };
    return names[kind];
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
        case SCHEMA_BOOL:
            break;
        }
    }
}
