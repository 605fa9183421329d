/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One file and a model of it in memory. Whatever way bytes get into the file (written, mapped, copied,
 * zeroed, cut off), whatever way they are read must find what the model says.
 *
 * The file is open three times: with the page cache for all kinds of work, once more for reading, since
 * two open files must not disagree, and with O_DIRECT where there is such a thing. --base moves the
 * work to another place in the file, for instance to where 32 bits end.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "sabotage.h"

#define NAME         "exercised-file"
#define PAGE         4096
#define TRANSFER_MAX 65536
#define HISTORY      16

enum kind {
    READ,
    READ_OTHER,
    READ_DIRECT,
    WRITE,
    APPEND,
    WRITE_DIRECT,
    MAP_READ,
    MAP_WRITE,
    TRUNCATE,
    RESERVE,
    PUNCH,
    ZERO,
    COPY,
    SYNC,
    REOPEN,
    KINDS
};

static const struct {
    const char *name;
    unsigned weight;
} KIND[KINDS] = {
    [READ] = {"read", 20},
    [READ_OTHER] = {"read by the other descriptor", 15},
    [READ_DIRECT] = {"read directly", 8},
    [WRITE] = {"write", 30},
    [APPEND] = {"append", 6},
    [WRITE_DIRECT] = {"write directly", 6},
    [MAP_READ] = {"read a mapping", 12},
    [MAP_WRITE] = {"write a mapping", 12},
    [TRUNCATE] = {"truncate", 10},
    [RESERVE] = {"fallocate", 5},
    [PUNCH] = {"punch a hole", 6},
    [ZERO] = {"zero", 4},
    [COPY] = {"copy", 6},
    [SYNC] = {"fsync", 4},
    [REOPEN] = {"reopen", 3},
};

struct done {
    enum kind kind;
    uint64_t at, length, from;
};

struct test {
    const char *directory;
    int fd, other, direct; /* direct is -1 where there is no O_DIRECT */
    uint64_t base, room;   /* bytes [base, base + room) of the file are worked on */
    unsigned char *model;  /* those bytes */
    uint64_t size;         /* of the file, less base */
    unsigned char *buffer; /* TRANSFER_MAX, at a page's start */
    struct random random;
    uint64_t seed, number;
    struct done history[HISTORY];
    bool without[KINDS]; /* what the file system does not offer */
};

static _Noreturn void differ(const struct test *test, const char *what)
{
    uint64_t first = test->number >= HISTORY ? test->number - (HISTORY - 1) : 0;

    printf("DIFFERENCE at operation %" PRIu64 ": %s\nThe last operations:\n", test->number, what);
    for (uint64_t i = first; i <= test->number; i++) {
        const struct done *done = &test->history[i % HISTORY];

        printf("  %" PRIu64 ": %s at 0x%" PRIx64 " length 0x%" PRIx64, i, KIND[done->kind].name,
               test->base + done->at, done->length);
        if (done->kind == COPY)
            printf(" from 0x%" PRIx64, test->base + done->from);
        putchar('\n');
    }
    printf("seed %" PRIu64 "\n", test->seed);
    exit(EXIT_DIFFERENCE);
}

static void must(const struct test *test, int r, const char *what)
{
    char text[128];

    if (r >= 0)
        return;
    snprintf(text, sizeof text, "%s: %s", what, strerror(-r));
    differ(test, text);
}

/* -1 becomes -errno. */
static int failed(long r)
{
    return r < 0 ? -errno : 0;
}

static void same_bytes(const struct test *test, const unsigned char *got, uint64_t at, uint64_t length)
{
    char text[128];

    for (uint64_t i = 0; i < length; i++) {
        if (got[i] == test->model[at + i])
            continue;
        snprintf(text, sizeof text, "at 0x%" PRIx64 " is 0x%02x, not 0x%02x", test->base + at + i,
                 got[i], test->model[at + i]);
        differ(test, text);
    }
}

static void same_size(const struct test *test)
{
    struct stat st;
    char text[128];

    must(test, failed(fstat(test->fd, &st)), "fstat");
    if ((uint64_t)st.st_size == test->base + test->size)
        return;
    snprintf(text, sizeof text, "the size is 0x%llx, not 0x%" PRIx64, (unsigned long long)st.st_size,
             test->base + test->size);
    differ(test, text);
}

