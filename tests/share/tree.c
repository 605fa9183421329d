/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes make, write, link, move and remove files and directories in one tree, in each
 * other's way. What each call says is left to chance; only errors that such a race can bring are
 * allowed. When all have ended, the tree must be sound: what a directory lists is there and is what it
 * is said to be, link counts count, and a file holds nothing but what was written to it.
 *
 * Files consist of records, written whole, that name their file's inode number and their place. So a
 * record that got into another file, or to another place, is found.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "manifest.h"
#include "sabotage.h"
#include "wipe.h"

#define TOP           "exercised-tree"
#define PROCESSES_MAX 16
#define RECORDS_MAX   64
#define MAGIC         0x6461796672656364u

struct record {
    uint64_t magic, inode, place, key;
    unsigned char payload[512 - 5 * 8];
    uint64_t sum;
};

_Static_assert(sizeof(struct record) == 512, "records fill whole sectors");

struct worker {
    int root;
    unsigned number;
    struct random random;
    int held; /* a file that stays open for a while; -1 */
    struct stat held_stat;
};

static _Noreturn void differ(const char *what, const char *path)
{
    int error = errno;

    printf("DIFFERENCE: %s: ", what);
    manifest_print_name(stdout, path);
    if (error)
        printf(": %s", strerror(error));
    putchar('\n');
    fflush(stdout);
    _exit(EXIT_DIFFERENCE);
}

/* -- records ---------------------------------------------------------------------------------- */

static uint64_t record_sum(const struct record *record)
{
    return hash_bytes(HASH_START, record, offsetof(struct record, sum));
}

static void record_make(struct record *record, ino_t inode, uint64_t place, uint64_t key)
{
    *record = (struct record){.magic = MAGIC, .inode = inode, .place = place, .key = key};
    pattern_fill(record->payload, sizeof record->payload, key, 0);
    record->sum = record_sum(record);
}

/* A record that was never written is zero. */
static bool record_is_good(const struct record *record, ino_t inode, uint64_t place)
{
    static const struct record none;

    return memcmp(record, &none, sizeof none) == 0 ||
           (record->magic == MAGIC && record->inode == inode && record->place == place &&
            record->sum == record_sum(record));
}

/* -- the work --------------------------------------------------------------------------------- */

/* An operation in a race may find its names gone, taken, or to be something else. */
static void allow(long r, const char *what, const char *path)
{
    if (r >= 0)
        return;
    switch (errno) {
    case ENOENT:
    case EEXIST:
    case ENOTEMPTY:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case EINVAL: /* a directory into itself */
    case EPERM:  /* a link to a directory */
        return;
    default:
        differ(what, path);
    }
}

static void draw_path(struct worker *worker, char path[static 64])
{
    unsigned depth = (unsigned)random_below(&worker->random, 4);
    size_t used = 0;

    for (unsigned i = 0; i < depth; i++)
        used += (size_t)snprintf(path + used, 64 - used, "d%u/",
                                 (unsigned)random_below(&worker->random, 3));
    snprintf(path + used, 64 - used, "%c%u", random_one_in(&worker->random, 3) ? 'd' : 'f',
             (unsigned)random_below(&worker->random, 6));
}

static void write_record(struct worker *worker, int fd, const char *path)
{
    uint64_t place = random_below(&worker->random, RECORDS_MAX);
    struct record record;
    struct stat st;

    if (fstat(fd, &st) < 0)
        differ("fstat of an open file", path);
    record_make(&record, st.st_ino, place, random_next(&worker->random));
    errno = -write_all_at(fd, &record, sizeof record, (off_t)(place * sizeof record));
    if (errno)
        differ("write", path);
}

static void create(struct worker *worker, const char *path)
{
    int fd = openat(worker->root, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);

    allow(fd, "create", path);
    if (fd < 0)
        return;
    for (uint64_t n = random_below(&worker->random, 4); n > 0; n--)
        write_record(worker, fd, path);
    if (random_one_in(&worker->random, 20) && fsync(fd) < 0)
        differ("fsync", path);
    close(fd);
}

