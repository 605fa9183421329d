/* SPDX-License-Identifier: Apache-2.0 */
#include "job/artifact.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/digest.h"
#include "job/artifact_place.h"
#include "job/guest_turn.h"
#include "proto/proto.h"
#include "proto/record.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/firm.h"
#include "util/io.h"
#include "util/sigpipe.h"
#include "util/text.h"
#include "util/units.h"

/* A guest that has sent nothing for so long has nothing more to send. */
#define STALL_NS (120 * NS_PER_S)

/* -- reading words ------------------------------------------------------------------------------------
 */

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Part `host` into a directory and a name in it. */
static int parse_host(struct job_artifact *out, const char *host, struct dayfly_err *err)
{
    size_t len = strlen(host);
    if (!(out->dir = strdup(len ? host : ".")))
        return err_set(err, ENOMEM, "out of memory");
    bool into = !len || host[len - 1] == '/' || strpbrk(out->pattern, "*?[") || is_directory(out->dir);
    for (len = strlen(out->dir); len > 1 && out->dir[len - 1] == '/'; len--)
        out->dir[len - 1] = '\0';
    if (into)
        return firm_path_writable(out->dir, &out->firm, err);
    char *slash = strrchr(out->dir, '/');
    if (!(out->name = strdup(slash ? slash + 1 : out->dir)))
        return err_set(err, ENOMEM, "out of memory");
    if (strlen(out->name) > NAME_MAX)
        return err_set(err, ENAMETOOLONG, "%.60s... is too long for a name", out->name);
    if (!slash)
        strcpy(out->dir, ".");
    else
        slash[slash == out->dir] = '\0';
    return firm_path_writable(out->dir, &out->firm, err);
}

static int parse_word(const struct job_artifact_word *word, struct job_artifact *out,
                      struct dayfly_err *err)
{
    const char *colon = word->host ? NULL : strrchr(word->word, ':');
    out->pattern = colon ? strndup(word->word, (size_t)(colon - word->word)) : strdup(word->word);
    if (!out->pattern)
        return err_set(err, ENOMEM, "out of memory");
    if (!out->pattern[0])
        return err_set(err, EINVAL, "write GUEST or GUEST:HOST");
    return parse_host(out, word->host ? word->host : colon ? colon + 1 : "", err);
}

int job_artifacts_parse(const struct job_artifact_word *words, size_t count, struct job_artifact **out,
                        struct dayfly_err *err)
{
    *out = NULL;
    if (count > JOB_ARTIFACTS_MAX)
        return err_set(err, E2BIG, "more than %d artifacts", JOB_ARTIFACTS_MAX);
    struct job_artifact *list = calloc(count + 1, sizeof(*list));
    int r = list ? 0 : err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < count && r == 0; i++)
        if ((r = parse_word(&words[i], &list[i], err)) < 0)
            err_wrap(err, "artifact %.100s", words[i].word[0] ? words[i].word : "''");
    if (r < 0) {
        job_artifacts_free(list, count);
        return r;
    }
    *out = list;
    return 0;
}

void job_artifacts_free(struct job_artifact *artifacts, size_t count)
{
    for (size_t i = 0; artifacts && i < count; i++) {
        free(artifacts[i].pattern);
        free(artifacts[i].dir);
        free(artifacts[i].firm);
        free(artifacts[i].name);
    }
    free(artifacts);
}

/* -- receiving ----------------------------------------------------------------------------------------
 */

struct receiver {
    const struct job_artifact *artifacts;
    size_t count;
    uint64_t limit_bytes, bytes; /* of all files */
    uint64_t received;           /* of the stream: what moves */
    size_t entries;
    uint64_t text_bytes; /* of the report's rows */
    struct proto_record_reader reader;
    struct job_artifact_result *result;
    json_t *names; /* of what has been given: the places are the keys */

