/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what: owners, groups, set-id and sticky bits, access control lists, a second user.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "posix.h"

#define ALICE 1000
#define BOB   1001
#define CREW  2000

/* In a process of its own, as this user, do what stands between the two. */
#define AS(uid, gid)                                                                                   \
    for (pid_t pid_ = posix_fork(); pid_ >= 0; pid_ = finish_as(pid_))                                 \
        if (pid_ == 0 && (posix_become(uid, gid), true))

static pid_t finish_as(pid_t pid)
{
    if (pid == 0)
        posix_done();
    posix_join(pid);
    return -1;
}

static void access_as_another_user(void)
{
    char byte;

    posix_make_for("private", "x", 0600, ALICE, ALICE);
    posix_make_for("readable", "x", 0644, ALICE, ALICE);
    posix_make_for("crew", "x", 0660, ALICE, CREW);
    posix_make_for("not-mine", "x", 0077, BOB, BOB);
    OK(mkdir("closed", 0700));
    posix_make("closed/f", "x");
    OK(mkdir("blind", 0711));
    posix_make("blind/f", "x");
    AS(BOB, BOB)
    {
        FAILS(open("private", O_RDONLY), EACCES);
        FAILS(open("private", O_WRONLY), EACCES);
        OK(close((int)OK(open("readable", O_RDONLY))));
        FAILS(open("readable", O_RDWR), EACCES);
        FAILS(open("crew", O_RDONLY), EACCES);
        FAILS(open("not-mine", O_RDONLY), EACCES); /* the owner's bits count for the owner */
        FAILS(truncate("readable", 0), EACCES);
        FAILS(open("closed/f", O_RDONLY), EACCES);
        FAILS(lstat("closed/f", &(struct stat){0}), EACCES);
        FAILS(open("closed", O_RDONLY), EACCES);
        OK(close((int)OK(open("blind/f", O_RDONLY))));
        FAILS(open("blind", O_RDONLY), EACCES);
        FAILS(open("blind/new", O_WRONLY | O_CREAT, 0644), EACCES);
        FAILS(unlink("blind/f"), EACCES);
        FAILS(access("private", R_OK), EACCES);
        OK(access("readable", R_OK));
        FAILS(access("readable", X_OK), EACCES);
    }
    AS(BOB, CREW)
    {
        int fd = (int)OK(open("crew", O_RDWR));

        EQUAL(OK(read(fd, &byte, 1)), 1);
    }
    /* Root may read anything, but may run only what somebody may run. */
    OK(close((int)OK(open("private", O_RDWR))));
    FAILS(access("private", X_OK), EACCES);
}

static void supplementary_groups(void)
{
    gid_t crew = CREW;
    pid_t pid;

    posix_make_for("crew", "x", 0660, ALICE, CREW);
    OK(mkdir("place", 0));
    OK(chown("place", 0, CREW));
    OK(chmod("place", 0770));
    pid = posix_fork();
    if (pid == 0) {
        OK(setgroups(1, &crew));
        OK(setresgid(BOB, BOB, BOB));
        OK(setresuid(BOB, BOB, BOB));
        OK(close((int)OK(open("crew", O_RDWR))));
        posix_make("place/mine", "x");
        EQUAL(posix_stat("place/mine").st_gid, BOB);
        OK(chown("place/mine", (uid_t)-1, CREW));
        posix_done();
    }
    posix_join(pid);
    EQUAL(posix_stat("place/mine").st_gid, CREW);
}

static void owners_of_new_files(void)
{
    AS(ALICE, CREW)
    {
        posix_make("f", "x");
        OK(mkdir("d", 0755));
        OK(symlink("x", "l"));
        OK(mkfifo("p", 0644));
        OK(close((int)OK(open("second", O_RDWR | O_CREAT, 0)))); /* without rights, and still ours */
    }
    for (unsigned i = 0; i < 5; i++) {
        struct stat st = posix_stat((const char *[]){"f", "d", "l", "p", "second"}[i]);

        EQUAL(st.st_uid, ALICE);
        EQUAL(st.st_gid, CREW);
    }
}

