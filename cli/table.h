/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

/* What listings print: columns for people, JSON for programs. */

#include <stdio.h>

#include <jansson.h>

#define TABLE_COLUMNS      8
#define TABLE_SIZE_BYTES   24
#define TABLE_DIGEST_BYTES 13
#define TABLE_MINUTE_BYTES 17

/* Zero-initialised is an empty one. */
struct table {
    char *(*rows)[TABLE_COLUMNS];
    size_t count;
    int failed; /* memory ran out */
};

/* Append a row of words (copied) up to NULL; the first row is the heading. */
void table_row(struct table *table, ...) __attribute__((sentinel));

/* Print the rows in aligned columns, and free them. */
void table_print(struct table *table, FILE *out);

/* "12.3 MiB" for a JSON integer of bytes, "-" for anything else. */
const char *table_size(const json_t *bytes, char out[TABLE_SIZE_BYTES]);

/* The first 12 digits of a JSON string "sha256:HEX", "-" for anything else. */
const char *table_digest(const json_t *digest, char out[TABLE_DIGEST_BYTES]);

/* "2026-01-02 03:04" for a JSON string "2026-01-02T03:04:05Z": what comes behind is of no help in a
 * list. Another text as it is; "-" for none. */
const char *table_minute(const json_t *time, char out[TABLE_MINUTE_BYTES]);

/* Print a document, indented, with a newline behind it. */
void table_json(const json_t *json, FILE *out);

#endif
