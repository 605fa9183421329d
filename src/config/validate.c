/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a description makes sense, and whether this host can start it.
 *
 * First what the schema knows (ranges, lengths, what is required, what must be unique), then what only
 * the host can tell (files, locks, memory). Nothing is created, locked or left open: a file is looked
 * at with stat, then opened for a moment with O_NONBLOCK, so that not even a FIFO or a tape stirs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/config.h"
#include "config/fault.h"
#include "config/schema.h"
#include "config/validate.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/nearest.h"
#include "util/units.h"

enum {
    MEMORY_ALIGN_BYTES = 4096,
    MAX_NAMES_LOOKED_AT = 1000, /* of a folder, for "did you mean" */
    /* Every file that a machine may name. */
    MAX_USED = CONFIG_MAX_DISKS + CONFIG_MAX_CONSOLES + 3,
};

/* A file that the machine reads or writes, so that two uses of it are seen. */
struct used {
    bool is_block;
    dev_t dev; /* of the file system; of the device itself for a block device */
    ino_t ino;
    bool writes;
    place where;
};

struct validator {
    const struct dayfly_config *config;
    const struct dayfly_limits *limits;
    struct reporter reporter;
    struct used used[MAX_USED];
    size_t used_count;
};

/* Whether the reading of YAML refused the value here, or what is around it. */
static bool reported_before(const struct dayfly_config *config, const char *where)
{
    place around;
    snprintf(around, sizeof(around), "%s", where);
    for (size_t len = strlen(around);;) {
        around[len] = '\0';
        const struct config_mark *mark = config_mark_at(config, around);
        if (mark && mark->faulty)
            return true;
        if (len == 0)
            return false;
        do
            len--;
        while (len > 0 && around[len] != '.' && around[len] != '[');
    }
}

static void tell(struct validator *v, enum dayfly_severity severity, const char *where,
                 const char *hint, const char *fmt, va_list args)
{
    const struct config_mark *mark = config_mark_of(v->config, where);
    if (!reported_before(v->config, where))
        fault_at(&v->reporter, severity, mark ? mark->line : 0, mark ? mark->column : 0, where, hint,
                 fmt, args);
}

void validate_fault(struct validator *v, const char *where, const char *hint, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(v, DAYFLY_FAULT_ERROR, where, hint, fmt, args);
    va_end(args);
}

static __attribute__((format(printf, 4, 5))) void warn(struct validator *v, const char *where,
                                                       const char *hint, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    tell(v, DAYFLY_FAULT_WARNING, where, hint, fmt, args);
    va_end(args);
}

/* ---- what the schema knows ---- */

static void check_number(struct validator *v, const struct schema_row *row, const char *where,
                         uint64_t value)
{
    char hint[96];
    if (value >= row->min && value <= row->max)
        return;
    snprintf(hint, sizeof(hint), "from %" PRIu64 " to %" PRIu64 " is possible", row->min, row->max);
    validate_fault(v, where, hint, "%" PRIu64 " is out of range", value);
}

static void check_size(struct validator *v, const struct schema_row *row, const char *where,
                       uint64_t bytes)
{
    char hint[96], have[UNITS_FORMAT_BYTES], min[UNITS_FORMAT_BYTES];
    if (bytes >= row->min)
        return;
    snprintf(hint, sizeof(hint), "at least %s; a number without a unit is bytes, so write %s",
             units_format_size(row->min, min), row->example);
    validate_fault(v, where, hint, "%s%s is too little", units_format_size(bytes, have),
                   bytes % 1024 ? " bytes" : "");
}

/* YAML can only say a word of the list; a call can say anything. */
static void check_choice(struct validator *v, const struct schema_row *row, const char *where,
                         unsigned value)
{
    char kind[SCHEMA_KIND_TEXT_BYTES];
    if (value >= schema_word_count(row))
        validate_fault(v, where, NULL, "%u is not %s", value, schema_kind_text(row, kind));
}

static bool is_name(const char *text)
{
    return *text &&
           text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] ==
               '\0';
}

