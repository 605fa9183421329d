/* SPDX-License-Identifier: Apache-2.0 */
#include "image/apt_sources.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define SOURCES_MAX_BYTES (1u << 20)

/* One source, each field words separated by white space. Strings are borrowed from the file's text. */
struct source {
    const char *types, *uris, *suites, *components, *signed_by;
    bool trusted, disabled;
};

struct collector {
    const char *host, *suite;
    FILE *out;
};

/* The next word of *list: its length, *list moved to its start; 0 at the end. */
static size_t next_word(const char **list)
{
    *list += strspn(*list, " \t\n");
    return strcspn(*list, " \t\n");
}

static bool has_word(const char *list, const char *word)
{
    size_t len;
    for (; (len = next_word(&list)); list += len) {
        if (len == strlen(word) && !memcmp(list, word, len))
            return true;
    }
    return false;
}

/* The development suites have no companions. */
static bool has_companions(const char *suite)
{
    return strcmp(suite, "sid") != 0 && strcmp(suite, "unstable") != 0 &&
           strcmp(suite, "experimental") != 0;
}

static void emit_suite(const struct collector *c, const struct source *s, const char *uri,
                       size_t uri_len, const char *suite, size_t suite_len)
{
    size_t host_len = strlen(c->host);
    if (suite_len < host_len || memcmp(suite, c->host, host_len) != 0 ||
        (suite_len > host_len && suite[host_len] != '-'))
        return;
    if (suite_len > host_len && !has_companions(c->suite))
        return;
    fputs("deb", c->out);
    if (s->signed_by || s->trusted)
        fprintf(c->out, " [%s%s%s%s]", s->trusted ? "trusted=yes" : "",
                s->trusted && s->signed_by ? " " : "", s->signed_by ? "signed-by=" : "",
                s->signed_by ? s->signed_by : "");
    fprintf(c->out, " %.*s %s%.*s", (int)uri_len, uri, c->suite, (int)(suite_len - host_len),
            suite + host_len);
    const char *component = s->components;
    size_t len;
    for (; (len = next_word(&component)); component += len)
        fprintf(c->out, " %.*s", (int)len, component);
    fputc('\n', c->out);
}

static void emit(const struct collector *c, const struct source *s)
{
    if (s->disabled || !s->types || !s->uris || !s->suites || !s->components ||
        !has_word(s->types, "deb") || !has_word(s->components, "main"))
        return;
    /* A key that stands in the file itself cannot be written in one line. apt then falls back on its
     * trusted keys, Debian's among them. */
    struct source out = *s;
    if (out.signed_by && (out.signed_by[0] != '/' || strpbrk(out.signed_by, " \t\n]")))
        out.signed_by = NULL;
    const char *uri = s->uris;
    size_t uri_len;
    for (; (uri_len = next_word(&uri)); uri += uri_len) {
        const char *suite = s->suites;
        size_t len;
        for (; (len = next_word(&suite)); suite += len)
            emit_suite(c, &out, uri, uri_len, suite, len);
    }
}

/* ---- one line: deb [option=value ...] uri suite component... ---- */

static void read_line(const struct collector *c, char *line)
{
    struct source s = {0};
    line[strcspn(line, "#")] = '\0';
    char *save, *word = strtok_r(line, " \t", &save);
    if (!word)
        return;
    s.types = word;
    word = strtok_r(NULL, " \t", &save);
    if (word && word[0] == '[') {
        word++;
        for (bool last = false; word && !last; word = last ? word : strtok_r(NULL, " \t", &save)) {
            char *end = strchr(word, ']');
            if (end) {
                *end = '\0';
                last = true;
            }
            if (!strncasecmp(word, "signed-by=", 10))
                s.signed_by = word + 10;
            else if (!strcasecmp(word, "trusted=yes"))
                s.trusted = true;
        }
        word = strtok_r(NULL, " \t", &save);
    }
    s.uris = word;
    s.suites = strtok_r(NULL, " \t", &save);
    s.components = strtok_r(NULL, "", &save);
    emit(c, &s);
}

