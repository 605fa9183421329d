/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known about a file: modes, times, extended attributes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "posix.h"

/* Clocks of file systems are coarse: a tick of the kernel, at most this. */
#define TICK_NS 20000000

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool earlier(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

/* Near enough to the clock: what "now" means to another kernel's clock as well. */
static bool is_now(struct timespec time)
{
    struct timespec now;

    OK(clock_gettime(CLOCK_REALTIME, &now));
    return labs((long)(now.tv_sec - time.tv_sec)) <= 5;
}

static void times_with_nanoseconds(void)
{
    struct timespec set[2] = {{1000000001, 123456789}, {1111111111, 987654321}};
    struct stat st;
    int fd;

    posix_make("f", "x");
    OK(utimensat(AT_FDCWD, "f", set, 0));
    st = posix_stat("f");
    THAT(same_time(st.st_atim, set[0]));
    THAT(same_time(st.st_mtim, set[1]));
    THAT(is_now(st.st_ctim));
    set[0].tv_nsec = 1;
    set[1].tv_nsec = 999999999;
    fd = (int)OK(open("f", O_RDONLY));
    OK(futimens(fd, set));
    st = posix_fstat(fd);
    THAT(same_time(st.st_atim, set[0]));
    THAT(same_time(st.st_mtim, set[1]));
    OK(symlink("f", "l"));
    set[1].tv_sec = 1222222222;
    OK(utimensat(AT_FDCWD, "l", set, AT_SYMLINK_NOFOLLOW));
    THAT(same_time(posix_stat("l").st_mtim, set[1]));
    THAT(!same_time(posix_stat("f").st_mtim, set[1]));
    OK(mkdir("d", 0755));
    OK(utimensat(AT_FDCWD, "d", set, 0));
    THAT(same_time(posix_stat("d").st_mtim, set[1]));
    set[0].tv_nsec = 1000000000;
    FAILS(utimensat(AT_FDCWD, "f", set, 0), EINVAL);
}

static void times_far_away(void)
{
    static const struct timespec far[] = {{0, 0}, {-1, 500}, {-1000000000, 1}, {(time_t)1 << 31, 7}};
    struct timespec set[2];

    posix_make("f", "x");
    for (unsigned i = 0; i < sizeof far / sizeof far[0]; i++) {
        set[0] = set[1] = far[i];
        OK(utimensat(AT_FDCWD, "f", set, 0));
        THAT(same_time(posix_stat("f").st_mtim, far[i]));
        THAT(same_time(posix_stat("f").st_atim, far[i]));
    }
}

static void times_now_and_omitted(void)
{
    struct timespec set[2] = {{1000000001, 5}, {1000000002, 6}};
    struct stat st;

    posix_make("f", "x");
    OK(utimensat(AT_FDCWD, "f", set, 0));
    set[0].tv_nsec = UTIME_OMIT;
    set[1].tv_nsec = UTIME_NOW;
    OK(utimensat(AT_FDCWD, "f", set, 0));
    st = posix_stat("f");
    EQUAL(st.st_atim.tv_sec, 1000000001);
    EQUAL(st.st_atim.tv_nsec, 5);
    THAT(is_now(st.st_mtim));
    set[0].tv_nsec = UTIME_OMIT;
    set[1].tv_nsec = UTIME_OMIT;
    OK(utimensat(AT_FDCWD, "f", set, 0));
    THAT(same_time(posix_stat("f").st_mtim, st.st_mtim));
    OK(utimensat(AT_FDCWD, "f", NULL, 0));
    THAT(is_now(posix_stat("f").st_atim));
}

/* Give a name a modification time long ago, so that any change of it shows. */
static void age(const char *name)
{
    struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};

    OK(utimensat(AT_FDCWD, name, old, AT_SYMLINK_NOFOLLOW));
}

static bool aged(const char *name)
{
    return posix_stat(name).st_mtim.tv_sec == 1000000000;
}

