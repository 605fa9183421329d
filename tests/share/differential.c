/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same operations on two directories: one on the file system under test, one on a file system of
 * the same kernel that is known to be good. After each operation results, errno and the attributes of
 * what it was about must be equal; every now and then, and at the end, the whole trees.
 *
 * Not compared, since good file systems differ in them: access times, blocks, sizes of directories,
 * and link counts of directories where one side does not count.
 */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "manifest.h"
#include "sabotage.h"
#include "wipe.h"

#define HISTORY   16
#define KNOWN     64
#define DEPTH_MAX 3
#define FIRST_FD  100

/* -- what both can do ------------------------------------------------------------------------- */

static struct abilities probe_one(const struct side *side)
{
    struct abilities can = {0};
    struct stat st;
    void *at;
    int fd, other;

    fd = openat(side->root, "probe", O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || ftruncate(fd, 8192) < 0 || mkdirat(side->root, "probe-dir", 0755) < 0)
        unable_errno("%s: cannot make files", side->name);
    can.owners =
        geteuid() == 0 && fchown(fd, 4321, 4321) == 0 && fstat(fd, &st) == 0 && st.st_uid == 4321;
    can.xattr = fsetxattr(fd, "user.probe", "x", 1, 0) == 0;
    at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    can.mmap = at != MAP_FAILED;
    if (can.mmap)
        munmap(at, 4096);
    can.fallocate = fallocate(fd, 0, 0, 4096) == 0 && fallocate(fd, 1, 0, 4096) == 0;
    can.punch = fallocate(fd, 3, 0, 4096) == 0;
    close(fd);
    other = openat(side->root, ".", O_TMPFILE | O_RDWR, 0600);
    can.tmpfile = other >= 0;
    if (other >= 0)
        close(other);
    can.exchange = rename_flags(side->root, "probe", side->root, "probe-dir", RENAME_SWAP) == 0;
    can.directory_links =
        fstatat(side->root, can.exchange ? "probe" : "probe-dir", &st, 0) == 0 && st.st_nlink == 2;
    if (wipe(side->root, "probe") < 0 || wipe(side->root, "probe-dir") < 0)
        unable_errno("%s: cannot remove files", side->name);
    return can;
}

struct abilities differential_probe(const struct side *a, const struct side *b)
{
    struct abilities one = probe_one(a), two = probe_one(b), both;

#define BOTH(field, text)                                                                              \
    do {                                                                                               \
        both.field = one.field && two.field;                                                           \
        if (!both.field)                                                                               \
            printf("left out: %s (%s)\n", text,                                                        \
                   one.field ? "not in the reference" : "not in the first");                           \
    } while (0)
    BOTH(owners, "owners");
    BOTH(xattr, "extended attributes");
    BOTH(mmap, "shared mappings");
    BOTH(tmpfile, "O_TMPFILE");
    BOTH(exchange, "RENAME_EXCHANGE");
    BOTH(fallocate, "fallocate");
    BOTH(punch, "holes");
    BOTH(directory_links, "link counts of directories");
#undef BOTH
    both.squash = geteuid() == 0 && !both.owners;
    return both;
}

/* -- comparing -------------------------------------------------------------------------------- */

struct test {
    struct side sides[2];
    struct abilities abilities;
    struct random random;
    uint64_t seed, number; /* of the operation that is under way */
    struct operation history[HISTORY];
    struct outcome outcomes[HISTORY];
    char known[KNOWN][PATH_MAX_HERE]; /* paths that were made lately; empty: none */
    bool verbose;
};

/* The attributes that must agree. */
struct seen {
    int error;
    unsigned mode, links, uid, gid;
    uint64_t size, device;
    int64_t seconds; /* 0 with nanoseconds of 0: now */
    long nanoseconds;
};

static struct seen see(const struct test *test, int r, const struct stat *st)
{
    struct seen seen;