static void check_text(struct validator *v, const struct schema_row *row, const char *where,
                       const char *text)
{
    size_t max = row->max ? row->max : CONFIG_MAX_PATH;
    size_t len = strlen(text);
    if (row->kind != SCHEMA_TEXT && !len)
        validate_fault(v, where, NULL, "the text is empty");
    else if (len > max)
        validate_fault(v, where, row->kind == SCHEMA_PATH ? "take a shorter path" : NULL,
                       "%zu bytes are too long: at most %zu fit", len, max);
    else if (row->kind == SCHEMA_NAME && !is_name(text))
        validate_fault(v, where, "letters, digits, dots, underscores and hyphens make a name",
                       "\"%.40s\" is not a name", text);
    else if (row->kind == SCHEMA_TEXT && !row->lines && strpbrk(text, "\n\r"))
        validate_fault(v, where, "write it as one line", "the text has a line break in it");
}

static void check_required(struct validator *v, const struct schema_row *row, const void *base,
                           const char *where)
{
    char hint[96];
    const int *fd = schema_beside(base, row);
    if (!row->required || (fd && *fd >= 0) || v->config->incomplete)
        return;
    snprintf(hint, sizeof(hint), "write `%s: %s`", row->key, row->example);
    validate_fault(v, where, hint, "missing");
}

/* No two items of `list` have the same text in `row`. */
static void check_unique(struct validator *v, const struct schema_row *list, const void *base,
                         const char *where, const struct schema_row *row, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const char *mine = *(char **)schema_field(schema_item(base, list, i), row);
        for (size_t j = 0; mine && j < i; j++) {
            const char *other = *(char **)schema_field(schema_item(base, list, j), row);
            if (!other || strcmp(mine, other) != 0)
                continue;
            place here;
            char hint[SCHEMA_MAX_PATH + 48];
            snprintf(here, sizeof(here), "%.80s[%zu]%s%s", where, i, *row->key ? "." : "", row->key);
            snprintf(hint, sizeof(hint), "%.80s[%zu] has it; give each its own", where, j);
            validate_fault(v, here, hint, "\"%.40s\" is taken", mine);
            break;
        }
    }
}

static void check_rows(struct validator *v, const struct schema_row *rows, const void *base,
                       const char *around);

static void check_list(struct validator *v, const struct schema_row *row, const void *base,
                       const char *where)
{
    size_t count = *(size_t *)schema_beside(base, row);
    if (count > row->max) {
        validate_fault(v, where, NULL, "%zu are too many: at most %" PRIu64, count, row->max);
        count = row->max;
    }
    for (size_t i = 0; i < count; i++) {
        place item;
        snprintf(item, sizeof(item), "%.80s[%zu]", where, i);
        check_rows(v, row->children, schema_item(base, row, i), item);
    }
    for (const struct schema_row *column = row->children; column->key; column++) {
        if (column->unique)
            check_unique(v, row, base, where, column, count);
    }
}

static void check_rows(struct validator *v, const struct schema_row *rows, const void *base,
                       const char *around)
{
    for (const struct schema_row *row = rows; row->key; row++) {
        const void *field = schema_field(base, row);
        place where;
        snprintf(where, sizeof(where), "%.80s%s%s", around, *around && *row->key ? "." : "", row->key);
        switch (row->kind) {
        case SCHEMA_NUMBER:
            if (*(const uint32_t *)field || !row->zero_is_none)
                check_number(v, row, where, *(const uint32_t *)field);
            break;
        case SCHEMA_SIZE:
            check_size(v, row, where, *(const uint64_t *)field);
            break;
        case SCHEMA_TEXT:
        case SCHEMA_NAME:
        case SCHEMA_PATH:
            if (*(char *const *)field)
                check_text(v, row, where, *(char *const *)field);
            else
                check_required(v, row, base, where);
            break;
        case SCHEMA_STREAM:
            if (((const struct config_stream *)field)->path)
                check_text(v, row, where, ((const struct config_stream *)field)->path);
            break;
        case SCHEMA_MAP: {
            const bool *present = schema_beside(base, row);
            if (!present || *present)
                check_rows(v, row->children, field, where);
            break;
        }
        case SCHEMA_LIST:
            check_list(v, row, base, where);
            break;
        case SCHEMA_CHOICE:
            check_choice(v, row, where, *(const unsigned *)field);
            break;
        case SCHEMA_DURATION:
        case SCHEMA_WORDS:
        case SCHEMA_PAIRS:
        case SCHEMA_BOOL:
            break;
        }
    }
}