static void read_list(const struct collector *c, char *text)
{
    char *save;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        read_line(c, line);
}

/* ---- deb822: stanzas of "Field: value", continued by indented lines ---- */

static char *trim(char *text)
{
    text += strspn(text, " \t\n");
    for (size_t len = strlen(text); len && isspace((unsigned char)text[len - 1]);)
        text[--len] = '\0';
    return text;
}

static void set_field(struct source *s, const char *name, char *value)
{
    value = trim(value);
    if (!strcasecmp(name, "Types"))
        s->types = value;
    else if (!strcasecmp(name, "URIs"))
        s->uris = value;
    else if (!strcasecmp(name, "Suites"))
        s->suites = value;
    else if (!strcasecmp(name, "Components"))
        s->components = value;
    else if (!strcasecmp(name, "Signed-By"))
        s->signed_by = value;
    else if (!strcasecmp(name, "Trusted"))
        s->trusted = !strcasecmp(value, "yes");
    else if (!strcasecmp(name, "Enabled"))
        s->disabled = !strcasecmp(value, "no") || !strcasecmp(value, "false");
}

static void read_deb822(const struct collector *c, char *text)
{
    struct source s = {0};
    char *field = NULL, *value = NULL;
    while (text) {
        char *line = text;
        text = strchr(line, '\n');
        if (text)
            *text++ = '\0';
        if (line[0] == '#')
            continue;
        if ((line[0] == ' ' || line[0] == '\t') && field) {
            /* Behind the value, where it is still in one piece with it but for the NULs: join. */
            size_t have = strlen(value);
            value[have] = ' ';
            memmove(value + have + 1, line, strlen(line) + 1);
            continue;
        }
        if (field)
            set_field(&s, field, value);
        field = NULL;
        if (line[strspn(line, " \t\r")] == '\0') {
            emit(c, &s);
            s = (struct source){0};
            continue;
        }
        value = strchr(line, ':');
        if (value) {
            *value++ = '\0';
            field = line;
        }
    }
    if (field)
        set_field(&s, field, value);
    emit(c, &s);
}

/* ---- files ---- */

static void read_file(const struct collector *c, const char *path)
{
    _cleanup_free_ char *text = NULL;
    size_t len = strlen(path), text_len;
    if (io_read_file(AT_FDCWD, path, SOURCES_MAX_BYTES, &text, &text_len) || strlen(text) != text_len)
        return;
    if (len > 8 && !strcmp(path + len - 8, ".sources"))
        read_deb822(c, text);
    else
        read_list(c, text);
}

static void read_matching(const struct collector *c, const char *etc_apt, const char *pattern)
{
    char full[PATH_MAX];
    glob_t found;
    int n = snprintf(full, sizeof(full), "%s/%s", etc_apt, pattern);
    if (n < 0 || (size_t)n >= sizeof(full) || glob(full, 0, NULL, &found))
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        read_file(c, found.gl_pathv[i]);
    globfree(&found);
}

int apt_sources_collect(const char *etc_apt, const char *host, const char *suite, char **out,
                        struct dayfly_err *err)
{
    char *text = NULL;
    size_t len;
    struct collector c = {.host = host, .suite = suite, .out = open_memstream(&text, &len)};
    if (!c.out)
        return err_errno(err, ENOMEM, "apt's sources");
    read_matching(&c, etc_apt, "sources.list");
    read_matching(&c, etc_apt, "sources.list.d/*.list");
    read_matching(&c, etc_apt, "sources.list.d/*.sources");
    if (fclose(c.out)) {
        free(text);
        return err_errno(err, ENOMEM, "apt's sources");
    }
    *out = text;
    return 0;
}

bool apt_sources_host(char out[APT_RELEASE_BYTES])
{
    _cleanup_fclose_ FILE *f = fopen("/etc/os-release", "re");
    char line[256];
    bool debian = false;
    out[0] = '\0';
    while (f && fgets(line, sizeof(line), f)) {
        if (!strcmp(line, "ID=debian\n"))
            debian = true;
        sscanf(line, "VERSION_CODENAME=%63[a-z]", out);
    }
    return debian && out[0];
}
