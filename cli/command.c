/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a command line by the table of rows (command.h has the rules). Nothing is printed while
 * reading: the reader fills `struct dayfly_err`, and command_main is the one place that speaks.
 */
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/nearest.h"
#include "util/text.h"
#include "util/units.h"

/* What reading ended with, when not with an error (< 0). */
enum { READ_CALL, READ_HELP, READ_VERSION };

struct reader {
    const struct command *command;
    void *options;
    const char **operands;
    unsigned operand_count;
};

static const struct option_row *row_by_name(const struct command *command, const char *name, size_t len)
{
    for (const struct option_row *row = command->rows; row && row->name; row++) {
        if (strlen(row->name) == len && !memcmp(row->name, name, len))
            return row;
    }
    return NULL;
}

static const struct option_row *row_by_letter(const struct command *command, char letter)
{
    for (const struct option_row *row = command->rows; row && row->name; row++) {
        if (row->letter && row->letter == letter)
            return row;
    }
    return NULL;
}

static int unknown_option(const struct command *command, const char *name, struct dayfly_err *err)
{
    struct nearest near = nearest_to(name);
    for (const struct option_row *row = command->rows; row && row->name; row++)
        nearest_offer(&near, row->name);
    nearest_offer(&near, "help");
    if (near.best)
        return err_set(err, EINVAL, "unknown option --%.40s; did you mean --%s?", name, near.best);
    return err_set(err, EINVAL, "unknown option --%.40s", name);
}

static bool is_choice(const char *choices, const char *value)
{
    size_t len = strlen(value);
    for (const char *p = choices; *p;) {
        size_t word = strcspn(p, "|");
        if (word == len && !memcmp(p, value, len))
            return true;
        p += word + (p[word] == '|');
    }
    return false;
}

static int list_append_word(struct word_list *list, const char *word)
{
    const char **bigger = realloc(list->words, (list->count + 1) * sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    list->words = bigger;
    list->words[list->count++] = word;
    return 0;
}

/* Store `value` (NULL for a flag) where the row says. */
static int store(const struct reader *reader, const struct option_row *row, const char *value,
                 struct dayfly_err *err)
{
    void *at = (char *)reader->options + row->offset;
    int rc = 0;
    switch (row->kind) {
    case OPTION_KIND_FLAG:
        *(bool *)at = true;
        break;
    case OPTION_KIND_STRING:
        *(const char **)at = value;
        break;
    case OPTION_KIND_CHOICE:
        if (!is_choice(row->arg, value))
            rc = err_set(err, EINVAL, "\"%.40s\" is not one of %s", value, row->arg);
        else
            *(const char **)at = value;
        break;
    case OPTION_KIND_SIZE:
        rc = units_parse_size(value, at, err);
        if (!rc && *(uint64_t *)at < row->min)
            rc = err_set(err, EINVAL, "0 is no size; leave the option out for the default");
        break;
    case OPTION_KIND_DURATION:
        rc = units_parse_duration(value, at, err);
        if (!rc && *(uint64_t *)at < row->min)
            rc = err_set(err, EINVAL, "0 is no time; leave the option out for none");
        break;
    case OPTION_KIND_NUMBER:
        rc = units_parse_number(value, row->min, row->max, at, err);
        break;
    case OPTION_KIND_LIST:
        if (list_append_word(at, value))
            rc = err_errno(err, ENOMEM, "reading the command line");
        break;
    }
    return rc ? err_wrap(err, "--%s", row->name) : 0;
}

/* Read the long option argv[*i]; moves *i when its value is the next word. */
static int read_long(const struct reader *reader, int argc, char **argv, int *i, struct dayfly_err *err)
{
    const char *name = argv[*i] + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] ? name + len + 1 : NULL;
    const struct option_row *row = row_by_name(reader->command, name, len);
    if (!row) {
        if (len == strlen("help") && !memcmp(name, "help", len))
            return value ? err_set(err, EINVAL, "--help takes no value") : READ_HELP;
        _cleanup_free_ char *word = strndup(name, len);
        return word ? unknown_option(reader->command, word, err)
                    : err_errno(err, ENOMEM, "reading the command line");
    }
    if (row->kind == OPTION_KIND_FLAG && value)
        return err_set(err, EINVAL, "--%s takes no value", row->name);
    if (row->kind != OPTION_KIND_FLAG && !value) {
        if (*i + 1 >= argc)
            return err_set(err, EINVAL, "--%s needs a value: --%s %s", row->name, row->name, row->arg);
        value = argv[++*i];
    }
    return store(reader, row, value, err);
}