    struct artifact_place place;
    const struct job_artifact *artifact; /* whose match is being received; NULL: none */
    char name[NAME_MAX + 1];             /* what the match will be called */
    char *guest;                         /* where it is there */
    json_t *rows;                        /* of the match: they count when it is in its place */
    int root_fd;                         /* the match, when it is a directory */

    int file_fd;
    char file[PROTO_RECORD_NAME_MAX + 1]; /* below the match */
    uint64_t file_bytes;
    struct timespec file_time; /* when the guest changed it; tv_sec < 0: unknown */
    struct hasher hasher;
    int error; /* which ended it: -errno */
};

/* The host could not, or may not, take more. */
static int fail(struct receiver *rx, int code, const char *what)
{
    if (!rx->result->failed.code)
        err_errno(&rx->result->failed, code, "%.200s", what);
    return -code;
}

/* A text of the guest's, or a file's name, for JSON. */
static json_t *printable(const char *text)
{
    _cleanup_free_ char *copy = strdup(text);
    if (!copy)
        return NULL;
    text_make_printable(copy);
    return json_string(copy);
}

static json_t *joined(const char *a, const char *b)
{
    _cleanup_free_ char *path = NULL;
    bool alone = strcmp(a, ".") == 0;
    if (asprintf(&path, "%s%s%s", alone ? "" : a, *b && !alone && strcmp(a, "/") != 0 ? "/" : "", b) <
        0) {
        path = NULL;
        return NULL;
    }
    return printable(path);
}

/* Make room in the report for a row with so much text of the guest's. */
static int spend(struct receiver *rx, size_t text_bytes)
{
    rx->text_bytes += text_bytes;
    return rx->text_bytes > JOB_ARTIFACT_TEXT_MAX
               ? fail(rx, E2BIG, "artifacts with too many long names")
               : 0;
}

/* Append {guest, `key`: value}; value is taken. */
static int add_row(struct receiver *rx, const char *guest, const char *key, json_t *value)
{
    json_t *row = json_pack("{s:o, s:o}", "guest", printable(guest), key, value);
    int r = spend(rx, strlen(guest));
    if (json_array_append_new(rx->result->rows, row) < 0)
        return fail(rx, ENOMEM, "artifacts");
    return r;
}

/* Append a row of the match with where it is on both sides; value is taken. */
static int add_here(struct receiver *rx, const char *name, const char *key, json_t *value)
{
    char below[sizeof(rx->name) + sizeof(rx->file) + 1];
    snprintf(below, sizeof(below), "%s%s%s", rx->name, *name ? "/" : "", name);
    json_t *row = json_pack("{s:o, s:o, s:o}", "guest", joined(rx->guest, name), "host",
                            joined(rx->artifact->dir, below), key, value);
    int r = spend(rx, strlen(rx->guest) + 2 * strlen(name));
    if (json_array_append_new(rx->rows, row) < 0)
        return fail(rx, ENOMEM, "artifacts");
    return r;
}

static void end_match(struct receiver *rx)
{
    if (rx->artifact)
        artifact_place_close(&rx->place);
    rx->artifact = NULL;
    close_fd(&rx->root_fd);
    json_decref(rx->rows);
    rx->rows = NULL;
    free(rx->guest);
    rx->guest = NULL;
}

/* The match is whole: give it its name. */
static int publish(struct receiver *rx)
{
    if (!rx->artifact)
        return 0;
    int r = 0;
    if (json_array_size(rx->rows) || rx->root_fd >= 0)
        r = artifact_place_publish(&rx->place, rx->name, &rx->result->failed);
    if (r < 0)
        err_wrap(&rx->result->failed, "in %.150s", rx->artifact->dir);
    else if (json_array_extend(rx->result->rows, rx->rows) < 0)
        r = fail(rx, ENOMEM, "artifacts");
    end_match(rx);
    return r;
}