static void what_changes_a_modification_time(void)
{
    int fd;

    OK(mkdir("d", 0755));
    age("d");
    posix_make("d/f", "text");
    THAT(!aged("d") && is_now(posix_stat("d").st_mtim));
    age("d");
    OK(link("d/f", "d/g"));
    THAT(!aged("d"));
    age("d");
    OK(rename("d/g", "d/h"));
    THAT(!aged("d"));
    age("d");
    OK(unlink("d/h"));
    THAT(!aged("d"));
    age("d");
    age("d/f");
    OK(chmod("d/f", 0600));
    THAT(aged("d") && aged("d/f"));
    posix_holds("d/f", "text");
    THAT(aged("d/f"));
    fd = (int)OK(open("d/f", O_WRONLY));
    THAT(aged("d/f"));
    EQUAL(OK(write(fd, "T", 1)), 1);
    OK(fsync(fd));
    THAT(!aged("d/f") && is_now(posix_stat("d/f").st_mtim));
    THAT(aged("d"));
    age("d/f");
    OK(close(fd));
    THAT(aged("d/f"));
    OK(truncate("d/f", 2));
    THAT(!aged("d/f"));
    age("d/f");
    OK(close((int)OK(open("d/f", O_WRONLY | O_TRUNC))));
    THAT(!aged("d/f"));
}

static void what_changes_a_change_time(void)
{
    static const char *const what[] = {"chmod", "link", "rename", "write"};
    struct timespec before;
    int fd;

    posix_make("f", "x");
    fd = (int)OK(open("f", O_WRONLY));
    for (unsigned i = 0; i < sizeof what / sizeof what[0]; i++) {
        before = posix_stat("f").st_ctim;
        nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL); /* for the clock to move */
        switch (i) {
        case 0:
            OK(chmod("f", 0600));
            break;
        case 1:
            OK(link("f", "g"));
            break;
        case 2:
            OK(rename("g", "h"));
            break;
        default:
            EQUAL(OK(write(fd, "y", 1)), 1);
            OK(fsync(fd));
        }
        THAT(earlier(before, posix_stat("f").st_ctim));
    }
}

static void written_times_stay(void)
{
    struct timespec set[2] = {{1000000001, 5}, {1000000002, 6}};
    int fd;

    /* A cache that writes back later must not write its own idea of the time as well. */
    fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));
    EQUAL(OK(write(fd, "data", 4)), 4);
    OK(futimens(fd, set));
    OK(fsync(fd));
    OK(close(fd));
    THAT(same_time(posix_stat("f").st_mtim, set[1]));
    fd = (int)OK(open("f", O_RDONLY));
    THAT(same_time(posix_fstat(fd).st_mtim, set[1]));
}

static void modes(void)
{
    static const mode_t bits[] = {0777, 0, 0400, 0123, 01777, 0644};
    int fd;

    posix_make("f", "x");
    OK(mkdir("d", 0755));
    for (unsigned i = 0; i < sizeof bits / sizeof bits[0]; i++) {
        OK(chmod("f", bits[i]));
        EQUAL(posix_stat("f").st_mode, S_IFREG | bits[i]);
        OK(chmod("d", bits[i]));
        EQUAL(posix_stat("d").st_mode, S_IFDIR | bits[i]);
    }
    fd = (int)OK(open("f", O_RDONLY));
    OK(fchmod(fd, 0600));
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0600);
    FAILS(chmod("missing", 0600), ENOENT);
}

