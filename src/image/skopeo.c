/* SPDX-License-Identifier: Apache-2.0 */
#include "image/skopeo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/program.h"
#include "util/text.h"

#define LOG_TAIL_BYTES (16u << 10)

/* ---- places ---- */

/* How the rest behind "transport:" names the image. */
enum naming {
    NAMING_REFERENCE, /* //REF, or REF */
    NAMING_PATH_TAG,  /* PATH[:TAG]: the last component of PATH */
    NAMING_PATH_REF,  /* PATH[:REF] */
    NAMING_NONE,
};

static const struct {
    const char *prefix;
    enum naming naming;
} TRANSPORTS[] = {
    {"docker://", NAMING_REFERENCE},
    {"containers-storage:", NAMING_REFERENCE},
    {"docker-daemon:", NAMING_REFERENCE},
    {"oci:", NAMING_PATH_TAG},
    {"oci-archive:", NAMING_PATH_TAG},
    {"docker-archive:", NAMING_PATH_REF},
    {"dir:", NAMING_NONE},
};

/* Leave `name` empty unless `text` is a name that images here may have. A digest is not part of it. */
static void take_name(const char *text, char name[OCI_REF_BYTES])
{
    struct oci_ref ref;
    if (*text && !strchr(text, '@') && oci_ref_parse(text, &ref, NULL) == 0 && !ref.by_digest)
        memcpy(name, ref.name, OCI_REF_BYTES);
}

static void name_of_path(const char *rest, char name[OCI_REF_BYTES])
{
    char text[SKOPEO_PLACE_BYTES];
    size_t len = strcspn(rest, ":");
    while (len && rest[len - 1] == '/')
        len--;
    size_t from = len;
    while (from && rest[from - 1] != '/')
        from--;
    const char *tag = strchr(rest, ':');
    snprintf(text, sizeof(text), "%.*s%s", (int)(len - from), rest + from, tag ? tag : "");
    take_name(text, name);
}

int skopeo_place_parse(const char *text, struct skopeo_place *out, struct dayfly_err *err)
{
    static const char rule[] = "write NAME[:TAG], or docker://, oci:, oci-archive:, docker-archive:, "
                               "containers-storage: or dir: and what skopeo(1) expects behind it";
    *out = (struct skopeo_place){0};
    /* A word that begins with a dash would be an option of skopeo's. */
    if (!text[0] || text[0] == '-' || strlen(text) >= sizeof(out->text) - strlen("docker://"))
        return err_set(err, EINVAL, "\"%.60s\" is no place of an image: %s", text, rule);
    for (size_t i = 0; i < ARRAY_SIZE(TRANSPORTS); i++) {
        size_t len = strlen(TRANSPORTS[i].prefix);
        if (strncmp(text, TRANSPORTS[i].prefix, len) != 0)
            continue;
        const char *rest = text + len;
        if (!*rest)
            return err_set(err, EINVAL, "\"%.60s\" names no image: %s", text, rule);
        const char *ref = strchr(rest, ':');
        switch (TRANSPORTS[i].naming) {
        case NAMING_REFERENCE:
            take_name(rest, out->name);
            break;
        case NAMING_PATH_TAG:
            name_of_path(rest, out->name);
            break;
        case NAMING_PATH_REF:
            take_name(ref ? ref + 1 : "", out->name);
            break;
        case NAMING_NONE:
            break;
        }
        strcpy(out->text, text);
        return 0;
    }
    /* Anything else with a transport's colon is a slip, and not a registry of that name. */
    size_t name_len = strcspn(text, "@");
    char bare[SKOPEO_PLACE_BYTES];
    struct oci_ref ref;
    snprintf(bare, sizeof(bare), "%.*s", (int)name_len, text);
    if (oci_ref_parse(bare, &ref, NULL) || ref.by_digest)
        return err_set(err, EINVAL, "\"%.60s\" is no place of an image: %s", text, rule);
    snprintf(out->text, sizeof(out->text), "docker://%s", text);
    take_name(text, out->name);
    return 0;
}

