/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a machine file, or another that has a schema: libyaml's events, driven by the schema table.
 *
 * The text is hostile. It is bounded in size and depth; aliases and anchors are refused, so that
 * nothing can multiply; unknown parts are skipped without being kept, and no list grows past what the
 * schema allows. After a fault reading goes on with the next value; only a syntax error ends it.
 *
 * Each value's place is kept as a mark of the description, so that later faults (a missing file) can
 * point at it. A value that was refused is marked faulty, so that they keep quiet about it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "config/config.h"
#include "config/fault.h"
#include "config/schema.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/nearest.h"
#include "util/units.h"

enum {
    MAX_FILE_BYTES = 256 * 1024,
    MAX_DEPTH = 16,
    MAX_ROWS = 32, /* keys of one mapping in the schema */
};

struct yaml_reader {
    yaml_parser_t parser;
    struct reporter reporter;
    struct dayfly_config *config; /* for its marks */
    const struct schema_file *file;
    void *base;
    const char *text;
    size_t text_bytes;
    const char *base_dir; /* NULL: the working directory */
    char where[SCHEMA_MAX_PATH];
    unsigned depth;
    int rc; /* once it is not 0, no event comes any more: -EINVAL (syntax), -ENOMEM */
};

/* libyaml counts from 0. */
static unsigned line_of(yaml_mark_t mark)
{
    return (unsigned)mark.line + 1;
}

static unsigned column_of(yaml_mark_t mark)
{
    return (unsigned)mark.column + 1;
}

static __attribute__((format(printf, 4, 5))) void fault(struct yaml_reader *reader, yaml_mark_t mark,
                                                        const char *hint, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fault_at(&reader->reporter, DAYFLY_FAULT_ERROR, line_of(mark), column_of(mark), reader->where, hint,
             fmt, args);
    va_end(args);
}

/* Note where the value at reader->where stands. */
static void mark_here(struct yaml_reader *reader, yaml_mark_t mark)
{
    if (config_mark(reader->config, reader->where, line_of(mark), column_of(mark)))
        reader->rc = err_errno(reader->reporter.err, ENOMEM, "reading YAML");
}

/* The value here has been refused and reported. */
static void mark_faulty(struct yaml_reader *reader)
{
    struct config_mark *mark = config_mark_at(reader->config, reader->where);
    if (mark)
        mark->faulty = true;
}

/* Append to reader->where; returns the length to cut it back to. Only schema keys and indexes get in,
 * so it always fits. */
static size_t enter_key(struct yaml_reader *reader, const char *key)
{
    size_t len = strlen(reader->where);
    snprintf(reader->where + len, sizeof(reader->where) - len, "%s%s", len ? "." : "", key);
    return len;
}

static size_t enter_item(struct yaml_reader *reader, size_t index)
{
    size_t len = strlen(reader->where);
    snprintf(reader->where + len, sizeof(reader->where) - len, "[%zu]", index);
    return len;
}

static void leave(struct yaml_reader *reader, size_t len)
{
    reader->where[len] = '\0';
}

/* Whether line `line` (from 0) is indented with a tab. */
static bool indented_by_tab(const struct yaml_reader *reader, size_t line)
{
    const char *p = reader->text, *end = p + reader->text_bytes;
    for (; line > 0 && p < end; line--) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        p = newline ? newline + 1 : end;
    }
    while (p < end && *p == ' ')
        p++;
    return p < end && *p == '\t';
}

