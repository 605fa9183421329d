/* SPDX-License-Identifier: Apache-2.0 */
#include "job/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/mask.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define PLACE "/run/secrets"

/* -- reading ------------------------------------------------------------------------------------------
 */

static bool is_name(const char *name, bool in_env)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    size_t len = strlen(name);
    if (!len || len >= PROTO_SECRET_NAME_BYTES)
        return false;
    if (in_env)
        return name[strspn(name, letters)] == '\0' && !(name[0] >= '0' && name[0] <= '9');
    for (size_t i = 0; i < len; i++)
        if (!strchr(letters, name[i]) && name[i] != '-' && (name[i] != '.' || i == 0))
            return false;
    return true;
}

/* The name, and a source in the canonical spelling. */
static int parse_word(const struct job_secret_word *word, struct job_secret *out,
                      struct dayfly_err *err)
{
    const char *equals = strchrnul(word->word, '=');
    size_t len = (size_t)(equals - word->word);
    memcpy(out->name, word->word, MIN(len, sizeof(out->name) - 1)); /* the rest is zero */
    out->in_env = word->in_env;
    if (len >= sizeof(out->name) || !is_name(out->name, word->in_env))
        return err_set(err, EINVAL,
                       word->in_env
                           ? "the name of a variable is letters, digits and underscores"
                           : "a secret's name is letters, digits, underscores, hyphens and dots");
    const char *source = *equals ? equals + 1 : NULL;
    /* Whatever else stands there could be the secret itself. */
    if (source && strncmp(source, "env:", 4) != 0 && strncmp(source, "file:", 5) != 0)
        return err_set(err, EINVAL,
                       "where the value comes from is env:VARIABLE or file:PATH; the value itself does "
                       "not belong on a command line, which everybody on the host can read");
    if (source && !source[strcspn(source, ":") + 1])
        return err_set(err, EINVAL, "a name is missing behind %s", source);
    if (asprintf(&out->source, "%s%s", source ? "" : "env:", source ? source : out->name) < 0) {
        out->source = NULL;
        return err_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

/* The variable that a secret is read from, or NULL. */
static const char *variable_of(const struct job_secret *secret)
{
    return strncmp(secret->source, "env:", 4) == 0 ? secret->source + 4 : NULL;
}

static int read_variable(struct job_secret *secret, const char *name, struct dayfly_err *err)
{
    const char *value = getenv(name);
    if (!value)
        return err_set(err, ENOENT, "there is no variable %.60s in the environment", name);
    secret->len = strlen(value);
    if (secret->len > PROTO_SECRET_MAX)
        return err_set(err, EFBIG, "%.60s is longer than %d bytes", name, PROTO_SECRET_MAX);
    memcpy(secret->value.bytes, value, secret->len);
    return 0;
}

/* Straight into the locked memory, with no buffer between. It may be a pipe: <(...) of a shell. */
static int read_file(struct job_secret *secret, const char *path, struct dayfly_err *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_errno(err, errno, "%.150s", path);
    while (secret->len <= PROTO_SECRET_MAX) {
        ssize_t n =
            read(fd, (char *)secret->value.bytes + secret->len, PROTO_SECRET_MAX + 1 - secret->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, errno, "%.150s", path);
        if (n == 0)
            return 0;
        secret->len += (size_t)n;
    }
    return err_set(err, EFBIG, "%.150s is longer than %d bytes", path, PROTO_SECRET_MAX);
}

static int check_value(const struct job_secret *secret, struct dayfly_err *err)
{
    const char *bytes = secret->value.bytes;
    size_t len = secret->len;
    while (len && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
        len--;
    if (len < MASK_MIN_BYTES)
        return err_set(
            err, EINVAL,
            "%s has less than %zu bytes, which would be found all over the output and cannot "
            "be masked",
            secret->source, MASK_MIN_BYTES);
    if (secret->in_env && memchr(bytes, '\0', len))
        return err_set(err, EINVAL, "%s has a NUL byte, which no variable can have", secret->source);
    return 0;
}

static int load(const struct job_secret_word *word, const struct log *log, struct job_secret *out,
                struct dayfly_err *err)
{
    int r = parse_word(word, out, err);
    if (r == 0)
        r = secret_new(&out->value, PROTO_SECRET_MAX + 1, log, err);
    if (r < 0)
        return r;
    const char *variable = variable_of(out);
    r = variable ? read_variable(out, variable, err)
                 : read_file(out, out->source + strlen("file:"), err);
    if (r < 0)
        return r;
    /* What a shell's $(...) does as well: a file ends with a line break, a variable does not. */
    char *bytes = out->value.bytes;
    while (out->in_env && out->len && bytes[out->len - 1] == '\n')
        bytes[--out->len] = '\0';
    return check_value(out, err);
}

/* Also where /proc/PID/environ shows it. */
static void forget_variable(const char *name)
{
    char *value = getenv(name);
    if (!value)
        return;
    explicit_bzero(value, strlen(value));
    unsetenv(name);
}

int job_secrets_load(const struct job_secret_word *words, size_t count, const struct log *log,
                     struct job_secret **out, struct dayfly_err *err)
{
    int r = 0;
    *out = NULL;
    if (!count)
        return 0;
    if (count > JOB_SECRETS_MAX)
        return err_set(err, E2BIG, "more than %d secrets", JOB_SECRETS_MAX);
    struct job_secret *list = calloc(count, sizeof(*list));
    if (!list)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < count && r == 0; i++) {
        r = load(&words[i], log, &list[i], err);
        for (size_t j = 0; j < i && r == 0; j++)
            if (list[i].in_env == list[j].in_env && strcmp(list[i].name, list[j].name) == 0)
                r = err_set(err, EINVAL, "it is given twice");
        if (r < 0)
            err_wrap(err, "--secret%s %s", words[i].in_env ? "-env" : "", list[i].name);
    }
    /* Only now: two secrets may have one source. */
    for (size_t i = 0; i < count; i++)
        if (list[i].source && variable_of(&list[i]))
            forget_variable(variable_of(&list[i]));
    if (r < 0) {
        job_secrets_free(list, count);
        return r;
    }
    *out = list;
    return 0;
}

void job_secrets_wipe(struct job_secret *secrets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        secret_finish(&secrets[i].value);
        secrets[i].len = 0;
    }
}

void job_secrets_free(struct job_secret *secrets, size_t count)
{
    if (!secrets)
        return;
    job_secrets_wipe(secrets, count);
    for (size_t i = 0; i < count; i++) {
        free(secrets[i].source);
        for (char **host = secrets[i].hosts; host && *host; host++)
            free(*host);
        free(secrets[i].hosts);
    }
    free(secrets);
}

/* -- for hosts
 * -----------------------------------------------------------------------------------------
 */

static int add_host(struct job_secret *secret, const char *host, size_t len)
{
    size_t n = 0;
    while (secret->hosts && secret->hosts[n])
        n++;
    char **hosts = reallocarray(secret->hosts, n + 2, sizeof(*hosts));
    if (!hosts)
        return -ENOMEM;
    secret->hosts = hosts;
    hosts[n] = strndup(host, len);
    hosts[n + 1] = NULL;
    return hosts[n] ? 0 : -ENOMEM;
}

/* One word, for the secrets of its name. Returns how many these are, or -ENOMEM. */
static int take_host(struct job_secret *secrets, size_t count, const char *word, size_t name_len)
{
    static const char option[] = ",http";
    const char *host = word + name_len + 1, *comma = strchrnul(host, ',');
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        if (strlen(secrets[i].name) != name_len || strncmp(secrets[i].name, word, name_len) != 0)
            continue;
        found++;
        secrets[i].allow_http |= strcmp(comma, option) == 0;
        if (add_host(&secrets[i], host, (size_t)(comma - host)) < 0)
            return -ENOMEM;
    }
    return found;
}

