/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_SCHEMA_ROWS_H
#define CONFIG_SCHEMA_ROWS_H

/* What rows of a schema are written with: `{"key", NUMBER(struct of_the_table, member), .help = ...}`.
 * For the files that have a table, and no others: the names are short. */

#include "config/config.h"
#include "config/schema.h"

/* offsetof, and a compile error unless the member has the type that the row's kind reads and writes. */
#define AT(type, member, want)                                                                         \
    (offsetof(type, member) +                                                                          \
     0 * sizeof(char[__builtin_types_compatible_p(__typeof__(((type *)0)->member), want) ? 1 : -1]))

#define NUMBER(type, member)   .kind = SCHEMA_NUMBER, .offset = AT(type, member, uint32_t)
#define SIZE(type, member)     .kind = SCHEMA_SIZE, .offset = AT(type, member, uint64_t)
#define DURATION(type, member) .kind = SCHEMA_DURATION, .offset = AT(type, member, uint64_t)
#define WORDS(type, member)    .kind = SCHEMA_WORDS, .offset = AT(type, member, struct schema_words)
#define PAIRS(type, member)    .kind = SCHEMA_PAIRS, .offset = AT(type, member, struct schema_words)
#define BOOL(type, member)     .kind = SCHEMA_BOOL, .offset = AT(type, member, bool)
#define TEXT(type, member)     .kind = SCHEMA_TEXT, .offset = AT(type, member, char *)
#define NAME(type, member)     .kind = SCHEMA_NAME, .offset = AT(type, member, char *)
#define PATH(type, member)     .kind = SCHEMA_PATH, .offset = AT(type, member, char *)
#define STREAM(type, member)   .kind = SCHEMA_STREAM, .offset = AT(type, member, struct config_stream)
/* Enums are all of unsigned int's size and values, but not of its type. */
#define CHOICE(type, member, list)                                                                     \
    .kind = SCHEMA_CHOICE, .words = list,                                                              \
    .offset = offsetof(type, member) +                                                                 \
              0 * sizeof(char[sizeof(((type *)0)->member) == sizeof(unsigned) ? 1 : -1])
#define MAP(type, member, rows) .kind = SCHEMA_MAP, .offset = offsetof(type, member), .children = rows
#define LIST(type, member, n, rows, blank)                                                             \
    .kind = SCHEMA_LIST, .offset = offsetof(type, member), .beside = AT(type, n, size_t),              \
    .children = rows, .item_bytes = sizeof(blank), .blank_item = &blank

#endif
