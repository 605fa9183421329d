/* SPDX-License-Identifier: Apache-2.0 */
/* Several layers over one another, and what a hostile one tries. */
#include "util/testing.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "image/layer.h"
#include "image/testing_store.h"
#include "util/arith.h"
#include "util/io.h"

#define LAYERS_MAX 4

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

static int set_up(void **state)
{
    static struct fixture f;
    f = (struct fixture){.home = testing_home_make()};
    snprintf(f.dir, sizeof(f.dir), "%s/tree", f.home.path);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
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
static void layer_by(struct fixture *f, int filter)
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

static void layer(struct fixture *f)
{
    layer_by(f, ARCHIVE_FILTER_NONE);
}

static struct archive_entry *entry_of(const char *name, unsigned type)
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
static void put(struct fixture *f, struct archive_entry *entry, const char *data)
{
    struct archive *a = f->archives[f->count - 1];
    archive_entry_set_size(entry, data ? (la_int64_t)strlen(data) : 0);
    assert_true(archive_write_header(a, entry) >= ARCHIVE_WARN);
    if (data)
        assert_int_equal(archive_write_data(a, data, strlen(data)), strlen(data));
    archive_entry_free(entry);
}

static void file(struct fixture *f, const char *name, const char *data)
{
    put(f, entry_of(name, AE_IFREG), data);
}

static void dir(struct fixture *f, const char *name)
{
    put(f, entry_of(name, AE_IFDIR), NULL);
}

static void symbolic(struct fixture *f, const char *name, const char *target)
{
    struct archive_entry *entry = entry_of(name, AE_IFLNK);
    archive_entry_set_symlink(entry, target);
    put(f, entry, NULL);
}

static void hard(struct fixture *f, const char *name, const char *target)
{
    struct archive_entry *entry = entry_of(name, AE_IFREG);
    archive_entry_set_hardlink(entry, target);
    put(f, entry, NULL);
}

/* Extract them all; limits NULL: the usual ones. */
static int extract_within(struct fixture *f, const struct layer_limits *limits)
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

static void extract(struct fixture *f)
{
    if (extract_within(f, NULL))
        fail_msg("%s", f->err.msg);
}

static const char *at(const struct fixture *f, const char *name)
{
    static char path[5000];
    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    return path;
}

static struct stat stat_of(const struct fixture *f, const char *name)
{
    struct stat st;
    if (lstat(at(f, name), &st) < 0)
        fail_msg("%s is missing", name);
    return st;
}

static void is_gone(const struct fixture *f, const char *name)
{
    struct stat st;
    if (lstat(at(f, name), &st) == 0)
        fail_msg("%s is there", name);
}

static void has(const struct fixture *f, const char *name, const char *content)
{
    char *text;
    size_t len;
    assert_int_equal(io_read_file(AT_FDCWD, at(f, name), 1000, &text, &len), 0);
    assert_string_equal(text, content);
    free(text);
}

/* ---- one over the other ---- */

static void test_whiteouts_take_away_what_is_below(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "a/file", "lower");
    file(f, "a/tree/deep/er", "lower");
    file(f, "a/stays", "lower");
    symbolic(f, "a/link", "stays");
    layer_by(f, ARCHIVE_FILTER_GZIP);
    file(f, "a/.wh.file", "");
    file(f, "a/.wh.tree", "");
    file(f, "a/.wh.link", "");
    file(f, "a/.wh.never-was", "");
    file(f, "nowhere/.wh.never-was", "");
    extract(f);
    is_gone(f, "a/file");
    is_gone(f, "a/tree");
    is_gone(f, "a/link");
    is_gone(f, "nowhere");
    is_gone(f, "a/.wh.file");
    has(f, "a/stays", "lower");
}

static void test_whiteouts_spare_their_own_layer(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "dir/lower", "lower");
    file(f, "dir/both", "lower");
    file(f, "dir/sub/lower", "lower");
    layer_by(f, ARCHIVE_FILTER_ZSTD);
    file(f, "dir/both", "upper");
    file(f, "dir/sub/upper", "upper");
    file(f, "dir/.wh.both", "");
    file(f, ".wh.dir", "");
    extract(f);
    has(f, "dir/both", "upper");
    has(f, "dir/sub/upper", "upper");
    is_gone(f, "dir/lower");
    is_gone(f, "dir/sub/lower");
}