/* ---- what went wrong ---- */

void skopeo_fatal_message(const char *log, char *out, size_t size)
{
    static const char mark[] = "level=fatal msg=";
    const char *at = NULL, *p = log;
    while ((p = strstr(p, mark)))
        at = p += strlen(mark);
    /* No such line: then the last one, whatever it is. */
    if (!at) {
        size_t len = strlen(log);
        while (len && (log[len - 1] == '\n' || log[len - 1] == ' '))
            len--;
        size_t from = len;
        while (from && log[from - 1] != '\n')
            from--;
        snprintf(out, size, "%.*s", (int)(len - from), log + from);
        text_make_printable(out);
        return;
    }
    /* As Go quotes it: a backslash stands before a quote, or a letter for white space. */
    bool quoted = *at == '"';
    size_t n = 0;
    for (at += quoted; *at && *at != '\n' && !(quoted && *at == '"') && n + 1 < size; at++) {
        bool escaped = quoted && *at == '\\' && at[1] && at[1] != '\n';
        at += escaped;
        out[n++] = escaped && strchr("nrt", *at) ? ' ' : *at;
    }
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    text_make_printable(out);
}

/* skopeo says first what it was doing, which the caller's context says better; the end has the cause.
 * Keep as much of it as `room` bears, from a ": " on. */
static const char *cause_of(const char *message, size_t room)
{
    static const char *const doing[] = {
        "initializing source ", "trying to reuse blob ",  "pinging container registry ",
        "writing blob: ",       "happened during read: ", "initializing destination "};
    const char *next = message;
    for (size_t i = 0; i < ARRAY_SIZE(doing); i++) {
        next = strncmp(message, doing[i], strlen(doing[i])) ? NULL : strstr(message, ": ");
        if (next)
            return cause_of(next + 2, room);
    }
    while (strlen(message) > room && (next = strstr(message, ": ")))
        message = next + 2;
    return message;
}

static const struct {
    const char *says;
    int code;
    const char *remedy;
} FAILURES[] = {
    {"server gave HTTP response to HTTPS client", EIO,
     "for a registry without TLS, --tls-verify=false"},
    {"x509:", EIO, "name the registry's certificate by --cert-dir, or --tls-verify=false"},
    {"manifest unknown", ENOENT, "look at its name and tag"},
    {"name unknown", ENOENT, "look at its name and tag"},
    {"does not exist or no pull access", EACCES, "look at its name, or `skopeo login`, or --creds"},
    {"requested access to the resource is denied", EACCES,
     "look at its name, or `skopeo login`, or --creds"},
    {"unauthorized", EACCES, "`skopeo login` at the registry, or --creds USER:PASSWORD"},
    {"authentication required", EACCES, "`skopeo login` at the registry, or --creds USER:PASSWORD"},
    {"no image found in manifest list", ENOTSUP, "it is for other processors than " OCI_ARCHITECTURE},
    {"no image found in image index", ENOTSUP, "it is for other processors than " OCI_ARCHITECTURE},
    {"no space left on device", ENOSPC, "`dayfly image prune` makes room"},
    {"no such host", EIO, "look at the registry's name and the network"},
    {"connection refused", EIO, "is the registry running?"},
    {"igest did not match", EIO, "the registry is broken"},
    {"o such file or directory", ENOENT, NULL},
    {"unexpected EOF", ECONNRESET, NULL},
    {"connection reset by peer", ECONNRESET, NULL},
    {"i/o timeout", ECONNRESET, NULL},
    {"handshake timeout", ECONNRESET, NULL},
};