static void open_all(struct test *test)
{
    int directory = open(test->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0)
        unable_errno("%s", test->directory);
    test->fd = openat(directory, NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    test->other = openat(directory, NAME, O_RDONLY | O_CLOEXEC);
    test->direct = openat(directory, NAME, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (test->fd < 0 || test->other < 0)
        unable_errno("%s/%s", test->directory, NAME);
    close(directory);
}

static void close_all(struct test *test)
{
    close(test->fd);
    close(test->other);
    if (test->direct >= 0)
        close(test->direct);
}

/* -- operations ------------------------------------------------------------------------------- */

/* Bytes [at, at + length) are now those of the buffer. */
static void model_write(struct test *test, uint64_t at, uint64_t length)
{
    memcpy(test->model + at, test->buffer, length);
    if (test->size < at + length)
        test->size = at + length;
}

static void do_read(struct test *test, int fd, uint64_t at, uint64_t length)
{
    uint64_t expected = at >= test->size ? 0 : test->size - at < length ? test->size - at : length;
    ssize_t n;

    memset(test->buffer, 0xee, length);
    n = pread(fd, test->buffer, length, (off_t)(test->base + at));
    must(test, failed(n), "read");
    if ((uint64_t)n != expected)
        differ(test, "a read of another length than there is");
    same_bytes(test, test->buffer, at, expected);
}

static void do_write(struct test *test, int fd, uint64_t at, uint64_t length)
{
    pattern_fill(test->buffer, length, random_next(&test->random), 0);
    must(test, write_all_at(fd, test->buffer, length, (off_t)(test->base + at)), "write");
    model_write(test, at, length);
}

static void do_append(struct test *test, uint64_t length)
{
    pattern_fill(test->buffer, length, random_next(&test->random), 0);
    must(test, failed(fcntl(test->fd, F_SETFL, O_APPEND)), "fcntl");
    must(test, write_all_at(test->fd, test->buffer, length, 0), "append");
    must(test, failed(fcntl(test->fd, F_SETFL, 0)), "fcntl");
    model_write(test, test->size, length);
}

static void do_map(struct test *test, bool write, uint64_t at, uint64_t length)
{
    uint64_t page = at & ~(uint64_t)(PAGE - 1), bytes = at + length - page;
    unsigned char *map = mmap(NULL, bytes, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, test->fd,
                              (off_t)(test->base + page));

    must(test, map == MAP_FAILED ? -errno : 0, "mmap");
    if (write) {
        pattern_fill(test->buffer, length, random_next(&test->random), 0);
        memcpy(map + (at - page), test->buffer, length);
        model_write(test, at, length);
        if (random_one_in(&test->random, 2))
            must(test, failed(msync(map, bytes, MS_SYNC)), "msync");
    } else {
        same_bytes(test, map + (at - page), at, length);
        /* Behind the end a page is zero. */
        for (uint64_t i = test->size; i < page + bytes; i++)
            if (map[i - page])
                differ(test, "a mapping is not zero behind the end");
    }
    must(test, failed(munmap(map, bytes)), "munmap");
}

static void do_truncate(struct test *test, uint64_t to)
{
    must(test, failed(ftruncate(test->fd, (off_t)(test->base + to))), "ftruncate");
    if (to < test->size)
        memset(test->model + to, 0, test->size - to);
    test->size = to;
}

static void do_fallocate(struct test *test, enum kind kind, uint64_t at, uint64_t length)
{
    static const int modes[KINDS] = {
        [PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, [ZERO] = FALLOC_FL_ZERO_RANGE};
    bool keep = kind == PUNCH || random_one_in(&test->random, 2);
    int mode = modes[kind] | (keep ? FALLOC_FL_KEEP_SIZE : 0);

    must(test, failed(fallocate(test->fd, mode, (off_t)(test->base + at), (off_t)length)), "fallocate");
    if (kind != RESERVE && at < test->size)
        memset(test->model + at, 0, test->size - at < length ? test->size - at : length);
    if (!keep && test->size < at + length)
        test->size = at + length;
}

/* Within the file; the two ranges do not overlap. */
static void do_copy(struct test *test, uint64_t from, uint64_t to, uint64_t length)
{
    loff_t in = (loff_t)(test->base + from), out = (loff_t)(test->base + to);
    ssize_t n;

    memcpy(test->buffer, test->model + from, length);
    for (uint64_t left = length; left > 0; left -= (uint64_t)n) {
        n = copy_file_range(test->other, &in, test->fd, &out, left, 0);
        must(test, failed(n), "copy_file_range");
        if (n == 0)
            differ(test, "copy_file_range ended early");
    }
    model_write(test, to, length);
}

static void check_all(struct test *test)
{
    same_size(test);
    for (uint64_t at = 0; at < test->size; at += TRANSFER_MAX)
        do_read(test, test->other, at, TRANSFER_MAX);
}

/* -- drawing ---------------------------------------------------------------------------------- */

static enum kind draw_kind(struct test *test)
{
    unsigned total = 0, at, kind;

    for (kind = 0; kind < KINDS; kind++)
        total += test->without[kind] ? 0 : KIND[kind].weight;
    at = (unsigned)random_below(&test->random, total);
    for (kind = 0; test->without[kind] || at >= KIND[kind].weight; kind++)
        at -= test->without[kind] ? 0 : KIND[kind].weight;
    return kind;
}

/* One operation, with its place and length cut to what it can work on. */
static void step(struct test *test)
{
    struct random *random = &test->random;
    enum kind kind = draw_kind(test);
    uint64_t at = random_below(random, test->room), length, from = 0;

    length = 1 + random_below(random, random_one_in(random, 4) ? TRANSFER_MAX : 3 * PAGE);
    if (random_one_in(random, 3))
        at &= ~(uint64_t)(PAGE - 1);
    if (random_one_in(random, 4))
        at = test->size;
    if (kind == MAP_READ || kind == MAP_WRITE || kind == COPY) {
        /* What is mapped or copied must be there. */
        if (test->size == 0)
            kind = WRITE;
        else
            at %= test->size;
    }
    if (kind == READ_DIRECT || kind == WRITE_DIRECT) {
        at &= ~(uint64_t)(PAGE - 1);
        length = (length + PAGE - 1) & ~(uint64_t)(PAGE - 1);
        length = length > TRANSFER_MAX ? TRANSFER_MAX : length;
    }
    if (kind == APPEND)
        at = test->size;
    if (at >= test->room) {
        kind = TRUNCATE;
        at = random_below(random, test->room);
    }
    if (length > test->room - at)
        length = test->room - at;
    if ((kind == MAP_READ || kind == MAP_WRITE) && length > test->size - at)
        length = test->size - at;
    if (kind == COPY) {
        from = random_below(random, test->size);
        length = length > test->size - from ? test->size - from : length;
        if (from < at + length && at < from + length)
            length = from < at ? at - from : from - at;
        if (length == 0)
            kind = SYNC;
    }
    test->history[test->number % HISTORY] = (struct done){kind, at, length, from};

    switch (kind) {
    case READ:
        do_read(test, test->fd, at, length);
        break;
    case READ_OTHER:
        do_read(test, test->other, at, length);
        break;
    case READ_DIRECT:
        do_read(test, test->direct, at, length);
        break;
    case WRITE:
        do_write(test, test->fd, at, length);
        break;
    case APPEND:
        do_append(test, length);
        break;
    case WRITE_DIRECT:
        do_write(test, test->direct, at, length);
        break;
    case MAP_READ:
    case MAP_WRITE:
        do_map(test, kind == MAP_WRITE, at, length);
        break;
    case TRUNCATE:
        do_truncate(test, at);
        break;
    case RESERVE:
    case PUNCH:
    case ZERO:
        do_fallocate(test, kind, at, length);
        break;
    case COPY:
        do_copy(test, from, at, length);
        break;
    case SYNC:
        must(test, failed(random_one_in(random, 2) ? fsync(test->fd) : fdatasync(test->fd)), "fsync");
        break;
    case REOPEN:
        close_all(test);
        open_all(test);
        break;
    case KINDS:
        abort();
    }
    same_size(test);
}

/* Leave out what this file system cannot do, and say so. */
static void probe(struct test *test)
{
    static const struct {
        enum kind kind;
        int mode;
    } modes[] = {{RESERVE, 0},
                 {PUNCH, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
                 {ZERO, FALLOC_FL_ZERO_RANGE}};
    void *at;

    if (ftruncate(test->fd, (off_t)(test->base + PAGE)) < 0)
        unable_errno("truncate to %" PRIu64, test->base + PAGE);
    for (unsigned i = 0; i < sizeof modes / sizeof modes[0]; i++)
        test->without[modes[i].kind] = fallocate(test->fd, modes[i].mode, (off_t)test->base, PAGE) < 0;
    at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, test->fd, 0);
    test->without[MAP_READ] = test->without[MAP_WRITE] = at == MAP_FAILED;
    if (at != MAP_FAILED)
        munmap(at, PAGE);
    test->without[READ_DIRECT] = test->without[WRITE_DIRECT] = test->direct < 0;
    for (unsigned kind = 0; kind < KINDS; kind++)
        if (test->without[kind])
            printf("left out: %s\n", KIND[kind].name);
    if (ftruncate(test->fd, 0) < 0 || ftruncate(test->fd, (off_t)test->base) < 0)
        unable_errno("truncate");
}

static void help(void)
{
    char names[256];

    printf("Usage: share-exercise file [OPTION...] DIRECTORY\n\n"
           "Random work on one new file of DIRECTORY, each result against a model in memory.\n\n"
           "  --seed N         the same seed does the same again (default: from the clock)\n"
           "  --operations N   how many (default 2000)\n"
           "  --size N         how big the file may get (default 256K)\n"
           "  --base N         where in the file the work begins (default 0); a multiple of 4K\n"
           "  --break CALL     make a system call lie half way, to see that it is noticed:\n"
           "                   %s\n",
           sabotage_names(names, sizeof names));
}

int file_main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"operations", required_argument, NULL, 'n'},
                                            {"size", required_argument, NULL, 'z'},
                                            {"base", required_argument, NULL, 'a'},
                                            {"break", required_argument, NULL, 'b'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct test test = {.seed = random_seed(), .room = 256 << 10};
    uint64_t operations = 2000;
    const char *broken = NULL;
    char path[4096];

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            test.seed = parse_number("--seed", optarg);
            break;
        case 'n':
            operations = parse_number("--operations", optarg);
            break;
        case 'z':
            test.room = parse_number("--size", optarg);
            break;
        case 'a':
            test.base = parse_number("--base", optarg);
            break;
        case 'b':
            broken = optarg;
            break;
        case 'h':
            help();
            return 0;
        default:
            return EXIT_UNABLE;
        }
    }
    if (optind != argc - 1)
        unable("file: give one directory; see --help");
    if (test.base % PAGE || test.base > (uint64_t)1 << 50 || test.room < TRANSFER_MAX ||
        test.room > 1 << 30)
        unable("file: --base is a multiple of 4K, --size from 64K to 1G");
    test.directory = argv[optind];
    test.random.state = test.seed;
    test.model = calloc(1, test.room + TRANSFER_MAX);
    test.buffer = aligned_alloc(PAGE, TRANSFER_MAX);
    if (!test.model || !test.buffer)
        unable_errno("file");
    printf("file: seed %" PRIu64 ", %" PRIu64 " operations\n", test.seed, operations);
    open_all(&test);
    probe(&test);
    for (; test.number < operations; test.number++) {
        if (broken && test.number == operations / 2)
            sabotage(broken, SABOTAGE_ANYWHERE);
        step(&test);
        if (test.number % 500 == 499)
            check_all(&test);
    }
    close_all(&test);
    open_all(&test);
    check_all(&test);
    close_all(&test);
    snprintf(path, sizeof path, "%s/%s", test.directory, NAME);
    if (unlink(path) < 0)
        unable_errno("%s", path);
    free(test.model);
    free(test.buffer);
    printf("file: all agreed\n");
    return 0;
}