/* Read the bundle of letters argv[*i]; the first that takes a value takes the rest, or the next word.
 */
static int read_letters(const struct reader *reader, int argc, char **argv, int *i,
                        struct dayfly_err *err)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const struct option_row *row = row_by_letter(reader->command, *p);
        if (!row) {
            if (*p == 'h')
                return READ_HELP;
            return err_set(err, EINVAL, "unknown option -%c", *p);
        }
        const char *value = NULL;
        if (row->kind != OPTION_KIND_FLAG) {
            if (p[1])
                value = p + 1;
            else if (*i + 1 < argc)
                value = argv[++*i];
            else
                return err_set(err, EINVAL, "-%c needs a value: -%c %s", *p, *p, row->arg);
        }
        int rc = store(reader, row, value, err);
        if (rc || value)
            return rc;
    }
    return READ_CALL;
}

/* Read the words behind the command's name. */
static int read_words(struct reader *reader, int argc, char **argv, struct dayfly_err *err)
{
    const struct command *command = reader->command;
    bool options_ended = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        int rc = READ_CALL;
        if (options_ended || word[0] != '-' || !word[1]) {
            if (reader->operand_count == command->max_operands && command->max_operands != OPERANDS_ANY)
                return err_set(err, EINVAL, "unexpected operand \"%.80s\"", word);
            reader->operands[reader->operand_count++] = word;
            if (reader->operand_count == command->stop_after && !options_ended) {
                options_ended = true;
                i += i + 1 < argc && !strcmp(argv[i + 1], "--");
            }
        } else if (!strcmp(word, "--")) {
            options_ended = true;
        } else {
            rc = word[1] == '-' ? read_long(reader, argc, argv, &i, err)
                                : read_letters(reader, argc, argv, &i, err);
        }
        if (rc)
            return rc;
    }
    if (reader->operand_count < command->min_operands)
        return err_set(err, EINVAL, "too few operands; expected %s", command->operands);
    return READ_CALL;
}

static void reader_finish(struct reader *reader)
{
    for (const struct option_row *row = reader->command ? reader->command->rows : NULL;
         row && row->name && reader->options; row++) {
        if (row->kind == OPTION_KIND_LIST)
            free(((struct word_list *)(void *)((char *)reader->options + row->offset))->words);
    }
    free(reader->options);
    free(reader->operands);
}

static const struct command *child(const struct command *group, const char *name)
{
    for (const struct command *const *c = group->children; c && *c; c++) {
        if (!strcmp((*c)->name, name))
            return *c;
    }
    return NULL;
}

static int unknown_command(const struct command *group, const char *name, struct dayfly_err *err)
{
    struct nearest near = nearest_to(name);
    for (const struct command *const *c = group->children; c && *c; c++)
        nearest_offer(&near, (*c)->name);
    if (near.best)
        return err_set(err, EINVAL, "unknown command \"%.40s\"; did you mean \"%s\"?", name, near.best);
    return err_set(err, EINVAL, "unknown command \"%.40s\"", name);
}

static void path_append(char path[COMMAND_PATH_BYTES], const char *name)
{
    size_t len = strlen(path);
    snprintf(path + len, COMMAND_PATH_BYTES - len, "%s%s", len ? " " : "", name);
}

const struct command *command_find(const struct command *root, const char *const *words, unsigned count,
                                   char path[COMMAND_PATH_BYTES], struct dayfly_err *err)
{
    const struct command *at = root;
    path[0] = '\0';
    path_append(path, root->name);
    for (unsigned i = 0; i < count; i++) {
        const struct command *next = child(at, words[i]);
        if (!next) {
            unknown_command(at, words[i], err);
            return NULL;
        }
        at = next;
        path_append(path, at->name);
    }
    return at;
}

