/* SPDX-License-Identifier: Apache-2.0 */

/* Locks of the guest's processes: among themselves, and against those of the host. */

#include <sys/file.h>

#include "fs/locks.h"
#include "fs/testing_fs.h"
#include "util/arith.h"

struct locks {
    struct share s;
    uint64_t node, fh;
};

static void begin(struct locks *l)
{
    share_begin(&l->s);
    l->fh = new_file(&l->s, "file", &l->node);
}

static int set(struct locks *l, uint64_t fh, uint64_t owner, uint32_t type, uint64_t start,
               uint64_t end, uint32_t opcode)
{
    struct fuse_lk_in in = {.fh = fh, .owner = owner, .lk = {start, end, type, 1000 + (uint32_t)owner}};
    return client_lock(l->s.c, opcode, l->node, &in, NULL);
}

static uint32_t blocker(struct locks *l, uint64_t fh, uint64_t owner, uint32_t type, uint64_t start,
                        uint64_t end, struct fuse_file_lock *found)
{
    struct fuse_lk_in in = {.fh = fh, .owner = owner, .lk = {start, end, type, 1}};
    struct fuse_lk_out out;
    assert_int_equal(client_lock(l->s.c, FUSE_GETLK, l->node, &in, &out), 0);
    if (found)
        *found = out.lk;
    return out.lk.type;
}

/* By a process of the host. -EAGAIN, or 0. */
static int host_try(struct locks *l, short type, off_t start, off_t len)
{
    struct flock lk = {.l_type = type, .l_start = start, .l_len = len};
    int fd = openat(l->s.dir, "file", O_RDWR | O_CLOEXEC);
    int rc = fcntl(fd, F_OFD_SETLK, &lk) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static void owners_are_apart(void **state)
{
    struct locks l;
    struct fuse_file_lock found;
    begin(&l);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 0, 9, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 5, 14, FUSE_SETLK), -EAGAIN);
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 10, 14, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 1, F_RDLCK, 5, 5, FUSE_SETLK), 0); /* its own */
    assert_int_equal(blocker(&l, l.fh, 1, F_WRLCK, 0, INT64_MAX, &found), F_WRLCK);
    assert_int_equal(found.start, 10);
    assert_int_equal(found.end, 14);
    assert_int_equal(found.pid, 1002);
    assert_int_equal(blocker(&l, l.fh, 3, F_RDLCK, 5, 5, NULL), F_UNLCK);
    assert_int_equal(blocker(&l, l.fh, 3, F_WRLCK, 5, 5, NULL), F_RDLCK);
    assert_int_equal(set(&l, l.fh, 1, F_UNLCK, 0, INT64_MAX, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 0, 4, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 4, F_UNLCK, 0, INT64_MAX, FUSE_SETLK), 0); /* had none */
    share_end(&l.s);
}

/* Until a session's first record lock, closes of what is only read are not told. */
static void with_locks_every_close_is_told(void **state)
{
    struct locks l;
    struct fuse_open_out open;
    begin(&l);
    assert_int_equal(client_open(l.s.c, l.node, O_RDONLY, &open), 0);
    assert_true(open.open_flags & FOPEN_NOFLUSH);
    assert_int_equal(set(&l, open.fh, 1, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    struct fuse_open_out next;
    assert_int_equal(client_open(l.s.c, l.node, O_RDONLY, &next), 0);
    assert_false(next.open_flags & FOPEN_NOFLUSH);
    /* The one that came before lets its lock go at its end. */
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 0, 9, FUSE_SETLK), -EAGAIN);
    assert_int_equal(client_release(l.s.c, l.node, open.fh), 0);
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 0, 9, FUSE_SETLK), 0);
    share_end(&l.s);
}

/* The same process, by two descriptors: its locks are one set, and closing either drops them. */
static void an_owners_locks_are_of_the_file(void **state)
{
    struct locks l;
    struct fuse_open_out other;
    begin(&l);
    assert_int_equal(client_open(l.s.c, l.node, O_RDONLY, &other), 0);
    assert_int_equal(set(&l, other.fh, 1, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 0, 9, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 2, F_RDLCK, 0, 9, FUSE_SETLK), -EAGAIN);
    uint64_t before = fs_unlocked(l.s.fs);
    assert_int_equal(client_flush(l.s.c, l.node, other.fh, 1), 0);
    assert_true(fs_unlocked(l.s.fs) > before);
    assert_int_equal(set(&l, l.fh, 2, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    /* Another owner's close takes nothing away. */
    assert_int_equal(client_flush(l.s.c, l.node, l.fh, 1), 0);
    assert_int_equal(set(&l, l.fh, 3, F_WRLCK, 0, 9, FUSE_SETLK), -EAGAIN);
    share_end(&l.s);
}

/* OFD locks of the guest: their owner is an open file, and only its release ends them. */
static void release_drops_what_its_handle_made(void **state)
{
    struct locks l;
    struct fuse_open_out other;
    begin(&l);
    assert_int_equal(client_open(l.s.c, l.node, O_RDWR, &other), 0);
    assert_int_equal(set(&l, other.fh, 77, F_WRLCK, 0, 9, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 0, 9, FUSE_SETLK), -EAGAIN);
    uint64_t before = fs_unlocked(l.s.fs);
    assert_int_equal(client_release(l.s.c, l.node, other.fh), 0);
    assert_true(fs_unlocked(l.s.fs) > before);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 0, 9, FUSE_SETLK), 0);
    share_end(&l.s);
}