static void report_syntax(struct yaml_reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    yaml_mark_t mark = parser->problem_mark;
    const char *problem = parser->problem ? parser->problem : "not YAML";
    const char *hint = NULL;
    reader->where[0] = '\0';
    if (parser->error == YAML_MEMORY_ERROR) {
        reader->rc = err_errno(reader->reporter.err, ENOMEM, "reading YAML");
        return;
    }
    if (parser->error == YAML_READER_ERROR) {
        /* Not decodable: there is an offset but no mark. */
        mark = (yaml_mark_t){0};
        for (size_t i = 0; i < parser->problem_offset && i < reader->text_bytes; i++) {
            mark.column++;
            if (reader->text[i] == '\n') {
                mark.line++;
                mark.column = 0;
            }
        }
        hint = "the file must be UTF-8 text";
    } else if (indented_by_tab(reader, mark.line)) {
        hint = "indent with spaces, not tabs";
    } else if (strstr(problem, "mapping values are not allowed")) {
        hint = "put a value that contains \": \" into quotes";
    } else if (strstr(problem, "could not find expected ':'")) {
        hint = "write `key: value`, with a colon and a space between them";
    }
    if (parser->context && parser->context_mark.line != mark.line)
        fault(reader, mark, hint, "YAML syntax: %s, %s that began in line %u", problem, parser->context,
              line_of(parser->context_mark));
    else if (parser->context)
        fault(reader, mark, hint, "YAML syntax: %s, %s", problem, parser->context);
    else
        fault(reader, mark, hint, "YAML syntax: %s", problem);
    reader->rc = -EINVAL;
}

/* Anchors, aliases and tags: nothing in a machine file needs them. */
static void refuse_extras(struct yaml_reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else if (event->type == YAML_ALIAS_EVENT) {
        fault(reader, event->start_mark, "write the value out", "the alias *%.40s is not allowed here",
              (const char *)event->data.alias.anchor);
    }
    if (anchor)
        fault(reader, event->start_mark, "leave it out: every value is written once, where it stands",
              "the anchor &%.40s is not allowed here", (const char *)anchor);
    if (tag)
        fault(reader, event->start_mark, "leave it out: the type is known from the key",
              "the tag %.40s is not allowed here", (const char *)tag);
}

/* The next event, to be deleted by the caller. False at the end of what can be read. */
static bool next(struct yaml_reader *reader, yaml_event_t *event)
{
    if (reader->rc)
        return false;
    if (!yaml_parser_parse(&reader->parser, event)) {
        report_syntax(reader);
        return false;
    }
    if (event->type == YAML_SEQUENCE_END_EVENT || event->type == YAML_MAPPING_END_EVENT)
        reader->depth--;
    if ((event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT) &&
        ++reader->depth > MAX_DEPTH) {
        fault(reader, event->start_mark, NULL, "nested more than %d deep", MAX_DEPTH);
        reader->rc = -EINVAL;
        yaml_event_delete(event);
        return false;
    }
    refuse_extras(reader, event);
    return true;
}

/* Read over the node that `type` began. */
static void skip_rest(struct yaml_reader *reader, yaml_event_type_t type)
{
    if (type != YAML_SEQUENCE_START_EVENT && type != YAML_MAPPING_START_EVENT)
        return;
    unsigned outside = reader->depth - 1;
    yaml_event_t event;
    while (reader->depth > outside && next(reader, &event))
        yaml_event_delete(&event);
}

static void skip_node(struct yaml_reader *reader)
{
    yaml_event_t event;
    if (!next(reader, &event))
        return;
    yaml_event_type_t type = event.type;
    yaml_event_delete(&event);
    skip_rest(reader, type);
}

static bool is_null(const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*text || !strcmp(text, "~") || !strcasecmp(text, "null"));
}

/* How to write the value of `row` so that it is right. */
static void how_to_write(const struct schema_row *row, char *hint, size_t size)
{
    if (schema_is_plain(row))
        snprintf(hint, size, "write `- %s` below `%s:`", row->children->example, row->key);
    else if (row->kind == SCHEMA_MAP || row->kind == SCHEMA_LIST)
        snprintf(hint, size, "write `%s%s: %s` below `%s:`", row->kind == SCHEMA_LIST ? "- " : "",
                 row->children->key, row->children->example, row->key);
    else if (row->kind == SCHEMA_SIZE)
        snprintf(hint, size, "write `%s: %s`; the units are K, M, G, T, KiB, MiB, GiB and TiB",
                 row->key, row->example);
    else if (*row->key)
        snprintf(hint, size, "write `%s: %s`", row->key, row->example);
    else
        snprintf(hint, size, "write `%s`", row->example);
}