static void extended_attributes(void)
{
    char buf[65537], big[2048];
    ssize_t n;
    int fd;

    posix_make("f", "x");
    FAILS(getxattr("f", "user.a", buf, sizeof buf), ENODATA);
    OK(setxattr("f", "user.a", "value", 5, 0));
    OK(setxattr("f", "user.empty", "", 0, 0));
    OK(setxattr("f", "user.bytes", "\0\xff\0", 3, 0));
    EQUAL(OK(getxattr("f", "user.a", NULL, 0)), 5);
    EQUAL(OK(getxattr("f", "user.a", buf, sizeof buf)), 5);
    THAT(memcmp(buf, "value", 5) == 0);
    FAILS(getxattr("f", "user.a", buf, 4), ERANGE);
    EQUAL(OK(getxattr("f", "user.empty", buf, sizeof buf)), 0);
    EQUAL(OK(getxattr("f", "user.bytes", buf, sizeof buf)), 3);
    THAT(memcmp(buf, "\0\xff\0", 3) == 0);
    FAILS(setxattr("f", "user.a", "x", 1, XATTR_CREATE), EEXIST);
    FAILS(setxattr("f", "user.b", "x", 1, XATTR_REPLACE), ENODATA);
    OK(setxattr("f", "user.a", "new", 3, XATTR_REPLACE));
    EQUAL(OK(getxattr("f", "user.a", buf, sizeof buf)), 3);

    n = OK(listxattr("f", NULL, 0));
    EQUAL(OK(listxattr("f", buf, sizeof buf)), n);
    THAT(memmem(buf, (size_t)n, "user.a", 7) && memmem(buf, (size_t)n, "user.empty", 11) &&
         memmem(buf, (size_t)n, "user.bytes", 11));
    FAILS(listxattr("f", buf, 3), ERANGE);
    OK(removexattr("f", "user.a"));
    FAILS(removexattr("f", "user.a"), ENODATA);
    FAILS(getxattr("f", "user.a", buf, sizeof buf), ENODATA);

    memset(big, 'b', sizeof big);
    OK(setxattr("f", "user.big", big, sizeof big, 0));
    EQUAL(OK(getxattr("f", "user.big", buf, sizeof buf)), sizeof big);
    THAT(memcmp(buf, big, sizeof big) == 0);
    FAILS(setxattr("f", "user.huge", buf, 65537, 0), E2BIG);

    fd = (int)OK(open("f", O_RDONLY));
    OK(unlink("f"));
    EQUAL(OK(fgetxattr(fd, "user.big", buf, sizeof buf)), sizeof big);
    OK(fsetxattr(fd, "user.late", "x", 1, 0));
    EQUAL(OK(fgetxattr(fd, "user.late", buf, sizeof buf)), 1);
}

static void extended_attributes_of_other_kinds(void)
{
    char buf[16];

    OK(mkdir("d", 0755));
    OK(setxattr("d", "user.on-a-directory", "x", 1, 0));
    EQUAL(OK(getxattr("d", "user.on-a-directory", buf, sizeof buf)), 1);
    OK(symlink("d", "l"));
    FAILS(lsetxattr("l", "user.a", "x", 1, 0), EPERM);
    EQUAL(OK(getxattr("l", "user.on-a-directory", buf, sizeof buf)), 1);
    OK(mkfifo("p", 0644));
    FAILS(setxattr("p", "user.a", "x", 1, 0), EPERM);
    posix_make("f", "");
    FAILS(setxattr("f", "nonsense.a", "x", 1, 0), EOPNOTSUPP);
    FAILS(setxattr("f", "user.", "x", 1, 0), EINVAL);
}

static void attributes_follow_the_file(void)
{
    char byte;

    posix_make("f", "x");
    OK(setxattr("f", "user.a", "1", 1, 0));
    OK(rename("f", "g"));
    OK(link("g", "h"));
    OK(setxattr("h", "user.a", "2", 1, 0));
    EQUAL(OK(getxattr("g", "user.a", &byte, 1)), 1);
    EQUAL(byte, '2');
    posix_make("f", "other");
    FAILS(getxattr("f", "user.a", &byte, 1), ENODATA);
}

static const struct posix_case CASES[] = {
    {"times with nanoseconds", times_with_nanoseconds, 0},
    {"times before 1970 and after 2038", times_far_away, 0},
    {"UTIME_NOW and UTIME_OMIT", times_now_and_omitted, 0},
    {"what changes a modification time", what_changes_a_modification_time, 0},
    {"what changes a change time", what_changes_a_change_time, 0},
    {"times that are set after a write stay", written_times_stay, 0},
    {"modes", modes, 0},
    {"extended attributes", extended_attributes, POSIX_XATTR},
    {"extended attributes of other kinds of file", extended_attributes_of_other_kinds, POSIX_XATTR},
    {"extended attributes follow the file", attributes_follow_the_file, POSIX_XATTR},
};

const struct posix_chapter posix_attributes = {CASES, sizeof CASES / sizeof CASES[0]};
