/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common.h"

#define DEPTH_MAX  200
#define PATH_ROOM  (1 << 15)
#define XATTRS_MAX 65536

/* The files with several names that were met, and where. */
struct met {
    ino_t ino;
    unsigned line;
};

struct walk {
    FILE *out;
    struct manifest_options options;
    unsigned line, depth;
    struct met *met;
    size_t met_count;
    char path[PATH_ROOM]; /* of the directory that is walked, with a slash at its end, or "" */
    char list[XATTRS_MAX], value[XATTRS_MAX];
};

void manifest_print_name(FILE *out, const char *name)
{
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        if (*c < ' ' || *c > '~' || *c == '\\')
            fprintf(out, "\\x%02x", *c);
        else
            putc(*c, out);
    }
}

/* 0 when it had not been met. */
static unsigned first_line(struct walk *walk, const struct stat *st)
{
    struct met *more;

    for (size_t i = 0; i < walk->met_count; i++)
        if (walk->met[i].ino == st->st_ino)
            return walk->met[i].line;
    more = realloc(walk->met, (walk->met_count + 1) * sizeof *more);
    if (!more)
        unable_errno("manifest");
    walk->met = more;
    more[walk->met_count++] = (struct met){st->st_ino, walk->line};
    return walk->line;
}

static int hash_content(int fd, uint64_t *hash)
{
    char buf[65536];
    ssize_t n;

    *hash = HASH_START;
    while ((n = read(fd, buf, sizeof buf)) > 0)
        *hash = hash_bytes(*hash, buf, (size_t)n);
    return n < 0 ? -errno : 0;
}

/* All user.* attributes, whatever order the file system lists them in. */
static int hash_attributes(struct walk *walk, int fd, uint64_t *hash)
{
    ssize_t length = flistxattr(fd, walk->list, sizeof walk->list), n;

    *hash = 0;
    if (length < 0)
        return errno == EOPNOTSUPP ? 0 : -errno;
    for (const char *name = walk->list; name < walk->list + length; name += strlen(name) + 1) {
        uint64_t one = hash_bytes(HASH_START, name, strlen(name) + 1);

        if (strncmp(name, "user.", 5) != 0)
            continue;
        n = fgetxattr(fd, name, walk->value, sizeof walk->value);
        if (n < 0)
            return -errno;
        *hash += hash_bytes(one, walk->value, (size_t)n);
    }
    return 0;
}

static void print_hash(struct walk *walk, char letter, int r, uint64_t hash)
{
    if (r < 0)
        fprintf(walk->out, " %c:%s", letter, strerror(-r));
    else
        fprintf(walk->out, " %c:%" PRIx64, letter, hash);
}

