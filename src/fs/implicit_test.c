/* SPDX-License-Identifier: Apache-2.0 */

/* What nobody changes is read without being opened. */

#include "fs/implicit.h"
#include "fs/testing_fs.h"

#define FILES (3 * IMPLICIT_MAX)

static void begin(struct share *s, enum fs_cache cache, bool read_only)
{
    struct fs_options options = {.cache = cache};
    share_begin_with(s, "/dev/shm", &options, own_idmap(), read_only);
}

static bool opens(struct share *s)
{
    struct fuse_open_out open;
    host_write(s, "file", "text");
    int file = client_open(s->c, node_of(s, ROOT, "file"), O_RDONLY, &open);
    int dir = client_opendir(s->c, ROOT, &open);
    assert_int_equal(file, dir);
    assert_true(file == 0 || file == -ENOSYS);
    return file == 0;
}

static void only_what_nobody_changes(void **state)
{
    for (int read_only = 0; read_only < 2; read_only++) {
        for (enum fs_cache cache = FS_CACHE_AUTO; cache <= FS_CACHE_ALWAYS; cache++) {
            struct share s;
            begin(&s, cache, read_only);
            bool needed = cache != FS_CACHE_ALWAYS || !read_only;
            assert_true(opens(&s) == needed);
            /* No lock of others', and no O_TRUNC that the server would not hear of. */
            const uint64_t heard = FUSE_ATOMIC_O_TRUNC | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS;
            assert_int_equal(s.flags & heard, needed ? heard : 0);
            share_end(&s);
        }
    }
}

static void a_guest_that_has_to_open_can(void **state)
{
    struct share s;
    struct fuse_init_out init;
    begin(&s, FS_CACHE_ALWAYS, true);
    assert_int_equal(client_init(s.c, ALL_OFFERED & ~(uint64_t)FUSE_NO_OPEN_SUPPORT, &init), 0);
    assert_true(opens(&s));
    /* Handle 0 is then none. */
    char buf[8];
    assert_int_equal(client_read(s.c, node_of(&s, ROOT, "file"), 0, buf, sizeof(buf), 0), -EBADF);
    share_end(&s);
}

static void files_are_read(void **state)
{
    struct share s;
    struct fs_stats stats;
    char name[16], buf[32];
    begin(&s, FS_CACHE_ALWAYS, true);
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "file%u", i);
        host_write(&s, name, name);
    }
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < FILES; i++) {
            snprintf(name, sizeof(name), "file%u", i);
            uint64_t node = node_of(&s, ROOT, name);
            for (unsigned again = 0; again < 2; again++) {
                ssize_t n = client_read(s.c, node, 0, buf, sizeof(buf), 1);
                assert_int_equal(n, strlen(name) - 1);
                assert_memory_equal(buf, name + 1, (size_t)n);
            }
            assert_int_equal(client_flush(s.c, node, 0, 1), -ENOSYS);
        }
    }
    fs_get_stats(s.fs, &stats);
    assert_int_equal(stats.open_files, IMPLICIT_MAX);
    share_end(&s);
}

static void directories_are_read_from_any_place(void **state)
{
    struct share s;
    uint64_t offset = 0, offsets[FILES + 2];
    unsigned count = 0;
    char name[16];
    _Alignas(8) uint8_t buf[64];
    begin(&s, FS_CACHE_ALWAYS, true);
    for (unsigned i = 0; i < IMPLICIT_MAX; i++) {
        snprintf(name, sizeof(name), "file%u", i);
        host_write(&s, name, "");
    }
    /* An entry a request; in between the descriptor goes. */
    for (ssize_t n; (n = client_readdir(s.c, ROOT, 0, offset, buf, 40, false)) > 0; count++) {
        struct fuse_dirent entry;
        memcpy(&entry, buf, sizeof(entry));
        offsets[count] = offset = entry.off;
        if (count % 100 == 0)
            for (unsigned i = 0; i < IMPLICIT_MAX; i++) {
                char byte;
                snprintf(name, sizeof(name), "file%u", i);
                client_read(s.c, node_of(&s, ROOT, name), 0, &byte, 1, 0);
            }
    }
    assert_int_equal(count, IMPLICIT_MAX + 2);
    for (unsigned i = count - 1; i-- > 0;) {
        struct fuse_dirent entry;
        assert_true(client_readdir(s.c, ROOT, 0, offsets[i], buf, 40, false) > 0);
        memcpy(&entry, buf, sizeof(entry));
        assert_int_equal(entry.off, offsets[i + 1]);
    }
    share_end(&s);
}

static void what_is_no_file_is_not_opened(void **state)
{
    struct share s;
    char buf[8];
    begin(&s, FS_CACHE_ALWAYS, true);
    assert_int_equal(mkfifoat(s.dir, "fifo", 0644), 0);
    assert_int_equal(symlinkat("fifo", s.dir, "link"), 0);
    assert_int_equal(client_read(s.c, node_of(&s, ROOT, "fifo"), 0, buf, sizeof(buf), 0), -EBADF);
    assert_int_equal(client_read(s.c, node_of(&s, ROOT, "link"), 0, buf, sizeof(buf), 0), -EBADF);
    assert_int_equal(client_read(s.c, ROOT, 0, buf, sizeof(buf), 0), -EISDIR);
    assert_int_equal(client_read(s.c, 4711, 0, buf, sizeof(buf), 0), -ESTALE);
    host_write(&s, "file", "");
    assert_int_equal(client_readdir(s.c, node_of(&s, ROOT, "file"), 0, 0, buf, sizeof(buf), false),
                     -ENOTDIR);
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_nobody_changes),
        cmocka_unit_test(a_guest_that_has_to_open_can),
        cmocka_unit_test(files_are_read),
        cmocka_unit_test(directories_are_read_from_any_place),
        cmocka_unit_test(what_is_no_file_is_not_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