static void set_group_id_directories(void)
{
    OK(mkdir("d", 0755));
    OK(chown("d", ALICE, CREW));
    OK(chmod("d", 02777));
    EQUAL(posix_stat("d").st_mode, S_IFDIR | 02777);
    AS(BOB, BOB)
    {
        posix_make("d/f", "x");
        OK(mkdir("d/e", 0755));
        OK(mkdir("d/e/deeper", 0700));
        /* CVE-2022-0358: a set-group-id program of a group that the maker is not in. */
        OK(close((int)OK(open("d/tool", O_WRONLY | O_CREAT, 02775))));
    }
    EQUAL(posix_stat("d/f").st_gid, CREW);
    EQUAL(posix_stat("d/f").st_uid, BOB);
    EQUAL(posix_stat("d/f").st_mode, S_IFREG | 0644);
    EQUAL(posix_stat("d/e").st_gid, CREW);
    EQUAL(posix_stat("d/e").st_mode, S_IFDIR | 02755);
    EQUAL(posix_stat("d/e/deeper").st_mode, S_IFDIR | 02700);
    EQUAL(posix_stat("d/tool").st_gid, CREW);
    EQUAL(posix_stat("d/tool").st_mode, S_IFREG | 0775);
}

static void sticky_directories(void)
{
    OK(mkdir("tmp", 0));
    OK(chmod("tmp", 01777));
    posix_make_for("tmp/alices", "x", 0666, ALICE, ALICE);
    posix_make_for("tmp/bobs", "x", 0666, BOB, BOB);
    AS(BOB, BOB)
    {
        FAILS(unlink("tmp/alices"), EPERM);
        FAILS(rename("tmp/alices", "tmp/taken"), EPERM);
        FAILS(rename("tmp/bobs", "tmp/alices"), EPERM);
        OK(rename("tmp/bobs", "tmp/renamed"));
        OK(unlink("tmp/renamed"));
        OK(mkdir("tmp/d", 0755));
    }
    AS(ALICE, ALICE)
    {
        FAILS(rmdir("tmp/d"), EPERM);
        OK(unlink("tmp/alices"));
    }
    OK(chown("tmp", ALICE, ALICE));
    AS(ALICE, ALICE)
    {
        OK(rmdir("tmp/d")); /* the directory's owner may */
    }
}

static void who_may_chmod_and_chown(void)
{
    posix_make_for("f", "x", 0644, ALICE, ALICE);
    AS(BOB, BOB)
    {
        FAILS(chmod("f", 0666), EPERM);
        FAILS(chown("f", BOB, (gid_t)-1), EPERM);
        FAILS(chown("f", (uid_t)-1, BOB), EPERM);
    }
    AS(ALICE, ALICE)
    {
        OK(chmod("f", 0600));
        OK(chown("f", ALICE, ALICE));
        FAILS(chown("f", BOB, (gid_t)-1), EPERM);
        FAILS(chown("f", (uid_t)-1, CREW), EPERM);
        /* A set-group-id bit for a group that one is not in is dropped. */
    }
    OK(chown("f", ALICE, CREW));
    AS(ALICE, ALICE)
    {
        OK(chmod("f", 02755));
    }
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0755);
    OK(chown("f", BOB, (gid_t)-1));
    EQUAL(posix_stat("f").st_uid, BOB);
    EQUAL(posix_stat("f").st_gid, CREW);
    OK(symlink("f", "l"));
    OK(lchown("l", ALICE, ALICE));
    EQUAL(posix_stat("l").st_uid, ALICE);
    EQUAL(posix_stat("f").st_uid, BOB);
}

static void set_id_bits_are_dropped(void)
{
    int fd;

    posix_make_for("f", "x", 0, ALICE, CREW);
    OK(chmod("f", 06777));
    EQUAL(posix_stat("f").st_mode, S_IFREG | 06777);
    AS(BOB, BOB)
    {
        fd = (int)OK(open("f", O_WRONLY));
        EQUAL(OK(write(fd, "y", 1)), 1);
    }
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0777);
    OK(chmod("f", 06777));
    AS(BOB, BOB)
    {
        OK(truncate("f", 0));
    }
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0777);
    OK(chmod("f", 06777));
    OK(chown("f", BOB, CREW));
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0777);
    /* Without the group's right to run it, the bit does not mean set-group-id; a write keeps it. */
    OK(chmod("f", 06767));
    fd = (int)OK(open("f", O_WRONLY));
    EQUAL(OK(write(fd, "r", 1)), 1); /* root's write drops nothing */
    EQUAL(posix_stat("f").st_mode, S_IFREG | 06767);
}