static void test_an_opaque_directory_hides_what_is_below(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "dir/lower", "lower");
    file(f, "dir/sub/lower", "lower");
    file(f, "beside", "lower");
    layer(f);
    file(f, "dir/before", "upper");
    file(f, "dir/sub/upper", "upper");
    file(f, "dir/.wh..wh..opq", "");
    file(f, "dir/behind", "upper");
    extract(f);
    is_gone(f, "dir/lower");
    is_gone(f, "dir/sub/lower");
    is_gone(f, "dir/.wh..wh..opq");
    has(f, "dir/before", "upper");
    has(f, "dir/behind", "upper");
    has(f, "dir/sub/upper", "upper");
    has(f, "beside", "lower");
}

static void test_the_root_may_be_opaque(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "lower", "lower");
    dir(f, "dir/dir");
    layer(f);
    file(f, ".wh..wh..opq", "");
    file(f, ".wh..wh.plnk", "aufs's own");
    file(f, "upper", "upper");
    extract(f);
    is_gone(f, "lower");
    is_gone(f, "dir");
    is_gone(f, ".wh..wh.plnk");
    has(f, "upper", "upper");
}

static void test_anything_replaces_anything(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "dir-to-file/sub/x", "lower");
    file(f, "file-to-dir", "lower");
    symbolic(f, "link-to-dir", "dir-to-file");
    symbolic(f, "link-to-file", "victim");
    file(f, "victim", "lower");
    file(f, "dir-to-link/x", "lower");
    layer(f);
    file(f, "dir-to-file", "upper");
    dir(f, "file-to-dir");
    file(f, "file-to-dir/x", "upper");
    dir(f, "link-to-dir");
    file(f, "link-to-dir/x", "upper");
    file(f, "link-to-file", "upper");
    symbolic(f, "dir-to-link", "victim");
    extract(f);
    has(f, "dir-to-file", "upper");
    has(f, "file-to-dir/x", "upper");
    has(f, "link-to-dir/x", "upper");
    has(f, "link-to-file", "upper");
    has(f, "victim", "lower");
    assert_true(S_ISLNK(stat_of(f, "dir-to-link").st_mode));
}

/* umoci says so of what was below a directory that it replaces. */
static void test_whiteouts_below_what_the_layer_replaces(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "a/x", "lower");
    file(f, "b/x", "lower");
    file(f, "c/x", "lower");
    layer(f);
    file(f, "a", "upper");
    file(f, "a/.wh.x", "");
    symbolic(f, "b", "c");
    file(f, "b/.wh.x", "");
    file(f, "b/deeper/.wh.x", "");
    extract(f);
    has(f, "a", "upper");
    has(f, "c/x", "lower");
}

static void test_replacing_twice_in_a_layer(void **state)
{
    struct fixture *f = *state;
    layer(f);
    dir(f, "x");
    file(f, "x/y/z", "first");
    file(f, "x", "second");
    dir(f, "x");
    file(f, "x/y/z", "third");
    file(f, "x/y/.wh.z", "");
    extract(f);
    has(f, "x/y/z", "third");
}