int validate_rows(const struct dayfly_config *marks, const struct schema_row *rows, const void *base,
                  validate_rest_fn *rest, void *rest_opaque, dayfly_report_fn *report, void *opaque,
                  struct dayfly_err *err)
{
    struct validator v = {
        .config = marks,
        .reporter = {.file = marks->source, .report = report, .opaque = opaque, .err = err},
    };
    check_rows(&v, rows, base, "");
    if (rest)
        rest(rest_opaque, &v);
    return v.reporter.errors ? -EINVAL : 0;
}

/* ---- what the host knows ---- */

static void check_cpus(struct validator *v)
{
    uint32_t cpus = v->config->cpus;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    char hint[64];
    if (cpus > v->limits->max_cpus && cpus <= CONFIG_MAX_CPUS) {
        snprintf(hint, sizeof(hint), "at most %u", v->limits->max_cpus);
        validate_fault(v, "cpus", hint, "%u processors are more than KVM allows on this host", cpus);
    } else if (online > 0 && cpus > (unsigned long)online && cpus <= v->limits->max_cpus) {
        warn(v, "cpus", "more than the host has makes a machine slower, not faster",
             "%u processors share the host's %ld", cpus, online);
    }
}

static void check_memory(struct validator *v)
{
    uint64_t bytes = v->config->memory_bytes;
    char hint[64], have[UNITS_FORMAT_BYTES], host[UNITS_FORMAT_BYTES];
    if (bytes > v->limits->max_memory_bytes) {
        units_format_size(align_down(v->limits->max_memory_bytes, UINT64_C(1) << 20), host);
        snprintf(hint, sizeof(hint), "the host has %s", host);
        validate_fault(v, "memory", hint, "%s is more than this host's memory",
                       units_format_size(bytes, have));
    } else if (bytes >= CONFIG_MIN_MEMORY && !is_aligned(bytes, MEMORY_ALIGN_BYTES)) {
        validate_fault(v, "memory", "write it in MiB or GiB",
                       "%" PRIu64 " bytes are no multiple of 4KiB", bytes);
    }
}

/* Split `path` into the folder (to be freed) and the name in it. */
static char *folder_of(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/* A hint for a file that is not there: the folder is missing, or holds something of a similar name. */
static void missing_hint(const char *path, char *hint, size_t size)
{
    const char *name;
    _cleanup_free_ char *folder = folder_of(path, &name);
    snprintf(hint, size, "make it, or correct the path");
    DIR *dir = folder ? opendir(folder) : NULL;
    if (!dir) {
        if (folder && errno == ENOENT)
            snprintf(hint, size, "there is no folder %.150s", folder);
        return;
    }
    struct nearest near = nearest_to(name);
    struct dirent *entry;
    for (int i = 0; i < MAX_NAMES_LOOKED_AT && (entry = readdir(dir)); i++) {
        unsigned before = near.distance;
        nearest_offer(&near, entry->d_name);
        if (near.distance < before) /* the entry does not outlive the next readdir: use it now */
            snprintf(hint, size, "did you mean %.200s?", entry->d_name);
    }
    closedir(dir);
}

void validate_cannot_use(struct validator *v, const char *where, const char *path, const char *what,
                         int error, const char *verb)
{
    char hint[256], reason[64];
    if (error == ENOENT || error == ENOTDIR) {
        missing_hint(path, hint, sizeof(hint));
        validate_fault(v, where, hint, "there is no %s %s", what, path);
    } else if (error == EACCES || error == EPERM) {
        snprintf(hint, sizeof(hint),
                 "user %u must be allowed to %s it and to pass the folders above it",
                 (unsigned)geteuid(), verb);
        validate_fault(v, where, hint, "no permission to %s %s", verb, path);
    } else {
        validate_fault(v, where, NULL, "cannot %s %s: %s", verb, path,
                       strerror_r(error, reason, sizeof(reason)));
    }
}

void validate_use(struct validator *v, const char *where, const struct stat *st, bool writes)
{
    struct used mine = {
        .is_block = S_ISBLK(st->st_mode),
        .dev = S_ISBLK(st->st_mode) ? st->st_rdev : st->st_dev,
        .ino = S_ISBLK(st->st_mode) ? 0 : st->st_ino,
        .writes = writes,
    };
    snprintf(mine.where, sizeof(mine.where), "%s", where);
    if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return;
    for (size_t i = 0; i < v->used_count; i++) {
        const struct used *other = &v->used[i];
        if (other->is_block == mine.is_block && other->dev == mine.dev && other->ino == mine.ino &&
            (other->writes || writes)) {
            validate_fault(v, where, "give each its own file, or let both only read it",
                           "it is the same file as %s, and %s written", other->where,
                           writes && other->writes ? "both are" : "one is");
            return;
        }
    }
    if (v->used_count < ARRAY_SIZE(v->used))
        v->used[v->used_count++] = mine;
}

int validate_open(struct validator *v, const char *where, const char *path, int flags, bool block_too,
                  struct stat *st)
{
    const char *verb = flags == O_RDONLY ? "read" : "write";
    if (stat(path, st) < 0) {
        validate_cannot_use(v, where, path, "file", errno, verb);
        return -1;
    }
    int fd = -1;
    if (S_ISREG(st->st_mode) || (block_too && S_ISBLK(st->st_mode))) {
        fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0) {
            validate_cannot_use(v, where, path, "file", errno, verb);
            return -1;
        }
        /* It may have become something else in between. */
        if (fstat(fd, st) == 0 && (S_ISREG(st->st_mode) || (block_too && S_ISBLK(st->st_mode))))
            return fd;
    }
    validate_fault(v, where, block_too ? "a disk is a regular file or a block device" : NULL,
                   "%s is %s", path, S_ISDIR(st->st_mode) ? "a folder" : "not a regular file");
    close_fd(&fd);
    return -1;
}