static void who_has_to_wait_asks_again(void **state)
{
    struct locks l;
    begin(&l);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 0, 9, FUSE_SETLKW), 0);
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 0, 9, FUSE_SETLKW), CLIENT_LATER);
    uint64_t before = fs_unlocked(l.s.fs);
    assert_int_equal(set(&l, l.fh, 1, F_RDLCK, 0, 9, FUSE_SETLK), 0); /* lets readers in */
    assert_true(fs_unlocked(l.s.fs) > before);
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 0, 9, FUSE_SETLKW), CLIENT_LATER);
    assert_int_equal(set(&l, l.fh, 1, F_UNLCK, 0, 9, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 2, F_WRLCK, 0, 9, FUSE_SETLKW), 0);
    assert_int_equal(client_release(l.s.c, l.node, l.fh), 0);
    assert_int_equal(set(&l, l.fh, 3, F_WRLCK, 0, 9, FUSE_SETLKW), -EBADF);
    share_end(&l.s);
}

static void the_host_sees_them(void **state)
{
    struct locks l;
    begin(&l);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 5, 9, FUSE_SETLK), 0);
    assert_int_equal(host_try(&l, F_WRLCK, 0, 0), -EAGAIN);
    assert_int_equal(host_try(&l, F_WRLCK, 0, 5), 0);
    struct flock lk = {.l_type = F_RDLCK, .l_start = 100, .l_len = 10};
    int fd = openat(l.s.dir, "file", O_RDWR | O_CLOEXEC);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lk), 0);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 109, INT64_MAX, FUSE_SETLK), -EAGAIN);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 110, INT64_MAX, FUSE_SETLK), 0);
    assert_int_equal(blocker(&l, l.fh, 1, F_WRLCK, 100, 100, NULL), F_RDLCK);
    close(fd);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 0, INT64_MAX, FUSE_SETLK), 0);
    fs_reset(l.s.fs);
    assert_int_equal(host_try(&l, F_WRLCK, 0, 0), 0);
    share_end(&l.s);
}

static int flock_by(struct locks *l, uint64_t fh, uint32_t type, uint32_t opcode)
{
    struct fuse_lk_in in = {
        .fh = fh, .owner = fh, .lk = {0, INT64_MAX, type, 1}, .lk_flags = FUSE_LK_FLOCK};
    return client_lock(l->s.c, opcode, l->node, &in, NULL);
}

static void flocks_are_of_the_open_file(void **state)
{
    struct locks l;
    struct fuse_open_out other;
    begin(&l);
    assert_int_equal(client_open(l.s.c, l.node, O_RDONLY, &other), 0);
    assert_int_equal(flock_by(&l, l.fh, F_WRLCK, FUSE_SETLK), 0);
    assert_int_equal(flock_by(&l, other.fh, F_RDLCK, FUSE_SETLK), -EAGAIN);
    assert_int_equal(flock_by(&l, other.fh, F_RDLCK, FUSE_SETLKW), CLIENT_LATER);
    int fd = openat(l.s.dir, "file", O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
    /* A record lock is another thing. */
    assert_int_equal(set(&l, other.fh, 5, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    uint64_t before = fs_unlocked(l.s.fs);
    assert_int_equal(client_release(l.s.c, l.node, l.fh), 0);
    assert_true(fs_unlocked(l.s.fs) > before);
    assert_int_equal(flock_by(&l, other.fh, F_RDLCK, FUSE_SETLKW), 0);
    assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
    assert_int_equal(flock_by(&l, other.fh, F_UNLCK, FUSE_SETLK), 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
    share_end(&l.s);
}

static void ranges_that_are_none_are_refused(void **state)
{
    struct locks l;
    struct fuse_lk_out out;
    begin(&l);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 10, 9, FUSE_SETLK), -EINVAL);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, UINT64_MAX, UINT64_MAX, FUSE_SETLK), -EINVAL);
    assert_int_equal(set(&l, l.fh, 1, 17, 0, 9, FUSE_SETLK), -EINVAL);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, INT64_MAX, INT64_MAX, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 1, F_WRLCK, 0, UINT64_MAX, FUSE_SETLK), 0);
    struct fuse_lk_in in = {.fh = l.fh, .lk = {0, 9, F_UNLCK, 0}};
    assert_int_equal(client_lock(l.s.c, FUSE_GETLK, l.node, &in, &out), -EINVAL);
    share_end(&l.s);
}