static void test_a_directory_over_a_directory_keeps_what_is_in_it(void **state)
{
    struct fixture *f = *state;
    layer(f);
    struct archive_entry *entry = entry_of("dir", AE_IFDIR);
    archive_entry_set_perm(entry, 0700);
    archive_entry_xattr_add_entry(entry, "user.lower", "x", 1);
    put(f, entry, NULL);
    file(f, "dir/file", "lower");
    layer(f);
    entry = entry_of("dir", AE_IFDIR);
    archive_entry_set_perm(entry, 02751);
    archive_entry_set_mtime(entry, 2000, 3);
    put(f, entry, NULL);
    file(f, "dir/made/later", "upper");
    layer(f);
    file(f, "dir/later", "upper");
    extract(f);
    has(f, "dir/file", "lower");
    struct stat st = stat_of(f, "dir");
    assert_int_equal(st.st_mode & 07777, 02751);
    assert_int_equal(st.st_mtim.tv_sec, 2000);
    assert_int_equal(st.st_mtim.tv_nsec, 3);
    assert_int_equal(getxattr(at(f, "dir"), "user.lower", NULL, 0), -1);
    /* A directory that nothing is said of inherits nothing. */
    st = stat_of(f, "dir/made");
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_mtim.tv_sec, 77);
    assert_int_equal(stat_of(f, ".").st_mtim.tv_sec, 77);
}

static void test_hard_links_reach_across_layers(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "a/first", "lower");
    symbolic(f, "link", "a/first");
    layer(f);
    hard(f, "b/second", "a/first");
    hard(f, "/third", "./b/second");
    hard(f, "third", "a/first"); /* it is that already */
    hard(f, "link2", "link");
    layer(f);
    file(f, "a/.wh.first", "");
    extract(f);
    has(f, "b/second", "lower");
    is_gone(f, "a/first");
    assert_int_equal(stat_of(f, "b/second").st_nlink, 2);
    assert_int_equal(stat_of(f, "b/second").st_ino, stat_of(f, "third").st_ino);
    assert_true(S_ISLNK(stat_of(f, "link2").st_mode));
}

static void test_odd_names_and_kinds(void **state)
{
    struct fixture *f = *state;
    char component[256], deep[3000] = "";
    memset(component, 'n', 255);
    component[255] = '\0';
    for (int i = 0; i < 11; i++)
        sprintf(deep + strlen(deep), "%s%.240s", i ? "/" : "", component);
    layer(f);
    file(f, component, "255 bytes");
    file(f, deep, "deep");
    file(f, "latin-\xfc\xff", "bytes");
    file(f, "new\nline\t\x01", "control");
    file(f, "\xc3\xbcml\xc3\xa4ut", "utf-8");
    file(f, "wh.", "no whiteout");
    put(f, entry_of("fifo", AE_IFIFO), NULL);
    extract(f);
    has(f, component, "255 bytes");
    has(f, deep, "deep");
    has(f, "latin-\xfc\xff", "bytes");
    has(f, "new\nline\t\x01", "control");
    has(f, "\xc3\xbcml\xc3\xa4ut", "utf-8");
    has(f, "wh.", "no whiteout");
    assert_true(S_ISFIFO(stat_of(f, "fifo").st_mode));
    struct stat st = stat_of(f, "wh.");
    assert_int_equal(st.st_mtim.tv_sec, 1000);
    assert_int_equal(st.st_mtim.tv_nsec, 500);
    assert_int_equal(f->out.newest, 1001);
}

static void test_what_only_root_may_give(void **state)
{
    struct fixture *f = *state;
    /* cap_net_raw=ep, revision 2 */
    static const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};
    unsigned char found[20];
    if (geteuid() != 0)
        skip();
    layer(f);
    struct archive_entry *entry = entry_of("ping", AE_IFREG);
    archive_entry_set_uid(entry, 1234);
    archive_entry_set_gid(entry, 70000);
    archive_entry_set_perm(entry, 04755);
    archive_entry_xattr_add_entry(entry, "security.capability", cap, sizeof(cap));
    archive_entry_xattr_add_entry(entry, "security.selinux", "label", 6);
    archive_entry_xattr_add_entry(entry, "trusted.overlay.opaque", "y", 1);
    put(f, entry, "x");
    entry = entry_of("null", AE_IFCHR);
    archive_entry_set_rdev(entry, makedev(1, 3));
    put(f, entry, NULL);
    if (extract_within(f, NULL)) {
        if (strstr(f->err.msg, "ot permitted") || strstr(f->err.msg, "ot supported"))
            skip(); /* root of a container */
        fail_msg("%s", f->err.msg);
    }
    struct stat st = stat_of(f, "ping");
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 70000);
    assert_int_equal(st.st_mode & 07777, 04755);
    assert_int_equal(getxattr(at(f, "ping"), "security.capability", found, sizeof(found)), 20);
    assert_memory_equal(found, cap, sizeof(cap));
    assert_int_equal(getxattr(at(f, "ping"), "trusted.overlay.opaque", NULL, 0), -1);
    assert_true(S_ISCHR(stat_of(f, "null").st_mode));
    assert_int_equal(stat_of(f, "null").st_rdev, makedev(1, 3));
}