static void walk(const char *parent, const struct command *command,
                 void (*fn)(void *, const char *, const struct command *), void *opaque)
{
    char path[COMMAND_PATH_BYTES];
    snprintf(path, sizeof(path), "%s", parent);
    path_append(path, command->name);
    fn(opaque, path, command);
    for (const struct command *const *c = command->children; c && *c; c++)
        walk(path, *c, fn, opaque);
}

void command_walk(const struct command *root, void (*fn)(void *, const char *, const struct command *),
                  void *opaque)
{
    walk("", root, fn, opaque);
}

int command_fail(const struct call *call, const struct dayfly_err *err)
{
    struct dayfly_err shown = *err;
    text_make_printable(shown.msg); /* it may quote a name from an archive, or a registry */
    fprintf(stderr, "%s: %s\n", call->name, shown.msg);
    return EXIT_DAYFLY;
}

/* Go down through groups while words name children. Returns the index of the first word that is left,
 * READ_HELP or READ_VERSION through *what. */
static int descend(const struct command **command, char path[COMMAND_PATH_BYTES], int argc, char **argv,
                   int *what, struct dayfly_err *err)
{
    const struct command *root = *command;
    int i = 1;
    path_append(path, root->name);
    while ((*command)->children) {
        const struct command *next = i < argc ? child(*command, argv[i]) : NULL;
        if (!next && (*command)->run)
            return i;
        if (i >= argc)
            return err_set(err, EINVAL, "a command is needed");
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            *what = READ_HELP;
            return i;
        }
        if (*command == root && !strcmp(argv[i], "--version")) {
            *what = READ_VERSION;
            return i;
        }
        if (!next && argv[i][0] == '-')
            return err_set(err, EINVAL, "unknown option %.40s", argv[i]);
        if (!next)
            return unknown_command(*command, argv[i], err);
        *command = next;
        path_append(path, next->name);
        i++;
    }
    return i;
}

/* Output that could not be written is a failure: "dayfly image ls > /dev/full" must not exit 0. */
static int flush(const char *name, int status)
{
    if ((fflush(stdout) || ferror(stdout)) && errno != EPIPE && status == 0) {
        fprintf(stderr, "%s: writing standard output: %s\n", name, strerror(errno));
        return EXIT_DAYFLY;
    }
    return status;
}

int command_main(const struct command *root, int argc, char **argv)
{
    char path[COMMAND_PATH_BYTES] = "";
    struct dayfly_err err = {0};
    const struct command *command = root;
    int what = READ_CALL;
    _cleanup_(reader_finish) struct reader reader = {0};

    int first = descend(&command, path, argc, argv, &what, &err);
    if (first >= 0 && what == READ_CALL) {
        reader.command = command;
        reader.options = calloc(1, command->options_size + 1);
        reader.operands = calloc((size_t)(argc - first) + 1, sizeof(*reader.operands));
        if (!reader.options || !reader.operands) {
            err_errno(&err, ENOMEM, "reading the command line");
            first = -ENOMEM;
        } else {
            if (command->defaults)
                memcpy(reader.options, command->defaults, command->options_size);
            what = read_words(&reader, argc - first, argv + first, &err);
        }
    }
    if (first < 0 || what < 0) {
        fprintf(stderr, "%s: %s\nTry '%s --help'.\n", path, err.msg, path);
        return EXIT_DAYFLY;
    }
    if (what == READ_HELP) {
        help_print(stdout, path, command);
        return flush(path, 0);
    }
    if (what == READ_VERSION) {
        printf("dayfly %s\n", DAYFLY_VERSION);
        return flush(path, 0);
    }
    const struct call call = {
        .root = root,
        .command = command,
        .name = path,
        .options = reader.options,
        .operand_count = reader.operand_count,
        .operands = reader.operands,
    };
    return flush(path, command->run(&call));
}
