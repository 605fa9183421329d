/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: creating, renaming, linking and removing them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "posix.h"

static void rename_over_a_file(void)
{
    struct stat before;
    int old;

    posix_make("a", "new");
    posix_make("b", "old");
    before = posix_stat("a");
    old = (int)OK(open("b", O_RDONLY));
    OK(rename("a", "b"));
    THAT(!posix_exists("a"));
    posix_holds("b", "new");
    EQUAL(posix_stat("b").st_ino, before.st_ino);
    EQUAL(posix_fstat(old).st_nlink, 0);
}

static void rename_of_directories(void)
{
    OK(mkdir("a", 0755));
    posix_make("a/file", "x");
    OK(mkdir("empty", 0755));
    OK(mkdir("full", 0755));
    posix_make("full/file", "y");
    posix_make("file", "z");
    FAILS(rename("a", "full"), ENOTEMPTY);
    FAILS(rename("a", "file"), ENOTDIR);
    FAILS(rename("file", "a"), EISDIR);
    FAILS(rename("a", "a/below"), EINVAL);
    OK(rename("a", "empty"));
    posix_holds("empty/file", "x");
    THAT(!posix_exists("a"));
    FAILS(rename("a", "b"), ENOENT);
    FAILS(rename("empty", "missing/b"), ENOENT);
    FAILS(rename("empty", "file/b"), ENOTDIR);
}

static void rename_to_another_directory_moves_dotdot(void)
{
    OK(mkdir("one", 0755));
    OK(mkdir("two", 0755));
    OK(mkdir("one/moved", 0755));
    OK(rename("one/moved", "two/moved"));
    EQUAL(posix_stat("two/moved/..").st_ino, posix_stat("two").st_ino);
    FAILS(rename("two", "two/moved/two"), EINVAL);
    FAILS(rename("two/moved", "two"), ENOTEMPTY);
}

static void rename_of_one_file_by_two_names_does_nothing(void)
{
    posix_make("a", "x");
    OK(link("a", "b"));
    OK(rename("a", "b"));
    THAT(posix_exists("a") && posix_exists("b"));
    EQUAL(posix_stat("a").st_nlink, 2);
}

static void rename_noreplace(void)
{
    posix_make("a", "x");
    posix_make("b", "y");
    FAILS(rename_flags(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_KEEP), EEXIST);
    OK(rename_flags(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_KEEP));
    posix_holds("c", "x");
    posix_holds("b", "y");
    FAILS(rename_flags(AT_FDCWD, "c", AT_FDCWD, "b", RENAME_KEEP | RENAME_SWAP), EINVAL);
}

static void rename_exchange(void)
{
    posix_make("a", "file");
    OK(mkdir("d", 0755));
    posix_make("d/inside", "x");
    OK(rename_flags(AT_FDCWD, "a", AT_FDCWD, "d", RENAME_SWAP));
    posix_holds("d", "file");
    posix_holds("a/inside", "x");
    FAILS(rename_flags(AT_FDCWD, "a", AT_FDCWD, "missing", RENAME_SWAP), ENOENT);
    FAILS(rename_flags(AT_FDCWD, "a", AT_FDCWD, "a/inside", RENAME_SWAP), EINVAL);
}

static void rename_keeps_open_files(void)
{
    char byte;
    int fd;

    OK(mkdir("d", 0755));
    posix_make("d/f", "x");
    fd = (int)OK(open("d/f", O_RDWR));
    OK(rename("d", "e"));
    OK(rename("e/f", "g"));
    EQUAL(OK(pread(fd, &byte, 1, 0)), 1);
    EQUAL(OK(pwrite(fd, "y", 1, 0)), 1);
    posix_holds("g", "y");
    EQUAL(posix_fstat(fd).st_ino, posix_stat("g").st_ino);
}