/* The value is not of the kind that `row` wants; or an item of the LIST is no mapping. Reports it and
 * reads over it. */
static void wrong_kind(struct yaml_reader *reader, const struct schema_row *row, bool is_item,
                       const yaml_event_t *event)
{
    char hint[160], found[64], expected[SCHEMA_KIND_TEXT_BYTES];
    if (event->type == YAML_SCALAR_EVENT && is_null(event))
        snprintf(found, sizeof(found), "nothing");
    else if (event->type == YAML_SCALAR_EVENT)
        snprintf(found, sizeof(found), "\"%.40s\"", (const char *)event->data.scalar.value);
    else
        snprintf(found, sizeof(found), "%s",
                 event->type == YAML_SEQUENCE_START_EVENT ? "a list" : "a mapping");
    how_to_write(row, hint, sizeof(hint));
    if (event->type != YAML_ALIAS_EVENT) /* reported by refuse_extras */
        fault(reader, event->start_mark, hint, "expected %s, found %s",
              is_item ? "a mapping" : schema_kind_text(row, expected), found);
    mark_faulty(reader);
    skip_rest(reader, event->type);
}

/* Replace the text at `slot`. A relative path is one of the file's folder. */
static void store_text(struct yaml_reader *reader, char **slot, const char *text, bool is_path)
{
    char *copy = NULL;
    if (is_path && *text && *text != '/' && reader->base_dir) {
        if (asprintf(&copy, "%s%s%s", reader->base_dir,
                     reader->base_dir[strlen(reader->base_dir) - 1] == '/' ? "" : "/", text) < 0)
            copy = NULL;
    } else {
        copy = strdup(text);
    }
    if (!copy) {
        reader->rc = err_errno(reader->reporter.err, ENOMEM, "reading YAML");
        return;
    }
    free(*slot);
    *slot = copy;
}

static void store_stream(struct yaml_reader *reader, struct config_stream *stream, const char *text)
{
    bool stdio = !strcmp(text, "stdio");
    stream->output_fd = stdio ? STDOUT_FILENO : -1;
    stream->input_fd = stdio ? STDIN_FILENO : -1;
    if (stdio || !strcmp(text, "none")) {
        free(stream->path);
        stream->path = NULL;
    } else {
        store_text(reader, &stream->path, text, true);
    }
}

static bool is_scalar(const struct schema_row *row)
{
    return row->kind != SCHEMA_MAP && row->kind != SCHEMA_LIST && row->kind != SCHEMA_WORDS &&
           row->kind != SCHEMA_PAIRS;
}

