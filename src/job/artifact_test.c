/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts from the agent's own collector, run in a child; and from one that lies. */
#include "job/artifact.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../../agent/secret.h"
#include "../../agent/serve.h"
#include "job/testing_agent.h"
#include "proto/record.h"
#include "proto/wire.h"
#include "util/arith.h"
#include "util/tree.h"

/* A guest whose files are those of dir/guest, and the host's side in dir/host, the working directory.
 */
struct both {
    struct fixture *x;
    char cwd[64]; /* of the guest */
};

static int enter(void **state)
{
    struct both *b = calloc(1, sizeof(*b));
    void *fixture;
    setup(&fixture);
    b->x = fixture;
    snprintf(b->cwd, sizeof(b->cwd), "%s/guest", b->x->dir);
    assert_int_equal(mkdir(b->cwd, 0755), 0);
    char host[64];
    snprintf(host, sizeof(host), "%s/host", b->x->dir);
    assert_int_equal(mkdir(host, 0755), 0);
    assert_int_equal(chdir(host), 0);
    *state = b;
    return 0;
}

static int leave(void **state)
{
    struct both *b = *state;
    void *fixture = b->x;
    assert_int_equal(chdir(b->x->dir), 0);
    assert_int_equal(tree_remove(AT_FDCWD, "guest"), 0);
    assert_int_equal(tree_remove(AT_FDCWD, "host"), 0);
    free(b);
    return teardown(&fixture);
}

static int not_cancelled(void *opaque)
{
    return 0;
}

/* Run a script in the guest's directory, then copy out; the words end with NULL. */
static struct job_artifact_result collect(struct both *b, const char *script, uint64_t limit,
                                          const char *const *words)
{
    const char *const argv[] = {"sh", "-e", "-c", script, NULL};
    struct job_artifact_options how = {.cwd = b->cwd, .limit_bytes = limit, .cancel_fd = -1};
    struct job_artifact_result result = {0};
    struct job_artifact *list;
    struct dayfly_err err = {0};
    size_t count = 0;
    assert_exit(finish(b->x, start(b->x, &(struct guest_command){.argv = argv,
                                                                 .cwd = b->cwd,
                                                                 .in_fd = -1,
                                                                 .out_fd = -1,
                                                                 .err_fd = STDERR_FILENO})),
                0);
    struct job_artifact_word parts[8] = {{0}};
    for (; words[count]; count++)
        parts[count].word = words[count];
    if (job_artifacts_parse(parts, count, &list, &err) < 0 ||
        job_artifacts_collect(b->x->g, list, count, &how, not_cancelled, NULL, &result, &err) < 0)
        fail_msg("%s", err.msg);
    job_artifacts_free(list, count);
    return result;
}

#define COLLECT(b, script, ...)                                                                        \
    collect(b, script, JOB_ARTIFACT_DEFAULT_LIMIT, (const char *const[]){__VA_ARGS__, NULL})

/* The row with this key and value; NULL: none. */
static const json_t *row_of(const struct job_artifact_result *result, const char *key,
                            const char *value)
{
    size_t i;
    json_t *row;
    json_array_foreach (result->rows, i, row) {
        const char *have = json_string_value(json_object_get(row, key));
        if (have && strcmp(have, value) == 0)
            return row;
    }
    return NULL;
}