static void times_set_by_others(void)
{
    struct timespec set[2] = {{1000000001, 5}, {1000000002, 6}};

    posix_make_for("writable", "x", 0666, ALICE, ALICE);
    posix_make_for("readable", "x", 0644, ALICE, ALICE);
    AS(BOB, BOB)
    {
        OK(utimensat(AT_FDCWD, "writable", NULL, 0));
        FAILS(utimensat(AT_FDCWD, "writable", set, 0), EPERM);
        FAILS(utimensat(AT_FDCWD, "readable", NULL, 0), EACCES);
        FAILS(utimensat(AT_FDCWD, "readable", set, 0), EPERM);
    }
    AS(ALICE, ALICE)
    {
        OK(utimensat(AT_FDCWD, "readable", set, 0));
    }
    EQUAL(posix_stat("readable").st_mtim.tv_nsec, 6);
}

static void attributes_of_others(void)
{
    char byte;

    posix_make_for("f", "x", 0644, ALICE, ALICE);
    OK(setxattr("f", "user.a", "1", 1, 0));
    OK(mkdir("tmp", 0));
    OK(chmod("tmp", 01777));
    AS(BOB, BOB)
    {
        EQUAL(OK(getxattr("f", "user.a", &byte, 1)), 1);
        FAILS(setxattr("f", "user.a", "2", 1, 0), EACCES);
        FAILS(removexattr("f", "user.a"), EACCES);
        FAILS(setxattr("tmp", "user.a", "2", 1, 0), EPERM); /* sticky: the owner's alone */
    }
    OK(chmod("f", 0600));
    AS(BOB, BOB)
    {
        FAILS(getxattr("f", "user.a", &byte, 1), EACCES);
    }
}

static void device_nodes(void)
{
    char buf[4];
    int fd;

    if (mknod("null", S_IFCHR | 0666, makedev(1, 3)) < 0) {
        FAILS(-1, EPERM);
        posix_skip("no device nodes here");
    }
    EQUAL(posix_stat("null").st_rdev, makedev(1, 3));
    OK(mknod("big", S_IFBLK | 0600, makedev(0xabc, 0x12345)));
    EQUAL(posix_stat("big").st_rdev, makedev(0xabc, 0x12345));
    THAT(S_ISBLK(posix_stat("big").st_mode));
    AS(BOB, BOB)
    {
        FAILS(mknod("mine", S_IFCHR | 0666, makedev(1, 3)), EPERM);
    }
    fd = open("null", O_RDWR);
    if (fd < 0)
        FAILS(-1, EACCES); /* mounted with nodev */
    else
        EQUAL(OK(read(fd, buf, sizeof buf)), 0);
}

/* -- access control lists, as xattrs hold them (linux/posix_acl_xattr.h) ---------------------- */

enum { OWNER = 1, USER = 2, GROUP = 4, NAMED_GROUP = 8, MASK = 16, OTHER = 32 };

struct acl_entry {
    uint16_t tag, permissions;
    uint32_t id;
};

struct acl {
    uint32_t version;
    struct acl_entry entries[8];
};

#define ACL_BYTES(count) (sizeof(uint32_t) + (count) * sizeof(struct acl_entry))
#define ACCESS_ACL       "system.posix_acl_access"
#define DEFAULT_ACL      "system.posix_acl_default"
#define NO_ID            UINT32_MAX