static void read_scalar(struct yaml_reader *reader, const struct schema_row *row, void *base,
                        const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    void *field = schema_field(base, row);
    struct dayfly_err why = {0};
    uint64_t number = 0;
    bool wrong = false;

    if (strlen(text) != event->data.scalar.length) {
        fault(reader, event->start_mark, NULL, "the text has a NUL byte in it");
        mark_faulty(reader);
        return;
    }
    if (is_null(event)) {
        wrong_kind(reader, row, false, event);
        return;
    }
    switch (row->kind) {
    case SCHEMA_NUMBER:
        if (!plain)
            wrong = true;
        else if (units_parse_number(text, 0, UINT32_MAX, &number, &why) == 0)
            *(uint32_t *)field = (uint32_t)number;
        break;
    case SCHEMA_SIZE:
        if (units_parse_size(text, &number, &why) == 0)
            *(uint64_t *)field = number;
        break;
    case SCHEMA_DURATION:
        if (units_parse_duration(text, &number, &why) == 0)
            *(uint64_t *)field = number;
        break;
    case SCHEMA_BOOL:
        wrong = !plain || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0);
        if (!wrong)
            *(bool *)field = !strcmp(text, "true");
        break;
    case SCHEMA_CHOICE:
        wrong = true;
        for (unsigned i = 0; row->words[i]; i++)
            if (!strcmp(text, row->words[i])) {
                *(unsigned *)field = i;
                wrong = false;
            }
        break;
    case SCHEMA_TEXT:
    case SCHEMA_NAME:
        store_text(reader, field, text, false);
        break;
    case SCHEMA_PATH:
        store_text(reader, field, text, true);
        break;
    case SCHEMA_STREAM:
        store_stream(reader, field, text);
        break;
    case SCHEMA_WORDS:
    case SCHEMA_PAIRS:
    case SCHEMA_MAP:
    case SCHEMA_LIST:
        wrong = true;
        break;
    }
    if (wrong || why.code == EINVAL) {
        wrong_kind(reader, row, false, event);
    } else if (why.code) {
        fault(reader, event->start_mark, NULL, "%s", why.msg);
        mark_faulty(reader);
    } else if (row->zero_is_none && number == 0) {
        char hint[128];
        snprintf(hint, sizeof(hint), "leave it out for the default: %s", row->fallback);
        fault(reader, event->start_mark, hint, "it cannot be 0");
        mark_faulty(reader);
    }
}

static void read_value(struct yaml_reader *reader, const struct schema_row *row, void *base,
                       const yaml_event_t *event);

static void unknown_key(struct yaml_reader *reader, const struct schema_row *rows, const char *key,
                        yaml_mark_t mark)
{
    char hint[256] = "";
    struct nearest near = nearest_to(key);
    for (const struct schema_row *row = rows; row->key; row++)
        nearest_offer(&near, row->key);
    if (near.best) {
        snprintf(hint, sizeof(hint), "did you mean `%s`?", near.best);
    } else {
        size_t len = (size_t)snprintf(hint, sizeof(hint), "known here:");
        for (const struct schema_row *row = rows; row->key && len < sizeof(hint); row++)
            len += (size_t)snprintf(hint + len, sizeof(hint) - len, "%s %s", row == rows ? "" : ",",
                                    row->key);
    }
    fault(reader, mark, hint, "unknown key \"%.40s\"", key);
}

/* Read the keys of a mapping whose start event has been read. `base` is the struct of `rows`. */
static void read_map(struct yaml_reader *reader, const struct schema_row *rows, void *base)
{
    unsigned first_line[MAX_ROWS] = {0};
    yaml_event_t event;
    while (next(reader, &event)) {
        yaml_mark_t mark = event.start_mark;
        yaml_event_type_t type = event.type;
        char key[NEAREST_MAX_LEN + 1] = "";
        if (type == YAML_SCALAR_EVENT &&
            strlen((const char *)event.data.scalar.value) == event.data.scalar.length)
            snprintf(key, sizeof(key), "%s", (const char *)event.data.scalar.value);
        yaml_event_delete(&event);
        if (type == YAML_MAPPING_END_EVENT)
            return;
        if (type != YAML_SCALAR_EVENT) {
            if (type != YAML_ALIAS_EVENT)
                fault(reader, mark, "quote it if it is meant as text", "a key must be a word");
            skip_rest(reader, type);
            skip_node(reader);
            continue;
        }
        const struct schema_row *row = rows;
        while (row->key && strcmp(row->key, key) != 0)
            row++;
        size_t index = (size_t)(row - rows);
        if (!row->key || index >= MAX_ROWS) {
            unknown_key(reader, rows, key, mark);
            skip_node(reader);
            continue;
        }
        if (first_line[index]) {
            char hint[64];
            snprintf(hint, sizeof(hint), "it stands in line %u already", first_line[index]);
            fault(reader, mark, hint, "the key \"%s\" is given twice", key);
            skip_node(reader);
            continue;
        }
        first_line[index] = line_of(mark);
        size_t outside = enter_key(reader, key);
        if (next(reader, &event)) {
            /* A collection is best pointed at by its key: its own start is that of its first part. */
            bool scalar = event.type == YAML_SCALAR_EVENT;
            mark_here(reader, scalar ? event.start_mark : mark);
            read_value(reader, row, base, &event);
            yaml_event_delete(&event);
        }
        leave(reader, outside);
    }
}

