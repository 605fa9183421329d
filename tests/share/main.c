/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exercisers for a file system, to be run on a shared folder inside a guest, or on any directory.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

static const struct exercise EXERCISES[] = {
    {"posix", "POSIX behaviour case by case, as TAP", posix_main},
    {"differential", "the same random operations on two directories, every result compared",
     differential_main},
    {"manifest", "print a directory tree in a form that can be compared", manifest_main},
    {"file", "random reads, writes, mappings and holes in one file, against a model in memory",
     file_main},
    {"tree", "several processes at random work in one tree, then a look at what is left", tree_main},
    {"mapped", "peek into a mapped file, and poke, as told on stdin", mapped_main},
    {"synced", "what fsync promised is there after a power cut", synced_main},
};

#define COUNT (sizeof EXERCISES / sizeof EXERCISES[0])

static void help(FILE *out)
{
    fputs("Usage: share-exercise COMMAND [OPTION...] DIRECTORY...\n\n", out);
    for (unsigned i = 0; i < COUNT; i++)
        fprintf(out, "  %-13s %s\n", EXERCISES[i].name, EXERCISES[i].summary);
    fputs("\n'share-exercise COMMAND --help' says more. Exit status: 0 all agreed, 1 a difference was "
          "found,\n"
          "2 the work could not be done.\n",
          out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return EXIT_UNABLE;
    }
    if (strcmp(argv[1], "--help") == 0) {
        help(stdout);
        return 0;
    }
    /* Lines go out whole and at once: several processes print, and some of them get killed. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 0; i < COUNT; i++)
        if (strcmp(argv[1], EXERCISES[i].name) == 0)
            return EXERCISES[i].run(argc - 1, argv + 1);
    unable("no command '%s'; see --help", argv[1]);
}
