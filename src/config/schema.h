/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

/*
 * The one table of what a machine file may say. From its rows come the YAML reader (yaml.c), the checks
 * of ranges, lengths and uniqueness for descriptions however made (validate.c), the reference text
 * (reference.c) and the freeing of a description. A new key is a new row and a field in config.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum schema_kind {
    SCHEMA_NUMBER, /* uint32_t */
    SCHEMA_SIZE,   /* uint64_t, bytes */
    SCHEMA_BOOL,   /* bool */
    SCHEMA_TEXT,   /* char * */
    SCHEMA_NAME,   /* char *: letters, digits and . _ - */
    SCHEMA_PATH,   /* char *: made absolute against the file's folder when read */
    SCHEMA_STREAM, /* struct config_stream: a path, "stdio" or "none" */
    SCHEMA_CHOICE, /* an enum that counts from 0: one of `words` */
    SCHEMA_MAP,    /* keys of `children` */
    SCHEMA_LIST, /* items, each with the keys of `children`; or values, where that has one row without a
                    key ("") */
};

struct schema_row {
    const char *key; /* NULL ends the table */
    enum schema_kind kind;
    const char *help;     /* sentences */
    const char *example;  /* a value, as it stands behind the colon */
    const char *fallback; /* what holds when the key is not there, in words; NULL: nothing */
    bool required;
    bool unique; /* no two items of the list have the same */
    size_t offset;
    uint64_t min,
        max; /* NUMBER, SIZE: the value; TEXT, NAME, PATH: the most bytes; LIST: the most items */
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

/* The reference of the machine file, in Markdown. */
void schema_print_reference(FILE *out);

#endif