static void read_list(struct yaml_reader *reader, const struct schema_row *row, void *base)
{
    yaml_event_t event;
    for (size_t index = 0; next(reader, &event); index++) {
        yaml_mark_t mark = event.start_mark;
        yaml_event_type_t type = event.type;
        if (type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return;
        }
        if (index >= row->max) {
            if (index == row->max)
                fault(reader, mark, NULL, "too many: at most %u", (unsigned)row->max);
            skip_rest(reader, type);
        } else {
            size_t outside = enter_item(reader, index);
            void *item = schema_append(base, row); /* a faulty one too: indexes stay the file's */
            mark_here(reader, mark);
            if (!item)
                reader->rc = err_errno(reader->reporter.err, ENOMEM, "reading YAML");
            else if (schema_is_plain(row))
                read_value(reader, row->children, item, &event);
            else if (type == YAML_MAPPING_START_EVENT)
                read_map(reader, row->children, item);
            else
                wrong_kind(reader, row, true, &event);
            leave(reader, outside);
        }
        yaml_event_delete(&event);
    }
}

static void append_word(struct yaml_reader *reader, const struct schema_row *row, void *base,
                        const char *word, yaml_mark_t mark)
{
    struct schema_words *words = schema_field(base, row);
    if (words->count == row->max) {
        fault(reader, mark, NULL, "too many: at most %u", (unsigned)row->max);
        mark_faulty(reader);
    } else if (words->count < row->max && schema_append_word(words, word) < 0) {
        reader->rc = err_errno(reader->reporter.err, ENOMEM, "reading YAML");
    }
}

/* Whether the event is a text, of a list or behind a name. Any scalar is one, but nothing at all. */
static bool is_text(struct yaml_reader *reader, const yaml_event_t *event)
{
    if (event->type == YAML_SCALAR_EVENT && !is_null(event) &&
        strlen((const char *)event->data.scalar.value) == event->data.scalar.length)
        return true;
    if (event->type != YAML_ALIAS_EVENT)
        fault(reader, event->start_mark, "put it into quotes", "expected a text, without NUL bytes");
    mark_faulty(reader);
    skip_rest(reader, event->type);
    return false;
}

/* The items of WORDS. They have no marks of their own, as they can be many: the list's is near. */
static void read_words(struct yaml_reader *reader, const struct schema_row *row, void *base)
{
    yaml_event_t event;
    for (size_t index = 0; next(reader, &event); index++) {
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return;
        }
        size_t outside = enter_item(reader, index);
        /* Also in the place of a faulty one: indexes stay the file's. */
        const char *word = is_text(reader, &event) ? (const char *)event.data.scalar.value : "";
        append_word(reader, row, base, word, event.start_mark);
        leave(reader, outside);
        yaml_event_delete(&event);
    }
}

static bool has_pair(const struct schema_words *words, const char *pair)
{
    size_t len = strcspn(pair, "=") + 1;
    for (size_t i = 0; i < words->count; i++)
        if (strncmp(words->words[i], pair, len) == 0)
            return true;
    return false;
}

