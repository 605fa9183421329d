/* SPDX-License-Identifier: Apache-2.0 */
/* The stream of artifacts: what is read back, in whatever pieces, and what nobody may send. */
#include "proto/record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/wire.h"
#include "util/arith.h"
#include "util/testing.h"

struct stream {
    uint8_t bytes[16384];
    size_t len;
};

static void put(struct stream *s, const void *bytes, size_t len)
{
    assert_true(len <= sizeof(s->bytes) - s->len);
    memcpy(s->bytes + s->len, bytes, len);
    s->len += len;
}

static void put_record(struct stream *s, uint16_t kind, uint16_t mode, const char *name,
                       const char *text)
{
    uint8_t head[PROTO_RECORD_BYTES];
    proto_record_put(head, &(struct proto_record){.kind = kind, .mode = mode, .pattern = 7},
                     strlen(name), strlen(text));
    put(s, head, sizeof(head));
    put(s, name, strlen(name));
    put(s, text, strlen(text));
}

static void put_number(struct stream *s, uint32_t number)
{
    uint8_t bytes[4];
    wire_store32(bytes, number);
    put(s, bytes, 4);
}

/* What was read, in words. */
struct heard {
    char text[4096];
    size_t len;
};

static int hear_record(void *opaque, const struct proto_record *r)
{
    struct heard *h = opaque;
    assert_int_equal(r->pattern, 7);
    h->len += (size_t)snprintf(h->text + h->len, sizeof(h->text) - h->len, "%u(%o %s %s)", r->kind,
                               r->mode, r->name, r->text);
    return 0;
}

static int hear_data(void *opaque, const uint8_t *bytes, size_t len)
{
    struct heard *h = opaque;
    h->len += (size_t)snprintf(h->text + h->len, sizeof(h->text) - h->len, "%.*s", (int)len, bytes);
    return 0;
}

static int hear_end(void *opaque, uint32_t code)
{
    struct heard *h = opaque;
    h->len += (size_t)snprintf(h->text + h->len, sizeof(h->text) - h->len, "<%u>", code);
    return 0;
}

static const struct proto_record_ops ops = {hear_record, hear_data, hear_end};

static int read_in_pieces(const struct stream *s, size_t piece, struct heard *heard)
{
    static struct proto_record_reader reader;
    memset(&reader, 0, sizeof(reader));
    *heard = (struct heard){.len = 0};
    for (size_t at = 0; at < s->len; at += piece) {
        int r = proto_record_take(&reader, &ops, heard, s->bytes + at, MIN(piece, s->len - at));
        if (r < 0)
            return r;
    }
    return reader.done;
}

static void test_any_pieces_give_the_same(void **state)
{
    static struct stream s;
    struct heard heard;
    s.len = 0;
    put_record(&s, PROTO_RECORD_MATCH, 0, "dist", "/src/dist");
    put_record(&s, PROTO_RECORD_DIR, 0755, "", "");
    put_record(&s, PROTO_RECORD_FILE, 0644, "a", "");
    put_number(&s, 5);
    put(&s, "hello", 5);
    put_number(&s, 3);
    put(&s, "you", 3);
    put_number(&s, 0);
    put_number(&s, 0);
    put_record(&s, PROTO_RECORD_FILE, 0600, "empty", "");
    put_number(&s, 0);
    put_number(&s, EIO);
    put_record(&s, PROTO_RECORD_LINK, 0, "l", "a");
    put_record(&s, PROTO_RECORD_NOTE, 0, "/src/dist/s", "a socket");
    put_record(&s, PROTO_RECORD_MISSING, 0, "", "");
    put_record(&s, PROTO_RECORD_DONE, 0, "", "");
    for (size_t piece = 1; piece <= s.len; piece++) {
        assert_int_equal(read_in_pieces(&s, piece, &heard), 1);
        assert_string_equal(heard.text,
                            "1(0 dist /src/dist)2(755  )3(644 a )helloyou<0>3(600 empty )<5>"
                            "4(0 l a)5(0 /src/dist/s a socket)6(0  )7(0  )");
    }
    /* Cut anywhere, it is not done. */
    for (size_t len = s.len - 1; len > 0; len--) {
        s.len = len;
        assert_int_equal(read_in_pieces(&s, len, &heard), 0);
    }
}