static void assert_file(const char *path, const char *want)
{
    _cleanup_free_ char *text = NULL;
    if (io_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
        fail_msg("%s is not there", path);
    assert_string_equal(text, want);
}

/* Nothing but `count` names. */
static void assert_names(const char *path, int count)
{
    DIR *dir = opendir(path);
    int have = 0;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        have += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    assert_int_equal(have, count);
}

static void test_a_file_with_size_and_digest(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r =
        COLLECT(b, "printf hello >out; chmod 4755 out", "out", "out:renamed", "out:sub/dir/");
    const json_t *row = row_of(&r, "host", "out");
    struct stat st;
    assert_non_null(row);
    assert_int_equal(json_integer_value(json_object_get(row, "bytes")), 5);
    assert_string_equal(json_string_value(json_object_get(row, "sha256")),
                        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_string_equal(json_string_value(json_object_get(row, "guest")), "out");
    assert_file("out", "hello");
    assert_file("renamed", "hello");
    assert_file("sub/dir/out", "hello");
    assert_int_equal(stat("out", &st), 0);
    assert_int_equal(st.st_mode & 07700, 0700);
    assert_non_null(row_of(&r, "host", "sub/dir/out"));
    assert_false(r.missing || r.skipped || r.failed.code);
    json_decref(r.rows);
    assert_names(".", 3);
}

static void test_files_keep_the_time_of_their_change(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r =
        COLLECT(b,
                "mkdir d; echo a >d/a; echo b >d/b; touch -d '2001-02-03 04:05:06.789 UTC' d/a;"
                "touch -d '1901-01-01 UTC' d/b",
                "d");
    struct stat st;
    assert_int_equal(stat("d/a", &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 981173106);
    assert_int_equal(st.st_mtim.tv_nsec, 789000000);
    assert_int_equal(stat("d/b", &st), 0); /* before 1970: when it came */
    assert_true(st.st_mtim.tv_sec > 1500000000);
    assert_false(r.skipped || r.failed.code);
    json_decref(r.rows);
}

static void test_patterns_and_what_is_missing(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r =
        COLLECT(b, "mkdir logs; echo 1 >logs/a.log; echo 2 >logs/b.log; echo 3 >logs/c.txt",
                "logs/*.log:got", "nowhere", "*.none");
    assert_file("got/a.log", "1\n");
    assert_file("got/b.log", "2\n");
    assert_names("got", 2);
    assert_true(r.missing);
    assert_false(r.failed.code);
    const json_t *row = row_of(&r, "guest", "nowhere");
    assert_true(row && json_is_true(json_object_get(row, "missing")));
    assert_non_null(row_of(&r, "guest", "*.none"));
    json_decref(r.rows);
}

static void test_a_directory_with_all_sorts_of_things(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r =
        COLLECT(b,
                "mkdir -p dist/deep/er; echo a >dist/a; echo b >dist/deep/er/b; mkdir dist/empty;"
                "ln -s ../a dist/deep/in; ln -s /etc/passwd dist/abs; ln -s ../../out dist/up; mkfifo "
                "dist/fifo",
                "dist");
    char target[16] = "";
    assert_file("dist/a", "a\n");
    assert_file("dist/deep/er/b", "b\n");
    assert_int_equal(access("dist/empty", F_OK), 0);
    assert_int_equal(readlink("dist/deep/in", target, sizeof(target)), 4);
    assert_string_equal(target, "../a");
    assert_names("dist", 3);
    assert_true(r.skipped);
    assert_non_null(row_of(&r, "guest", "dist/abs"));
    assert_non_null(row_of(&r, "guest", "dist/up"));
    assert_non_null(row_of(&r, "guest", "dist/fifo"));
    assert_non_null(row_of(&r, "host", "dist/deep/in"));
    json_decref(r.rows);
    /* A second time it is added to. */
    r = COLLECT(b, "rm -r dist; mkdir dist; echo A >dist/a; echo c >dist/c", "dist");
    assert_file("dist/a", "A\n");
    assert_file("dist/c", "c\n");
    assert_file("dist/deep/er/b", "b\n");
    json_decref(r.rows);
    assert_names(".", 1);
}

static void test_names_need_not_be_text(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r = COLLECT(
        b, "n=$(printf 'odd\\377\\033'); echo 1 >\"$n\"; mkdir d; echo 2 >\"d/$n\"", "odd*", "d");
    assert_file("odd\377\033", "1\n");
    assert_file("d/odd\377\033", "2\n");
    assert_non_null(row_of(&r, "host", "odd??"));
    assert_non_null(row_of(&r, "guest", "d/odd??"));
    assert_false(r.failed.code);
    json_decref(r.rows);
}

static void test_a_link_that_is_named_is_followed(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r = COLLECT(b, "echo one >v1; ln -s v1 latest; ln -s none dangling",
                                           "latest", "dangling", ".:all/");
    struct stat st;
    assert_int_equal(lstat("latest", &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_file("latest", "one\n");
    assert_true(r.skipped);
    assert_file("all/guest/v1", "one\n");
    json_decref(r.rows);
}

static void test_a_limit_is_kept_and_nothing_is_half(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r =
        collect(b, "head -c 100000 /dev/zero >first; head -c 100001 /dev/zero >second", 200000,
                (const char *const[]){"first", "second", NULL});
    struct stat st;
    assert_int_equal(r.failed.code, EFBIG);
    assert_int_equal(stat("first", &st), 0);
    assert_int_equal(st.st_size, 100000);
    json_decref(r.rows);
    assert_names(".", 1);
}

static void test_two_of_one_name(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r = COLLECT(b, "mkdir a b; echo a >a/x; echo b >b/x", "a/x", "b/x");
    assert_int_equal(r.failed.code, EEXIST);
    assert_file("x", "a\n");
    json_decref(r.rows);
    assert_names(".", 1);
}

/* More than the window, and a piece that does not end with it. */
static void test_a_large_file_is_the_same(void **state)
{
    struct both *b = *state;
    struct job_artifact_result r = COLLECT(b, "seq 400000 >big; sha256sum <big >sum", "big", "sum");
    _cleanup_free_ char *sum = NULL;
    assert_int_equal(io_read_file(AT_FDCWD, "sum", 4096, &sum, NULL), 0);
    sum[64] = '\0';
    assert_non_null(row_of(&r, "sha256", sum));
    json_decref(r.rows);
}

static void test_words(void **state)
{
    static const char *const bad[] = {"", ":out", "a:/etc/passwd/x"};
    struct job_artifact *list;
    struct dayfly_err err;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_true(job_artifacts_parse(&(struct job_artifact_word){bad[i], NULL}, 1, &list, &err) < 0);
    static const char *const words[] = {"/a/b",   "/a:b",    "/a:b/", "/a/*:b",
                                        "/a:b:c", "/a:/tmp", "/a:/x", "x:"};
    static const struct {
        const char *pattern, *dir, *name;
    } want[] = {
        {"/a/b", ".", NULL}, {"/a", ".", "b"},     {"/a", "b", NULL}, {"/a/*", "b", NULL},
        {"/a:b", ".", "c"},  {"/a", "/tmp", NULL}, {"/a", "/", "x"},  {"x", ".", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (job_artifacts_parse(&(struct job_artifact_word){words[i], NULL}, 1, &list, &err) < 0) {
            assert_true(geteuid() != 0 && want[i].dir[0] == '/');
            continue;
        }
        assert_string_equal(list->pattern, want[i].pattern);
        assert_string_equal(list->dir, want[i].dir);
        if (want[i].name)
            assert_string_equal(list->name, want[i].name);
        else
            assert_null(list->name);
        job_artifacts_free(list, 1);
    }
    static const struct job_artifact_word apart = {"/a:b", "base:c/d"};
    assert_int_equal(job_artifacts_parse(&apart, 1, &list, NULL), 0);
    assert_string_equal(list->pattern, "/a:b");
    assert_string_equal(list->dir, "base:c");
    job_artifacts_free(list, 1);
}

/* -- a guest that lies --------------------------------------------------------------------------------
 */

struct liar {
    uint8_t bytes[4096];
    size_t len;
};

static void say(struct liar *l, uint16_t kind, uint16_t mode, uint32_t pattern, const char *name,
                const char *text)
{
    uint8_t *at = l->bytes + l->len;
    proto_record_put(at, &(struct proto_record){.kind = kind, .mode = mode, .pattern = pattern},
                     strlen(name), strlen(text));
    memcpy(at + PROTO_RECORD_BYTES, name, strlen(name));
    memcpy(at + PROTO_RECORD_BYTES + strlen(name), text, strlen(text));
    l->len += PROTO_RECORD_BYTES + strlen(name) + strlen(text);
    if (kind == PROTO_RECORD_FILE) {
        memset(l->bytes + l->len, 0, 8);
        l->len += 8;
    }
}

/* A guest that answers EXEC with these bytes, and ends. */
static void play(int fd, const struct liar *l)
{
    struct proto_link link;
    struct proto_frame f;
    struct proto_hello hello = {PROTO_VERSION, 1, 5, 6, "test"};
    struct proto_ready ready = {7, 8, 9};
    struct proto_started started = {5, 0};
    struct proto_exit over = {0};
    assert_int_equal(proto_link_init(&link, fd), 0);
    proto_link_send_message(&link, PROTO_HELLO, 0, hello, &hello);
    for (;;) {
        proto_link_flush(&link);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, -1);
        if (proto_link_fill(&link) == 0)
            break;
        while (proto_link_next(&link, &f) > 0) {
            if (f.type == PROTO_SETUP)
                proto_link_send_message(&link, PROTO_READY, 0, ready, &ready);
            if (f.type != PROTO_EXEC)
                continue;
            proto_link_send_message(&link, PROTO_STARTED, f.session, started, &started);
            proto_link_send(&link, PROTO_DATA, PROTO_STDOUT, f.session, l->bytes, l->len);
            proto_link_send(&link, PROTO_END, PROTO_STDOUT, f.session, NULL, 0);
            proto_link_send(&link, PROTO_END, PROTO_STDERR, f.session, NULL, 0);
            proto_link_send_message(&link, PROTO_EXIT, f.session, exit, &over);
        }
    }
    _exit(0);
}

/* What a collection from this guest, of the one pattern "m", comes to. */
static int collect_from(const struct liar *l, struct job_artifact_result *result)
{
    static const struct job_artifact_word word = {"m", NULL};
    struct job_artifact_options how = {.cwd = "/", .limit_bytes = 1000, .cancel_fd = -1};
    struct job_artifact *list;
    struct guest_wait wait = soon();
    struct proto_hello hello;
    struct proto_ready ready;
    struct guest *g;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        play(fds[1], l);
    }
    close(fds[1]);
    assert_int_equal(guest_new(fds[0], &g, NULL), 0);
    assert_int_equal(guest_wait_hello(g, &wait, &hello, NULL), 0);
    assert_int_equal(guest_setup(g, &SETUP, &wait, &ready, NULL), 0);
    assert_int_equal(job_artifacts_parse(&word, 1, &list, NULL), 0);
    int r = job_artifacts_collect(g, list, 1, &how, not_cancelled, NULL, result, NULL);
    job_artifacts_free(list, 1);
    guest_free(g);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return r;
}

static void test_a_guest_that_lies_leaves_nothing(void **state)
{
    for (int fault = 0; fault < 9; fault++) {
        struct liar l = {.len = 0};
        struct job_artifact_result result;
        say(&l, PROTO_RECORD_MATCH, 0, 0, "m", "/m");
        if (fault < 7)
            say(&l, PROTO_RECORD_DIR, 0755, 0, "", "");
        if (fault == 0)
            say(&l, PROTO_RECORD_FILE, 0644, 0, "../escaped", "");
        if (fault == 1) /* a directory that never came */
            say(&l, PROTO_RECORD_FILE, 0644, 0, "none/file", "");
        if (fault == 2) { /* through a link of its own */
            say(&l, PROTO_RECORD_DIR, 0755, 0, "d", "");
            say(&l, PROTO_RECORD_LINK, 0, 0, "l", "d");
            say(&l, PROTO_RECORD_FILE, 0644, 0, "l/file", "");
        }
        if (fault == 3) { /* the same name twice */
            say(&l, PROTO_RECORD_FILE, 0644, 0, "a", "");
            say(&l, PROTO_RECORD_FILE, 0644, 0, "a", "");
        }
        if (fault == 4) /* a pattern that nobody asked for */
            say(&l, PROTO_RECORD_MATCH, 0, 1, "n", "/n");
        if (fault == 5) { /* a link in the place of a file */
            say(&l, PROTO_RECORD_LINK, 0, 0, "a", "b");
            say(&l, PROTO_RECORD_FILE, 0644, 0, "a", "");
        }
        if (fault == 6) /* cut: no DONE */
            say(&l, PROTO_RECORD_FILE, 0644, 0, "a", "");
        if (fault == 7) /* below a match that is no directory */
            say(&l, PROTO_RECORD_FILE, 0644, 0, "a", "");
        if (fault == 8) { /* two roots */
            say(&l, PROTO_RECORD_FILE, 0644, 0, "", "");
            say(&l, PROTO_RECORD_DIR, 0755, 0, "", "");
        }
        if (fault != 6)
            say(&l, PROTO_RECORD_DONE, 0, 0, "", "");
        int r = collect_from(&l, &result);
        if (r != (fault == 6 ? -EPIPE : -EPROTO))
            fail_msg("fault %d gave %d", fault, r);
        json_decref(result.rows);
        assert_names(".", 0);
        assert_int_equal(access("../escaped", F_OK), -1);
    }
}

#define WITH_BOTH(test) cmocka_unit_test_setup_teardown(test, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_BOTH(test_a_file_with_size_and_digest),
        WITH_BOTH(test_files_keep_the_time_of_their_change),
        WITH_BOTH(test_patterns_and_what_is_missing),
        WITH_BOTH(test_a_directory_with_all_sorts_of_things),
        WITH_BOTH(test_names_need_not_be_text),
        WITH_BOTH(test_a_link_that_is_named_is_followed),
        WITH_BOTH(test_a_limit_is_kept_and_nothing_is_half),
        WITH_BOTH(test_two_of_one_name),
        WITH_BOTH(test_a_large_file_is_the_same),
        WITH_BOTH(test_words),
        WITH_BOTH(test_a_guest_that_lies_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
