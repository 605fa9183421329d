/* SPDX-License-Identifier: Apache-2.0 */
/* Making a description by calls, and the marks that tell where its values stood in YAML. */
#include "config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/schema.h"
#include "config/secrets.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/options.h"

int dayfly_config_new(struct dayfly_config **out)
{
    struct dayfly_config *config = malloc(sizeof(*config));
    if (!config)
        return -ENOMEM;
    *config = (struct dayfly_config){
        .cpus = 1,
        .memory_bytes = UINT64_C(512) << 20,
        .boot = {.kernel_fd = -1, .initrd_fd = -1},
        .vsock = {.cid = CONFIG_MIN_CID},
        .entropy = true,
        .serial = {.stream = {.output_fd = -1, .input_fd = -1}},
    };
    *out = config;
    return 0;
}

void dayfly_config_free(struct dayfly_config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->network_count; i++)
        config_secrets_free(config->networks[i].secrets);
    schema_free(config, config_schema);
    for (size_t i = 0; i < config->mark_count; i++)
        free(config->marks[i].where);
    free(config->marks);
    free(config->source);
    free(config);
}

/* A copy of `text`, or NULL for NULL. Returns 0 or -ENOMEM. */
static int copy_text(char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return text && !*out ? -ENOMEM : 0;
}

static void swap_text(char **a, char **b)
{
    char *was = *a;
    *a = *b;
    *b = was;
}

int dayfly_config_set_cpus(struct dayfly_config *config, unsigned count)
{
    config->cpus = count;
    return 0;
}

int dayfly_config_set_memory(struct dayfly_config *config, uint64_t bytes)
{
    config->memory_bytes = bytes;
    return 0;
}

int dayfly_config_set_linux(struct dayfly_config *config, const struct dayfly_linux *options)
{
    struct dayfly_linux given = DAYFLY_LINUX_INIT;
    _cleanup_free_ char *kernel = NULL;
    _cleanup_free_ char *initrd = NULL;
    _cleanup_free_ char *command_line = NULL;
    int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_linux, initrd_fd), options);
    if (rc)
        return rc;
    if (copy_text(&kernel, given.kernel) || copy_text(&initrd, given.initrd) ||
        copy_text(&command_line, given.command_line))
        return -ENOMEM;
    swap_text(&config->boot.kernel, &kernel);
    swap_text(&config->boot.initrd, &initrd);
    swap_text(&config->boot.command_line, &command_line);
    config->boot.kernel_fd = given.kernel_fd;
    config->boot.initrd_fd = given.initrd_fd;
    return 0;
}

/* Too many are kept, for validate to say so; but not more than it takes to be too many. */
static int copy_texts(struct config_text **out, size_t *out_count, const char *const *texts, size_t max)
{
    size_t count = 0;
    while (texts && texts[count] && count <= max)
        count++;
    *out = count ? calloc(count, sizeof(**out)) : NULL;
    if (count && !*out)
        return -ENOMEM;
    for (*out_count = 0; *out_count < count; ++*out_count)
        if (copy_text(&(*out)[*out_count].text, texts[*out_count]))
            return -ENOMEM;
    return 0;
}

/* The row of a top-level list, to append to. */
static const struct schema_row *list_row(size_t offset)
{
    const struct schema_row *row = config_schema;
    while (row->kind != SCHEMA_LIST || row->offset != offset)
        row++;
    return row;
}

int dayfly_config_add_disk(struct dayfly_config *config, const struct dayfly_disk *options)
{
    struct dayfly_disk given = DAYFLY_DISK_INIT;
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *id = NULL;
    _cleanup_free_ char *scratch = NULL;
    int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_disk, read_only), options);
    if (rc)
        return rc;
    if (copy_text(&path, given.path) || copy_text(&id, given.id) || copy_text(&scratch, given.scratch))
        return -ENOMEM;
    struct config_disk *disk = schema_append(config, list_row(offsetof(struct dayfly_config, disks)));
    if (!disk)
        return -ENOMEM;
    *disk = (struct config_disk){
        .path = steal_ptr(&path),
        .fd = given.fd,
        .id = steal_ptr(&id),
        .read_only = given.read_only,
        .ephemeral = given.ephemeral,
        .scratch = steal_ptr(&scratch),
        .cache = given.cache,
        .sync = given.sync,
        .on_full = given.on_full,
    };
    return 0;
}

