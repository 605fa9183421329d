/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

/*
 * The frame of the command line: a command is one `struct command`, an option of it one row. From
 * those rows come the parser, `--help`, the man pages and the shells' completion.
 *
 *     struct validate_options {
 *         bool json;
 *     };
 *     static const struct option_row rows[] = {
 *         {"json", 'j', NULL, "print the faults as JSON", OPTION_FLAG(struct validate_options, json)},
 *         {0},
 *     };
 *     const struct command validate_command = {
 *         .name = "validate", .summary = "...", .operands = "FILE", .min_operands = 1,
 *         .max_operands = 1, .rows = rows, .options_size = sizeof(struct validate_options),
 *         .run = validate_run,
 *     };
 *
 * How words are read: `--name=VALUE`, `--name VALUE`, `-n VALUE`, `-nVALUE`, bundled flags `-it`; a
 * lone `-` is an operand; `--` ends the options. Options and operands mix freely unless the command
 * says `stop_after`. A later option overrides an earlier one; a list collects. `--help` and `-h`
 * work everywhere (a row may take the letter h for itself).
 *
 * Human output goes to stderr, what a program reads (`--json`, listings, asked-for help) to stdout.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "dayfly/error.h"

/* What `dayfly` exits with besides a job's own status. */
enum exit_status {
    EXIT_TIMED_OUT = 124,
    EXIT_DAYFLY = 125, /* Dayfly itself failed, or was asked for nonsense */
    EXIT_CANNOT_RUN = 126,
    EXIT_NOT_FOUND = 127,
    EXIT_SIGNAL = 128, /* + the signal's number */
};

/* The values of a repeatable option, in order. The strings are argv's. */
struct word_list {
    const char **words;
    size_t count;
};

enum option_kind {
    OPTION_KIND_FLAG,     /* bool: no value */
    OPTION_KIND_STRING,   /* const char *, NULL when not given */
    OPTION_KIND_CHOICE,   /* const char *: one of the words of `arg`, "auto|kvm|tcg" */
    OPTION_KIND_SIZE,     /* uint64_t, bytes */
    OPTION_KIND_DURATION, /* uint64_t, nanoseconds */
    OPTION_KIND_NUMBER,   /* uint64_t within [min, max] */
    OPTION_KIND_LIST,     /* struct word_list */
};

struct option_row {
    const char *name; /* without the dashes; NULL ends the table */
    char letter;      /* or 0 */
    const char *arg;  /* what the help calls the value; NULL for a flag */
    const char *help; /* one sentence without a capital or a full stop */
    /* The rest is one of the OPTION_* macros below: where the value goes, and of what type it is. */
    enum option_kind kind;
    size_t offset;
    uint64_t min, max; /* SIZE, DURATION: min alone, which is 0, or 1 where 0 stands for "not given" */
};

/* offsetof(type, member), and a compile error unless the member has the type that the kind writes. */
#define OPTION_AT(type, member, want)                                                                  \
    (offsetof(type, member) +                                                                          \
     0 * sizeof(char[__builtin_types_compatible_p(__typeof__(((type *)0)->member), want) ? 1 : -1]))

#define OPTION_FLAG(type, member) .kind = OPTION_KIND_FLAG, .offset = OPTION_AT(type, member, bool)
#define OPTION_STRING(type, member)                                                                    \
    .kind = OPTION_KIND_STRING, .offset = OPTION_AT(type, member, const char *)
#define OPTION_CHOICE(type, member)                                                                    \
    .kind = OPTION_KIND_CHOICE, .offset = OPTION_AT(type, member, const char *)
#define OPTION_SIZE(type, member) .kind = OPTION_KIND_SIZE, .offset = OPTION_AT(type, member, uint64_t)
#define OPTION_DURATION(type, member)                                                                  \
    .kind = OPTION_KIND_DURATION, .offset = OPTION_AT(type, member, uint64_t)
/* Of these 0 is refused: it is what the member has when the option was not given. */
#define OPTION_SIZE_ABOVE_0(type, member)     OPTION_SIZE(type, member), .min = 1
#define OPTION_DURATION_ABOVE_0(type, member) OPTION_DURATION(type, member), .min = 1
#define OPTION_NUMBER(type, member, low, high)                                                         \
    .kind = OPTION_KIND_NUMBER, .offset = OPTION_AT(type, member, uint64_t), .min = (low), .max = (high)
#define OPTION_LIST(type, member)                                                                      \
    .kind = OPTION_KIND_LIST, .offset = OPTION_AT(type, member, struct word_list)

struct example {
    const char *line; /* the command line; NULL ends the table */
    const char *text; /* what it does */
};

struct call;

struct command {
    const char *name;
    const char *summary;     /* one line, no full stop */
    const char *description; /* paragraphs, an empty line between two; may be NULL */
    const char *operands;    /* "IMAGE [--] CMD [ARG...]"; NULL when there are none */
    unsigned min_operands, max_operands;
    unsigned
        stop_after; /* behind so many operands, words are operands whatever they look like; 0: never */
    const struct option_row *rows;
    size_t options_size;  /* of the struct that the rows' offsets are of */
    const void *defaults; /* such a struct, or NULL for all zero */
    const struct example *examples;
    int (*run)(const struct call *call); /* returns the exit status */
    bool runs_job;                       /* whose status it then is */
    /* A group: NULL-terminated, and no rows, operands or run. With a run it is a command as well, where
     * the next word names none of these. */
    const struct command *const *children;
};

#define OPERANDS_ANY UINT32_MAX

/* A command line that has been read. */
struct call {
    const struct command *root, *command;
    const char *name;    /* "dayfly image ls": what messages begin with */
    const void *options; /* the command's options struct */
    unsigned operand_count;
    const char *const *operands; /* NULL behind the last */
};

/* Read argv by `root`'s table and run the command it names. Returns main's exit status; messages and
 * help have been written. */
int command_main(const struct command *root, int argc, char **argv);

/* Tell the person what failed, on stderr, as "dayfly validate: <message>". Returns EXIT_DAYFLY. */
int command_fail(const struct call *call, const struct dayfly_err *err);

/* Walk down from `root` by `count` words. NULL when a word names nothing; *err then says which, and
 * the nearest known one. `path`, of PATH_BYTES, receives "dayfly image ls". */
#define COMMAND_PATH_BYTES 128
const struct command *command_find(const struct command *root, const char *const *words, unsigned count,
                                   char path[COMMAND_PATH_BYTES], struct dayfly_err *err);

/* Call fn for `root` and everything below it, parents first. */
void command_walk(const struct command *root,
                  void (*fn)(void *opaque, const char *path, const struct command *), void *opaque);

/* help.c: the text of `--help`, and a man page in roff (a group's page describes its children too). */
void help_print(FILE *out, const char *path, const struct command *command);
void help_print_man(FILE *out, const char *path, const struct command *root,
                    const struct command *command);

#endif