static void test_what_no_agent_sends(void **state)
{
    static const struct {
        uint16_t kind, mode;
        const char *name, *text;
    } cases[] = {
        {0, 0, "", ""},
        {PROTO_RECORD_KINDS, 0, "", ""},
        {PROTO_RECORD_MATCH, 0, "", "/a"},
        {PROTO_RECORD_MATCH, 0, "a/b", "/a/b"},
        {PROTO_RECORD_MATCH, 0, "..", "/a"},
        {PROTO_RECORD_MATCH, 0, "a", ""},
        {PROTO_RECORD_FILE, 01644, "a", ""},
        {PROTO_RECORD_FILE, 04755, "a", ""},
        {PROTO_RECORD_FILE, 0644, "/a", ""},
        {PROTO_RECORD_FILE, 0644, "../a", ""},
        {PROTO_RECORD_FILE, 0644, "a/../../b", ""},
        {PROTO_RECORD_FILE, 0644, "a//b", ""},
        {PROTO_RECORD_FILE, 0644, "a/", ""},
        {PROTO_RECORD_FILE, 0644, "./a", ""},
        {PROTO_RECORD_DIR, 0755, "a", "text"},
        {PROTO_RECORD_DIR, 0755, "a", "1.000000000"},
        {PROTO_RECORD_FILE, 0644, "a", "text"},
        {PROTO_RECORD_FILE, 0644, "a", "1"},
        {PROTO_RECORD_FILE, 0644, "a", "1.5"},
        {PROTO_RECORD_FILE, 0644, "a", "01.000000000"},
        {PROTO_RECORD_FILE, 0644, "a", "+1.000000000"},
        {PROTO_RECORD_FILE, 0644, "a", " 1.000000000"},
        {PROTO_RECORD_FILE, 0644, "a", "-1.000000000"},
        {PROTO_RECORD_FILE, 0644, "a", "1.-00000001"},
        {PROTO_RECORD_FILE, 0644, "a", "1.0000000001"},
        {PROTO_RECORD_FILE, 0644, "a", "1.1000000000"},
        {PROTO_RECORD_FILE, 0644, "a", "1.9223372036854775808"},
        {PROTO_RECORD_FILE, 0644, "a", "1.000000000 "},
        {PROTO_RECORD_FILE, 0644, "a", "253402300800.000000000"},
        {PROTO_RECORD_FILE, 0644, "a", "9223372036854775808.000000000"},
        {PROTO_RECORD_LINK, 0, "", "a"},
        {PROTO_RECORD_LINK, 0, "l", "/etc"},
        {PROTO_RECORD_LINK, 0, "l", ".."},
        {PROTO_RECORD_LINK, 0, "l", ""},
        {PROTO_RECORD_NOTE, 0, "", "why"},
        {PROTO_RECORD_DONE, 0, "a", ""},
    };
    struct heard heard;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        static struct stream s;
        s.len = 0;
        put_record(&s, PROTO_RECORD_MATCH, 0, "m", "/m");
        put_record(&s, PROTO_RECORD_DIR, 0755, "", "");
        put_record(&s, cases[i].kind, cases[i].mode, cases[i].name, cases[i].text);
        if (read_in_pieces(&s, s.len, &heard) != -EPROTO)
            fail_msg("case %zu was taken: %s", i, heard.text);
    }

    static struct stream s;
    s.len = 0; /* no match before it */
    put_record(&s, PROTO_RECORD_FILE, 0644, "a", "");
    assert_int_equal(read_in_pieces(&s, s.len, &heard), -EPROTO);
    s.len = 0; /* something behind the end */
    put_record(&s, PROTO_RECORD_DONE, 0, "", "");
    put(&s, "x", 1);
    assert_int_equal(read_in_pieces(&s, s.len, &heard), -EPROTO);
    s.len = 0; /* a NUL in a name */
    put_record(&s, PROTO_RECORD_MATCH, 0, "match", "/m");
    s.bytes[PROTO_RECORD_BYTES + 2] = '\0';
    assert_int_equal(read_in_pieces(&s, s.len, &heard), -EPROTO);
    s.len = 0; /* a name that is too long */
    put_record(&s, PROTO_RECORD_MATCH, 0, "match", "/m");
    wire_store32(s.bytes + 8, PROTO_RECORD_NAME_MAX + 1);
    assert_int_equal(read_in_pieces(&s, s.len, &heard), -EPROTO);
    s.len = 0; /* a piece that is too large */
    put_record(&s, PROTO_RECORD_MATCH, 0, "match", "/m");
    put_record(&s, PROTO_RECORD_FILE, 0644, "", "");
    put_number(&s, PROTO_PIECE_MAX + 1);
    assert_int_equal(read_in_pieces(&s, s.len, &heard), -EPROTO);
    s.len = 0; /* deeper than allowed */
    put_record(&s, PROTO_RECORD_MATCH, 0, "match", "/m");
    char deep[2 * (PROTO_RECORD_DEPTH + 1)] = "a";
    for (int i = 0; i < PROTO_RECORD_DEPTH; i++)
        strcat(deep, "/a");
    put_record(&s, PROTO_RECORD_DIR, 0755, deep, "");
    assert_int_equal(read_in_pieces(&s, s.len, &heard), -EPROTO);
}

static void test_times(void **state)
{
    static const struct {
        struct timespec time;
        const char *text;
    } cases[] = {
        {{0, 0}, "0.000000000"},
        {{1000000000, 999999999}, "1000000000.999999999"},
        {{253402300799, 1}, "253402300799.000000001"},
        {{253402300800, 0}, ""},
        {{-1, 5}, ""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[PROTO_RECORD_TIME_BYTES];
        struct timespec time;
        proto_record_time_put(text, &cases[i].time);
        assert_string_equal(text, cases[i].text);
        assert_true(proto_record_time_take(text, &time));
        assert_int_equal(time.tv_sec, *text ? cases[i].time.tv_sec : -1);
        assert_int_equal(time.tv_nsec, *text ? cases[i].time.tv_nsec : 0);
    }
}

static void test_links_that_stay(void **state)
{
    static const struct {
        const char *name, *target;
        bool stays;
    } cases[] = {
        {"l", "a", true},
        {"l", "a/b/c", true},
        {"l", "..", false},
        {"l", "../a", false},
        {"l", "/a", false},
        {"l", "a/..", false}, /* a may be a link to the match itself */
        {"l", "a/../b", false},
        {"l", ".", false},
        {"l", "", false},
        {"d/l", "..", true},
        {"d/l", "../a", true},
        {"d/l", "../..", false},
        {"d/l", "../../a", false},
        {"d/e/l", "../..", true},
        {"d/e/l", "../../a", true},
        {"d/e/l", "../../../a", false},
        {"d/e/l", "../d/../../a", false},
        {"d/e/l", "..a", true},
        {"d/e/l", "../", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (proto_record_link_stays(cases[i].name, cases[i].target) != cases[i].stays)
            fail_msg("%s -> %s", cases[i].name, cases[i].target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_pieces_give_the_same),
        cmocka_unit_test(test_what_no_agent_sends),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_links_that_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
