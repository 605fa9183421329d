/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fsync promised. `synced write` works in a directory for ever, makes each piece of work durable
 * and then says so on stdout. Somebody pulls the plug. `synced verify` is given those lines, and looks
 * for everything that they promise.
 *
 * A line is `synced HOW NAME KEY SIZE`: from now on file NAME holds at least the first SIZE bytes of
 * stream KEY. A later line about the same name takes the place of an earlier one. The last lines may
 * get lost; so a file that is replaced again and again may hold, in whole, what a lost line would have
 * said.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

#define WRITE_MAX 30000
#define LOG_MAX   (4 << 20)
#define MAP_BYTES 65536
#define NAMES     8
#define LOST_MAX  10000

static void promise(const char *how, const char *name, uint64_t key, uint64_t size)
{
    printf("synced %s %s %" PRIu64 " %" PRIu64 "\n", how, name, key, size);
    if (fflush(stdout) != 0)
        exit(EXIT_UNABLE);
}

static void sync_directory(int dir)
{
    if (fsync(dir) < 0)
        unable_errno("fsync of the directory");
}

static int open_at(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, flags | O_CLOEXEC, 0644);

    if (fd < 0)
        unable_errno("%s", name);
    return fd;
}

/* Write bytes [from, from + length) of a stream there, by write or by a mapping. */
static void put(int fd, uint64_t key, uint64_t from, size_t length)
{
    static char buf[WRITE_MAX];

    pattern_fill(buf, length, key, from);
    if (write_all_at(fd, buf, length, (off_t)from) < 0)
        unable_errno("write");
}

static void new_file(int dir, struct random *random, uint64_t round)
{
    size_t length = 1 + random_below(random, WRITE_MAX);
    char name[32];
    int fd;

    snprintf(name, sizeof name, "new-%" PRIu64, round);
    fd = open_at(dir, name, O_WRONLY | O_CREAT | O_EXCL);
    put(fd, round, 0, length);
    if (fsync(fd) < 0)
        unable_errno("fsync");
    close(fd);
    sync_directory(dir);
    promise("new", name, round, length);
}

static void replace_file(int dir, struct random *random, uint64_t round)
{
    size_t length = 1 + random_below(random, WRITE_MAX);
    char name[32];
    int fd;

    snprintf(name, sizeof name, "replaced-%u", (unsigned)random_below(random, NAMES));
    fd = open_at(dir, "replacement", O_WRONLY | O_CREAT | O_TRUNC);
    put(fd, round, 0, length);
    if (fsync(fd) < 0)
        unable_errno("fsync");
    close(fd);
    if (renameat(dir, "replacement", dir, name) < 0)
        unable_errno("rename");
    sync_directory(dir);
    promise("replaced", name, round, length);
}

/* The log's stream has key 0, and it only grows. */
static void append_log(int dir, struct random *random, uint64_t *length)
{
    size_t more = 1 + random_below(random, WRITE_MAX);
    int fd = open_at(dir, "log", O_WRONLY | O_CREAT);

    if (*length + more > LOG_MAX)
        more = 0;
    put(fd, 0, *length, more);
    if (fdatasync(fd) < 0)
        unable_errno("fdatasync");
    close(fd);
    if (*length == 0)
        sync_directory(dir);
    *length += more;
    promise("appended", "log", 0, *length);
}

static void write_map(int dir, struct random *random, uint64_t round)
{
    char name[32], *map;
    size_t length = 1 + random_below(random, MAP_BYTES);
    int fd;

    snprintf(name, sizeof name, "mapped-%" PRIu64, round);
    fd = open_at(dir, name, O_RDWR | O_CREAT);
    if (ftruncate(fd, MAP_BYTES) < 0)
        unable_errno("truncate");
    map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) { /* no such thing here */
        close(fd);
        unlinkat(dir, name, 0);
        return;
    }
    pattern_fill(map, length, round, 0);
    if (msync(map, MAP_BYTES, MS_SYNC) < 0)
        unable_errno("msync");
    munmap(map, MAP_BYTES);
    if (fsync(fd) < 0)
        unable_errno("fsync");
    close(fd);
    sync_directory(dir);
    promise("mapped", name, round, length);
}

