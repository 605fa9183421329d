/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARE_COMMON_H
#define SHARE_COMMON_H

/*
 * What the exercisers have in common. They are one static program, since a guest's image may hold no
 * library; they know nothing of Dayfly, and run on any directory.
 *
 * Each says its seed first, and with the same seed and options does the same again. Exit status: 0 all
 * agreed, 1 a difference was found (and described on stdout), 2 they were called in a wrong way or
 * could not do their work.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define EXIT_DIFFERENCE 1
#define EXIT_UNABLE     2

/* A subcommand; argv[0] is its name. */
struct exercise {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

int posix_main(int argc, char **argv);
int differential_main(int argc, char **argv);
int manifest_main(int argc, char **argv);
int file_main(int argc, char **argv);
int tree_main(int argc, char **argv);
int mapped_main(int argc, char **argv);
int synced_main(int argc, char **argv);

/* -- numbers that look random ----------------------------------------------------------------- */

struct random {
    uint64_t state;
};

uint64_t random_next(struct random *random);
/* 0 to n - 1. */
uint64_t random_below(struct random *random, uint64_t n);
/* True once in n times. */
bool random_one_in(struct random *random, unsigned n);
/* A seed from the clock. */
uint64_t random_seed(void);

/* What byte `offset` of stream `key` is; the same for ever. */
void pattern_fill(void *to, size_t length, uint64_t key, uint64_t offset);

/* -- the rest --------------------------------------------------------------------------------- */

#define HASH_START 0x243f6a8885a308d3u

/* Fold bytes into a hash; not for enemies. The way they are cut into pieces does not matter. */
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length);

/* A whole number of an option; says what is wrong with it and exits otherwise. Suffixes K, M, G. */
uint64_t parse_number(const char *option, const char *text);

/* Print to stderr and exit with EXIT_UNABLE; `unable_errno` adds what errno says. */
_Noreturn void unable(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void unable_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* All of it, or -errno; a file that ends early is -ENODATA. */
int read_all_at(int fd, void *to, size_t length, off_t offset);
int write_all_at(int fd, const void *from, size_t length, off_t offset);

/* renameat2(2), which musl does not have, and its flags. */
int rename_flags(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
#define RENAME_KEEP     1u /* RENAME_NOREPLACE */
#define RENAME_SWAP     2u /* RENAME_EXCHANGE */
#define RENAME_LEAVE_WH 4u /* RENAME_WHITEOUT */

#endif