static void unlink_while_open(void)
{
    char buf[8];
    struct stat st;
    int fd;

    posix_make("a", "hello");
    fd = (int)OK(open("a", O_RDWR));
    OK(unlink("a"));
    FAILS(open("a", O_RDONLY), ENOENT);
    st = posix_fstat(fd);
    EQUAL(st.st_nlink, 0);
    EQUAL(st.st_size, 5);
    EQUAL(OK(pread(fd, buf, sizeof buf, 0)), 5);
    THAT(memcmp(buf, "hello", 5) == 0);
    EQUAL(OK(pwrite(fd, "HE", 2, 0)), 2);
    OK(ftruncate(fd, 3));
    EQUAL(OK(pread(fd, buf, sizeof buf, 0)), 3);
    THAT(memcmp(buf, "HEl", 3) == 0);
    OK(fchmod(fd, 0600));
    EQUAL(posix_fstat(fd).st_mode, S_IFREG | 0600);
    OK(fsync(fd));
    /* The name is free for another file. */
    posix_make("a", "other");
    EQUAL(posix_fstat(fd).st_size, 3);
    posix_holds("a", "other");
    OK(close(fd));
}

static void replaced_while_open(void)
{
    char byte;
    int fd;

    posix_make("a", "1");
    fd = (int)OK(open("a", O_RDWR));
    posix_make("b", "2");
    OK(rename("b", "a"));
    EQUAL(OK(pread(fd, &byte, 1, 0)), 1);
    EQUAL(byte, '1');
    EQUAL(OK(pwrite(fd, "3", 1, 0)), 1);
    posix_holds("a", "2");
}

static void a_removed_directory_that_is_open(void)
{
    int dir;

    OK(mkdir("d", 0755));
    dir = (int)OK(open("d", O_RDONLY | O_DIRECTORY));
    OK(rmdir("d"));
    FAILS(openat(dir, "f", O_WRONLY | O_CREAT, 0644), ENOENT);
    FAILS(mkdirat(dir, "e", 0755), ENOENT);
    OK(fstat(dir, &(struct stat){0}));
}

static void errors_of_unlink_and_rmdir(void)
{
    OK(mkdir("d", 0755));
    posix_make("d/f", "x");
    FAILS(unlink("d"), EISDIR);
    FAILS(rmdir("d/f"), ENOTDIR);
    FAILS(rmdir("d"), ENOTEMPTY);
    FAILS(rmdir("d/."), EINVAL);
    FAILS(unlink("missing"), ENOENT);
    FAILS(unlink("d/f/x"), ENOTDIR);
    FAILS(unlink("d/f/"), ENOTDIR);
    FAILS(open("d/f/", O_RDONLY), ENOTDIR);
    FAILS(mkdir("d", 0755), EEXIST);
    FAILS(mkdir("d/f", 0755), EEXIST);
    OK(mkdir("with-slash/", 0755));
}

static void open_flags(void)
{
    posix_make("f", "text");
    OK(symlink("missing", "dangling"));
    OK(symlink("f", "link"));
    OK(mkdir("d", 0755));
    FAILS(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
    FAILS(open("dangling", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
    FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    FAILS(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open("d", O_WRONLY), EISDIR);
    FAILS(open("d", O_RDWR | O_CREAT, 0644), EISDIR);
    FAILS(open("missing", O_RDONLY), ENOENT);
    OK(close((int)OK(open("dangling", O_WRONLY | O_CREAT, 0644))));
    posix_holds("missing", "");
    OK(close((int)OK(open("link", O_WRONLY | O_TRUNC))));
    EQUAL(posix_stat("f").st_size, 0);
}

static void modes_at_creation(void)
{
    umask(027);
    OK(close((int)OK(open("f", O_WRONLY | O_CREAT, 0666))));
    OK(mkdir("d", 0777));
    OK(mkfifo("p", 0666));
    umask(0);
    OK(close((int)OK(open("open", O_WRONLY | O_CREAT, 0666))));
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0640);
    EQUAL(posix_stat("d").st_mode, S_IFDIR | 0750);
    EQUAL(posix_stat("p").st_mode, S_IFIFO | 0640);
    EQUAL(posix_stat("open").st_mode, S_IFREG | 0666);
}

static void a_file_made_without_rights_can_be_written(void)
{
    int fd = (int)OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0));

    EQUAL(OK(write(fd, "x", 1)), 1);
    OK(close(fd));
    EQUAL(posix_stat("f").st_mode, S_IFREG);
    EQUAL(posix_stat("f").st_size, 1);
}

static void unnamed_files(void)
{
    char path[64];
    int fd = (int)OK(open(".", O_TMPFILE | O_RDWR, 0640));

    EQUAL(OK(write(fd, "whole", 5)), 5);
    EQUAL(posix_fstat(fd).st_nlink, 0);
    EQUAL(posix_entries("."), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    posix_holds("named", "whole");
    EQUAL(posix_stat("named").st_mode, S_IFREG | 0640);
    EQUAL(posix_stat("named").st_nlink, 1);
    EQUAL(posix_stat("named").st_ino, posix_fstat(fd).st_ino);
    FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), EEXIST);
    OK(close(fd));
    /* With O_EXCL it never gets a name. */
    fd = (int)OK(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
}