static void an_access_list(void)
{
    struct acl acl = {2,
                      {{OWNER, 6, NO_ID},
                       {USER, 4, BOB},
                       {GROUP, 0, NO_ID},
                       {MASK, 4, NO_ID},
                       {OTHER, 0, NO_ID}}},
               got;

    posix_make_for("f", "x", 0600, ALICE, ALICE);
    OK(setxattr("f", ACCESS_ACL, &acl, ACL_BYTES(5), 0));
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0640); /* the group's bits show the mask */
    EQUAL(OK(getxattr("f", ACCESS_ACL, &got, sizeof got)), ACL_BYTES(5));
    THAT(memcmp(&got, &acl, ACL_BYTES(5)) == 0);
    AS(BOB, BOB)
    {
        OK(close((int)OK(open("f", O_RDONLY))));
        FAILS(open("f", O_RDWR), EACCES);
        FAILS(setxattr("f", ACCESS_ACL, &acl, ACL_BYTES(5), 0), EPERM);
    }
    AS(BOB + 1, BOB + 1)
    {
        FAILS(open("f", O_RDONLY), EACCES);
    }
    /* chmod of the group's bits changes the mask. */
    OK(chmod("f", 0600));
    AS(BOB, BOB)
    {
        FAILS(open("f", O_RDONLY), EACCES);
    }
    EQUAL(OK(getxattr("f", ACCESS_ACL, &got, sizeof got)), ACL_BYTES(5));
    EQUAL(got.entries[3].permissions, 0);
    /* A list that says no more than a mode is one. */
    acl.entries[1] = acl.entries[2];
    acl.entries[2] = acl.entries[4];
    OK(setxattr("f", ACCESS_ACL, &acl, ACL_BYTES(3), 0));
    EQUAL(posix_stat("f").st_mode, S_IFREG | 0600);
    FAILS(getxattr("f", ACCESS_ACL, &got, sizeof got), ENODATA);
    acl.entries[0].tag = 77;
    FAILS(setxattr("f", ACCESS_ACL, &acl, ACL_BYTES(3), 0), EINVAL);
}

static void a_default_list(void)
{
    struct acl acl = {2,
                      {{OWNER, 7, NO_ID},
                       {USER, 6, BOB},
                       {GROUP, 5, NO_ID},
                       {MASK, 7, NO_ID},
                       {OTHER, 0, NO_ID}}},
               got;

    OK(mkdir("d", 0755));
    OK(setxattr("d", DEFAULT_ACL, &acl, ACL_BYTES(5), 0));
    umask(077); /* has no say where a directory has a default list */
    posix_make("d/f", "x");
    OK(mkdir("d/e", 0777));
    umask(0);
    EQUAL(posix_stat("d/f").st_mode, S_IFREG | 0640);
    EQUAL(posix_stat("d/e").st_mode, S_IFDIR | 0770);
    EQUAL(OK(getxattr("d/f", ACCESS_ACL, &got, sizeof got)), ACL_BYTES(5));
    FAILS(getxattr("d/f", DEFAULT_ACL, &got, sizeof got), ENODATA);
    EQUAL(OK(getxattr("d/e", DEFAULT_ACL, &got, sizeof got)), ACL_BYTES(5));
    THAT(memcmp(&got, &acl, ACL_BYTES(5)) == 0);
    AS(BOB, BOB)
    {
        OK(close((int)OK(open("d/f", O_RDONLY))));
        FAILS(open("d/f", O_RDWR), EACCES); /* masked */
    }
    FAILS(setxattr("d/f", DEFAULT_ACL, &acl, ACL_BYTES(5), 0), EACCES);
    OK(removexattr("d", DEFAULT_ACL));
    umask(022);
    posix_make("d/g", "x");
    EQUAL(posix_stat("d/g").st_mode, S_IFREG | 0644);
}

static const struct posix_case CASES[] = {
    {"access as another user", access_as_another_user, POSIX_OWNERS},
    {"access by a supplementary group", supplementary_groups, POSIX_OWNERS},
    {"owners of new files", owners_of_new_files, POSIX_OWNERS},
    {"set-group-id directories pass their group on", set_group_id_directories, POSIX_OWNERS},
    {"sticky directories", sticky_directories, POSIX_OWNERS},
    {"who may chmod and chown", who_may_chmod_and_chown, POSIX_OWNERS},
    {"set-id bits are dropped by writes and chown", set_id_bits_are_dropped, POSIX_OWNERS},
    {"times set by others", times_set_by_others, POSIX_OWNERS},
    {"extended attributes of others", attributes_of_others, POSIX_OWNERS | POSIX_XATTR},
    {"device nodes", device_nodes, POSIX_OWNERS},
    {"an access control list", an_access_list, POSIX_ACL},
    {"a default access control list", a_default_list, POSIX_ACL},
};

const struct posix_chapter posix_owners = {CASES, sizeof CASES / sizeof CASES[0]};
