/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a flush promised, on a bare disk. `work DISK LOG SEED` verifies the disk, then writes to it for
 * ever and says what has been flushed. Somebody kills the machine. All lines that came out are the next
 * run's LOG. `verify DISK LOG SEED` only looks.
 *
 * Some workers write at the same time, each to its own part of the disk, in generations: writes of some
 * sectors at chosen places, then a flush. The lines, by worker W and generation G:
 *
 *   begin W G     from here on generations from G on are written
 *   flushed W G   all of G is on the disk
 *
 * A sector says which generation wrote it, and its bytes follow from that, the seed and its place. It
 * must hold the newest generation that was flushed and wrote it, or a newer one that wrote it and was
 * not said to be flushed. The last lines can get lost, so the newest generation of a run is not known.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECTOR       512
#define WORDS        (SECTOR / 8)
#define WORKERS      3
#define PART_SECTORS 2048u /* of a worker: 1 MiB */
#define WRITES_MAX   16
#define LENGTH_MAX   24 /* sectors of a write */
#define RUNS_MAX     1000
#define LOG_MAX      (8 << 20)
#define COMPLAIN_MAX 10

enum { EXIT_LOST = 1, EXIT_UNABLE = 2 };

/* One run of the machine, for one worker: [begin, flushed] are promised, and what follows, up to the
 * next run's begin, may be there. */
struct run {
    uint64_t begin, flushed;
};

struct worker {
    struct run runs[RUNS_MAX];
    unsigned count;
    uint64_t promised[PART_SECTORS];
    uint64_t next; /* generation */
};

struct write {
    unsigned first, count; /* sectors of the worker's part */
};

static struct worker workers[WORKERS];
static uint64_t seed;

static void unable(const char *what)
{
    fprintf(stderr, "disk-exercise: %s: %s\n", what, strerror(errno));
    exit(EXIT_UNABLE);
}

/* splitmix64 */
static uint64_t chance(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t mixed(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t state = seed;
    state = chance(&state) ^ a;
    state = chance(&state) ^ b;
    state = chance(&state) ^ c;
    return chance(&state);
}

/* -- what a generation is ------------------------------------------------------------------------ */

static unsigned plan(unsigned worker, uint64_t generation, struct write writes[WRITES_MAX])
{
    uint64_t state = mixed(1, worker, generation);
    unsigned count = 1 + (unsigned)(chance(&state) % WRITES_MAX);
    for (unsigned i = 0; i < count; i++) {
        writes[i].count = 1 + (unsigned)(chance(&state) % LENGTH_MAX);
        writes[i].first = (unsigned)(chance(&state) % (PART_SECTORS - writes[i].count));
    }
    return count;
}

static bool wrote(unsigned worker, uint64_t generation, unsigned sector)
{
    struct write writes[WRITES_MAX];
    unsigned count = plan(worker, generation, writes);
    for (unsigned i = 0; i < count; i++)
        if (sector >= writes[i].first && sector - writes[i].first < writes[i].count)
            return true;
    return false;
}

/* Generation 0 is a sector of zeroes: nobody wrote it. */
static void fill(uint64_t *words, unsigned worker, uint64_t generation, unsigned sector)
{
    uint64_t state = mixed(2, (uint64_t)worker << 32 | sector, generation);
    words[0] = generation;
    for (unsigned i = 1; i < WORDS; i++)
        words[i] = generation ? chance(&state) : 0;
}

static off_t place(unsigned worker, unsigned sector)
{
    return ((off_t)worker * PART_SECTORS + sector) * SECTOR;
}

/* -- what was promised --------------------------------------------------------------------------- */

static void take_line(const char *line)
{
    unsigned number;
    uint64_t generation;
    bool flushed = sscanf(line, "flushed %u %" SCNu64, &number, &generation) == 2;
    if (!flushed && sscanf(line, "begin %u %" SCNu64, &number, &generation) != 2)
        return;
    if (number >= WORKERS)
        return;
    struct worker *w = &workers[number];
    if (!flushed && w->count < RUNS_MAX)
        w->runs[w->count++] = (struct run){.begin = generation, .flushed = generation - 1};
    else if (flushed && w->count > 0 && generation > w->runs[w->count - 1].flushed)
        w->runs[w->count - 1].flushed = generation;
}

static void read_log(const char *path)
{
    char *text = malloc(LOG_MAX + 1);
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !text)
        unable(path);
    for (;;) {
        ssize_t n = read(fd, text + length, LOG_MAX - length);
        if (n < 0)
            unable(path);
        if (n == 0)
            break;
        length += (size_t)n;
    }
    close(fd);
    text[length] = '\0';
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n"))
        take_line(line);
    free(text);

    struct write writes[WRITES_MAX];
    for (unsigned n = 0; n < WORKERS; n++)
        for (unsigned r = 0; r < workers[n].count; r++)
            for (uint64_t g = workers[n].runs[r].begin; g <= workers[n].runs[r].flushed; g++)
                for (unsigned i = plan(n, g, writes); i-- > 0;)
                    for (unsigned s = 0; s < writes[i].count; s++)
                        workers[n].promised[writes[i].first + s] = g;
}