static int explain(const struct skopeo_copy *copy, const char *log, struct dayfly_err *err)
{
    char message[1024];
    bool resumes = !strncmp(copy->from, "docker://", strlen("docker://"));
    const char *goes_on = resumes ? "another pull goes on behind the last whole layer" : NULL;
    const char *verb = copy->ours_is_source ? "push to" : "pull";
    skopeo_fatal_message(log, message, sizeof(message));
    for (size_t i = 0; i < ARRAY_SIZE(FAILURES); i++) {
        if (!strstr(message, FAILURES[i].says))
            continue;
        int code = FAILURES[i].code;
        const char *remedy = FAILURES[i].remedy;
        if (code == ECONNRESET) {
            remedy = goes_on;
            code = resumes ? code : EIO;
        }
        return err_set(err, code, "cannot %s %.60s: %.90s%s%s", verb, copy->shown,
                       cause_of(message, 90), remedy ? "; " : "", remedy ? remedy : "");
    }
    return err_set(err, EIO, "cannot %s %.60s: %.110s%s%s", verb, copy->shown, cause_of(message, 110),
                   goes_on ? "; " : "", goes_on ? goes_on : "");
}

/* ---- running it ---- */

struct words {
    const char *argv[48];
    char *owned[8];
    size_t count, owned_count;
    bool failed;
};

static void word(struct words *words, const char *text)
{
    words->argv[words->count++] = text;
}

/* "--src-creds=VALUE", when there is a value. */
static void option(struct words *words, bool theirs_is_source, const char *name, const char *value)
{
    char *text;
    if (!value)
        return;
    if (asprintf(&text, "--%s-%s=%s", theirs_is_source ? "src" : "dest", name, value) < 0) {
        words->failed = true;
        return;
    }
    words->owned[words->owned_count++] = text;
    word(words, text);
}

static void words_finish(struct words *words)
{
    for (size_t i = 0; i < words->owned_count; i++)
        free(words->owned[i]);
}

/* The end of what the file holds, as text. */
static char *read_tail(int fd)
{
    char *text = calloc(1, LOG_TAIL_BYTES + 1);
    off_t end = lseek(fd, 0, SEEK_END);
    if (text)
        io_pread_full(fd, text, LOG_TAIL_BYTES, end > LOG_TAIL_BYTES ? end - LOG_TAIL_BYTES : 0);
    return text;
}

int skopeo_run(const struct skopeo_copy *copy, struct dayfly_err *err)
{
    struct words words = {0};
    bool theirs = !copy->ours_is_source;
    word(&words, "skopeo");
    word(&words, "--override-os=linux");
    word(&words, "--override-arch=" OCI_ARCHITECTURE);
    word(&words, "--tmpdir");
    word(&words, copy->temp_dir);
    word(&words, "copy");
    option(&words, theirs, "creds", copy->access.creds);
    option(&words, theirs, "authfile", copy->access.authfile);
    option(&words, theirs, "cert-dir", copy->access.cert_dir);
    option(&words, theirs, "tls-verify", copy->access.tls_verify);
    option(&words, !theirs, "shared-blob-dir", copy->shared_blobs);
    /* A layer's digest is its name: leave it as it is. Of Docker's archives skopeo would call plain
     * layers gzip; there it had better compress them. */
    if (theirs && strncmp(copy->from, "docker-", strlen("docker-")) != 0)
        word(&words, "--dest-oci-accept-uncompressed-layers");
    if (copy->decompress)
        word(&words, "--dest-decompress");
    if (copy->digest_file) {
        word(&words, "--digestfile");
        word(&words, copy->digest_file);
    }
    word(&words, "--");
    word(&words, copy->from);
    word(&words, copy->to);

    _cleanup_close_ int log = memfd_create("skopeo's messages", MFD_CLOEXEC);
    int rc = log < 0 || words.failed ? err_errno(err, ENOMEM, "skopeo") : 0;
    const struct program program = {.argv = words.argv,
                                    .package = "skopeo",
                                    .stdin_fd = -1,
                                    .stdout_fd = copy->progress_fd,
                                    .stderr_fd = log};
    if (!rc)
        rc = program_run(&program, err);
    if (rc == -EIO) {
        _cleanup_free_ char *text = read_tail(log);
        rc = text ? explain(copy, text, err) : rc;
    }
    words_finish(&words);
    return rc;
}