/* ---- behind links of lower layers ---- */

/* A lower layer with lib -> usr/lib, as a merged /usr has it, and other ways to get there. */
static void linked_layer(struct fixture *f)
{
    layer(f);
    dir(f, "usr/lib");
    file(f, "usr/lib/old", "lower");
    file(f, "usr/lib/sub/old", "lower");
    symbolic(f, "lib", "usr/lib");
    symbolic(f, "absolute", "/usr/./lib/");
    symbolic(f, "chain", "opt/../lib");
    symbolic(f, "opt/deep/up", "../../usr/lib");
    symbolic(f, "over", "../../../usr");
    dir(f, "opt");
}

static void test_entries_go_where_links_lead(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    file(f, "lib/a", "a");
    file(f, "absolute/b", "b");
    file(f, "chain/c", "c");
    file(f, "opt/deep/up/d", "d");
    file(f, "over/lib/e", "e");
    file(f, "lib/old", "upper");
    dir(f, "lib/made");
    file(f, "lib/made/by/x", "x");
    symbolic(f, "lib/link", "old");
    extract(f);
    has(f, "usr/lib/a", "a");
    has(f, "usr/lib/b", "b");
    has(f, "usr/lib/c", "c");
    has(f, "usr/lib/d", "d");
    has(f, "usr/lib/e", "e");
    has(f, "usr/lib/old", "upper");
    has(f, "usr/lib/sub/old", "lower");
    has(f, "usr/lib/made/by/x", "x");
    assert_true(S_ISLNK(stat_of(f, "usr/lib/link").st_mode));
    assert_true(S_ISLNK(stat_of(f, "lib").st_mode));
    assert_true(S_ISLNK(stat_of(f, "absolute").st_mode));
    /* Directories that were gone through keep their times, those that were not mentioned have none. */
    assert_int_equal(stat_of(f, "usr/lib").st_mtim.tv_sec, 1000);
    assert_int_equal(stat_of(f, "usr/lib/made").st_mtim.tv_sec, 1000);
    assert_int_equal(stat_of(f, "usr/lib/made/by").st_mtim.tv_sec, 77);
}

static void test_the_last_component_is_not_followed(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    dir(f, "lib");
    file(f, "lib/x", "in the new directory");
    file(f, "absolute", "file");
    layer(f);
    file(f, "lib/y", "in it as well");
    extract(f);
    has(f, "lib/x", "in the new directory");
    has(f, "lib/y", "in it as well");
    has(f, "absolute", "file");
    is_gone(f, "usr/lib/x");
    is_gone(f, "usr/lib/y");
    has(f, "usr/lib/old", "lower");
}

/* The way that an entry went is remembered for the next one: not when a link on it has changed. */
static void test_a_link_that_changes_leads_elsewhere_at_once(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    file(f, "lib/before", "x");
    symbolic(f, "lib", "opt");
    file(f, "lib/behind", "x");
    layer(f);
    file(f, "lib/here", "x");
    file(f, ".wh.lib", "");
    file(f, "lib/x", "x");
    extract(f);
    has(f, "usr/lib/before", "x");
    has(f, "opt/behind", "x");
    has(f, "opt/here", "x");
    assert_true(S_ISDIR(stat_of(f, "lib").st_mode));
    has(f, "lib/x", "x");
}