/* The kernel or initrd. */
static void check_boot_file(struct validator *v, const char *where, const char *path, int fd)
{
    struct stat st;
    _cleanup_close_ int opened = -1;
    if (path) {
        opened = validate_open(v, where, path, O_RDONLY, false, &st);
        if (opened < 0)
            return;
    } else if (fd < 0) {
        return;
    } else if (fstat(fd, &st) < 0) {
        validate_fault(v, where, NULL, "descriptor %d is not open", fd);
        return;
    }
    if (S_ISREG(st.st_mode) && st.st_size == 0)
        validate_fault(v, where, NULL, "%s is empty", path ? path : "the file");
    validate_use(v, where, &st, false);
}

void validate_can_make(struct validator *v, const char *where, const char *path)
{
    const char *name;
    _cleanup_free_ char *folder = folder_of(path, &name);
    char hint[256];
    if (!folder || faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0)
        return;
    if (errno == ENOENT || errno == ENOTDIR) {
        snprintf(hint, sizeof(hint), "mkdir -p %.200s", folder);
        validate_fault(v, where, hint, "there is no folder %s", folder);
    } else {
        validate_cannot_use(v, where, folder, "file", errno, "write");
    }
}

static void check_output(struct validator *v, const char *where, const struct config_stream *stream)
{
    struct stat st;
    if (stream->path && !*stream->path)
        return;
    if (stream->path && stat(stream->path, &st) < 0) {
        if (errno == ENOENT)
            validate_can_make(v, where, stream->path);
        else
            validate_cannot_use(v, where, stream->path, "file", errno, "write");
    } else if (stream->path) {
        if (S_ISDIR(st.st_mode))
            validate_fault(v, where, "name a file in it", "%s is a folder", stream->path);
        else if (S_ISBLK(st.st_mode) || S_ISSOCK(st.st_mode))
            validate_fault(v, where, "output goes to a regular file, a FIFO or a terminal", "%s is %s",
                           stream->path, S_ISBLK(st.st_mode) ? "a block device" : "a socket");
        else if (faccessat(AT_FDCWD, stream->path, W_OK, AT_EACCESS) < 0)
            validate_cannot_use(v, where, stream->path, "file", errno, "write");
        validate_use(v, where, &st, true);
    } else if (stream->output_fd >= 0 && fcntl(stream->output_fd, F_GETFL) < 0) {
        validate_fault(v, where, NULL, "descriptor %d is not open", stream->output_fd);
    }
    if (stream->input_fd >= 0 && fcntl(stream->input_fd, F_GETFL) < 0)
        validate_fault(v, where, NULL, "descriptor %d is not open", stream->input_fd);
}

