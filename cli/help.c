/* SPDX-License-Identifier: Apache-2.0 */
/* The texts that come from a command's rows: `--help` and man pages; and the command `help`. */
#include <ctype.h>
#include <string.h>

#include "command.h"
#include "config/schema.h"
#include "job/job_file.h"
#include "util/arith.h"

enum { WIDTH = 80, OPTION_COLUMN = 28 };

/* Print one paragraph (up to `len` bytes of text) from column `column` on, wrapped, with `indent`
 * spaces before each further line. Ends the line. */
static void print_wrapped(FILE *out, int column, int indent, const char *text, size_t len)
{
    bool first_word = true;
    const char *p = text, *end = text + len;
    while (p < end) {
        p += strspn(p, " \n");
        if (p >= end)
            break;
        size_t word = MIN(strcspn(p, " \n"), (size_t)(end - p));
        if (!first_word && column + 1 + (int)word > WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first_word) {
            fputc(' ', out);
            column++;
        }
        fwrite(p, 1, word, out);
        column += (int)word;
        p += word;
        first_word = false;
    }
    fputc('\n', out);
}

/* The length of the paragraph at `text`; *next is where the following one begins, or its NUL. */
static size_t paragraph(const char *text, const char **next)
{
    const char *end = strstr(text, "\n\n");
    if (!end)
        end = text + strlen(text);
    *next = end + strspn(end, "\n");
    return (size_t)(end - text);
}