/* The names and texts of PAIRS. */
static void read_pairs(struct yaml_reader *reader, const struct schema_row *row, void *base)
{
    yaml_event_t key, value;
    while (next(reader, &key)) {
        _cleanup_free_ char *pair = NULL;
        yaml_mark_t mark = key.start_mark;
        if (key.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&key);
            return;
        }
        bool good = is_text(reader, &key);
        const char *name = good ? (const char *)key.data.scalar.value : "";
        if (good && (!*name || strchr(name, '='))) {
            fault(reader, mark, "write `NAME: text`", "\"%.40s\" is no name", name);
            good = false;
        }
        if (next(reader, &value)) {
            good = is_text(reader, &value) && good;
            if (good && asprintf(&pair, "%s=%s", name, (const char *)value.data.scalar.value) < 0) {
                pair = NULL;
                reader->rc = err_errno(reader->reporter.err, ENOMEM, "reading YAML");
            }
            yaml_event_delete(&value);
        }
        if (pair && has_pair(schema_field(base, row), pair))
            fault(reader, mark, NULL, "\"%.40s\" is given twice", name);
        else if (pair)
            append_word(reader, row, base, pair, mark);
        yaml_event_delete(&key);
    }
}

static void read_value(struct yaml_reader *reader, const struct schema_row *row, void *base,
                       const yaml_event_t *event)
{
    if (row->kind == SCHEMA_MAP && event->type == YAML_MAPPING_START_EVENT) {
        bool *present = schema_beside(base, row);
        if (present)
            *present = true;
        read_map(reader, row->children, schema_field(base, row));
    } else if (row->kind == SCHEMA_LIST && event->type == YAML_SEQUENCE_START_EVENT) {
        read_list(reader, row, base);
    } else if (row->kind == SCHEMA_WORDS && event->type == YAML_SEQUENCE_START_EVENT) {
        read_words(reader, row, base);
    } else if (row->kind == SCHEMA_PAIRS && event->type == YAML_MAPPING_START_EVENT) {
        read_pairs(reader, row, base);
    } else if (is_scalar(row) && event->type == YAML_SCALAR_EVENT) {
        read_scalar(reader, row, base, event);
    } else {
        wrong_kind(reader, row, false, event);
    }
}

/* The one document of the stream: a mapping. */
static void read_document(struct yaml_reader *reader)
{
    yaml_event_t event;
    char hint[128];
    if (!next(reader, &event))
        return;
    mark_here(reader, event.start_mark);
    if (event.type == YAML_MAPPING_START_EVENT) {
        read_map(reader, reader->file->rows, reader->base);
    } else {
        if (event.type != YAML_ALIAS_EVENT) {
            snprintf(hint, sizeof(hint), "write %s and so on, each in a line", reader->file->example);
            fault(reader, event.start_mark, hint, "a %s file is a mapping", reader->file->what);
        }
        mark_faulty(reader);
        skip_rest(reader, event.type);
    }
    yaml_event_delete(&event);
}

static void read_stream(struct yaml_reader *reader)
{
    yaml_event_t event;
    char hint[128];
    for (unsigned documents = 0; next(reader, &event);) {
        yaml_event_type_t type = event.type;
        yaml_mark_t mark = event.start_mark;
        yaml_event_delete(&event);
        if (type == YAML_DOCUMENT_START_EVENT && documents++ == 0) {
            read_document(reader);
        } else if (type == YAML_DOCUMENT_START_EVENT) {
            snprintf(hint, sizeof(hint), "put the second %s into a file of its own",
                     reader->file->what);
            fault(reader, mark, hint, "a %s file is one document", reader->file->what);
            return;
        } else if (type == YAML_STREAM_END_EVENT) {
            if (documents == 0) {
                mark_here(reader, mark);
                snprintf(hint, sizeof(hint), "see `dayfly help %s-file`", reader->file->what);
                fault(reader, mark, hint, "the file is empty");
                mark_faulty(reader);
            }
            return;
        }
    }
}