static void print_entry(struct walk *walk, int dir, const char *name, const struct stat *st)
{
    static const char kinds[] = {[S_IFREG >> 12] = 'f', [S_IFDIR >> 12] = 'd', [S_IFLNK >> 12] = 'l',
                                 [S_IFIFO >> 12] = 'p', [S_IFCHR >> 12] = 'c', [S_IFBLK >> 12] = 'b',
                                 [S_IFSOCK >> 12] = 's'};
    char target[4096] = "";
    uint64_t hash = 0;
    ssize_t n;
    int fd = -1, r = 0;

    walk->line++;
    fprintf(walk->out, "%c %04o ", kinds[st->st_mode >> 12 & 15], st->st_mode & 07777);
    if (S_ISDIR(st->st_mode))
        fputs("-", walk->out);
    else if (st->st_nlink == 1)
        fputs("1", walk->out);
    else
        fprintf(walk->out, "%lu=%u", (unsigned long)st->st_nlink, first_line(walk, st));
    if (walk->options.owners)
        fprintf(walk->out, " %u:%u", st->st_uid, st->st_gid);
    else
        fputs(" -", walk->out);
    if (S_ISDIR(st->st_mode))
        fputs(" -", walk->out);
    else if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        fprintf(walk->out, " %u,%u", major(st->st_rdev), minor(st->st_rdev));
    else
        fprintf(walk->out, " %lld", (long long)st->st_size);
    if (st->st_mtim.tv_sec < MANIFEST_NOW)
        fprintf(walk->out, " %lld.%09ld", (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    else
        fputs(" now", walk->out);

    if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) {
        fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        r = fd < 0 ? -errno : 0;
    }
    if (S_ISREG(st->st_mode)) {
        if (r == 0)
            r = hash_content(fd, &hash);
        print_hash(walk, 'c', r, hash);
    } else if (S_ISLNK(st->st_mode)) {
        n = readlinkat(dir, name, target, sizeof target);
        print_hash(walk, 'c', n < 0 ? -errno : 0,
                   hash_bytes(HASH_START, target, n < 0 ? 0 : (size_t)n));
    } else {
        fputs(" -", walk->out);
    }
    if (fd >= 0 || r < 0) {
        if (r == 0)
            r = hash_attributes(walk, fd, &hash);
        print_hash(walk, 'a', r, hash);
    } else {
        fputs(" -", walk->out);
    }
    if (fd >= 0)
        close(fd);
    putc(' ', walk->out);
    manifest_print_name(walk->out, walk->path);
    manifest_print_name(walk->out, name);
    putc('\n', walk->out);
}

static int no_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* The entries' names, sorted; free with free_names. */
static int read_names(int dir, struct dirent ***names)
{
    char path[32];

    /* The descriptor's own place in the directory is not moved. */
    snprintf(path, sizeof path, "/proc/self/fd/%d", dir);
    return scandir(path, names, no_dots, by_bytes);
}

static void free_names(struct dirent **names, int count)
{
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static int walk_directory(struct walk *walk, int dir)
{
    struct dirent **names;
    size_t length = strlen(walk->path);
    int count, r = 0;

    if (walk->depth >= DEPTH_MAX)
        return -ELOOP;
    count = read_names(dir, &names);
    if (count < 0)
        return -errno;
    walk->depth++;
    for (int i = 0; r == 0 && i < count; i++) {
        const char *name = names[i]->d_name;
        struct stat st;
        int below;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            r = -errno;
            break;
        }
        print_entry(walk, dir, name, &st);
        if (!S_ISDIR(st.st_mode))
            continue;
        if (length + strlen(name) + 2 > sizeof walk->path) {
            r = -ENAMETOOLONG;
            break;
        }
        below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below < 0)
            continue; /* the entry's line says why */
        snprintf(walk->path + length, sizeof walk->path - length, "%s/", name);
        r = walk_directory(walk, below);
        walk->path[length] = '\0';
        close(below);
    }
    walk->depth--;
    free_names(names, count);
    return r;
}

int manifest_print(FILE *out, int dir, const struct manifest_options *options)
{
    struct walk *walk = calloc(1, sizeof *walk);
    int r;

    if (!walk)
        return -ENOMEM;
    walk->out = out;
    walk->options = *options;
    r = walk_directory(walk, dir);
    free(walk->met);
    free(walk);
    return r;
}

int manifest_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"owners", no_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct manifest_options manifest = {0};
    int dir, r;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'o':
            manifest.owners = true;
            break;
        case 'h':
            printf("Usage: share-exercise manifest [--owners] DIRECTORY\n\n"
                   "Print what is in a tree, one line an entry: kind, mode, links, owner, size, time, "
                   "hashes of\n"
                   "content and attributes, path. Two trees with equal manifests hold the same.\n\n"
                   "  --owners    with user and group ids\n");
            return 0;
        default:
            return EXIT_UNABLE;
        }
    }
    if (optind != argc - 1)
        unable("manifest: give one directory; see --help");
    dir = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        unable_errno("%s", argv[optind]);
    r = manifest_print(stdout, dir, &manifest);
    close(dir);
    if (r < 0)
        unable("%s: %s", argv[optind], strerror(-r));
    return 0;
}
