/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories: reading them while they change, positions in them, depth, durability.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "posix.h"

/* Enough that no reply to a readdir holds them all. */
#define MANY 300

static void make_many(const char *dir, unsigned count)
{
    int at;

    OK(mkdir(dir, 0755));
    at = (int)OK(open(dir, O_RDONLY | O_DIRECTORY));
    for (unsigned i = 0; i < count; i++) {
        char name[64];

        snprintf(name, sizeof name, "a-name-of-some-length-%u", i);
        OK(close((int)OK(openat(at, name, O_WRONLY | O_CREAT | O_EXCL, 0644))));
    }
    OK(close(at));
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void reading_a_big_directory(void)
{
    unsigned char seen[MANY] = {0};
    unsigned count = 0, dots = 0, number;
    DIR *dir;

    make_many("d", MANY);
    dir = opendir("d");
    THAT(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (is_dots(entry->d_name)) {
            dots++;
            continue;
        }
        EQUAL(sscanf(entry->d_name, "a-name-of-some-length-%u", &number), 1);
        THAT(number < MANY);
        EQUAL(seen[number], 0);
        seen[number] = 1;
        count++;
    }
    EQUAL(count, MANY);
    EQUAL(dots, 2);
    closedir(dir);
}

static void what_entries_say(void)
{
    static const struct {
        const char *name;
        unsigned char type;
    } kinds[] = {{"f", DT_REG}, {"d", DT_DIR}, {"l", DT_LNK}, {"p", DT_FIFO}};
    unsigned found = 0;
    DIR *dir;

    posix_make("f", "");
    OK(mkdir("d", 0755));
    OK(symlink("f", "l"));
    OK(mkfifo("p", 0644));
    dir = opendir(".");
    THAT(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0)
            EQUAL(entry->d_ino, posix_stat(".").st_ino);
        for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            if (strcmp(entry->d_name, kinds[i].name) != 0)
                continue;
            found++;
            EQUAL(entry->d_ino, posix_stat(entry->d_name).st_ino);
            if (entry->d_type != DT_UNKNOWN)
                EQUAL(entry->d_type, kinds[i].type);
        }
    }
    EQUAL(found, 4);
    closedir(dir);
}

static void reading_while_removing(void)
{
    unsigned removed = 0;
    DIR *dir;

    /* As `rm -r` does: what has been returned goes, all of the rest is still returned. */
    make_many("d", MANY);
    dir = opendir("d");
    THAT(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (is_dots(entry->d_name))
            continue;
        OK(unlinkat(dirfd(dir), entry->d_name, 0));
        removed++;
    }
    EQUAL(removed, MANY);
    closedir(dir);
    OK(rmdir("d"));
}

static void reading_while_adding(void)
{
    unsigned old = 0, read = 0;
    char name[32];
    DIR *dir;

    /* New names may or may not show up; those that were there show up once. */
    make_many("d", 200);
    dir = opendir("d");
    THAT(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (is_dots(entry->d_name))
            continue;
        if (strncmp(entry->d_name, "a-name", 6) == 0)
            old++;
        if (++read <= 100) {
            snprintf(name, sizeof name, "d/new-%u", read);
            posix_make(name, "");
        }
    }
    EQUAL(old, 200);
    closedir(dir);
    EQUAL(posix_entries("d"), 300);
}

static void positions(void)
{
    char names[200][NAME_MAX + 1];
    long places[200];
    unsigned count = 0;
    DIR *dir;

    make_many("d", 180);
    dir = opendir("d");
    THAT(dir != NULL);
    for (struct dirent *entry;; count++) {
        places[count] = telldir(dir);
        entry = readdir(dir);
        if (!entry)
            break;
        THAT(count < 199);
        snprintf(names[count], sizeof names[count], "%s", entry->d_name);
    }
    EQUAL(count, 182);
    for (unsigned i = 0; i < count; i += 7) {
        struct dirent *entry;

        seekdir(dir, places[count - 1 - i]);
        entry = readdir(dir);
        THAT(entry != NULL);
        THAT(strcmp(entry->d_name, names[count - 1 - i]) == 0);
    }
    seekdir(dir, places[count]);
    THAT(readdir(dir) == NULL);
    rewinddir(dir);
    THAT(strcmp(readdir(dir)->d_name, names[0]) == 0);
    /* What was made after it was opened is seen after it was rewound. */
    posix_make("d/late", "");
    rewinddir(dir);
    for (struct dirent *entry;;) {
        entry = readdir(dir);
        THAT(entry != NULL);
        if (strcmp(entry->d_name, "late") == 0)
            break;
    }
    closedir(dir);
}

static void reading_what_is_no_directory(void)
{
    char buf[1024];
    int fd;

    posix_make("f", "x");
    fd = (int)OK(open("f", O_RDONLY));
    FAILS(syscall(SYS_getdents64, fd, buf, sizeof buf), ENOTDIR);
    fd = (int)OK(open(".", O_RDONLY));
    FAILS(read(fd, buf, sizeof buf), EISDIR);
    FAILS(syscall(SYS_getdents64, fd, buf, 8), EINVAL);
    OK(mkdir("gone", 0755));
    fd = (int)OK(open("gone", O_RDONLY));
    OK(rmdir("gone"));
    if (syscall(SYS_getdents64, fd, buf, sizeof buf) != 0)
        FAILS(-1, ENOENT);
}