static void locks_are_bounded(void **state)
{
    struct locks l;
    struct fs_options options = {.open_max = 64}; /* a quarter of them may be locks */
    share_begin_with(&l.s, "/dev/shm", &options, own_idmap(), false);
    l.fh = new_file(&l.s, "file", &l.node);
    for (uint64_t owner = 1; owner <= 16; owner++)
        assert_int_equal(set(&l, l.fh, owner, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 17, F_RDLCK, 0, 9, FUSE_SETLK), -ENOLCK);
    assert_int_equal(client_flush(l.s.c, l.node, l.fh, 3), 0);
    assert_int_equal(set(&l, l.fh, 17, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    share_end(&l.s);
}

/* A lease for reading is granted only while nobody has the file open for writing. */
static bool open_for_writing(struct locks *l)
{
    int fd = openat(l->s.dir, "file", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    int rc = fcntl(fd, F_SETLEASE, F_RDLCK);
    close(fd);
    return rc < 0;
}

static void what_may_not_change_is_not_opened_for_it(void **state)
{
    struct locks l;
    struct fuse_open_out open;
    share_begin_with(&l.s, "/dev/shm", NULL, own_idmap(), true);
    host_write(&l.s, "file", "");
    l.node = node_of(&l.s, ROOT, "file");
    assert_int_equal(client_open(l.s.c, l.node, O_RDONLY, &open), 0);
    assert_false(open_for_writing(&l));
    assert_int_equal(set(&l, open.fh, 1, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    assert_false(open_for_writing(&l));
    assert_int_equal(host_try(&l, F_WRLCK, 0, 0), -EAGAIN);
    assert_int_equal(set(&l, open.fh, 1, F_WRLCK, 0, 9, FUSE_SETLK), -EBADF);
    assert_int_equal(set(&l, open.fh, 2, F_WRLCK, 0, 9, FUSE_SETLK), -EBADF);
    assert_int_equal(client_flush(l.s.c, l.node, open.fh, 1), 0);
    assert_int_equal(host_try(&l, F_WRLCK, 0, 0), 0);
    share_end(&l.s);
}

static void ranges_are_bounded(void **state)
{
    struct locks l;
    begin(&l);
    uint64_t at = 0;
    int rc;
    while ((rc = set(&l, l.fh, 1, F_RDLCK, at, at, FUSE_SETLK)) == 0)
        at += 2;
    assert_int_equal(rc, -ENOLCK);
    assert_in_range(at / 2, LOCK_RANGES_MAX - 10, LOCK_RANGES_MAX);
    assert_int_equal(set(&l, l.fh, 2, F_RDLCK, 0, 9, FUSE_SETLK), -ENOLCK);
    assert_int_equal(set(&l, l.fh, 1, F_UNLCK, 0, 20, FUSE_SETLK), 0);
    assert_int_equal(set(&l, l.fh, 2, F_RDLCK, 0, 9, FUSE_SETLK), 0);
    assert_int_equal(client_flush(l.s.c, l.node, l.fh, 1), 0);
    assert_int_equal(set(&l, l.fh, 2, F_RDLCK, 0, 0, FUSE_SETLK), 0);
    share_end(&l.s);
}

/* Against a model with a byte for each byte. */
static void ranges_are_what_they_were_set_to(void **state)
{
    struct lock_ranges r = {0};
    short model[64];
    uint64_t random = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(model); i++)
        model[i] = F_UNLCK;
    for (unsigned round = 0; round < 20000; round++) {
        static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK};
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t a = random >> 33 & 63, b = random >> 43 & 63;
        struct lock_range range = {MIN(a, b), MAX(a, b), 1, types[(random >> 53) % 3]};
        assert_int_equal(lock_ranges_reserve(&r), 0);
        lock_ranges_set(&r, &range);
        for (uint64_t i = range.start; i <= range.end; i++)
            model[i] = range.type;
        unsigned alike = 0;
        for (unsigned i = 0; i < ARRAY_SIZE(model); i++) {
            struct lock_range reader = {i, i, 2, F_RDLCK}, writer = {i, i, 2, F_WRLCK};
            assert_int_equal(lock_ranges_conflict(&r, &reader) != NULL, model[i] == F_WRLCK);
            assert_int_equal(lock_ranges_conflict(&r, &writer) != NULL, model[i] != F_UNLCK);
            alike += model[i] != F_UNLCK && (i == 0 || model[i - 1] != model[i]);
        }
        assert_int_equal(r.count, alike); /* joined */
    }
    lock_ranges_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owners_are_apart),
        cmocka_unit_test(with_locks_every_close_is_told),
        cmocka_unit_test(an_owners_locks_are_of_the_file),
        cmocka_unit_test(release_drops_what_its_handle_made),
        cmocka_unit_test(who_has_to_wait_asks_again),
        cmocka_unit_test(the_host_sees_them),
        cmocka_unit_test(flocks_are_of_the_open_file),
        cmocka_unit_test(ranges_that_are_none_are_refused),
        cmocka_unit_test(locks_are_bounded),
        cmocka_unit_test(what_may_not_change_is_not_opened_for_it),
        cmocka_unit_test(ranges_are_bounded),
        cmocka_unit_test(ranges_are_what_they_were_set_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