static void test_hard_links_go_where_links_lead(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    hard(f, "lib/one", "absolute/old");
    hard(f, "two", "lib/one");
    hard(f, "lib/old", "usr/lib/old"); /* itself, by two names */
    hard(f, "opt/link", "lib");
    extract(f);
    assert_int_equal(stat_of(f, "usr/lib/old").st_nlink, 3);
    assert_int_equal(stat_of(f, "usr/lib/old").st_ino, stat_of(f, "two").st_ino);
    assert_int_equal(stat_of(f, "usr/lib/old").st_ino, stat_of(f, "usr/lib/one").st_ino);
    assert_true(S_ISLNK(stat_of(f, "opt/link").st_mode));
}

static void test_whiteouts_go_where_links_lead(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    file(f, "usr/lib/kept", "lower");
    layer(f);
    file(f, "lib/kept", "upper");
    file(f, "usr/lib/new", "upper");
    file(f, "absolute/.wh.old", "");
    file(f, "chain/.wh.kept", ""); /* the layer's own, by another name */
    file(f, "lib/.wh.never-was", "");
    layer(f);
    file(f, "usr/lib/sub/new", "uppermost");
    file(f, "lib/.wh..wh..opq", "");
    extract(f);
    is_gone(f, "usr/lib/kept");
    is_gone(f, "usr/lib/new");
    is_gone(f, "usr/lib/old");
    is_gone(f, "usr/lib/sub/old");
    has(f, "usr/lib/sub/new", "uppermost");
    assert_true(S_ISLNK(stat_of(f, "lib").st_mode));
}

static void test_whiteouts_spare_their_own_layer_behind_links(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    file(f, "lib/new", "upper");
    file(f, "usr/lib/sub/new", "upper");
    file(f, "lib/.wh.new", "");
    file(f, "usr/.wh.lib", "");
    extract(f);
    has(f, "usr/lib/new", "upper");
    has(f, "usr/lib/sub/new", "upper");
    is_gone(f, "usr/lib/old");
    is_gone(f, "usr/lib/sub/old");
}

/* containerd and umoci make the directories that the link leads to as well. */
static void test_a_link_to_nothing_gets_its_directory(void **state)
{
    struct fixture *f = *state;
    layer(f);
    symbolic(f, "relative", "not/there");
    symbolic(f, "absolute", "/nor/../here");
    symbolic(f, "whiteout", "/nowhere/at/all");
    layer(f);
    file(f, "relative/x", "x");
    file(f, "absolute/y", "y");
    file(f, "whiteout/.wh.x", "");
    file(f, "whiteout/.wh..wh..opq", "");
    extract(f);
    has(f, "not/there/x", "x");
    has(f, "here/y", "y");
    is_gone(f, "nowhere");
    assert_true(S_ISLNK(stat_of(f, "relative").st_mode));
    struct stat st = stat_of(f, "not");
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_mtim.tv_sec, 77);
}

/* ---- hostile layers ---- */

/* `link` would lead to a directory outside of the tree, with a file "victim". */
static void hostile_begin(struct fixture *f, char outside[100])
{
    char path[160];
    snprintf(outside, 100, "%s/outside", f->home.path);
    assert_int_equal(mkdir(outside, 0755), 0);
    snprintf(path, sizeof(path), "%s/victim", outside);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(io_write_full(fd, "untouched", 9), 0);
    close(fd);
    layer(f);
    file(f, "good", "lower");
    symbolic(f, "link", outside);
    symbolic(f, "up", "..");
    symbolic(f, "to-file", "good");
    dir(f, "dir/dir");
    symbolic(f, "to-dir", "dir");
    symbolic(f, "circle", "circle");
    symbolic(f, "ping", "pong");
    symbolic(f, "pong", "./ping");
    symbolic(f, "grow", "grow/grow");
    layer(f);
}

static void hostile_file(struct fixture *f, const char *name)
{
    file(f, name, "hostile");
}

static void hostile_hard(struct fixture *f, const char *name)
{
    hard(f, "new", name);
}

static void hostile_dir(struct fixture *f, const char *name)
{
    dir(f, name);
}

static void hostile_root(struct fixture *f, const char *name)
{
    symbolic(f, name, "/etc");
}