int job_secrets_for_hosts(struct job_secret *secrets, size_t count, const char *const *words,
                          size_t word_count, struct dayfly_err *err)
{
    for (size_t i = 0; i < word_count; i++) {
        const char *equals = strchrnul(words[i], '='), *comma = strchrnul(equals, ',');
        if (equals == words[i] || comma - equals < 2 || (*comma && strcmp(comma, ",http") != 0))
            return err_set(err, EINVAL, "--for-host %.100s: it is NAME=HOST or NAME=HOST,http",
                           words[i]);
        int found = take_host(secrets, count, words[i], (size_t)(equals - words[i]));
        if (found < 0)
            return err_set(err, ENOMEM, "out of memory");
        if (!found)
            return err_set(err, EINVAL,
                           "--for-host %.100s: no --secret or --secret-env is of that name", words[i]);
    }
    return 0;
}

size_t job_secrets_of_hosts(const struct job_secret *secrets, size_t count,
                            struct dayfly_net_secret out[static JOB_SECRETS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const char *bytes = secrets[i].value.bytes;
        size_t len = secrets[i].len;
        if (!secrets[i].hosts)
            continue;
        while (len && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
            len--;
        out[n] = (struct dayfly_net_secret)DAYFLY_NET_SECRET_INIT;
        out[n].name = secrets[i].name;
        out[n].value = bytes;
        out[n].value_bytes = len;
        out[n].allow_http = secrets[i].allow_http;
        out[n++].hosts = (const char *const *)secrets[i].hosts;
    }
    return n;
}

/* -- use ----------------------------------------------------------------------------------------------
 */

int job_secrets_check(const struct job_secret *secrets, size_t count, const struct job_share *shares,
                      size_t share_count, struct dayfly_err *err)
{
    size_t len = strlen(PLACE);
    bool files = false;
    for (size_t i = 0; i < count; i++)
        files |= !secrets[i].in_env;
    for (size_t i = 0; i < share_count && files; i++) {
        const char *path = shares[i].path;
        if (strncmp(path, PLACE, len) == 0 && (path[len] == '\0' || path[len] == '/'))
            return err_set(err, EINVAL, "--share at %s: " PLACE " is where secrets are", path);
    }
    return 0;
}

int job_secrets_mask(const struct job_secret *secrets, size_t count, const struct log *log,
                     struct mask **out, struct dayfly_err *err)
{
    struct mask_value values[JOB_SECRETS_MAX];
    *out = NULL;
    if (!count)
        return 0;
    for (size_t i = 0; i < count; i++)
        values[i] = (struct mask_value){secrets[i].value.bytes, secrets[i].len};
    return mask_new(values, count, log, out, err);
}