static void print_row(FILE *out, const struct option_row *row)
{
    int column = row->letter ? fprintf(out, "  -%c, --%s", row->letter, row->name)
                             : fprintf(out, "      --%s", row->name);
    if (row->arg)
        column += fprintf(out, " %s", row->arg);
    if (column + 2 > OPTION_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", OPTION_COLUMN - column, "");
    print_wrapped(out, OPTION_COLUMN, OPTION_COLUMN, row->help, strlen(row->help));
}

static const struct option_row help_row = {"help", 'h', NULL, "show this help and exit"};

/* Whether a row has taken the letter h for itself. */
static bool letter_h_is_taken(const struct command *command)
{
    for (const struct option_row *row = command->rows; row && row->name; row++) {
        if (row->letter == 'h')
            return true;
    }
    return false;
}

static void print_usage(FILE *out, const char *path, const struct command *command)
{
    if (command->run)
        fprintf(out, "Usage: %s [OPTION...]%s%s\n", path, command->operands ? " " : "",
                command->operands ? command->operands : "");
    if (command->children)
        fprintf(out, "%s %s COMMAND [ARG...]\n", command->run ? "      " : "Usage:", path);
    fputc('\n', out);
}

void help_print(FILE *out, const char *path, const struct command *command)
{
    print_usage(out, path, command);
    print_wrapped(out, 0, 0, command->summary, strlen(command->summary));
    const char *next;
    for (const char *text = command->description; text && *text; text = next) {
        size_t len = paragraph(text, &next);
        fputc('\n', out);
        print_wrapped(out, 0, 0, text, len);
    }
    if (command->children) {
        fputs("\nCommands:\n", out);
        for (const struct command *const *c = command->children; *c; c++)
            fprintf(out, "  %-12s %s\n", (*c)->name, (*c)->summary);
    }
    fputs("\nOptions:\n", out);
    for (const struct option_row *row = command->rows; row && row->name; row++)
        print_row(out, row);
    struct option_row help = help_row;
    if (letter_h_is_taken(command))
        help.letter = 0;
    print_row(out, &help);
    if (command->examples)
        fputs("\nExamples:\n", out);
    for (const struct example *e = command->examples; e && e->line; e++)
        fprintf(out, "  # %s\n  %s\n", e->text, e->line);
}

/* Text for troff: backslashes and hyphens escaped, no line that looks like a request. */
static void print_roff(FILE *out, const char *text, size_t len)
{
    bool line_start = true;
    for (size_t i = 0; i < len; i++) {
        if (line_start && (text[i] == '.' || text[i] == '\''))
            fputs("\\&", out);
        if (text[i] == '\\')
            fputs("\\e", out);
        else if (text[i] == '-')
            fputs("\\-", out);
        else
            fputc(text[i], out);
        line_start = text[i] == '\n';
    }
}

static void print_roff_line(FILE *out, const char *text)
{
    print_roff(out, text, strlen(text));
    fputc('\n', out);
}

static void print_man_row(FILE *out, const struct option_row *row)
{
    fputs(".TP\n", out);
    if (row->letter)
        fprintf(out, "\\fB\\-%c\\fR, ", row->letter);
    fputs("\\fB\\-\\-", out);
    print_roff(out, row->name, strlen(row->name));
    fputs("\\fR", out);
    if (row->arg) {
        fputs(" \\fI", out);
        print_roff(out, row->arg, strlen(row->arg));
        fputs("\\fR", out);
    }
    fputc('\n', out);
    print_roff_line(out, row->help);
}

static void print_man_call(FILE *out, const char *path, const char *behind, const char *operands)
{
    fputs("\\fB", out);
    print_roff(out, path, strlen(path));
    fprintf(out, "\\fR %s ", behind);
    print_roff_line(out, operands ? operands : "");
}

static void print_man_synopsis(FILE *out, const char *path, const struct command *command)
{
    if (command->run)
        print_man_call(out, path, "[\\fIOPTION\\fR...]", command->operands);
    if (command->run && command->children)
        fputs(".br\n", out);
    if (command->children)
        print_man_call(out, path, "\\fICOMMAND\\fR [\\fIARG\\fR...]", NULL);
}

static void print_man_description(FILE *out, const struct command *command)
{
    const char *next;
    for (const char *text = command->description; text && *text; text = next) {
        size_t len = paragraph(text, &next);
        fputs(".PP\n", out);
        print_roff(out, text, len);
        fputc('\n', out);
    }
}

static void print_man_rows(FILE *out, const struct command *command)
{
    for (const struct option_row *row = command->rows; row && row->name; row++)
        print_man_row(out, row);
}

static void print_man_examples(FILE *out, const struct command *command)
{
    for (const struct example *e = command->examples; e && e->line; e++) {
        fputs(".PP\n", out);
        print_roff(out, e->text, strlen(e->text));
        fputs(":\n.PP\n.RS\n.nf\n", out);
        print_roff_line(out, e->line);
        fputs(".fi\n.RE\n", out);
    }
}

/* A command of a group: a section of the group's page. */
static void print_man_section(FILE *out, const char *path, const struct command *command)
{
    fputs(".SS ", out);
    print_man_synopsis(out, path, command);
    print_roff_line(out, command->summary);
    print_man_description(out, command);
    print_man_rows(out, command);
    print_man_examples(out, command);
}

void help_print_man(FILE *out, const char *path, const struct command *root,
                    const struct command *command)
{
    fputs(".TH ", out);
    for (const char *p = path; *p; p++)
        fputc(*p == ' ' ? '-' : toupper((unsigned char)*p), out);
    fprintf(out, " 1 \"\" \"Dayfly %s\" \"User Commands\"\n.SH NAME\n", DAYFLY_VERSION);
    for (const char *p = path; *p; p++)
        fputs(*p == ' ' ? "\\-" : (char[]){*p, '\0'}, out);
    fputs(" \\- ", out);
    print_roff_line(out, command->summary);
    fputs(".SH SYNOPSIS\n", out);
    print_man_synopsis(out, path, command);
    fputs(".SH DESCRIPTION\n", out);
    print_man_description(out, command);
    if (command->rows) {
        fputs(".SH OPTIONS\n", out);
        print_man_rows(out, command);
    }
    if (command == root) {
        fputs(".SH COMMANDS\n", out);
        for (const struct command *const *c = command->children; c && *c; c++) {
            fprintf(out, ".TP\n\\fBdayfly\\-%s\\fR(1)\n", (*c)->name);
            print_roff_line(out, (*c)->summary);
        }
    } else if (command->children) {
        fputs(".SH COMMANDS\n", out);
        for (const struct command *const *c = command->children; *c; c++) {
            char child[COMMAND_PATH_BYTES];
            snprintf(child, sizeof(child), "%s %s", path, (*c)->name);
            print_man_section(out, child, *c);
        }
    }
    if (command->examples) {
        fputs(".SH EXAMPLES\n", out);
        print_man_examples(out, command);
    }
    fputs(".SH EXIT STATUS\n"
          "0 when it succeeded; 125 when Dayfly itself failed.\n",
          out);
    if (command->runs_job)
        fputs(
            "Else it is the command's own status;\n"
            "124 when its time ran out, 126 or 127 when it could not be started, 128+N for signal N.\n",
            out);
    if (command != root)
        fputs(".SH SEE ALSO\n\\fBdayfly\\fR(1)\n", out);
}

/* What `dayfly help` explains besides commands. */
static const struct {
    const char *name, *summary;
    void (*print)(FILE *out);
} topics[] = {
    {"job-file", "what may stand in a job file", job_file_print_reference},
    {"machine-file", "what may stand in a machine file", schema_print_reference},
};

struct help_options {
    bool man;
};

static int help_run(const struct call *call)
{
    const struct help_options *options = call->options;
    char path[COMMAND_PATH_BYTES];
    struct dayfly_err err = {0};
    for (size_t i = 0; i < ARRAY_SIZE(topics) && call->operand_count == 1; i++) {
        if (!strcmp(call->operands[0], topics[i].name)) {
            topics[i].print(stdout);
            return 0;
        }
    }
    const struct command *command =
        command_find(call->root, call->operands, call->operand_count, path, &err);
    if (!command)
        return command_fail(call, &err);
    if (options->man)
        help_print_man(stdout, path, call->root, command);
    else
        help_print(stdout, path, command);
    if (command == call->root && !options->man) {
        fputs("\nTopics, as in \"dayfly help TOPIC\":\n", stdout);
        for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
            printf("  %-12s %s\n", topics[i].name, topics[i].summary);
    }
    return 0;
}

static const struct option_row help_rows[] = {
    {"man", 0, NULL, "print the manual page, in roff", OPTION_FLAG(struct help_options, man)},
    {0},
};

const struct command help_command = {
    .name = "help",
    .summary = "explain a command or a topic",
    .operands = "[COMMAND...|TOPIC]",
    .max_operands = OPERANDS_ANY,
    .rows = help_rows,
    .options_size = sizeof(struct help_options),
    .run = help_run,
    .examples = (const struct example[]){{"dayfly help completion", "what `completion` does"},
                                         {"dayfly help --man validate | man -l -", "the manual page"},
                                         {0}},
};