/* Behind a link to sixteen directories, whose names are almost as long together as a path may be. */
static void hostile_long(struct fixture *f, const char *name)
{
    char target[PATH_MAX], full[NAME_MAX];
    memset(target, 'd', sizeof(target));
    for (size_t i = 255; i < sizeof(target); i += 256)
        target[i] = '/';
    target[PATH_MAX - 4] = '\0';
    symbolic(f, "long", target);
    snprintf(full, sizeof(full), "long/%s", name);
    file(f, full, "hostile");
}

static const struct {
    const char *what;
    void (*add)(struct fixture *f, const char *name);
    const char *name, *says;
} HOSTILE[] = {
    {"dotdot", hostile_file, "../outside/victim", "leads out of the image"},
    {"dotdot within", hostile_file, "a/../../outside/victim", "leads out of the image"},
    {"dotdot behind a link", hostile_file, "link/../outside/victim", "leads out of the image"},
    {"absolute dotdot", hostile_file, "/../outside/victim", "leads out of the image"},
    {"file behind a file", hostile_file, "good/x", "behind \"good\""},
    {"file behind a link to a file", hostile_file, "to-file/x", "behind \"good\""},
    {"directory behind a link to a file", hostile_dir, "to-file/x", "behind \"good\""},
    {"whiteout behind a link to a file", hostile_file, "to-file/.wh.x", "behind \"good\""},
    {"file behind a circle", hostile_file, "circle/x", "behind links"},
    {"file behind a circle of two", hostile_file, "ping/x", "behind links"},
    {"file behind a circle that grows", hostile_file, "grow/x", "behind links"},
    {"whiteout behind a circle", hostile_file, "circle/.wh.x", "behind links"},
    {"hard link behind a circle", hostile_hard, "circle/x", "behind links"},
    {"a link to what is too long", hostile_long, "name", "too long"},
    {"a link to what is longer still", hostile_long, "d/d/name", "too long"},
    {"whiteout of dotdot", hostile_file, "a/.wh...", "whiteout of no name"},
    {"whiteout of dot", hostile_file, "a/.wh..", "whiteout of no name"},
    {"whiteout of nothing", hostile_file, "a/.wh.", "whiteout of no name"},
    {"whiteout through dotdot", hostile_file, "../outside/.wh.victim", "leads out of the image"},
    {"hard link out", hostile_hard, "../outside/victim", "out of the image"},
    {"hard link behind a link out", hostile_hard, "link/victim", "not there"},
    {"hard link behind a link up", hostile_hard, "up/outside/victim", "not there"},
    {"hard link to nothing", hostile_hard, "etc/shadow", "not there"},
    {"hard link to the root", hostile_hard, "/", "out of the image"},
    {"hard link to a directory", hostile_hard, "to-dir/dir", "to the directory"},
    {"root as a link", hostile_root, ".", "root is not a directory"},
};

static void test_hostile_entries_are_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(HOSTILE); i++) {
        struct fixture *f = *state;
        char outside[100], path[120], *text;
        size_t len;
        hostile_begin(f, outside);
        HOSTILE[i].add(f, HOSTILE[i].name);
        int rc = extract_within(f, NULL);
        if (rc != -EINVAL || !strstr(f->err.msg, HOSTILE[i].says) ||
            !strstr(f->err.msg, "layer 2 of 2"))
            fail_msg("%s: %d, %s", HOSTILE[i].what, rc, f->err.msg);
        snprintf(path, sizeof(path), "%s/victim", outside);
        assert_int_equal(io_read_file(AT_FDCWD, path, 100, &text, &len), 0);
        assert_string_equal(text, "untouched");
        free(text);
        tear_down(state);
        set_up(state);
    }
}

