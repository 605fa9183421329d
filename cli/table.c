/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"

void table_row(struct table *table, ...)
{
    void *bigger = realloc(table->rows, (table->count + 1) * sizeof(*table->rows));
    if (!bigger) {
        table->failed = 1;
        return;
    }
    table->rows = bigger;
    char **row = table->rows[table->count++];
    memset(row, 0, sizeof(*table->rows));
    va_list args;
    va_start(args, table);
    const char *word;
    for (size_t i = 0; i < TABLE_COLUMNS && (word = va_arg(args, const char *)); i++) {
        row[i] = strdup(word);
        table->failed |= !row[i];
    }
    va_end(args);
}

void table_print(struct table *table, FILE *out)
{
    size_t widths[TABLE_COLUMNS] = {0};
    for (size_t r = 0; r < table->count; r++) {
        for (size_t c = 0; c < TABLE_COLUMNS && table->rows[r][c]; c++)
            widths[c] = MAX(widths[c], strlen(table->rows[r][c]));
    }
    for (size_t r = 0; r < table->count; r++) {
        for (size_t c = 0; c < TABLE_COLUMNS && table->rows[r][c]; c++) {
            int last = c + 1 == TABLE_COLUMNS || !table->rows[r][c + 1];
            fprintf(out, "%-*s%s", last ? 0 : (int)widths[c], table->rows[r][c], last ? "\n" : "  ");
            free(table->rows[r][c]);
        }
    }
    free(table->rows);
    *table = (struct table){0};
}

const char *table_size(const json_t *bytes, char out[TABLE_SIZE_BYTES])
{
    if (json_is_integer(bytes))
        snprintf(out, TABLE_SIZE_BYTES, "%.1f MiB", (double)json_integer_value(bytes) / (1 << 20));
    else
        strcpy(out, "-");
    return out;
}

const char *table_digest(const json_t *digest, char out[TABLE_DIGEST_BYTES])
{
    static const char SHA256[] = "sha256:";
    const char *text = json_string_value(digest);
    bool is = text && !strncmp(text, SHA256, strlen(SHA256)) && text[strlen(SHA256)];
    snprintf(out, TABLE_DIGEST_BYTES, "%.12s", is ? text + strlen(SHA256) : "-");
    return out;
}

const char *table_minute(const json_t *time, char out[TABLE_MINUTE_BYTES])
{
    const char *text = json_string_value(time);
    if (!text || strlen(text) < strlen("2026-01-02T03:04") || text[10] != 'T')
        return text && text[0] ? text : "-";
    snprintf(out, TABLE_MINUTE_BYTES, "%.10s %.5s", text, text + 11);
    return out;
}

void table_json(const json_t *json, FILE *out)
{
    json_dumpf(json, out, JSON_INDENT(2));
    fputc('\n', out);
}