static int begin_match(struct receiver *rx, const struct proto_record *m)
{
    const struct job_artifact *artifact = &rx->artifacts[m->pattern];
    snprintf(rx->name, sizeof(rx->name), "%s", artifact->name ? artifact->name : m->name);
    rx->root_fd = -1;
    rx->rows = json_array();
    rx->guest = strdup(m->text);
    _cleanup_free_ char *place = NULL;
    if (asprintf(&place, "%s/%s", artifact->dir, rx->name) < 0)
        place = NULL;
    if (!rx->rows || !rx->guest || !place)
        return fail(rx, ENOMEM, "artifacts");
    if (json_object_get(rx->names, place))
        return fail(rx, EEXIST, "two artifacts are to have one name");
    /* A file's name need not be UTF-8. */
    if (json_object_set_new_nocheck(rx->names, place, json_true()) < 0)
        return fail(rx, ENOMEM, "artifacts");
    int r = artifact_place_open(&rx->place, artifact->firm, &rx->result->failed);
    if (r == 0)
        rx->artifact = artifact;
    return r;
}

/* The directory of the match in which `name` is, and its last component. No link of the tree is
 * followed: there is none that leads out, but what has been checked need not be relied on. */
static int open_parent(struct receiver *rx, const char *name, const char **leaf)
{
    char dir[PROTO_RECORD_NAME_MAX + 1];
    struct open_how how = {
        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    const char *slash = strrchr(name, '/');
    *leaf = slash ? slash + 1 : name;
    if (rx->root_fd < 0)
        return -EPROTO;
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - name) : 1, slash ? name : ".");
    int fd = (int)syscall(SYS_openat2, rx->root_fd, dir, &how, sizeof(how));
    return fd < 0 ? -errno : fd;
}

/* Where an entry of the match is to be made: *leaf in the directory that is returned. */
static int place_of(struct receiver *rx, const char *name, const char **leaf)
{
    if (*name)
        return open_parent(rx, name, leaf);
    *leaf = PLACE_NEW;
    return fcntl(rx->place.stage_fd, F_DUPFD_CLOEXEC, 0);
}

