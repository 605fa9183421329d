/* SPDX-License-Identifier: Apache-2.0 */

/* Sessions: what INIT agrees on, what comes before it and after DESTROY, and requests of wrong forms.
 */

#include <assert.h>

#include "fs/server.h"
#include "fs/testing_fs.h"
#include "util/arith.h"

#define OPCODES 64 /* more than there are */

/* -- begin and end ------------------------------------------------------------------------------- */

static void a_session_begins_with_init_and_ends_with_destroy(void **state)
{
    struct share s;
    struct fuse_attr attr;
    struct fuse_init_out init;
    share_begin(&s);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), 0);
    assert_true(S_ISDIR(attr.mode));
    assert_int_equal(attr.ino, host_stat(&s, ".").st_ino);

    assert_int_equal(client_call(s.c, FUSE_DESTROY, 0, NULL, 0, NULL, NULL), 0);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), -EIO);
    client_forget(s.c, 17, 1);
    assert_int_equal(client_init(s.c, ALL_OFFERED, &init), 0);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), 0);
    fs_reset(s.fs);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), -EIO);
    share_end(&s);
}

static void init_forgets_what_was_before(void **state)
{
    struct share s;
    struct fuse_init_out init;
    struct fuse_attr attr;
    struct fs_stats stats;
    uint64_t node;
    char byte;
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
    assert_int_equal(client_init(s.c, ALL_OFFERED, &init), 0);
    assert_int_equal(client_getattr(s.c, node, &attr), -ESTALE);
    assert_int_equal(client_read(s.c, node, fh, &byte, 1, 0), -EBADF);
    fs_get_stats(s.fs, &stats);
    assert_int_equal(stats.open_files, 0);
    assert_int_equal(stats.inodes, 1);
    share_end(&s);
}

static int init_as(struct share *s, uint32_t major, uint32_t minor, size_t in_bytes,
                   struct fuse_init_out *out)
{
    struct fuse_init_in in = {
        .major = major, .minor = minor, .flags = UINT32_MAX, .flags2 = UINT32_MAX};
    return client_ask(s->c, FUSE_INIT, 0, out, {&in, in_bytes});
}

static void other_versions_are_refused_as_the_protocol_says(void **state)
{
    struct share s;
    struct fuse_init_out out;
    struct fuse_attr attr;
    share_begin(&s);
    assert_int_equal(init_as(&s, 8, 0, sizeof(struct fuse_init_in), &out), 0);
    assert_int_equal(out.major, 7);
    assert_int_equal(out.flags, 0);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), -EIO);
    assert_int_equal(init_as(&s, 6, 41, sizeof(struct fuse_init_in), &out), -EPROTO);
    assert_int_equal(init_as(&s, 7, 30, sizeof(struct fuse_init_in), &out), -EPROTO);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), -EIO);
    /* Before 7.36 the request ended with its flags. */
    assert_int_equal(init_as(&s, 7, 31, 16, &out), 0);
    assert_int_equal(out.flags2, 0);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), 0);
    share_end(&s);
}

static uint64_t flags_with(struct fs_options options)
{
    struct share s;
    share_begin_with(&s, "/dev/shm", &options, own_idmap(), false);
    uint64_t flags = s.flags;
    share_end(&s);
    return flags;
}

static void init_agrees_on_what_the_options_say(void **state)
{
    const uint64_t locks = FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
    uint64_t flags = flags_with((struct fs_options){0});
    assert_int_equal(flags & locks, locks);
    assert_true(flags & FUSE_AUTO_INVAL_DATA);
    assert_true(flags & FUSE_DO_READDIRPLUS);
    assert_false(flags & FUSE_READDIRPLUS_AUTO); /* the server says which entries carry more */
    assert_true(flags & FUSE_HANDLE_KILLPRIV_V2);
    assert_true(flags & FUSE_SETXATTR_EXT);
    assert_false(flags & FUSE_WRITEBACK_CACHE);
    assert_false(flags & FUSE_DIRECT_IO_ALLOW_MMAP);

    flags = flags_with((struct fs_options){.cache = FS_CACHE_NONE, .no_xattr = true});
    assert_false(flags & (FUSE_POSIX_ACL | FUSE_SETXATTR_EXT | FUSE_SECURITY_CTX));
    assert_false(flags & (FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS));
    assert_true(flags & FUSE_DIRECT_IO_ALLOW_MMAP);

    flags = flags_with((struct fs_options){.cache = FS_CACHE_ALWAYS, .writeback = true});
    assert_true(flags & FUSE_WRITEBACK_CACHE);
    assert_true(flags & FUSE_CACHE_SYMLINKS);
    assert_false(flags & FUSE_AUTO_INVAL_DATA);
}

static void init_answers_no_flag_that_was_not_offered(void **state)
{
    struct share s;
    struct fuse_init_out out;
    share_begin(&s);
    assert_int_equal(client_init(s.c, FUSE_ASYNC_READ, &out), 0);
    assert_int_equal(out.flags, FUSE_ASYNC_READ | FUSE_INIT_EXT);
    assert_int_equal(out.flags2, 0);
    assert_int_equal(out.max_write, FS_TRANSFER_MAX);
    share_end(&s);
}