/* However a link leads out, a chroot's root is the end of it. */
static void test_links_out_of_the_image_stay_inside(void **state)
{
    struct fixture *f = *state;
    char outside[100], path[160], *text;
    size_t len;
    hostile_begin(f, outside);
    symbolic(f, "further", "../../../../../../../../../../..");
    file(f, "link/victim", "inside");
    file(f, "link/.wh.nothing", "");
    file(f, "up/x", "in the root");
    file(f, "further/y", "in the root");
    hard(f, "copy", "link/victim");
    dir(f, "link/dir");
    extract(f);
    has(f, "x", "in the root");
    has(f, "y", "in the root");
    has(f, "copy", "inside");
    snprintf(path, sizeof(path), "%s/victim", outside + 1);
    has(f, path, "inside");
    snprintf(path, sizeof(path), "%s/victim", outside);
    assert_int_equal(io_read_file(AT_FDCWD, path, 100, &text, &len), 0);
    assert_string_equal(text, "untouched");
    free(text);
}

/* What is left to do for a directory at the end of its layer is done to no other that has its name
 * then. */
static void test_a_directory_that_becomes_a_link_out(void **state)
{
    struct fixture *f = *state;
    char outside[100];
    struct stat before, after;
    hostile_begin(f, outside);
    assert_int_equal(lstat(outside, &before), 0);
    struct archive_entry *entry = entry_of("a/outside", AE_IFDIR);
    archive_entry_set_perm(entry, 0500);
    archive_entry_xattr_add_entry(entry, "user.note", "x", 1);
    put(f, entry, NULL);
    symbolic(f, "a", f->home.path);
    extract(f);
    assert_int_equal(lstat(outside, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_ctim.tv_sec, before.st_ctim.tv_sec);
    assert_int_equal(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
}

static void test_an_absolute_name_is_below_the_root(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "/etc/passwd", "the image's");
    hard(f, "copy", "/etc/passwd");
    symbolic(f, "/absolute", "/etc/passwd");
    extract(f);
    has(f, "etc/passwd", "the image's");
    has(f, "copy", "the image's");
}

static void test_bombs_are_bounded_over_all_layers(void **state)
{
    struct fixture *f = *state;
    const struct layer_limits few = {.entries = 5, .bytes = 1 << 20};
    layer(f);
    for (int i = 0; i < 4; i++)
        file(f, "same", "x");
    layer(f);
    file(f, "a", "x");
    file(f, "b", "x");
    assert_int_equal(extract_within(f, &few), -EFBIG);
    assert_non_null(strstr(f->err.msg, "layer 2 of 2"));
    assert_non_null(strstr(f->err.msg, "more than 5 files"));
    tear_down(state);
    set_up(state);

    const struct layer_limits small = {.entries = 10, .bytes = 10};
    layer_by(f, ARCHIVE_FILTER_GZIP);
    file(f, "a", "123456");
    layer_by(f, ARCHIVE_FILTER_ZSTD);
    file(f, "b", "123456");
    assert_int_equal(extract_within(f, &small), -EFBIG);
    assert_non_null(strstr(f->err.msg, "content, at \"b\""));
}

/* Zeroes behind the end of the archive are the cheapest bomb: no entry counts them. */
static void test_a_bomb_behind_the_end(void **state)
{
    struct fixture *f = *state;
    const struct layer_limits small = {.entries = 4, .bytes = 1 << 20};
    layer(f);
    file(f, "a", "x");
    archive_write_close(f->archives[0]);
    assert_int_equal(ftruncate(f->fds[0], 8 << 20), 0);
    assert_int_equal(extract_within(f, &small), -EFBIG);
    assert_non_null(strstr(f->err.msg, "it unpacks to more than"));
}

static void test_whiteouts_of_deep_trees(void **state)
{
    struct fixture *f = *state;
    char deep[2000] = "d";
    while (strlen(deep) < 1990)
        strcat(deep, "/d");
    layer(f);
    file(f, deep, "lower");
    layer(f);
    strcpy(strrchr(deep, '/'), "/e");
    file(f, deep, "upper");
    file(f, ".wh..wh..opq", "");
    int rc = extract_within(f, NULL);
    /* Each level takes a descriptor: where there are too few it is refused, and that is all. */
    if (rc && rc != -EMFILE)
        fail_msg("%d: %s", rc, f->err.msg);
    if (rc == 0)
        has(f, deep, "upper");
}

/* ---- digests ---- */

static void test_digests_are_proved(void **state)
{
    struct fixture *f = *state;
    struct digest blob, diff, other = {{1}};
    struct layer_extracted out;
    struct dayfly_err err = {0};
    layer(f);
    file(f, "a", "x");
    layer_by(f, ARCHIVE_FILTER_GZIP);
    file(f, "a", "x");
    archive_write_close(f->archives[0]);
    archive_write_close(f->archives[1]);
    assert_int_equal(digest_of_fd(f->fds[0], &diff, NULL), 0);
    assert_int_equal(digest_of_fd(f->fds[1], &blob, NULL), 0);
    const struct {
        const struct digest *blob, *diff;
        const char *says;
    } cases[] = {
        {&blob, &diff, NULL},
        {&other, &diff, "another digest"},
        {&blob, &other, "does not unpack to sha256:01"},
    };
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdir(f->dir, 0755), 0);
    assert_int_equal(chdir(f->dir), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct layer_source source = {f->fds[1], cases[i].blob, cases[i].diff};
        int rc = layer_extract(&source, 1, &LAYER_LIMITS, 0, geteuid() == 0, &out, &err);
        assert_int_equal(rc, cases[i].says ? -EBADMSG : 0);
        if (cases[i].says && !strstr(err.msg, cases[i].says))
            fail_msg("%s", err.msg);
    }
    /* A blob that is cut fails in gzip; what is wrong with it is its digest. */
    struct stat st;
    assert_int_equal(fstat(f->fds[1], &st), 0);
    assert_int_equal(ftruncate(f->fds[1], st.st_size / 2), 0);
    const struct layer_source source = {f->fds[1], &blob, &diff};
    assert_int_equal(layer_extract(&source, 1, &LAYER_LIMITS, 0, geteuid() == 0, &out, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "another digest"));
    assert_int_equal(fchdir(here), 0);
    close(here);
}