int schema_parse_yaml(const struct schema_file *file, void *base, struct dayfly_config *config,
                      const char *name, const char *text, size_t text_bytes, const char *base_dir,
                      dayfly_report_fn *report, void *opaque, struct dayfly_err *err)
{
    struct yaml_reader reader = {
        .reporter = {.file = name, .report = report, .opaque = opaque, .err = err},
        .config = config,
        .file = file,
        .base = base,
        .text = text,
        .text_bytes = text_bytes,
        .base_dir = base_dir && *base_dir ? base_dir : NULL,
    };
    if (text_bytes > MAX_FILE_BYTES)
        return err_set(err, EFBIG, "%.80s is larger than %d KiB, which no %s file needs",
                       name ? name : "the text", MAX_FILE_BYTES / 1024, file->what);
    char *source = name ? strdup(name) : NULL;
    if ((name && !source) || !yaml_parser_initialize(&reader.parser)) {
        free(source);
        return err_errno(err, ENOMEM, "reading YAML");
    }
    free(config->source);
    config->source = source;
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, text_bytes);
    read_stream(&reader);
    yaml_parser_delete(&reader.parser);
    config->incomplete |= reader.rc != 0;
    if (reader.rc && reader.rc != -EINVAL)
        return reader.rc;
    return reader.reporter.errors ? -EINVAL : 0;
}

int schema_load_yaml(const struct schema_file *file, void *base, struct dayfly_config *config,
                     const char *path, dayfly_report_fn *report, void *opaque, struct dayfly_err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t text_bytes = 0;
    int rc = io_read_file(AT_FDCWD, path, MAX_FILE_BYTES, &text, &text_bytes);
    if (rc == -EFBIG)
        return err_set(err, EFBIG, "%.80s is larger than %d KiB, which no %s file needs", path,
                       MAX_FILE_BYTES / 1024, file->what);
    if (rc)
        return err_errno(err, -rc, "%.150s", path);

    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *base_dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup("");
    if (!base_dir)
        return err_errno(err, ENOMEM, "reading YAML");
    return schema_parse_yaml(file, base, config, path, text, text_bytes, base_dir, report, opaque, err);
}

int dayfly_config_parse_yaml(struct dayfly_config *config, const char *name, const char *text,
                             size_t text_bytes, const char *base_dir, dayfly_report_fn *report,
                             void *opaque, struct dayfly_err *err)
{
    return schema_parse_yaml(&config_schema_file, config, config, name, text, text_bytes, base_dir,
                             report, opaque, err);
}

int dayfly_config_load_yaml(struct dayfly_config *config, const char *path, dayfly_report_fn *report,
                            void *opaque, struct dayfly_err *err)
{
    return schema_load_yaml(&config_schema_file, config, config, path, report, opaque, err);
}

static bool is_one_of(const char *word, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(word, *list) == 0)
            return true;
    return false;
}

bool schema_file_has_key(const char *path, const char *const *keys, const char *const *without)
{
    _cleanup_free_ char *text = NULL;
    size_t text_bytes = 0;
    yaml_parser_t parser;
    yaml_event_t event;
    bool found = false, refused = false, over = false, key = true;
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) ||
        io_read_file(AT_FDCWD, path, MAX_FILE_BYTES, &text, &text_bytes) < 0 ||
        !yaml_parser_initialize(&parser))
        return false;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, text_bytes);
    for (unsigned depth = 0; !over && yaml_parser_parse(&parser, &event);) {
        bool begins = event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT;
        bool ends = event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        over = event.type == YAML_DOCUMENT_END_EVENT || event.type == YAML_STREAM_END_EVENT ||
               (begins && depth >= MAX_DEPTH) ||
               (depth == 0 && event.type == YAML_SEQUENCE_START_EVENT);
        depth -= ends;
        if (event.type == YAML_SCALAR_EVENT && depth == 1 && key) {
            found |= is_one_of((const char *)event.data.scalar.value, keys);
            refused |= is_one_of((const char *)event.data.scalar.value, without);
        }
        /* In the outer mapping each node that is whole is a key and a value in turn. */
        if (depth == 1 && (ends || event.type == YAML_SCALAR_EVENT || event.type == YAML_ALIAS_EVENT))
            key = !key;
        depth += begins;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return found && !refused;
}
