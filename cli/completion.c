/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `dayfly completion`: scripts for three shells, from the command table. All three work alike: they
 * walk the words typed so far to the command's path ("dayfly image ls") and offer that path's
 * commands and options; where a value or an operand stands, the file names.
 */
#include <errno.h>
#include <string.h>

#include "command.h"
#include "util/arith.h"
#include "util/err.h"

/* "auto|kvm|tcg" as words of a shell. */
static void print_choices(FILE *out, const char *choices)
{
    for (const char *p = choices; *p; p++)
        fputc(*p == '|' ? ' ' : *p, out);
}

/* Text within '...': no quote inside may end it. */
static void print_quoted(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    }
}

/* A `case` arm's pattern for bash and zsh: the paths below the root, so that a word extends the path.
 */
static void print_sh_pattern(void *opaque, const char *path, const struct command *command)
{
    if (strchr(path, ' '))
        fprintf(opaque, "'%s'|", path);
}

static void print_bash_words(void *opaque, const char *path, const struct command *command)
{
    FILE *out = opaque;
    fprintf(out, "    '%s') words='", path);
    for (const struct command *const *c = command->children; c && *c; c++)
        fprintf(out, "%s ", (*c)->name);
    for (const struct option_row *row = command->rows; row && row->name; row++)
        fprintf(out, "--%s ", row->name);
    fputs("--help' ;;\n", out);
}

/* A `case` arm for each option with a value: its choices between two texts, or what names files. */
static void print_sh_values(FILE *out, const char *path, const struct command *command,
                            const char *before, const char *behind, const char *files)
{
    for (const struct option_row *row = command->rows; row && row->name; row++) {
        if (row->kind == OPTION_KIND_FLAG)
            continue;
        fprintf(out, "    '%s --%s'", path, row->name);
        if (row->letter)
            fprintf(out, "|'%s -%c'", path, row->letter);
        fputs(") ", out);
        if (row->kind == OPTION_KIND_CHOICE) {
            fputs(before, out);
            print_choices(out, row->arg);
            fputs(behind, out);
        } else {
            fputs(files, out);
        }
        fputs("; return ;;\n", out);
    }
}

static void print_bash_values(void *opaque, const char *path, const struct command *command)
{
    print_sh_values(opaque, path, command, "COMPREPLY=($(compgen -W '", "' -- \"$cur\"))",
                    "COMPREPLY=($(compgen -f -- \"$cur\"))");
}

static void print_bash(FILE *out, const struct command *root)
{
    fputs("# bash completion for dayfly; from `dayfly completion bash`\n"
          "_dayfly() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} at=dayfly words= i\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case \"$at ${COMP_WORDS[i]}\" in\n        ",
          out);
    command_walk(root, print_sh_pattern, out);
    fputs("'') at+=\" ${COMP_WORDS[i]}\" ;;\n"
          "        esac\n"
          "    done\n"
          "    case \"$at ${COMP_WORDS[COMP_CWORD-1]}\" in\n",
          out);
    command_walk(root, print_bash_values, out);
    fputs("    esac\n    case \"$at\" in\n", out);
    command_walk(root, print_bash_words, out);
    fputs("    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
          "}\n"
          "complete -o default -F _dayfly dayfly\n",
          out);
}

static void print_zsh_words(void *opaque, const char *path, const struct command *command)
{
    FILE *out = opaque;
    fprintf(out, "    '%s')\n        words_here=(", path);
    for (const struct command *const *c = command->children; c && *c; c++) {
        fprintf(out, "'%s:", (*c)->name);
        print_quoted(out, (*c)->summary);
        fputs("' ", out);
    }
    for (const struct option_row *row = command->rows; row && row->name; row++) {
        fprintf(out, "'--%s:", row->name);
        print_quoted(out, row->help);
        fputs("' ", out);
    }
    fputs("'--help:show the help')\n        ;;\n", out);
}

static void print_zsh_values(void *opaque, const char *path, const struct command *command)
{
    print_sh_values(opaque, path, command, "compadd -- ", "", "_files");
}