static void test_what_is_no_archive(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"", "no archive, but long enough to be looked at", "PK\3\4",
                                        "\x1f\x8b\x08"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        int fd = memfd_create("noise", MFD_CLOEXEC);
        struct dayfly_err err = {0};
        struct layer_extracted out;
        assert_int_equal(io_write_full(fd, texts[i], strlen(texts[i])), 0);
        const struct layer_source source = {.fd = fd};
        assert_true(layer_extract(&source, 1, &LAYER_LIMITS, 0, true, &out, &err) < 0);
        assert_non_null(strstr(err.msg, "layer 1 of 1"));
        close(fd);
    }
    (void)f;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whiteouts_take_away_what_is_below),
        TEST(test_whiteouts_spare_their_own_layer),
        TEST(test_an_opaque_directory_hides_what_is_below),
        TEST(test_the_root_may_be_opaque),
        TEST(test_anything_replaces_anything),
        TEST(test_whiteouts_below_what_the_layer_replaces),
        TEST(test_replacing_twice_in_a_layer),
        TEST(test_a_directory_over_a_directory_keeps_what_is_in_it),
        TEST(test_hard_links_reach_across_layers),
        TEST(test_odd_names_and_kinds),
        TEST(test_what_only_root_may_give),
        TEST(test_entries_go_where_links_lead),
        TEST(test_the_last_component_is_not_followed),
        TEST(test_a_link_that_changes_leads_elsewhere_at_once),
        TEST(test_hard_links_go_where_links_lead),
        TEST(test_whiteouts_go_where_links_lead),
        TEST(test_whiteouts_spare_their_own_layer_behind_links),
        TEST(test_a_link_to_nothing_gets_its_directory),
        TEST(test_hostile_entries_are_refused),
        TEST(test_links_out_of_the_image_stay_inside),
        TEST(test_a_directory_that_becomes_a_link_out),
        TEST(test_an_absolute_name_is_below_the_root),
        TEST(test_bombs_are_bounded_over_all_layers),
        TEST(test_a_bomb_behind_the_end),
        TEST(test_whiteouts_of_deep_trees),
        TEST(test_digests_are_proved),
        TEST(test_what_is_no_archive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