static void share_finish(struct config_share *share)
{
    schema_free(share, list_row(offsetof(struct dayfly_config, shares))->children);
}

/* Too many are kept as well. */
static int copy_extents(struct dayfly_id_extent **out, size_t *out_count,
                        const struct dayfly_id_extent *extents, size_t count)
{
    count = extents ? MIN(count, (size_t)CONFIG_MAX_ID_EXTENTS + 1) : 0;
    *out = count ? calloc(count, sizeof(**out)) : NULL;
    if (count && !*out)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        (*out)[i] = extents[i];
    *out_count = count;
    return 0;
}

/* *out is zeroed; on failure it holds what there is so far. */
static int copy_directory(struct config_directory *out, const struct dayfly_share_directory *options)
{
    struct dayfly_share_directory given = DAYFLY_SHARE_DIRECTORY_INIT;
    int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_share_directory, gid_count),
                          options);
    if (rc)
        return rc;
    out->fd = given.fd;
    out->mode = given.mode;
    out->ids = given.ids;
    out->shown_uid = given.shown_uid;
    out->shown_gid = given.shown_gid;
    if (copy_text(&out->path, given.path) || copy_text(&out->name, given.name) ||
        copy_text(&out->changes, given.changes) ||
        copy_extents(&out->uids, &out->uid_count, given.uids, given.uid_count) ||
        copy_extents(&out->gids, &out->gid_count, given.gids, given.gid_count))
        return -ENOMEM;
    return 0;
}

int dayfly_config_add_share(struct dayfly_config *config, const struct dayfly_share *options)
{
    struct dayfly_share given = DAYFLY_SHARE_INIT;
    _cleanup_(share_finish) struct config_share made = {.only = {.fd = -1}};
    int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_share, writeback), options);
    if (rc)
        return rc;
    made.cache = given.cache;
    made.queues = given.queues;
    made.writeback = given.writeback;
    made.window_bytes = given.window_bytes;
    made.xattr = given.xattr;
    if (copy_text(&made.tag, given.tag))
        return -ENOMEM;
    size_t count =
        given.directories ? MIN(given.directory_count, (size_t)CONFIG_MAX_DIRECTORIES + 1) : 0;
    const char *at = (const char *)given.directories;
    if (count == 1 && !given.directories->name) {
        rc = copy_directory(&made.only, given.directories);
    } else if (count) {
        made.directories = calloc(count, sizeof(*made.directories));
        if (!made.directories)
            return -ENOMEM;
        for (; made.directory_count < count && !rc; at += given.directories->size)
            rc = copy_directory(&made.directories[made.directory_count++],
                                (const struct dayfly_share_directory *)(const void *)at);
    }
    if (rc)
        return rc;
    struct config_share *share =
        schema_append(config, list_row(offsetof(struct dayfly_config, shares)));
    if (!share)
        return -ENOMEM;
    *share = made;
    made = (struct config_share){0};
    return 0;
}

static void network_finish(struct config_network *network)
{
    config_secrets_free(network->secrets);
    schema_free(network, list_row(offsetof(struct dayfly_config, networks))->children);
}

int dayfly_config_add_net(struct dayfly_config *config, const struct dayfly_net *options)
{
    struct dayfly_net given = DAYFLY_NET_INIT;
    _cleanup_(network_finish) struct config_network made = {0};
    int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_net, mtu), options);
    if (rc)
        return rc;
    rc = config_secrets_copy(&made.secrets, given.secrets, given.secret_count);
    if (rc)
        return rc;
    made.mode = given.mode;
    made.fd = given.fd;
    made.mtu = given.mtu;
    if (copy_text(&made.interface, given.interface) || copy_text(&made.socket, given.socket) ||
        copy_text(&made.mac, given.mac) ||
        copy_texts(&made.allow, &made.allow_count, given.allow, CONFIG_MAX_RULES) ||
        copy_texts(&made.publish, &made.publish_count, given.publish, CONFIG_MAX_PUBLISHED))
        return -ENOMEM;
    struct config_network *network =
        schema_append(config, list_row(offsetof(struct dayfly_config, networks)));
    if (!network)
        return -ENOMEM;
    *network = made;
    made = (struct config_network){0};
    return 0;
}