static int make_directory(struct receiver *rx, const struct proto_record *r)
{
    const char *leaf;
    _cleanup_close_ int dir = place_of(rx, r->name, &leaf);
    if (dir < 0)
        return dir;
    if (mkdirat(dir, leaf, r->mode | 0700) < 0)
        return -errno;
    if (*r->name)
        return 0;
    rx->root_fd = openat(dir, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return rx->root_fd < 0 ? -errno : 0;
}

static int make_link(struct receiver *rx, const struct proto_record *r)
{
    const char *leaf;
    _cleanup_close_ int dir = place_of(rx, r->name, &leaf);
    if (dir < 0)
        return dir;
    if (symlinkat(r->text, dir, leaf) < 0)
        return -errno;
    return add_here(rx, r->name, "link", printable(r->text));
}

static int make_file(struct receiver *rx, const struct proto_record *r)
{
    const char *leaf;
    _cleanup_close_ int dir = place_of(rx, r->name, &leaf);
    if (dir < 0)
        return dir;
    rx->file_fd =
        openat(dir, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, r->mode | 0600);
    if (rx->file_fd < 0)
        return -errno;
    snprintf(rx->file, sizeof(rx->file), "%s", r->name);
    rx->file_bytes = 0;
    proto_record_time_take(r->text, &rx->file_time);
    hasher_begin(&rx->hasher);
    return 0;
}

static int make_entry(struct receiver *rx, const struct proto_record *r)
{
    char what[512];
    int made = r->kind == PROTO_RECORD_DIR    ? make_directory(rx, r)
               : r->kind == PROTO_RECORD_FILE ? make_file(rx, r)
                                              : make_link(rx, r);
    /* What the agent sends comes once, and behind its directory. */
    if (made == -EEXIST || made == -ENOENT || made == -ENOTDIR || made == -ELOOP)
        return -EPROTO;
    if (made < 0 && made != -EPROTO) {
        snprintf(what, sizeof(what), "%s/%s%s%.200s", rx->artifact->dir, rx->name, *r->name ? "/" : "",
                 r->name);
        return fail(rx, -made, what);
    }
    return made;
}

static int take_record(void *opaque, const struct proto_record *r)
{
    struct receiver *rx = opaque;
    int made = 0;
    if (r->pattern >= rx->count)
        return -EPROTO;
    if (++rx->entries > JOB_ARTIFACT_ENTRIES_MAX)
        return fail(rx, E2BIG, "artifacts of more than 100000 entries");
    switch (r->kind) {
    case PROTO_RECORD_MATCH:
        made = publish(rx);
        return made < 0 ? made : begin_match(rx, r);
    case PROTO_RECORD_DIR:
    case PROTO_RECORD_FILE:
    case PROTO_RECORD_LINK:
        return make_entry(rx, r);
    case PROTO_RECORD_NOTE:
        rx->result->skipped = true;
        return add_row(rx, r->name, "skipped", printable(r->text));
    case PROTO_RECORD_MISSING:
        made = publish(rx);
        rx->result->missing = true;
        return made < 0 ? made : add_row(rx, rx->artifacts[r->pattern].pattern, "missing", json_true());
    default: /* DONE */
        return publish(rx);
    }
}

static int take_data(void *opaque, const uint8_t *bytes, size_t len)
{
    struct receiver *rx = opaque;
    char what[64], size[UNITS_FORMAT_BYTES];
    if (len > rx->limit_bytes - rx->bytes) {
        snprintf(what, sizeof(what), "artifacts of more than %s",
                 units_format_size(rx->limit_bytes, size));
        return fail(rx, EFBIG, what);
    }
    rx->bytes += len;
    rx->file_bytes += len;
    hasher_add(&rx->hasher, bytes, len);
    int r = io_write_full(rx->file_fd, bytes, len);
    return r < 0 ? fail(rx, -r, rx->artifact->dir) : 0;
}

/* What could not be read to its end is not kept. */
static int drop_file(struct receiver *rx, uint32_t code)
{
    char guest[2 * PROTO_RECORD_NAME_MAX + 2];
    const char *leaf;
    _cleanup_close_ int dir = place_of(rx, rx->file, &leaf);
    if (dir >= 0)
        unlinkat(dir, leaf, 0);
    snprintf(guest, sizeof(guest), "%s%s%s", rx->guest, *rx->file ? "/" : "", rx->file);
    rx->result->skipped = true;
    const char *why = code < 4096 ? strerrordesc_np((int)code) : NULL;
    return add_row(rx, guest, "skipped", json_string(why ? why : "it cannot be read"));
}

static int end_file(void *opaque, uint32_t code)
{
    struct receiver *rx = opaque;
    struct digest digest;
    char hex[DIGEST_HEX_BYTES];
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, rx->file_time};
    /* Where the file system keeps no such time, it has its own. */
    if (rx->file_time.tv_sec >= 0)
        (void)futimens(rx->file_fd, times);
    close_fd(&rx->file_fd);
    if (code)
        return drop_file(rx, code);
    hasher_digest(&rx->hasher, &digest);
    int r = add_here(rx, rx->file, "sha256", json_string(digest_hex(&digest, hex)));
    json_t *row = json_array_get(rx->rows, json_array_size(rx->rows) - 1);
    if (r == 0 && json_object_set_new(row, "bytes", json_integer((json_int_t)rx->file_bytes)) < 0)
        r = fail(rx, ENOMEM, "artifacts");
    return r;
}

static const struct proto_record_ops record_ops = {
    .record = take_record,
    .data = take_data,
    .file_end = end_file,
};

