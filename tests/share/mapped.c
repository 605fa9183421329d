/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mapping that others look at and change meanwhile: `mapped` maps a file and does as it is told on
 * stdin, a line at a time, with an answer for each on stdout. So a test can put what the host does
 * between two accesses of the guest.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/stat.h>

#include "common.h"

#define SYNC_ALWAYS 0x2000 /* AT_STATX_FORCE_SYNC, which musl keeps with its own struct statx */

static void help(void)
{
    puts("Usage: share-exercise mapped FILE <COMMANDS\n\n"
         "Map a file, as large as it is at first, and answer each line of stdin:\n"
         "  peek OFFSET        the byte there, by the mapping\n"
         "  poke OFFSET BYTE   write it there, by the mapping: \"ok\"\n"
         "  size               the file's size, asked for anew");
}

static unsigned long long size_now(int fd)
{
    struct statx st;

    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH | SYNC_ALWAYS, STATX_SIZE, &st) < 0)
        unable_errno("statx");
    return st.stx_size;
}

static void obey(const char *line, int fd, volatile unsigned char *map, unsigned long long size)
{
    unsigned long long offset;
    unsigned byte;

    if (strcmp(line, "size\n") == 0)
        printf("%llu\n", size_now(fd));
    else if (sscanf(line, "peek %llu", &offset) == 1 && offset < size)
        printf("%u\n", map[offset]);
    else if (sscanf(line, "poke %llu %u", &offset, &byte) == 2 && offset < size && byte < 256) {
        map[offset] = (unsigned char)byte;
        puts("ok");
    } else
        unable("not a command, or behind the end: %s", line);
}

int mapped_main(int argc, char **argv)
{
    char line[100];

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        help();
        return 0;
    }
    if (argc != 2)
        unable("mapped: give one file; see --help");
    int fd = open(argv[1], O_RDWR | O_CLOEXEC);
    if (fd < 0)
        unable_errno("%s", argv[1]);
    unsigned long long size = size_now(fd);
    unsigned char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        unable_errno("mmap");
    while (fgets(line, sizeof(line), stdin))
        obey(line, fd, map, size);
    return 0;
}