    memset(&seen, 0, sizeof seen); /* padding as well: it is compared */
    if (r < 0) {
        seen.error = errno;
        return seen;
    }
    seen.mode = st->st_mode;
    if (!S_ISDIR(st->st_mode) || test->abilities.directory_links)
        seen.links = (unsigned)st->st_nlink;
    if (test->abilities.owners) {
        seen.uid = st->st_uid;
        seen.gid = st->st_gid;
    }
    if (!S_ISDIR(st->st_mode))
        seen.size = (uint64_t)st->st_size;
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        seen.device = st->st_rdev;
    if (st->st_mtim.tv_sec < MANIFEST_NOW) {
        seen.seconds = st->st_mtim.tv_sec;
        seen.nanoseconds = st->st_mtim.tv_nsec;
    }
    return seen;
}

static void print_outcome(const struct outcome *result)
{
    if (result->value == -1)
        printf("%s", strerror(result->error));
    else
        printf("%" PRId64, result->value);
    if (result->hash)
        printf(" #%" PRIx64, result->hash);
}

static void print_seen(const struct seen *seen)
{
    if (seen->error)
        printf("%s", strerror(seen->error));
    else
        printf("mode %06o links %u owner %u:%u size %" PRIu64 " device %" PRIx64 " time %" PRId64
               ".%09ld",
               seen->mode, seen->links, seen->uid, seen->gid, seen->size, seen->device, seen->seconds,
               seen->nanoseconds);
}

static void print_history(const struct test *test)
{
    uint64_t first = test->number >= HISTORY - 1 ? test->number - (HISTORY - 1) : 0;

    printf("The last operations, with what the reference said:\n");
    for (uint64_t i = first; i <= test->number; i++) {
        printf("  %" PRIu64 ": ", i);
        operation_print(&test->history[i % HISTORY]);
        printf(" = ");
        print_outcome(&test->outcomes[i % HISTORY]);
        putchar('\n');
    }
    printf("seed %" PRIu64 "\n", test->seed);
}

static bool same_outcome(struct test *test, const struct outcome results[2])
{
    if (results[0].value == results[1].value && results[0].error == results[1].error &&
        results[0].hash == results[1].hash)
        return true;
    printf("DIFFERENCE in the result of operation %" PRIu64 ":\n", test->number);
    for (unsigned i = 0; i < 2; i++) {
        printf("  %s: ", test->sides[i].name);
        print_outcome(&results[i]);
        putchar('\n');
    }
    return false;
}

static bool same_seen(struct test *test, const char *what, const struct seen seen[2])
{
    if (memcmp(&seen[0], &seen[1], sizeof seen[0]) == 0)
        return true;
    printf("DIFFERENCE after operation %" PRIu64 " in ", test->number);
    manifest_print_name(stdout, what);
    putchar('\n');
    for (unsigned i = 0; i < 2; i++) {
        printf("  %s: ", test->sides[i].name);
        print_seen(&seen[i]);
        putchar('\n');
    }
    return false;
}

/* What the operation was about looks the same on both sides. */
static bool same_attributes(struct test *test, const struct operation *op)
{
    const char *paths[2] = {op->path, op->other};
    unsigned count = operation_paths(op->kind);
    struct stat st[2][2];
    struct seen seen[2];
    int r[2][2];

    for (unsigned p = 0; p < count; p++) {
        for (unsigned i = 0; i < 2; i++) {
            r[p][i] = fstatat(test->sides[i].root, paths[p], &st[p][i], AT_SYMLINK_NOFOLLOW);
            seen[i] = see(test, r[p][i], &st[p][i]);
        }
        if (!same_seen(test, paths[p], seen))
            return false;
    }
    if (count == 2 && r[0][0] == 0 && r[1][0] == 0 &&
        (st[0][0].st_ino == st[1][0].st_ino) != (st[0][1].st_ino == st[1][1].st_ino)) {
        printf("DIFFERENCE after operation %" PRIu64 ": is it the same file by two names?\n",
               test->number);
        return false;
    }
    if (operation_uses_slot(op->kind)) {
        for (unsigned i = 0; i < 2; i++) {
            r[0][i] = fstat(test->sides[i].first_fd + (int)op->slot, &st[0][i]);
            seen[i] = see(test, r[0][i], &st[0][i]);
        }
        if (!same_seen(test, "the open file", seen))
            return false;
    }
    return true;
}