/* A guest_take_fn: the collecting session's output. */
static int take_bytes(void *opaque, const uint8_t *bytes, size_t len)
{
    struct receiver *rx = opaque;
    if (!rx->error)
        rx->error = proto_record_take(&rx->reader, &record_ops, rx, bytes, len);
    rx->received += len;
    return rx->error;
}

static void finish(struct receiver *rx)
{
    close_fd(&rx->file_fd);
    end_match(rx);
    json_decref(rx->names);
}

/* -- the session --------------------------------------------------------------------------------------
 */

static int start(struct guest *g, struct receiver *rx, const struct job_artifact_options *options,
                 uint32_t *session, struct dayfly_err *err)
{
    const char *patterns[JOB_ARTIFACTS_MAX + 1] = {NULL};
    bool relative = false;
    for (size_t i = 0; i < rx->count; i++) {
        patterns[i] = rx->artifacts[i].pattern;
        relative |= patterns[i][0] != '/';
    }
    const struct guest_command command = {
        .argv = patterns,
        .collect = true,
        .user = options->user,
        .cwd = relative ? options->cwd : "/",
        .in_fd = -1,
        .out_fd = -1,
        .err_fd = -1,
        .take = take_bytes,
        .opaque = rx,
    };
    return guest_exec(g, &command, session, err);
}

/* Serve the guest until the session is over, or the host has had enough of it. */
static int wait_for(struct guest *g, struct receiver *rx, uint32_t session, int cancel_fd,
                    int (*cancelled)(void *opaque), void *opaque, struct dayfly_err *err)
{
    uint64_t seen = 0, since = clock_ns();
    struct guest_session *s = guest_find(g, session);
    while (!rx->error && !guest_session_finished(s)) {
        struct guest_turn t = {
            .deadline_ns = since + STALL_NS, .cancel_fd = cancel_fd, .signal_fd = -1};
        int r = guest_turn(g, &t);
        if (rx->received != seen) {
            seen = rx->received;
            since = clock_ns();
        }
        int lost = s->over ? 0 : guest_lost(g, err);
        if (lost < 0)
            return lost;
        if (r == -ECANCELED && (r = cancelled(opaque)) < 0)
            return err_set(err, ECANCELED, "cancelled");
        if (r == -ETIMEDOUT && clock_ns() >= since + STALL_NS)
            return err_set(err, ETIMEDOUT, "nothing came from the guest for %llu s",
                           (unsigned long long)(STALL_NS / NS_PER_S));
    }
    if (rx->error == -EPROTO)
        return err_set(err, EPROTO, "the guest sent what is no artifact");
    if (rx->error)
        return 0; /* the host's side, which the result tells of */
    if (s->refused)
        return err_set(err, (int)s->failed.code, "the guest: %s", s->failed.text);
    return rx->reader.done ? 0 : err_set(err, EPIPE, "the guest did not send all of it");
}

int job_artifacts_collect(struct guest *g, const struct job_artifact *artifacts, size_t count,
                          const struct job_artifact_options *options, int (*cancelled)(void *opaque),
                          void *opaque, struct job_artifact_result *result, struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    uint32_t session;
    *result = (struct job_artifact_result){0};
    if (!count)
        return 0;
    struct receiver *rx = calloc(1, sizeof(*rx));
    result->rows = json_array();
    if (!rx || !result->rows || !(rx->names = json_object())) {
        free(rx);
        return err_set(err, ENOMEM, "out of memory");
    }
    rx->artifacts = artifacts;
    rx->count = count;
    rx->limit_bytes = options->limit_bytes;
    rx->result = result;
    rx->root_fd = rx->file_fd = -1;
    int r = start(g, rx, options, &session, err);
    if (r == 0) {
        r = wait_for(g, rx, session, options->cancel_fd, cancelled, opaque, err);
        /* What still comes of it, within its credit, is for nobody. */
        guest_forget(g, session);
    }
    finish(rx);
    free(rx);
    if (r < 0)
        err_wrap(err, "artifacts");
    return r;
}
