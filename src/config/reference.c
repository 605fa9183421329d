/* SPDX-License-Identifier: Apache-2.0 */
/* The machine file's reference text, from the schema: doc/machine-file.md and `dayfly help
 * machine-file`. */
#include <inttypes.h>
#include <string.h>

#include "config/schema.h"
#include "util/units.h"

static const char head[] =
    "# The machine file\n"
    "\n"
    "A machine file describes one virtual machine, in YAML. `dayfly validate FILE` names every fault "
    "of it\n"
    "with line and column, and changes nothing; `dayfly vm run -f FILE` starts the machine.\n"
    "\n"
    "This text is made from the table that the reader works by (`dayfly help machine-file`).\n"
    "\n"
    "```yaml\n"
    "cpus: 2\n"
    "memory: 512MiB\n"
    "linux:\n"
    "  kernel: vmlinuz\n"
    "  initrd: initrd.img\n"
    "  command_line: \"console=hvc0 root=/dev/vda ro\"\n"
    "disks:\n"
    "  - path: root.img\n"
    "    read_only: true\n"
    "  - path: scratch.img\n"
    "    id: scratch\n"
    "shares:\n"
    "  - tag: src\n"
    "    path: ..\n"
    "    mode: ro\n"
    "consoles:\n"
    "  - name: main\n"
    "    output: stdio\n"
    "    primary: true\n"
    "vsock: {cid: 3, socket: vm.sock}\n"
    "```\n"
    "\n"
    "- A **size** is bytes, or a whole number with `K`, `M`, `G`, `T`, `KiB`, `MiB`, `GiB` or `TiB` "
    "behind it;\n"
    "  all of them count in powers of 1024.\n"
    "- A **path** that does not begin with `/` is relative to the folder of the machine file.\n"
    "- A **name** is made of letters, digits, dots, underscores and hyphens.\n"
    "- `stdio` is Dayfly's own standard input and output (a file of that name: `./stdio`); `none` is "
    "nowhere.\n"
    "- A machine file is one YAML document of at most 256 KiB, without anchors, aliases and tags.\n"
    "\n"
    "## Keys\n";

static void print_bounds(FILE *out, const struct schema_row *row)
{
    char size[UNITS_FORMAT_BYTES];
    switch (row->kind) {
    case SCHEMA_NUMBER:
        fprintf(out, ", from %" PRIu64 " to %" PRIu64, row->min, row->max);
        break;
    case SCHEMA_SIZE:
        if (row->min == 0)
            break;
        fprintf(out, ", at least %s", units_format_size(row->min, size));
        break;
    case SCHEMA_LIST:
    case SCHEMA_WORDS:
    case SCHEMA_PAIRS:
        fprintf(out, " of at most %" PRIu64, row->max);
        break;
    case SCHEMA_TEXT:
    case SCHEMA_NAME:
    case SCHEMA_PATH:
        if (row->max)
            fprintf(out, " of at most %" PRIu64 " bytes", row->max);
        break;
    case SCHEMA_DURATION:
    case SCHEMA_BOOL:
    case SCHEMA_CHOICE:
    case SCHEMA_STREAM:
    case SCHEMA_MAP:
        break;
    }
}

static void print_rows(FILE *out, const struct schema_row *rows, const char *around, bool in_list)
{
    for (const struct schema_row *row = rows; row->key; row++) {
        char path[SCHEMA_MAX_PATH], kind[SCHEMA_KIND_TEXT_BYTES];
        snprintf(path, sizeof(path), "%s%s%s%s", around, in_list ? "[]" : "", *around ? "." : "",
                 row->key);
        fprintf(out, "\n### `%s`\n\n*%s", path, schema_kind_text(row, kind));
        print_bounds(out, row);
        fprintf(out, "%s*", row->required ? "; required" : "");
        if (row->fallback)
            fprintf(out, " Default: %s.", row->fallback);
        fprintf(out, "\n\n%s", row->help);
        if (row->example)
            fprintf(out, " Example: `%s: %s`", row->key, row->example);
        fputc('\n', out);
        if (row->described_at)
            fprintf(out, "\nThe keys of an item are those of `%s`.\n", row->described_at);
        else if (row->children && !schema_is_plain(row))
            print_rows(out, row->children, path, row->kind == SCHEMA_LIST);
    }
}

void schema_print_rows(FILE *out, const struct schema_row *rows)
{
    print_rows(out, rows, "", false);
}

void schema_print_reference(FILE *out)
{
    fputs(head, out);
    schema_print_rows(out, config_schema);
}