static char *tree_text(const struct test *test, const struct side *side)
{
    struct manifest_options options = {.owners = test->abilities.owners};
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    int r;

    if (!out)
        unable_errno("manifest");
    r = manifest_print(out, side->root, &options);
    if (r < 0)
        fprintf(out, "cannot be walked: %s\n", strerror(-r));
    fclose(out);
    return text;
}

static bool same_trees(struct test *test)
{
    char *texts[2] = {tree_text(test, &test->sides[0]), tree_text(test, &test->sides[1])};
    char *lines[2] = {texts[0], texts[1]};
    bool same = strcmp(texts[0], texts[1]) == 0;

    if (!same)
        printf("DIFFERENCE in the trees after operation %" PRIu64 ":\n", test->number);
    while (!same) {
        char *line[2] = {strsep(&lines[0], "\n"), strsep(&lines[1], "\n")};

        if (line[0] && line[1] && strcmp(line[0], line[1]) == 0)
            continue;
        for (unsigned i = 0; i < 2; i++)
            printf("  %s: %s\n", test->sides[i].name, line[i] ? line[i] : "(nothing more)");
        break;
    }
    free(texts[0]);
    free(texts[1]);
    return same;
}

/* -- running ---------------------------------------------------------------------------------- */

/* A path that was made lately and is still there, or "". */
static const char *known_path(struct test *test)
{
    struct stat st;

    for (unsigned try = 0; try < 8; try++) {
        char *known = test->known[random_below(&test->random, KNOWN)];

        if (*known && fstatat(test->sides[1].root, known, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return known;
        *known = '\0';
    }
    return "";
}

/* Prefer what is there, and names below it: most paths that are drawn at random are not. */
static void prefer_known(struct test *test, char path[static PATH_MAX_HERE])
{
    const char *known = known_path(test);
    size_t length = strlen(known), room;
    unsigned depth = 0;

    for (const char *c = known; *c; c++)
        depth += *c == '/';
    if (length == 0 || random_one_in(&test->random, 6))
        return;
    room = strcspn(path, "/");
    if (depth < DEPTH_MAX && length + 1 + room < PATH_MAX_HERE && random_one_in(&test->random, 3)) {
        memmove(path + length + 1, path, room);
        path[length + 1 + room] = '\0';
        memcpy(path, known, length);
        path[length] = '/';
    } else {
        memcpy(path, known, length + 1);
    }
}

static void draw(struct test *test, struct operation *op)
{
    operation_draw(op, &test->random, &test->abilities);
    prefer_known(test, op->path);
    if (random_one_in(&test->random, 2))
        prefer_known(test, op->other);
}

static void remember(struct test *test, const struct operation *op)
{
    char *to = test->known[random_below(&test->random, KNOWN)];

    switch (op->kind) {
    case OP_CREATE:
    case OP_MKDIR:
    case OP_SYMLINK:
    case OP_MKFIFO:
    case OP_LINK_SLOT:
        memcpy(to, op->path, PATH_MAX_HERE);
        break;
    case OP_RENAME:
    case OP_LINK:
        memcpy(to, op->other, PATH_MAX_HERE);
        break;
    default:
        break;
    }
}

static bool step(struct test *test)
{
    struct operation *op = &test->history[test->number % HISTORY];
    struct outcome results[2];

    draw(test, op);
    for (unsigned i = 0; i < 2; i++)
        results[i] = operation_run(op, &test->sides[i]);
    test->outcomes[test->number % HISTORY] = results[1];
    if (test->verbose) {
        printf("%" PRIu64 ": ", test->number);
        operation_print(op);
        printf(" = ");
        print_outcome(&results[1]);
        putchar('\n');
    }
    if (!same_outcome(test, results) || !same_attributes(test, op))
        return false;
    if (results[1].value != -1)
        remember(test, op);
    return true;
}

static void help(void)
{
    char names[256];

    printf(
        "Usage: share-exercise differential [OPTION...] DIRECTORY REFERENCE\n\n"
        "Do the same random operations in both, and compare every result, the attributes of what they\n"
        "were about, and the trees. Work is done in a new directory 'differential' in each.\n\n"
        "  --seed N         the same seed does the same again (default: from the clock)\n"
        "  --operations N   how many (default 2000)\n"
        "  --compare N      compare the trees each N operations (default 500)\n"
        "  --keep           leave the trees, for instance to print their manifests\n"
        "  --verbose        print each operation\n"
        "  --break CALL     make a system call lie in DIRECTORY, to see that it is noticed:\n"
        "                   %s\n",
        sabotage_names(names, sizeof names));
}

static void enter(struct side *side, const char *directory, int first_fd)
{
    side->name = directory;
    side->first_fd = first_fd;
    side->top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* One level deeper than need be: a symbolic link to ../b is still inside. */
    if (side->top < 0 || mkdirat(side->top, "differential", 0777) < 0 ||
        mkdirat(side->top, "differential/tree", 0777) < 0)
        unable_errno("%s/differential", directory);
    side->root = openat(side->top, "differential/tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (side->root < 0)
        unable_errno("%s/differential", directory);
}

static void leave(const struct side *side, bool keep)
{
    for (unsigned slot = 0; slot < SLOTS; slot++)
        close(side->first_fd + (int)slot);
    close(side->root);
    if (!keep && wipe(side->top, "differential") < 0)
        unable_errno("remove %s/differential", side->name);
    close(side->top);
}

int differential_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"operations", required_argument, NULL, 'n'},
        {"compare", required_argument, NULL, 'c'}, {"keep", no_argument, NULL, 'k'},
        {"verbose", no_argument, NULL, 'v'},       {"break", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},          {0}};
    struct test *test = calloc(1, sizeof *test);
    uint64_t operations = 2000, compare = 500;
    const char *broken = NULL;
    bool keep = false, same = true;

    if (!test)
        unable_errno("differential");
    test->seed = random_seed();
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            test->seed = parse_number("--seed", optarg);
            break;
        case 'n':
            operations = parse_number("--operations", optarg);
            break;
        case 'c':
            compare = parse_number("--compare", optarg);
            break;
        case 'k':
            keep = true;
            break;
        case 'v':
            test->verbose = true;
            break;
        case 'b':
            broken = optarg;
            break;
        case 'h':
            help();
            free(test);
            return 0;
        default:
            return EXIT_UNABLE;
        }
    }
    if (optind != argc - 2)
        unable("differential: give two directories; see --help");
    if (compare == 0)
        unable("--compare: at least 1");
    printf("differential: seed %" PRIu64 ", %" PRIu64 " operations\n", test->seed, operations);
    signal(SIGPIPE, SIG_IGN);
    umask(0);
    enter(&test->sides[0], argv[optind], FIRST_FD);
    enter(&test->sides[1], argv[optind + 1], FIRST_FD + SLOTS);
    test->random.state = test->seed;
    test->abilities = differential_probe(&test->sides[0], &test->sides[1]);
    if (broken) {
        sabotage(broken, test->sides[0].root);
        sabotage(broken, FIRST_FD);
    }
    for (; same && test->number < operations; test->number++) {
        same = step(test) && ((test->number + 1) % compare != 0 || same_trees(test));
        if (!same)
            break;
    }
    same = same && same_trees(test);
    if (!same) {
        print_history(test);
    } else {
        leave(&test->sides[0], keep);
        leave(&test->sides[1], keep);
        printf("differential: all agreed\n");
    }
    free(test);
    return same ? 0 : EXIT_DIFFERENCE;
}