int dayfly_config_add_console(struct dayfly_config *config, const struct dayfly_console *options)
{
    struct dayfly_console given = DAYFLY_CONSOLE_INIT;
    _cleanup_free_ char *name = NULL;
    _cleanup_free_ char *path = NULL;
    int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_console, primary), options);
    if (rc)
        return rc;
    if (copy_text(&name, given.name) || copy_text(&path, given.output_path))
        return -ENOMEM;
    struct config_console *console =
        schema_append(config, list_row(offsetof(struct dayfly_config, consoles)));
    if (!console)
        return -ENOMEM;
    *console = (struct config_console){
        .name = steal_ptr(&name),
        .primary = given.primary,
        .stream = {.path = steal_ptr(&path), .output_fd = given.output_fd, .input_fd = given.input_fd},
    };
    return 0;
}

int dayfly_config_set_vsock(struct dayfly_config *config, const struct dayfly_vsock *options)
{
    struct dayfly_vsock given = DAYFLY_VSOCK_INIT;
    _cleanup_free_ char *path = NULL;
    if (options) {
        int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_vsock, cid), options);
        if (rc)
            return rc;
        if (copy_text(&path, given.socket))
            return -ENOMEM;
    }
    config->vsock.present = options != NULL;
    config->vsock.cid = given.cid;
    swap_text(&config->vsock.socket, &path);
    return 0;
}

int dayfly_config_set_entropy(struct dayfly_config *config, bool present)
{
    config->entropy = present;
    return 0;
}

int dayfly_config_set_jail(struct dayfly_config *config, enum dayfly_jail jail)
{
    if ((unsigned)jail > DAYFLY_JAIL_OFF)
        return -EINVAL;
    config->jail = jail;
    return 0;
}

int dayfly_config_set_serial(struct dayfly_config *config, const struct dayfly_serial *options)
{
    struct dayfly_serial given = DAYFLY_SERIAL_INIT;
    _cleanup_free_ char *path = NULL;
    int rc = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_serial, input_fd), options);
    if (rc)
        return rc;
    if (copy_text(&path, given.output_path))
        return -ENOMEM;
    swap_text(&config->serial.stream.path, &path);
    config->serial.stream.output_fd = given.output_fd;
    config->serial.stream.input_fd = given.input_fd;
    return 0;
}

struct config_mark *config_mark_at(const struct dayfly_config *config, const char *where)
{
    for (size_t i = 0; i < config->mark_count; i++) {
        if (!strcmp(config->marks[i].where, where))
            return &config->marks[i];
    }
    return NULL;
}

/* The length of what is around the first `len` bytes of a place: "disks[1].path", "disks[1]", "disks",
 * "". */
static size_t enclosing(const char *where, size_t len)
{
    while (len > 0 && where[len - 1] != '.' && where[len - 1] != '[')
        len--;
    return len > 0 ? len - 1 : 0;
}

const struct config_mark *config_mark_of(const struct dayfly_config *config, const char *where)
{
    char around[SCHEMA_MAX_PATH];
    size_t len = strnlen(where, sizeof(around) - 1);
    memcpy(around, where, len);
    for (;;) {
        around[len] = '\0';
        const struct config_mark *mark = config_mark_at(config, around);
        if (mark || len == 0)
            return mark;
        len = enclosing(around, len);
    }
}

int config_mark(struct dayfly_config *config, const char *where, unsigned line, unsigned column)
{
    if (config_mark_at(config, where))
        return 0;
    struct config_mark *bigger = reallocarray(config->marks, config->mark_count + 1, sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    config->marks = bigger;
    char *copy = strdup(where);
    if (!copy)
        return -ENOMEM;
    config->marks[config->mark_count++] =
        (struct config_mark){.where = copy, .line = line, .column = column};
    return 0;
}
