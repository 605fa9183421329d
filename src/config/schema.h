/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

/*
 * A table of what a file may say: of a machine file (config_schema), or a job file (job/job_file.h).
 * From its rows come the YAML reader (yaml.c), the checks
 * of ranges, lengths and uniqueness for descriptions however made (validate.c), the reference text
 * (reference.c) and the freeing of a description. A new key is a new row and a field in config.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "dayfly/config.h"

enum schema_kind {
    SCHEMA_NUMBER,   /* uint32_t */
    SCHEMA_SIZE,     /* uint64_t, bytes */
    SCHEMA_DURATION, /* uint64_t, nanoseconds */
    SCHEMA_BOOL,     /* bool */
    SCHEMA_TEXT,     /* char * */
    SCHEMA_NAME,     /* char *: letters, digits and . _ - */
    SCHEMA_PATH,     /* char *: made absolute against the file's folder when read */
    SCHEMA_STREAM,   /* struct config_stream: a path, "stdio" or "none" */
    SCHEMA_CHOICE,   /* an enum that counts from 0: one of `words` */
    SCHEMA_WORDS,    /* struct schema_words: a list of texts */
    SCHEMA_PAIRS,    /* struct schema_words: any names, each with a text, kept as NAME=text */
    SCHEMA_MAP,      /* keys of `children` */
    SCHEMA_LIST, /* items, each with the keys of `children`; or values, where that has one row without a
                    key ("") */
};

struct schema_words {
    char **words; /* NULL behind the last */
    size_t count;
};

struct schema_row {
    const char *key; /* NULL ends the table */
    enum schema_kind kind;
    const char *help;     /* sentences */
    const char *example;  /* a value, as it stands behind the colon */
    const char *fallback; /* what holds when the key is not there, in words; NULL: nothing */
    bool required;
    bool unique; /* no two items of the list have the same */
    bool lines;  /* TEXT: may have several */
    /* NUMBER, SIZE, DURATION: 0 is the value of a key that is not there, and cannot be written. */
    bool zero_is_none;
    size_t offset;
    uint64_t min,
        max; /* NUMBER, SIZE: the value; TEXT, NAME, PATH: the most bytes; LIST, WORDS, PAIRS: items */
    /* PATH: of the descriptor that may stand for it. MAP: of the bool that says it was there.
     * LIST: of the count. 0: none (no such field is a struct's first). */
    size_t beside;
    const char *const *words; /* CHOICE: each at its value's index; NULL behind the last */
    const struct schema_row *children;
    const char *described_at; /* the key under which the reference has told of the children already */
    size_t item_bytes;        /* LIST */
    const void *blank_item;   /* LIST: a new item */
};

extern const struct schema_row config_schema[];

enum { SCHEMA_MAX_PATH = 128 }; /* of "disks[1].path" */

/* The field of `row` in the struct that the row's table is of. */
static inline void *schema_field(const void *base, const struct schema_row *row)
{
    return (char *)(uintptr_t)base + row->offset;
}

static inline void *schema_beside(const void *base, const struct schema_row *row)
{
    return row->beside ? (char *)(uintptr_t)base + row->beside : NULL;
}

/* Item `index` of a LIST. */
static inline void *schema_item(const void *base, const struct schema_row *row, size_t index)
{
    return *(char **)schema_field(base, row) + index * row->item_bytes;
}

/* "a whole number", "one of rw, ro, cow": for messages and the reference. Returns `text`. */
enum { SCHEMA_KIND_TEXT_BYTES = 96 };
char *schema_kind_text(const struct schema_row *row, char text[SCHEMA_KIND_TEXT_BYTES]);

/* How many words a CHOICE has. */
unsigned schema_word_count(const struct schema_row *row);

/* Whether the items of a LIST are values, of children[0]'s kind. */
static inline bool schema_is_plain(const struct schema_row *row)
{
    return row->kind == SCHEMA_LIST && !*row->children->key;
}

/* Append a blank item to a LIST. Returns it, or NULL when there is no memory. */
void *schema_append(void *base, const struct schema_row *row);

/* Free what the rows own; the struct itself is the caller's. */
void schema_free(void *base, const struct schema_row *rows);

/* Append a copy of a text. Returns 0 or -ENOMEM. */
int schema_append_word(struct schema_words *words, const char *word);

/* What sort of file a table is of, for messages. */
struct schema_file {
    const struct schema_row *rows;
    const char
        *what; /* "machine": the file is a machine file, `dayfly help machine-file` tells of it */
    const char *example; /* "`cpus: 2`, `memory: 512MiB`" */
};

extern const struct schema_file config_schema_file;

/* What reads and checks a file by its table: places are marks of a description, which is a blank one
 * where the table is not config_schema. */
struct dayfly_config;

/* As dayfly_config_parse_yaml and _load_yaml, into a struct of the table's. */
int schema_parse_yaml(const struct schema_file *file, void *base, struct dayfly_config *marks,
                      const char *name, const char *text, size_t text_bytes, const char *base_dir,
                      dayfly_report_fn *report, void *opaque, struct dayfly_err *err);
int schema_load_yaml(const struct schema_file *file, void *base, struct dayfly_config *marks,
                     const char *path, dayfly_report_fn *report, void *opaque, struct dayfly_err *err);

/* Whether the file at `path` is a mapping that has one of these keys (up to a NULL) and none of
 * `without`, whatever else is in it. False also for what cannot be read, or not twice (a pipe). */
bool schema_file_has_key(const char *path, const char *const *keys, const char *const *without);

/* The reference of the machine file, in Markdown; and the part of such a text that comes from rows. */
void schema_print_reference(FILE *out);
void schema_print_rows(FILE *out, const struct schema_row *rows);

#endif