/* Two readers of one input would each get a part of it. */
static void check_input_once(struct validator *v, const char *where, const struct config_stream *stream,
                             const struct config_stream *other, const char *other_where)
{
    if (stream->input_fd >= 0 && stream->input_fd == other->input_fd)
        validate_fault(v, where, "give one of them a file, or none",
                       stream->input_fd == STDIN_FILENO
                           ? "standard input can go to one device, and %s has it"
                           : "%s reads from the same descriptor",
                       other_where);
}

static void check_streams(struct validator *v)
{
    const struct dayfly_config *config = v->config;
    size_t count = MIN(config->console_count, (size_t)CONFIG_MAX_CONSOLES);
    size_t primary = count;
    place where;
    for (size_t i = 0; i < count; i++) {
        const struct config_console *console = &config->consoles[i];
        if (console->primary && primary < count) {
            char hint[64];
            snprintf(hint, sizeof(hint), "consoles[%zu] is it already", primary);
            snprintf(where, sizeof(where), "consoles[%zu].primary", i);
            validate_fault(v, where, hint, "only one console can be the kernel's");
        } else if (console->primary) {
            primary = i;
        }
        snprintf(where, sizeof(where), "consoles[%zu].output", i);
        check_output(v, where, &console->stream);
        for (size_t j = 0; j < i; j++) {
            place other;
            snprintf(other, sizeof(other), "consoles[%zu]", j);
            check_input_once(v, where, &console->stream, &config->consoles[j].stream, other);
        }
    }
    check_output(v, "serial.output", &config->serial.stream);
    for (size_t i = 0; i < count; i++) {
        snprintf(where, sizeof(where), "consoles[%zu]", i);
        check_input_once(v, "serial.output", &config->serial.stream, &config->consoles[i].stream,
                         where);
    }
}

/* Whether somebody listens on a Unix socket. What a killed machine left behind refuses; it is replaced.
 */
static bool somebody_listens(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
        return false;
    memcpy(address.sun_path, path, strlen(path) + 1);
    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN;
}

static void check_vsock(struct validator *v)
{
    const char *path = v->config->vsock.socket;
    struct stat st;
    if (!v->config->vsock.present || !path || !*path)
        return;
    if (lstat(path, &st) < 0) {
        if (errno == ENOENT)
            validate_can_make(v, "vsock.socket", path);
        else
            validate_cannot_use(v, "vsock.socket", path, "file", errno, "reach");
    } else if (!S_ISSOCK(st.st_mode)) {
        validate_fault(v, "vsock.socket", "name a path where nothing is yet",
                       "%s exists, and is no socket", path);
    } else if (somebody_listens(path)) {
        validate_fault(v, "vsock.socket", "give each machine a path of its own", "%s is in use", path);
    }
}

int config_validate(const struct dayfly_config *config, const struct dayfly_limits *limits,
                    dayfly_report_fn *report, void *opaque, struct dayfly_err *err)
{
    /* Too large for a thread's small stack. */
    _cleanup_free_ struct validator *v = calloc(1, sizeof(*v));
    if (!v)
        return err_errno(err, ENOMEM, "validating");
    v->config = config;
    v->limits = limits;
    v->reporter =
        (struct reporter){.file = config->source, .report = report, .opaque = opaque, .err = err};

    check_rows(v, config_schema, config, "");
    check_cpus(v);
    check_memory(v);
    check_boot_file(v, "linux.kernel", config->boot.kernel, config->boot.kernel_fd);
    check_boot_file(v, "linux.initrd", config->boot.initrd, config->boot.initrd_fd);
    validate_disks(v, config);
    validate_shares(v, config);
    validate_networks(v, config);
    check_streams(v);
    check_vsock(v);
    return v->reporter.errors ? -EINVAL : 0;
}

int dayfly_config_validate(const struct dayfly_config *config, dayfly_report_fn *report, void *opaque,
                           struct dayfly_err *err)
{
    struct dayfly_limits limits = {.size = sizeof(limits)};
    dayfly_limits_get(&limits);
    return config_validate(config, &limits, report, opaque, err);
}