static void options_that_make_no_sense_are_refused(void **state)
{
    struct fs_directory directory = {.fd = open("/", O_RDONLY | O_DIRECTORY), .idmap = own_idmap()};
    struct fs_options good = {.directories = &directory, .directory_count = 1}, bad;
    struct dayfly_err err;
    struct fs *fs;
    bad = good;
    bad.directory_count = 0;
    assert_int_equal(fs_new(&fs, &bad, &err), -EINVAL);
    bad.directory_count = FS_DIRECTORIES_MAX + 1;
    assert_int_equal(fs_new(&fs, &bad, &err), -EINVAL);
    bad = good;
    bad.cache = FS_CACHE_NONE;
    bad.writeback = true;
    assert_int_equal(fs_new(&fs, &bad, &err), -EINVAL);
    assert_int_equal(fs_new(&fs, &good, &err), 0);
    fs_free(fs);
    fs_free(NULL);
    close(directory.fd);
}

/* -- forms --------------------------------------------------------------------------------------- */

static void requests_without_a_header_are_violations(void **state)
{
    struct share s;
    struct fuse_in_header h = {.len = sizeof(h), .opcode = FUSE_GETATTR, .nodeid = ROOT};
    const uint32_t bad_lengths[] = {0, 1, sizeof(h) - 1, sizeof(h) + 1, UINT32_MAX};
    share_begin(&s);
    for (size_t len = 0; len < sizeof(h); len++)
        assert_int_equal(client_raw(s.c, &h, len, 256), FS_BROKEN);
    for (unsigned i = 0; i < ARRAY_SIZE(bad_lengths); i++) {
        h.len = bad_lengths[i];
        assert_int_equal(client_raw(s.c, &h, sizeof(h), 256), FS_BROKEN);
    }
    h.len = sizeof(h);
    for (size_t room = 0; room < sizeof(struct fuse_out_header); room++)
        assert_int_equal(client_raw(s.c, &h, sizeof(h), room), FS_BROKEN);
    share_end(&s);
}

static void opcodes_that_are_not_served_answer_enosys(void **state)
{
    struct share s;
    share_begin(&s);
    for (uint32_t opcode = 0; opcode < 5000; opcode++) {
        if (!session_row(opcode))
            assert_int_equal(client_call(s.c, opcode, ROOT, NULL, 0, NULL, NULL), -ENOSYS);
    }
    assert_int_equal(client_call(s.c, UINT32_MAX, ROOT, NULL, 0, NULL, NULL), -ENOSYS);
    assert_int_equal(client_call(s.c, FUSE_ACCESS, ROOT, CLIENT_PARTS({"12345678", 8}), 1, NULL, NULL),
                     -ENOSYS);
    share_end(&s);
}

/* Every opcode, with arguments one byte short, and with room for a reply that is one byte short. */
static void short_requests_and_short_replies_are_refused(void **state)
{
    struct share s;
    uint8_t zeros[256] = {0}, reply[512];
    share_begin(&s);
    for (uint32_t opcode = 0; opcode < OPCODES; opcode++) {
        const struct row *row = session_row(opcode);
        if (!row || (row->flags & (ROW_NO_REPLY | ROW_SESSION)))
            continue;
        if (row->in > 0)
            assert_int_equal(client_call(s.c, opcode, ROOT, CLIENT_PARTS({zeros, row->in - 1u}), 1,
                                         reply, &(size_t){sizeof(reply)}),
                             -EINVAL);
        if (row->out > 0)
            assert_int_equal(client_call(s.c, opcode, ROOT, CLIENT_PARTS({zeros, sizeof(zeros)}), 1,
                                         reply, &(size_t){row->out - 1u}),
                             -EINVAL);
    }
    share_end(&s);
}

static void unknown_nodes_are_stale_and_unknown_handles_bad(void **state)
{
    struct share s;
    uint8_t zeros[256] = {0}, reply[512];
    const uint64_t nodes[] = {0, 2, 1000, UINT64_MAX};
    share_begin(&s);
    for (uint32_t opcode = 0; opcode < OPCODES; opcode++) {
        const struct row *row = session_row(opcode);
        if (!row || (row->flags & (ROW_NO_REPLY | ROW_SESSION)) || opcode == FUSE_ACCESS ||
            opcode == FUSE_REMOVEMAPPING)
            continue;
        int want = row->flags & ROW_NODE ? -ESTALE : -EBADF;
        for (unsigned i = 0; i < ARRAY_SIZE(nodes); i++) {
            /* LSEEK looks at `whence` first, of which 3 is one it knows. */
            struct fuse_lseek_in seek = {.whence = SEEK_DATA};
            struct client_part part = {zeros, sizeof(zeros)};
            if (opcode == FUSE_LSEEK)
                part = CLIENT_PART(&seek);
            assert_int_equal(
                client_call(s.c, opcode, nodes[i], &part, 1, reply, &(size_t){sizeof(reply)}), want);
        }
    }
    share_end(&s);
}