static void hard_links(void)
{
    struct stat a, b;

    posix_make("a", "x");
    OK(mkdir("d", 0755));
    OK(link("a", "d/b"));
    a = posix_stat("a");
    b = posix_stat("d/b");
    EQUAL(a.st_ino, b.st_ino);
    EQUAL(a.st_dev, b.st_dev);
    EQUAL(a.st_nlink, 2);
    EQUAL(b.st_nlink, 2);
    OK(chmod("d/b", 0600));
    EQUAL(posix_stat("a").st_mode, S_IFREG | 0600);
    OK(truncate("a", 100));
    EQUAL(posix_stat("d/b").st_size, 100);
    FAILS(link("a", "d/b"), EEXIST);
    FAILS(link("d", "e"), EPERM);
    FAILS(link("missing", "e"), ENOENT);
    OK(unlink("a"));
    EQUAL(posix_stat("d/b").st_nlink, 1);
}

static void links_to_symbolic_links(void)
{
    posix_make("file", "x");
    OK(symlink("file", "soft"));
    OK(linkat(AT_FDCWD, "soft", AT_FDCWD, "hard", 0));
    THAT(S_ISLNK(posix_stat("hard").st_mode));
    EQUAL(posix_stat("soft").st_nlink, 2);
    OK(linkat(AT_FDCWD, "soft", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW));
    EQUAL(posix_stat("followed").st_ino, posix_stat("file").st_ino);
}

static void symbolic_links_with_odd_targets(void)
{
    static const char *const targets[] = {"/",
                                          "..",
                                          "../../../../../../../..",
                                          "a//b/./c",
                                          "\xff\xfe\x01 \n\t",
                                          "/proc/self/root/etc",
                                          "missing"};
    char buf[PATH_MAX], longest[PATH_MAX];

    for (unsigned i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        OK(symlink(targets[i], "l"));
        EQUAL(OK(readlink("l", buf, sizeof buf)), strlen(targets[i]));
        THAT(memcmp(buf, targets[i], strlen(targets[i])) == 0);
        EQUAL(posix_stat("l").st_size, strlen(targets[i]));
        OK(unlink("l"));
    }
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    /* PATH_MAX holds the NUL; some file systems keep one byte more for themselves. */
    if (symlink(longest, "l") < 0) {
        FAILS(-1, ENAMETOOLONG);
        longest[sizeof longest - 2] = '\0';
        OK(symlink(longest, "l"));
    }
    EQUAL(OK(readlink("l", buf, sizeof buf)), strlen(longest));
    THAT(memcmp(buf, longest, strlen(longest)) == 0);
    EQUAL(OK(readlink("l", buf, 10)), 10);
    FAILS(symlink("", "empty"), ENOENT);
    FAILS(symlink("x", "l"), EEXIST);
    posix_make("file", "");
    FAILS(readlink("file", buf, sizeof buf), EINVAL);
}

static void symbolic_links_that_go_round(void)
{
    OK(symlink("b", "a"));
    OK(symlink("a", "b"));
    OK(symlink("self/x", "self"));
    FAILS(open("a", O_RDONLY), ELOOP);
    FAILS(open("self", O_RDONLY), ELOOP);
    FAILS(chdir("a"), ELOOP);
}