static void hold(struct worker *worker, const char *path)
{
    struct stat st;

    if (worker->held >= 0) {
        if (fstat(worker->held, &st) < 0)
            differ("fstat of a file held open", path);
        errno = 0;
        if (st.st_ino != worker->held_stat.st_ino)
            differ("a file held open is another one now", path);
        write_record(worker, worker->held, path);
        close(worker->held);
    }
    worker->held = openat(worker->root, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    allow(worker->held, "open", path);
    if (worker->held >= 0 && fstat(worker->held, &worker->held_stat) < 0)
        differ("fstat", path);
}

static void list(struct worker *worker, const char *path)
{
    int fd = openat(worker->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned count = 0;
    DIR *dir;

    allow(fd, "open of a directory", path);
    if (fd < 0)
        return;
    dir = fdopendir(fd);
    if (!dir)
        unable_errno("fdopendir");
    for (errno = 0; readdir(dir); errno = 0)
        count++;
    allow(errno ? -1 : 0, "readdir", path);
    errno = 0;
    if (count > 1000)
        differ("a directory without end", path);
    closedir(dir);
}

static void truncate_some(struct worker *worker, const char *path)
{
    int fd = openat(worker->root, path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

    allow(fd, "open", path);
    if (fd < 0)
        return;
    if (ftruncate(fd, (off_t)(random_below(&worker->random, RECORDS_MAX) * sizeof(struct record))) < 0)
        differ("truncate", path);
    close(fd);
}

static void step(struct worker *worker)
{
    char path[64], other[64];
    struct stat st;

    draw_path(worker, path);
    draw_path(worker, other);
    switch (random_below(&worker->random, 14)) {
    case 0:
    case 1:
    case 2:
        create(worker, path);
        break;
    case 3:
    case 4:
        allow(mkdirat(worker->root, path, 0755), "mkdir", path);
        break;
    case 5:
        allow(unlinkat(worker->root, path, AT_REMOVEDIR), "rmdir", path);
        break;
    case 6:
        allow(unlinkat(worker->root, path, 0), "unlink", path);
        break;
    case 7:
    case 8:
        allow(rename_flags(worker->root, path, worker->root, other,
                           random_one_in(&worker->random, 4) ? RENAME_SWAP : 0),
              "rename", path);
        break;
    case 9:
        allow(linkat(worker->root, path, worker->root, other, 0), "link", path);
        break;
    case 10:
        allow(symlinkat("f0", worker->root, path), "symlink", path);
        break;
    case 11:
        hold(worker, path);
        break;
    case 12:
        list(worker, path);
        allow(fstatat(worker->root, other, &st, 0), "stat", other);
        break;
    default:
        truncate_some(worker, path);
    }
}

static _Noreturn void work(struct worker *worker, uint64_t operations)
{
    for (uint64_t i = 0; i < operations; i++)
        step(worker);
    exit(0);
}

/* -- the look at what is left ----------------------------------------------------------------- */

/* How many names an inode has in the tree, and how many it says it has. */
struct counted {
    ino_t inode;
    nlink_t links, names;
};

struct look {
    struct counted *counted;
    size_t count;
    uint64_t files, directories, bytes;
    dev_t device;
};

static void count_name(struct look *look, const struct stat *st)
{
    struct counted *more;

    for (size_t i = 0; i < look->count; i++) {
        if (look->counted[i].inode == st->st_ino) {
            look->counted[i].names++;
            return;
        }
    }
    more = realloc(look->counted, (look->count + 1) * sizeof *more);
    if (!more)
        unable_errno("walk");
    look->counted = more;
    more[look->count++] = (struct counted){st->st_ino, st->st_nlink, 1};
}

static void look_at_file(struct look *look, int dir, const char *name, const struct stat *st)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct record record;

    if (fd < 0)
        differ("a file that is listed cannot be opened", name);
    errno = 0;
    if (st->st_size % (off_t)sizeof record != 0)
        differ("a size that nobody gave it", name);
    for (off_t at = 0; at < st->st_size; at += (off_t)sizeof record) {
        int r = read_all_at(fd, &record, sizeof record, at);

        errno = -r;
        if (r < 0)
            differ("read", name);
        if (!record_is_good(&record, st->st_ino, (uint64_t)at / sizeof record))
            differ("a record that nobody wrote there", name);
    }
    look->bytes += (uint64_t)st->st_size;
    close(fd);
}

static unsigned char type_of(mode_t mode)
{
    return (unsigned char)((mode & S_IFMT) >> 12);
}

static void look_at_directory(struct look *look, int dir, const struct stat *self)
{
    nlink_t below = 0;
    DIR *entries;
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    entries = copy < 0 ? NULL : fdopendir(copy);
    if (!entries)
        unable_errno("fdopendir");
    for (struct dirent *entry; (entry = readdir(entries));) {
        const char *name = entry->d_name;
        struct stat st, up;
        int fd;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            differ("a name that is listed is not there", name);
        errno = 0;
        if (entry->d_ino != st.st_ino)
            differ("listed with another inode number", name);
        if (entry->d_type != DT_UNKNOWN && entry->d_type != type_of(st.st_mode))
            differ("listed as another kind", name);
        if (st.st_dev != look->device)
            differ("on another device", name);
        if (!S_ISDIR(st.st_mode)) {
            count_name(look, &st);
            look->files++;
            if (S_ISREG(st.st_mode))
                look_at_file(look, dir, name, &st);
            continue;
        }
        below++;
        look->directories++;
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstatat(fd, "..", &up, 0) < 0)
            differ("a directory that is listed cannot be opened", name);
        errno = 0;
        if (up.st_ino != self->st_ino)
            differ("'..' leads elsewhere", name);
        look_at_directory(look, fd, &st);
        close(fd);
    }
    errno = 0;
    if (self->st_nlink != 1 && self->st_nlink != below + 2)
        differ("a directory's link count does not count its directories", "");
    closedir(entries);
}

static void look_at_all(int root)
{
    struct look look = {0};
    struct stat st;

    if (fstat(root, &st) < 0)
        differ("fstat", TOP);
    look.device = st.st_dev;
    look_at_directory(&look, root, &st);
    errno = 0;
    for (size_t i = 0; i < look.count; i++) {
        char text[96];

        snprintf(text, sizeof text, "inode %llu has %lu names and %lu links",
                 (unsigned long long)look.counted[i].inode, (unsigned long)look.counted[i].names,
                 (unsigned long)look.counted[i].links);
        if (look.counted[i].names != look.counted[i].links)
            differ("link count", text);
    }
    free(look.counted);
    printf("tree: %" PRIu64 " names of files, %" PRIu64 " directories, %" PRIu64 " bytes are sound\n",
           look.files, look.directories, look.bytes);
}

/* -- main ------------------------------------------------------------------------------------- */

static void help(void)
{
    char names[256];

    printf("Usage: share-exercise tree [OPTION...] DIRECTORY\n\n"
           "Several processes at random work in a new tree 'exercised-tree' of DIRECTORY, then a look "
           "at what\n"
           "is left. The seed decides what they do, not in which order they get to it.\n\n"
           "  --seed N         (default: from the clock)\n"
           "  --processes N    (default 3)\n"
           "  --operations N   of each process (default 1000)\n"
           "  --keep           leave the tree, for instance to print its manifest\n"
           "  --break CALL     make a system call of one process lie, to see that it is noticed:\n"
           "                   %s\n",
           sabotage_names(names, sizeof names));
}

int tree_main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"operations", required_argument, NULL, 'n'},
                                            {"processes", required_argument, NULL, 'p'},
                                            {"keep", no_argument, NULL, 'k'},
                                            {"break", required_argument, NULL, 'b'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    uint64_t seed = random_seed(), operations = 1000, processes = 3;
    struct worker worker = {.held = -1};
    pid_t pids[PROCESSES_MAX];
    const char *broken = NULL;
    bool keep = false, good = true;
    int top, status;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            seed = parse_number("--seed", optarg);
            break;
        case 'n':
            operations = parse_number("--operations", optarg);
            break;
        case 'p':
            processes = parse_number("--processes", optarg);
            break;
        case 'k':
            keep = true;
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
        unable("tree: give one directory; see --help");
    if (processes == 0 || processes > PROCESSES_MAX)
        unable("--processes: 1 to %d", PROCESSES_MAX);
    printf("tree: seed %" PRIu64 ", %" PRIu64 " processes, %" PRIu64 " operations each\n", seed,
           processes, operations);
    top = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || mkdirat(top, TOP, 0755) < 0)
        unable_errno("%s/" TOP, argv[optind]);
    worker.root = openat(top, TOP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (worker.root < 0)
        unable_errno("%s/" TOP, argv[optind]);
    fflush(stdout);
    for (unsigned i = 0; i < processes; i++) {
        pids[i] = fork();
        if (pids[i] < 0)
            unable_errno("fork");
        if (pids[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            worker.number = i;
            worker.random.state = seed * PROCESSES_MAX + i;
            if (broken && i == 0)
                sabotage(broken, SABOTAGE_ANYWHERE);
            work(&worker, operations);
        }
    }
    for (unsigned i = 0; i < processes; i++)
        good = waitpid(pids[i], &status, 0) == pids[i] && status == 0 && good;
    if (!good) {
        printf("seed %" PRIu64 "\n", seed);
        return EXIT_DIFFERENCE;
    }
    look_at_all(worker.root);
    close(worker.root);
    if (!keep && wipe(top, TOP) < 0)
        unable_errno("remove %s/" TOP, argv[optind]);
    close(top);
    printf("tree: all agreed\n");
    return 0;
}