static int write_for_ever(int dir, uint64_t seed, uint64_t rounds)
{
    struct random random = {seed};
    uint64_t log = 0;

    printf("synced: seed %" PRIu64 "\n", seed);
    for (uint64_t round = 1; rounds == 0 || round <= rounds; round++) {
        switch (random_below(&random, 4)) {
        case 0:
            new_file(dir, &random, round);
            break;
        case 1:
            replace_file(dir, &random, round);
            break;
        case 2:
            append_log(dir, &random, &log);
            break;
        default:
            write_map(dir, &random, round);
        }
    }
    return 0;
}

/* -- verify ----------------------------------------------------------------------------------- */

struct promised {
    char name[32];
    uint64_t key, size;
};

static bool holds(int fd, uint64_t key, uint64_t size)
{
    char got[4096], expected[4096];

    for (uint64_t at = 0; at < size; at += sizeof got) {
        size_t n = size - at < sizeof got ? size - at : sizeof got;

        pattern_fill(expected, n, key, at);
        if (read_all_at(fd, got, n, (off_t)at) < 0 || memcmp(got, expected, n) != 0)
            return false;
    }
    return true;
}

static uint64_t file_size(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static bool kept(int dir, const struct promised *promised)
{
    int fd = openat(dir, promised->name, O_RDONLY | O_CLOEXEC);
    bool good;

    if (fd < 0) {
        printf("DIFFERENCE: %s: %s\n", promised->name, strerror(errno));
        return false;
    }
    good = holds(fd, promised->key, promised->size);
    /* Lines get lost on their way: a replacement may be a later one than we were told of. */
    if (strncmp(promised->name, "replaced-", 9) == 0)
        for (uint64_t key = promised->key + 1; !good && key < promised->key + LOST_MAX; key++)
            good = holds(fd, key, 1) && holds(fd, key, file_size(fd));
    if (!good)
        printf("DIFFERENCE: %s does not hold the %" PRIu64 " bytes that were synced\n", promised->name,
               promised->size);
    close(fd);
    return good;
}

static int verify(int dir)
{
    struct promised *all = NULL, *more, one;
    size_t count = 0, i, lines = 0;
    char line[256];
    bool good = true;

    while (fgets(line, sizeof line, stdin)) {
        /* The last line may have been cut by the power cut. */
        if (!strchr(line, '\n') ||
            sscanf(line, "synced %*s %31s %" SCNu64 " %" SCNu64, one.name, &one.key, &one.size) != 3)
            continue;
        lines++;
        for (i = 0; i < count && strcmp(all[i].name, one.name) != 0; i++)
            ;
        if (i == count) {
            more = realloc(all, (count + 1) * sizeof *all);
            if (!more)
                unable_errno("verify");
            all = more;
            count++;
        }
        all[i] = one;
    }
    if (lines == 0)
        unable("verify: stdin holds no line of 'synced write'");
    for (i = 0; i < count; i++)
        good = kept(dir, &all[i]) && good;
    free(all);
    printf("synced: %zu lines, %zu files%s\n", lines, count, good ? ", all there" : "");
    return good ? 0 : EXIT_DIFFERENCE;
}

static void help(void)
{
    printf(
        "Usage: share-exercise synced [OPTION...] write|verify DIRECTORY\n\n"
        "'write' makes files durable in DIRECTORY, one after the other, and prints a line when one "
        "is,\n"
        "until it is killed. 'verify' reads those lines from stdin and looks for what they promise.\n\n"
        "  --seed N         (default: from the clock)\n"
        "  --rounds N       write: end after so many\n");
}

int synced_main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    uint64_t seed = random_seed(), rounds = 0;
    int dir;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            seed = parse_number("--seed", optarg);
            break;
        case 'r':
            rounds = parse_number("--rounds", optarg);
            break;
        case 'h':
            help();
            return 0;
        default:
            return EXIT_UNABLE;
        }
    }
    if (optind != argc - 2)
        unable("synced: give write or verify, and one directory; see --help");
    dir = open(argv[optind + 1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        unable_errno("%s", argv[optind + 1]);
    if (strcmp(argv[optind], "write") == 0)
        return write_for_ever(dir, seed, rounds);
    if (strcmp(argv[optind], "verify") == 0)
        return verify(dir);
    unable("synced: neither write nor verify: '%s'", argv[optind]);
}