static void names_of_all_bytes(void)
{
    char name[3] = "";

    for (int byte = 1; byte < 256; byte++) {
        if (byte == '/' || byte == '.')
            continue;
        name[0] = (char)byte;
        posix_make(name, "x");
    }
    EQUAL(posix_entries("."), 253);
    name[0] = (char)0xff;
    posix_holds(name, "x");
    posix_make("..a", "x");
    posix_make("...", "y");
    FAILS(open(" ", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
}

static void long_names(void)
{
    char name[NAME_MAX + 2], other[NAME_MAX + 1];

    memset(name, 'n', NAME_MAX);
    name[NAME_MAX] = '\0';
    posix_make(name, "longest");
    posix_holds(name, "longest");
    memset(other, '\xe4', NAME_MAX);
    other[NAME_MAX] = '\0';
    OK(rename(name, other));
    posix_holds(other, "longest");
    OK(unlink(other));
    name[NAME_MAX] = 'n';
    name[NAME_MAX + 1] = '\0';
    FAILS(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
    FAILS(mkdir(name, 0755), ENAMETOOLONG);
    FAILS(symlink("x", name), ENAMETOOLONG);
    FAILS(lstat(name, &(struct stat){0}), ENAMETOOLONG);
    posix_make("a", "");
    FAILS(rename("a", name), ENAMETOOLONG);
    FAILS(link("a", name), ENAMETOOLONG);
}

static void fifos(void)
{
    char buf[8];
    pid_t pid;
    int fd;

    OK(mkfifo("p", 0600));
    THAT(S_ISFIFO(posix_stat("p").st_mode));
    FAILS(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
    FAILS(mkfifo("p", 0600), EEXIST);
    pid = posix_fork();
    if (pid == 0) {
        fd = (int)OK(open("p", O_WRONLY));
        EQUAL(OK(write(fd, "through", 7)), 7);
        posix_done();
    }
    fd = (int)OK(open("p", O_RDONLY));
    EQUAL(OK(read(fd, buf, sizeof buf)), 7);
    THAT(memcmp(buf, "through", 7) == 0);
    posix_join(pid);
    OK(rename("p", "q"));
    OK(unlink("q"));
}

static void sockets(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "s"};
    int server = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0)),
        client = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));

    OK(bind(server, (struct sockaddr *)&address, sizeof address));
    THAT(S_ISSOCK(posix_stat("s").st_mode));
    FAILS(connect(client, (struct sockaddr *)&address, sizeof address), ECONNREFUSED);
    OK(listen(server, 1));
    OK(connect(client, (struct sockaddr *)&address, sizeof address));
    FAILS(open("s", O_RDWR), ENXIO);
    OK(rename("s", "t"));
    OK(close(client));
    client = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    address.sun_path[0] = 't';
    OK(connect(client, (struct sockaddr *)&address, sizeof address));
}

static void inode_numbers(void)
{
    char name[16];
    ino_t seen[50];

    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "f%u", i);
        posix_make(name, "");
        seen[i] = posix_stat(name).st_ino;
        for (unsigned j = 0; j < i; j++)
            THAT(seen[j] != seen[i]);
    }
    EQUAL(posix_stat("f0").st_dev, posix_stat(".").st_dev);
    OK(mkdir("d", 0755));
    OK(rename("f7", "d/moved"));
    EQUAL(posix_stat("d/moved").st_ino, seen[7]);
}

static const struct posix_case CASES[] = {
    {"rename over a file", rename_over_a_file, 0},
    {"rename of directories", rename_of_directories, 0},
    {"rename to another directory moves ..", rename_to_another_directory_moves_dotdot, 0},
    {"rename of one file by two names does nothing", rename_of_one_file_by_two_names_does_nothing, 0},
    {"rename: RENAME_NOREPLACE", rename_noreplace, 0},
    {"rename: RENAME_EXCHANGE", rename_exchange, POSIX_EXCHANGE},
    {"rename keeps open files", rename_keeps_open_files, 0},
    {"unlink while open", unlink_while_open, 0},
    {"replaced while open", replaced_while_open, 0},
    {"a removed directory that is open", a_removed_directory_that_is_open, 0},
    {"errors of unlink, rmdir and mkdir", errors_of_unlink_and_rmdir, 0},
    {"open: O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_TRUNC", open_flags, 0},
    {"modes at creation, and the umask", modes_at_creation, 0},
    {"a file made without rights can be written", a_file_made_without_rights_can_be_written, 0},
    {"O_TMPFILE, and a name for it later", unnamed_files, POSIX_TMPFILE},
    {"hard links", hard_links, 0},
    {"hard links to symbolic links", links_to_symbolic_links, 0},
    {"symbolic links with odd targets", symbolic_links_with_odd_targets, 0},
    {"symbolic links that go round", symbolic_links_that_go_round, 0},
    {"names of all bytes", names_of_all_bytes, 0},
    {"names of 255 bytes, and of 256", long_names, 0},
    {"FIFOs", fifos, 0},
    {"sockets", sockets, 0},
    {"inode numbers", inode_numbers, 0},
};

const struct posix_chapter posix_names = {CASES, sizeof CASES / sizeof CASES[0]};