static void link_counts(void)
{
    OK(mkdir("d", 0755));
    EQUAL(posix_stat("d").st_nlink, 2);
    OK(mkdir("d/a", 0755));
    OK(mkdir("d/b", 0755));
    posix_make("d/f", "");
    EQUAL(posix_stat("d").st_nlink, 4);
    OK(rename("d/a", "a"));
    EQUAL(posix_stat("d").st_nlink, 3);
    OK(rmdir("d/b"));
    EQUAL(posix_stat("d").st_nlink, 2);
}

static void deeper_than_path_max(void)
{
    enum { DEPTH = 60, NAME = 100 }; /* 6,000 bytes: more than PATH_MAX */
    char name[NAME + 1], text[8];
    int dir = (int)OK(open(".", O_RDONLY | O_DIRECTORY)), top, next, fd;

    memset(name, 'd', NAME);
    name[NAME] = '\0';
    top = dir;
    for (unsigned i = 0; i < DEPTH; i++) {
        OK(mkdirat(dir, name, 0755));
        next = (int)OK(openat(dir, name, O_RDONLY | O_DIRECTORY));
        if (dir != top)
            OK(close(dir));
        dir = next;
    }
    fd = (int)OK(openat(dir, "bottom", O_RDWR | O_CREAT, 0644));
    EQUAL(OK(write(fd, "deep", 4)), 4);
    OK(close(fd));
    OK(renameat(dir, "bottom", dir, "floor"));
    fd = (int)OK(openat(dir, "floor", O_RDONLY));
    EQUAL(OK(read(fd, text, sizeof text)), 4);
    OK(linkat(dir, "floor", top, "at-the-top", 0));
    EQUAL(posix_stat("at-the-top").st_ino, posix_fstat(fd).st_ino);
    OK(unlinkat(dir, "floor", 0));
    posix_holds("at-the-top", "deep");
    /* And up again. */
    for (unsigned i = 0; i < DEPTH; i++) {
        next = (int)OK(openat(dir, "..", O_RDONLY | O_DIRECTORY));
        OK(unlinkat(next, name, AT_REMOVEDIR));
        OK(close(dir));
        dir = next;
    }
    EQUAL(posix_fstat(dir).st_ino, posix_fstat(top).st_ino);
}

static void paths_that_are_too_long(void)
{
    char path[2 * PATH_MAX];

    for (unsigned i = 0; i + 1 < sizeof path; i += 2)
        memcpy(path + i, "./", 2);
    path[PATH_MAX] = '\0';
    FAILS(open(path, O_RDONLY), ENAMETOOLONG);
    path[PATH_MAX - 2] = '\0';
    OK(open(path, O_RDONLY));
}

static void directories_are_synced(void)
{
    int dir = (int)OK(open(".", O_RDONLY | O_DIRECTORY)), fd;

    posix_make("f", "x");
    OK(fsync(dir));
    OK(fdatasync(dir));
    OK(rename("f", "g"));
    OK(fsync(dir));
    fd = (int)OK(open("g", O_RDWR));
    OK(fsync(fd));
    OK(fdatasync(fd));
    OK(syncfs(fd));
}

static void many_files_open(void)
{
    enum { COUNT = 300 };
    int fds[COUNT];
    char name[16], byte;

    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%d", i);
        fds[i] = open(name, O_RDWR | O_CREAT | O_EXCL, 0644);
        if (fds[i] < 0 && errno == EMFILE && i >= 200)
            posix_skip("not that many descriptors here");
        OK(fds[i]);
        EQUAL(OK(pwrite(fds[i], &(char){(char)i}, 1, 0)), 1);
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%d", i);
        OK(unlink(name));
    }
    for (int i = 0; i < COUNT; i++) {
        EQUAL(OK(pread(fds[i], &byte, 1, 0)), 1);
        EQUAL(byte, (char)i);
    }
}

static void a_working_directory_that_moves(void)
{
    OK(mkdir("a", 0755));
    OK(mkdir("b", 0755));
    OK(mkdir("a/here", 0755));
    OK(chdir("a/here"));
    OK(rename("../../a/here", "../../b/there"));
    posix_make("f", "x");
    OK(chdir("../.."));
    posix_holds("b/there/f", "x");
    EQUAL(posix_entries("a"), 0);
}

static const struct posix_case CASES[] = {
    {"reading a big directory", reading_a_big_directory, 0},
    {"what the entries of a directory say", what_entries_say, 0},
    {"reading a directory while removing", reading_while_removing, 0},
    {"reading a directory while adding", reading_while_adding, 0},
    {"telldir, seekdir and rewinddir", positions, 0},
    {"reading what is no directory", reading_what_is_no_directory, 0},
    {"link counts of directories", link_counts, POSIX_NLINK},
    {"a tree deeper than PATH_MAX", deeper_than_path_max, 0},
    {"paths that are too long", paths_that_are_too_long, 0},
    {"directories are synced", directories_are_synced, 0},
    {"many open files, all removed", many_files_open, 0},
    {"a working directory that moves", a_working_directory_that_moves, 0},
};

const struct posix_chapter posix_directories = {CASES, sizeof CASES / sizeof CASES[0]};