static void print_zsh(FILE *out, const struct command *root)
{
    fputs("#compdef dayfly\n"
          "# zsh completion for dayfly; from `dayfly completion zsh`\n"
          "_dayfly() {\n"
          "    local at=dayfly word\n"
          "    local -a words_here\n"
          "    for word in \"${(@)words[2,CURRENT-1]}\"; do\n"
          "        case \"$at $word\" in\n        ",
          out);
    command_walk(root, print_sh_pattern, out);
    fputs("'') at+=\" $word\" ;;\n"
          "        esac\n"
          "    done\n"
          "    case \"$at ${words[CURRENT-1]}\" in\n",
          out);
    command_walk(root, print_zsh_values, out);
    fputs("    esac\n    case \"$at\" in\n", out);
    command_walk(root, print_zsh_words, out);
    fputs("    esac\n"
          "    _describe -o dayfly words_here\n"
          "    _files\n"
          "}\n"
          "if [[ ${funcstack[1]} == _dayfly ]]; then _dayfly \"$@\"; else compdef _dayfly dayfly; fi\n",
          out);
}

static void print_fish_pattern(void *opaque, const char *path, const struct command *command)
{
    if (strchr(path, ' '))
        fprintf(opaque, " '%s'", path);
}

static void print_fish_words(void *opaque, const char *path, const struct command *command)
{
    FILE *out = opaque;
    for (const struct command *const *c = command->children; c && *c; c++) {
        fprintf(out, "complete -c dayfly -f -n '__dayfly_at \"%s\"' -a %s -d '", path, (*c)->name);
        print_quoted(out, (*c)->summary);
        fputs("'\n", out);
    }
    for (const struct option_row *row = command->rows; row && row->name; row++) {
        fprintf(out, "complete -c dayfly -n '__dayfly_at \"%s\"' -l %s", path, row->name);
        if (row->letter)
            fprintf(out, " -s %c", row->letter);
        if (row->kind == OPTION_KIND_CHOICE) {
            fputs(" -x -a '", out);
            print_choices(out, row->arg);
            fputc('\'', out);
        } else if (row->kind != OPTION_KIND_FLAG) {
            fputs(" -r", out);
        }
        fputs(" -d '", out);
        print_quoted(out, row->help);
        fputs("'\n", out);
    }
    fprintf(out, "complete -c dayfly -n '__dayfly_at \"%s\"' -l help -d 'show the help'\n", path);
}

static void print_fish(FILE *out, const struct command *root)
{
    fputs("# fish completion for dayfly; from `dayfly completion fish`\n"
          "function __dayfly_at\n"
          "    set -l at dayfly\n"
          "    for word in (commandline -opc)[2..-1]\n"
          "        switch \"$at $word\"\n"
          "            case",
          out);
    command_walk(root, print_fish_pattern, out);
    fputs("\n"
          "                set at \"$at $word\"\n"
          "        end\n"
          "    end\n"
          "    test \"$at\" = \"$argv[1]\"\n"
          "end\n",
          out);
    command_walk(root, print_fish_words, out);
}

static const struct {
    const char *name;
    void (*print)(FILE *out, const struct command *root);
} shells[] = {
    {"bash", print_bash},
    {"zsh", print_zsh},
    {"fish", print_fish},
};

static int completion_run(const struct call *call)
{
    for (size_t i = 0; i < ARRAY_SIZE(shells); i++) {
        if (!strcmp(call->operands[0], shells[i].name)) {
            shells[i].print(stdout, call->root);
            return 0;
        }
    }
    struct dayfly_err err;
    err_set(&err, EINVAL, "\"%.40s\" is not one of bash, zsh, fish", call->operands[0]);
    return command_fail(call, &err);
}

const struct command completion_command = {
    .name = "completion",
    .summary = "print a completion script for a shell",
    .operands = "bash|zsh|fish",
    .min_operands = 1,
    .max_operands = 1,
    .run = completion_run,
    .examples =
        (const struct example[]){{". <(dayfly completion bash)", "complete in this shell"}, {0}},
};
