/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_TESTING_LAYERS_H
#define IMAGE_TESTING_LAYERS_H

/*
 * Layers for tests: made entry by entry, extracted over one another to a tree, and what is in that.
 * Included by *_test.c files only.
 */

#include "util/testing.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "image/layer.h"
#include "image/testing_store.h"
#include "util/io.h"
#include "util/late.h"

#define LAYERS_MAX 4

#define LAYERS_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up_layers, tear_down_layers)

static inline struct archive_entry *entry_of(const char *name, unsigned type)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, type | 0755);
    archive_entry_set_mtime(entry, 1000, 500);
    archive_entry_set_uid(entry, geteuid());
    archive_entry_set_gid(entry, getegid());
    return entry;
}

/* Takes the entry. */
static inline void put_entry(struct archive *archive, struct archive_entry *entry, const char *data)
{
    archive_entry_set_size(entry, data ? (la_int64_t)strlen(data) : 0);
    assert_true(archive_write_header(archive, entry) >= ARCHIVE_WARN);
    if (data)
        assert_int_equal(archive_write_data(archive, data, strlen(data)), strlen(data));
    archive_entry_free(entry);
}

/* Layers under construction, and the tree that they are extracted to. */
struct fixture {
    struct testing_home home;
    char dir[100];
    struct archive *archives[LAYERS_MAX];
    int fds[LAYERS_MAX];
    size_t count;
    struct layer_extracted out;
    struct dayfly_err err;
};

static inline int set_up_layers(void **state)
{
    static struct fixture f;
    assert_int_equal(late_archive(NULL), 0);
    f = (struct fixture){.home = testing_home_make()};
    snprintf(f.dir, sizeof(f.dir), "%s/tree", f.home.path);
    *state = &f;
    return 0;
}

static inline int tear_down_layers(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < f->count; i++) {
        archive_write_free(f->archives[i]);
        close(f->fds[i]);
    }
    testing_home_remove(&f->home);
    return 0;
}

/* Begin the next layer, compressed by the filter. */
static inline void layer_by(struct fixture *f, int filter)
{
    assert_true(f->count < LAYERS_MAX);
    struct archive *a = archive_write_new();
    archive_write_set_format_pax(a);
    archive_write_add_filter(a, filter);
    archive_write_set_bytes_per_block(a, 512);
    f->fds[f->count] = memfd_create("layer", MFD_CLOEXEC);
    assert_int_equal(archive_write_open_fd(a, f->fds[f->count]), ARCHIVE_OK);
    f->archives[f->count++] = a;
}

static inline void layer(struct fixture *f)
{
    layer_by(f, ARCHIVE_FILTER_NONE);
}

/* Takes the entry. */
static inline void put(struct fixture *f, struct archive_entry *entry, const char *data)
{
    put_entry(f->archives[f->count - 1], entry, data);
}

static inline void file(struct fixture *f, const char *name, const char *data)
{
    put(f, entry_of(name, AE_IFREG), data);
}

static inline void dir(struct fixture *f, const char *name)
{
    put(f, entry_of(name, AE_IFDIR), NULL);
}

static inline void symbolic(struct fixture *f, const char *name, const char *target)
{
    struct archive_entry *entry = entry_of(name, AE_IFLNK);
    archive_entry_set_symlink(entry, target);
    put(f, entry, NULL);
}

static inline void hard(struct fixture *f, const char *name, const char *target)
{
    struct archive_entry *entry = entry_of(name, AE_IFREG);
    archive_entry_set_hardlink(entry, target);
    put(f, entry, NULL);
}

/* Extract them all; limits NULL: the usual ones. */
static inline int extract_within(struct fixture *f, const struct layer_limits *limits)
{
    struct layer_source sources[LAYERS_MAX];
    for (size_t i = 0; i < f->count; i++) {
        archive_write_close(f->archives[i]);
        sources[i] = (struct layer_source){.fd = f->fds[i]};
    }
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mode_t mask = umask(0);
    assert_int_equal(mkdir(f->dir, 0755), 0);
    assert_int_equal(chdir(f->dir), 0);
    int rc = layer_extract(sources, f->count, limits ? limits : &LAYER_LIMITS, 77, geteuid() == 0,
                           &f->out, &f->err);
    umask(mask);
    assert_int_equal(fchdir(here), 0);
    close(here);
    return rc;
}

static inline void extract(struct fixture *f)
{
    if (extract_within(f, NULL))
        fail_msg("%s", f->err.msg);
}

static inline const char *at(const struct fixture *f, const char *name)
{
    static char path[5000];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    return path;
}

static inline struct stat stat_of(const struct fixture *f, const char *name)
{
    struct stat st;
    if (lstat(at(f, name), &st) < 0)
        fail_msg("%s is missing", name);
    return st;
}

static inline void is_gone(const struct fixture *f, const char *name)
{
    struct stat st;
    if (lstat(at(f, name), &st) == 0)
        fail_msg("%s is there", name);
}

static inline void has(const struct fixture *f, const char *name, const char *content)
{
    char *text;
    size_t len;
    assert_int_equal(io_read_file(AT_FDCWD, at(f, name), 1000, &text, &len), 0);
    assert_string_equal(text, content);
    free(text);
}
#endif