/* Whether the generation was begun perhaps, and not said to be flushed. */
static bool in_doubt(const struct worker *w, uint64_t generation)
{
    for (unsigned r = w->count; r-- > 0;)
        if (generation >= w->runs[r].begin)
            return generation > w->runs[r].flushed;
    return false;
}

/* Returns how many sectors are not what they must be, and sets where each worker goes on. */
static unsigned verify(int fd, unsigned *promised)
{
    static uint64_t have[WORDS] __attribute__((aligned(4096)));
    uint64_t want[WORDS];
    unsigned lost = 0;
    *promised = 0;
    for (unsigned n = 0; n < WORKERS; n++) {
        struct worker *w = &workers[n];
        w->next = 1;
        for (unsigned s = 0; s < PART_SECTORS; s++) {
            if (pread(fd, have, SECTOR, place(n, s)) != SECTOR)
                unable("read");
            uint64_t found = have[0], must = w->promised[s];
            fill(want, n, found, s);
            bool whole = memcmp(have, want, SECTOR) == 0;
            bool fine = found == must || (found > must && in_doubt(w, found) && wrote(n, found, s));
            *promised += must > 0;
            if ((!whole || !fine) && lost++ < COMPLAIN_MAX)
                printf("LOST worker %u sector %u: generation %" PRIu64 " was flushed, %s %" PRIu64 "\n",
                       n, s, must, whole ? "there is" : "there are pieces of", found);
            if (whole && fine && found >= w->next)
                w->next = found + 1;
        }
        if (w->count > 0 && w->runs[w->count - 1].flushed >= w->next)
            w->next = w->runs[w->count - 1].flushed + 1;
    }
    return lost;
}

/* -- work ---------------------------------------------------------------------------------------- */

static void say(const char *what, unsigned worker, uint64_t generation)
{
    char line[64];
    int n = snprintf(line, sizeof(line), "%s %u %" PRIu64 "\n", what, worker, generation);
    if (write(STDOUT_FILENO, line, (size_t)n) != n)
        exit(EXIT_UNABLE);
}

/* One of them goes through the guest's page cache, which gathers its writes. */
static void work(const char *disk, unsigned number)
{
    static uint64_t data[LENGTH_MAX * WORDS] __attribute__((aligned(4096)));
    struct write writes[WRITES_MAX];
    int fd = open(disk, O_RDWR | O_CLOEXEC | (number == 0 ? 0 : O_DIRECT));
    if (fd < 0)
        unable(disk);
    say("begin", number, workers[number].next);
    for (uint64_t g = workers[number].next;; g++) {
        unsigned count = plan(number, g, writes);
        for (unsigned i = 0; i < count; i++) {
            for (unsigned s = 0; s < writes[i].count; s++)
                fill(data + s * WORDS, number, g, writes[i].first + s);
            ssize_t bytes = (ssize_t)writes[i].count * SECTOR;
            if (pwrite(fd, data, (size_t)bytes, place(number, writes[i].first)) != bytes)
                unable("write");
        }
        if (fdatasync(fd) < 0)
            unable("flush");
        say("flushed", number, g);
    }
}

int main(int argc, char **argv)
{
    bool works = argc == 5 && strcmp(argv[1], "work") == 0;
    if (argc != 5 || (!works && strcmp(argv[1], "verify") != 0)) {
        fprintf(stderr, "usage: disk-exercise work|verify DISK LOG SEED\n");
        return EXIT_UNABLE;
    }
    seed = strtoull(argv[4], NULL, 10);
    read_log(argv[3]);
    int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        unable(argv[2]);
    unsigned promised, lost = verify(fd, &promised);
    close(fd);
    printf("verified: %u sectors were promised, %u are lost\n", promised, lost);
    fflush(stdout);
    if (lost > 0)
        return EXIT_LOST;
    for (unsigned n = 0; works && n < WORKERS; n++) {
        pid_t pid = fork();
        if (pid == 0)
            work(argv[2], n);
        if (pid < 0)
            unable("fork");
    }
    while (works && wait(NULL) > 0)
        ;
    return works ? EXIT_UNABLE : 0;
}