/* -- many ---------------------------------------------------------------------------------------- */

static unsigned count_fds(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 4096; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

#define MANY 10000

static void ten_thousand_files_leave_nothing_behind(void **state)
{
    struct share s;
    struct fs_stats before, after;
    static uint64_t nodes[MANY];
    char name[32];
    share_begin(&s);
    fs_get_stats(s.fs, &before);
    unsigned fds = count_fds();
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        uint64_t fh = new_file(&s, name, &nodes[i]);
        assert_int_equal(client_write(s.c, nodes[i], fh, name, strlen(name), 0, 0), strlen(name));
        assert_int_equal(client_release(s.c, nodes[i], fh), 0);
    }
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        assert_int_equal(node_of(&s, ROOT, name), nodes[i]);
    }
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        assert_int_equal(client_unlink(s.c, ROOT, name), 0);
        client_forget(s.c, nodes[i], 2);
    }
    fs_get_stats(s.fs, &after);
    assert_int_equal(after.inodes, before.inodes);
    assert_int_equal(after.inode_fds, before.inode_fds);
    assert_int_equal(after.open_files, before.open_files);
    assert_int_equal(count_fds(), fds);
    assert_true(after.requests >= before.requests + MANY * 6);
    share_end(&s);
}

static void open_files_are_bounded(void **state)
{
    struct share s;
    struct fs_options options = {.open_max = 20};
    struct fuse_open_out out;
    struct fuse_entry_out entry;
    uint64_t node;
    share_begin_with(&s, "/dev/shm", &options, own_idmap(), false);
    uint64_t fh = new_file(&s, "file", &node);
    for (unsigned i = 1; i < 20; i++)
        assert_int_equal(client_open(s.c, node, O_RDONLY, &out), 0);
    assert_int_equal(client_open(s.c, node, O_RDONLY, &out), -ENFILE);
    assert_int_equal(client_opendir(s.c, ROOT, &out), -ENFILE);
    assert_int_equal(client_create(s.c, ROOT, "more", O_RDWR, 0644, &entry, &out), -ENFILE);
    assert_false(host_has(&s, "more"));
    assert_int_equal(client_release(s.c, node, fh), 0);
    assert_int_equal(client_open(s.c, node, O_RDONLY, &out), 0);
    share_end(&s);
}

struct racer {
    struct share *share;
    struct client *c;
    uint64_t node, fh;
    pthread_t thread;
};

static void *read_until_closed(void *arg)
{
    struct racer *racer = arg;
    char buf[4096];
    ssize_t n;
    do
        n = client_read(racer->c, racer->node, racer->fh, buf, sizeof(buf), 0);
    while (n == 5);
    assert(n == -EBADF);
    return NULL;
}

/* Handles that are released while others read by them: either bytes of this file, or EBADF. */
static void release_may_race_with_use(void **state)
{
    struct share s;
    struct racer racers[3];
    char name[16];
    share_begin(&s);
    for (unsigned i = 0; i < ARRAY_SIZE(racers); i++)
        racers[i] = (struct racer){.share = &s, .c = client_new(s.fs)};
    for (unsigned round = 0; round < 50; round++) {
        uint64_t node;
        snprintf(name, sizeof(name), "%05u", round);
        uint64_t fh = new_file(&s, name, &node);
        assert_int_equal(client_write(s.c, node, fh, name, 5, 0, 0), 5);
        for (unsigned i = 0; i < ARRAY_SIZE(racers); i++) {
            racers[i].node = node;
            racers[i].fh = fh;
            assert_int_equal(pthread_create(&racers[i].thread, NULL, read_until_closed, &racers[i]), 0);
        }
        assert_int_equal(client_release(s.c, node, fh), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(racers); i++)
            pthread_join(racers[i].thread, NULL);
        assert_int_equal(client_release(s.c, node, fh), -EBADF);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(racers); i++)
        client_free(racers[i].c);
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_with_init_and_ends_with_destroy),
        cmocka_unit_test(init_forgets_what_was_before),
        cmocka_unit_test(other_versions_are_refused_as_the_protocol_says),
        cmocka_unit_test(init_agrees_on_what_the_options_say),
        cmocka_unit_test(init_answers_no_flag_that_was_not_offered),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(requests_without_a_header_are_violations),
        cmocka_unit_test(opcodes_that_are_not_served_answer_enosys),
        cmocka_unit_test(short_requests_and_short_replies_are_refused),
        cmocka_unit_test(unknown_nodes_are_stale_and_unknown_handles_bad),
        cmocka_unit_test(ten_thousand_files_leave_nothing_behind),
        cmocka_unit_test(open_files_are_bounded),
        cmocka_unit_test(release_may_race_with_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
