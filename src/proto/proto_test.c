/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/link.h"
#include "proto/message.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/testing.h"

static void test_header_rejects_what_cannot_be(void **state)
{
    (void)state;
    const struct {
        uint16_t type, stream;
        uint32_t session, len;
        int result;
    } cases[] = {
        {PROTO_HELLO, 0, 0, 30, 0},
        {PROTO_DATA, PROTO_STDERR, 7, PROTO_PAYLOAD_MAX, 0},
        {PROTO_DATA, PROTO_STDERR, 7, PROTO_PAYLOAD_MAX + 1, -EPROTO},
        {PROTO_DATA, PROTO_STREAMS, 7, 1, -EPROTO},
        {PROTO_DATA, 0, 0, 1, -EPROTO},  /* no session */
        {PROTO_HELLO, 0, 1, 1, -EPROTO}, /* a session where none belongs */
        {PROTO_SIGNAL, 1, 1, 1, -EPROTO},
        {0, 0, 0, 0, -EPROTO},
        {PROTO_TYPE_COUNT, 0, 0, 0, -EPROTO},
        {0xffff, 0xffff, 0xffffffff, 0xffffffff, -EPROTO},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t head[PROTO_HEADER_BYTES];
        struct proto_frame f;
        proto_put_header(head, cases[i].type, cases[i].stream, cases[i].session, cases[i].len);
        assert_int_equal(proto_get_header(head, &f), cases[i].result);
    }
}

static void test_header_is_little_endian(void **state)
{
    (void)state;
    uint8_t head[PROTO_HEADER_BYTES];
    const uint8_t want[] = {4, 3, 0, 0, PROTO_DATA, 0, 1, 0, 0x0d, 0x0c, 0x0b, 0x0a};
    proto_put_header(head, PROTO_DATA, PROTO_STDOUT, 0x0a0b0c0d, 0x304);
    assert_memory_equal(head, want, sizeof(want));
}

static struct proto_setup *some_setup(void)
{
    struct proto_setup *s = calloc(1, sizeof(*s));
    *s = (struct proto_setup){
        .root = {"root", "erofs", ""},
        .scratch = {"scratch", "ext4", "nobarrier"},
        .hostname = "box",
        .wall_ns = 1234567890123456789,
        .deadline_ns = 5000000000,
        .entropy_len = 48,
        .mount_count = 2,
        .mounts = {{{"cache0", "ext4", ""}, "/cache", 0},
                   {{"tools", "erofs", "noxattr"}, "/opt/tools", PROTO_MOUNT_READONLY}},
        .net_count = 2,
        .nets = {{.mac = {2, 0, 0, 0, 0, 1},
                  .mtu = 9000,
                  .address_count = 2,
                  .gateway_count = 1,
                  .addresses = {{4, 24, {10, 0, 2, 15}}, {6, 64, {0xfd, 0, [15] = 9}}},
                  .gateways = {{4, 0, {10, 0, 2, 2}}}},
                 {.mac = {2, 0, 0, 0, 0, 2}}},
        .server_count = 1,
        .servers = {{6, 0, {0xfe, 0x80, [15] = 3}}},
        .search = "example.org internal",
    };
    memset(s->entropy, 0xa5, 48);
    return s;
}

static void test_setup_comes_back_as_it_was(void **state)
{
    (void)state;
    uint8_t buf[4096];
    struct proto_setup *s = some_setup(), *back = calloc(1, sizeof(*back));
    ssize_t n = proto_setup_encode(s, buf, sizeof(buf));
    assert_true(n > 0);
    assert_int_equal(proto_setup_decode(back, buf, (size_t)n), 0);
    assert_memory_equal(s, back, sizeof(*s));
    /* Neither a byte less nor a byte more. */
    for (ssize_t cut = 0; cut < n; cut++)
        assert_int_equal(proto_setup_decode(back, buf, (size_t)cut), -EPROTO);
    assert_int_equal(proto_setup_decode(back, buf, (size_t)n + 1), -EPROTO);
    assert_int_equal(proto_setup_encode(s, buf, (size_t)n - 1), -EMSGSIZE);
    free(s);
    free(back);
}

static void test_setup_must_make_sense(void **state)
{
    (void)state;
    for (int fault = 0; fault < 11; fault++) {
        uint8_t buf[8192];
        struct proto_setup *s = some_setup(), *back = calloc(1, sizeof(*back));
        switch (fault) {
        case 0:
            s->root.serial[0] = '\0';
            break;
        case 1:
            s->hostname[0] = '\0';
            break;
        case 2:
            s->entropy_len = PROTO_ENTROPY_MIN - 1;
            break;
        case 3:
            s->mounts[1].path[0] = 'x';
            break;
        case 4:
            s->mounts[0].flags = 2;
            break;
        case 5:
            s->scratch.fstype[0] = '\0';
            break;
        case 6:
            s->nets[0].addresses[0].prefix = 33;
            break;
        case 7:
            s->nets[0].addresses[1].prefix = 129;
            break;
        case 8:
            s->nets[0].gateways[0].family = 5;
            break;
        case 9:
            s->nets[1].mtu = 65536;
            break;
        case 10:
            s->search[3] = '\n';
            break;
        }
        ssize_t n = proto_setup_encode(s, buf, sizeof(buf));
        assert_true(n > 0);
        assert_int_equal(proto_setup_decode(back, buf, (size_t)n), -EPROTO);
        free(s);
        free(back);
    }
}

static void test_exec_comes_back_as_it_was(void **state)
{
    (void)state;
    static struct proto_exec_strings strings;
    uint8_t buf[4096];
    const char *const argv[] = {"sh", "-c", "", "x y", NULL};
    const char *const env[] = {"A=", "B=c=d", NULL};
    struct proto_exec m = {PROTO_EXEC_TTY, 24, 80, 1, PROTO_WINDOW_MAX, "me", "/w", 4, 2, argv, env},
                      back;
    ssize_t n = proto_exec_encode(&m, buf, sizeof(buf));
    assert_true(n > 0);
    assert_int_equal(proto_exec_decode(&back, &strings, buf, (size_t)n), 0);
    assert_int_equal(back.argc, 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(back.argv[i], argv[i]);
    assert_null(back.argv[4]);
    assert_string_equal(back.env[1], "B=c=d");
    assert_null(back.env[2]);
    assert_string_equal(back.user, "me");
    assert_string_equal(back.cwd, "/w");
    assert_int_equal(back.cols, 80);
    for (ssize_t cut = 0; cut < n; cut++)
        assert_int_equal(proto_exec_decode(&back, &strings, buf, (size_t)cut), -EPROTO);
}

static void test_exec_must_make_sense(void **state)
{
    (void)state;
    static struct proto_exec_strings strings;
    const char *const argv[] = {"a", NULL}, *const good[] = {NULL};
    const char *const nameless[] = {"=x", NULL}, *const flat[] = {"x", NULL};
    const struct proto_exec cases[] = {
        {0, 0, 0, 1, 1, "", "", 0, 0, argv, good},                    /* no argv */
        {PROTO_EXEC_FLAGS + 1, 0, 0, 1, 1, "", "", 1, 0, argv, good}, /* unknown flag */
        {0, 0, 0, 0, 1, "", "", 1, 0, argv, good},                    /* no window */
        {0, 0, 0, 1, PROTO_WINDOW_MAX + 1, "", "", 1, 0, argv, good}, /* too large a window */
        {0, 0, 0, 1, 1, "", "relative", 1, 0, argv, good},            /* cwd */
        {0, 0, 0, 1, 1, "", "", 1, 1, argv, nameless},
        {0, 0, 0, 1, 1, "", "", 1, 1, argv, flat},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t buf[256];
        struct proto_exec back;
        ssize_t n = proto_exec_encode(&cases[i], buf, sizeof(buf));
        assert_true(n > 0);
        assert_int_equal(proto_exec_decode(&back, &strings, buf, (size_t)n), -EPROTO);
    }
}

static void test_secret_comes_back_or_is_refused(void **state)
{
    static uint8_t value[PROTO_SECRET_MAX], out[PROTO_PAYLOAD_MAX];
    struct proto_secret m = {
        .flags = PROTO_SECRET_ENV, .name = "TOKEN", .len = sizeof(value), .bytes = value};
    struct proto_secret back;
    (void)state;
    memset(value, 0xa5, sizeof(value));
    ssize_t n = proto_secret_encode(&m, out, sizeof(out));
    assert_true(n > 0);
    assert_int_equal(proto_secret_decode(&back, out, (size_t)n), 0);
    assert_string_equal(back.name, "TOKEN");
    assert_int_equal(back.flags, PROTO_SECRET_ENV);
    assert_int_equal(back.len, sizeof(value));
    assert_memory_equal(back.bytes, value, sizeof(value));
    assert_int_equal(proto_secret_decode(&back, out, (size_t)n - 1), -EPROTO);

    static const char *const names[] = {"", ".", "..", ".a", "a/b", "/a", "a=b"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        m = (struct proto_secret){.len = 1, .bytes = value};
        strcpy(m.name, names[i]);
        n = proto_secret_encode(&m, out, sizeof(out));
        assert_int_equal(proto_secret_decode(&back, out, (size_t)n), -EPROTO);
    }
    static const uint32_t flags[] = {PROTO_SECRET_ENV | PROTO_SECRET_TRUST, 4, UINT32_MAX};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        m = (struct proto_secret){.flags = flags[i], .name = "a"};
        n = proto_secret_encode(&m, out, sizeof(out));
        assert_int_equal(proto_secret_decode(&back, out, (size_t)n), -EPROTO);
    }
}

static bool has(const struct proto_link *l, const char *word)
{
    return memmem(l->rx.buf, 2 * PROTO_LINK_BYTES, word, strlen(word)) != NULL;
}

/* What is still to be taken or sent stays. */
static void test_wiped_link_has_nothing_of_what_went_through(void **state)
{
    struct proto_link a, b;
    struct proto_frame f;
    int fds[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(proto_link_init(&a, fds[0]), 0);
    assert_int_equal(proto_link_init(&b, fds[1]), 0);
    memset(a.rx.buf, 0, 2 * PROTO_LINK_BYTES);
    memset(b.rx.buf, 0, 2 * PROTO_LINK_BYTES);
    assert_int_equal(proto_link_send(&a, PROTO_SECRET, 0, 0, "first-secret", 12), 0);
    assert_int_equal(proto_link_send(&a, PROTO_SECRET, 0, 0, "second-secret", 13), 0);
    assert_int_equal(proto_link_flush(&a), 0);
    assert_true(has(&a, "first-secret"));
    proto_link_wipe(&a);
    assert_false(has(&a, "secret"));
    assert_true(proto_link_fill(&b) > 0);
    assert_int_equal(proto_link_next(&b, &f), 1);
    proto_link_wipe(&b);
    assert_false(has(&b, "first-secret"));
    assert_int_equal(proto_link_next(&b, &f), 1);
    assert_memory_equal(f.payload, "second-secret", 13);
    proto_link_wipe(&b);
    assert_false(has(&b, "secret"));
    proto_link_finish(&a);
    proto_link_finish(&b);
    close(fds[0]);
    close(fds[1]);
}

static void test_link_carries_frames_in_pieces(void **state)
{
    (void)state;
    int fds[2];
    struct proto_link in;
    struct proto_frame f;
    uint8_t frame[PROTO_HEADER_BYTES + 3];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(proto_link_init(&in, fds[0]), 0);
    proto_put_header(frame, PROTO_DATA, PROTO_STDIN, 9, 3);
    memcpy(frame + PROTO_HEADER_BYTES, "abc", 3);
    for (size_t i = 0; i < sizeof(frame); i++) {
        assert_int_equal(proto_link_next(&in, &f), 0);
        assert_int_equal(proto_link_fill(&in), -EAGAIN);
        assert_int_equal(write(fds[1], frame + i, 1), 1);
        assert_int_equal(proto_link_fill(&in), 1);
    }
    assert_int_equal(proto_link_next(&in, &f), 1);
    assert_int_equal(f.len, 3);
    assert_memory_equal(f.payload, "abc", 3);
    assert_int_equal(proto_link_next(&in, &f), 0);
    memset(frame, 0xff, sizeof(frame));
    assert_int_equal(write(fds[1], frame, sizeof(frame)), sizeof(frame));
    assert_true(proto_link_fill(&in) > 0);
    assert_int_equal(proto_link_next(&in, &f), -EPROTO);
    close(fds[1]);
    assert_int_equal(proto_link_fill(&in), 0);
    proto_link_finish(&in);
    close(fds[0]);
}

static void test_link_never_takes_more_than_it_has_room_for(void **state)
{
    (void)state;
    int fds[2];
    struct proto_link out, in;
    struct proto_frame f;
    size_t sent = 0, got = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(proto_link_init(&out, fds[0]), 0);
    assert_int_equal(proto_link_init(&in, fds[1]), 0);
    /* Fill the socket and the buffer: the peer does not read. */
    for (;;) {
        size_t room = proto_link_room(&out, true);
        if (!room && proto_link_flush(&out) == -EAGAIN && !proto_link_room(&out, true))
            break;
        room = proto_link_room(&out, true);
        memset(proto_link_payload(&out), (int)sent & 0xff, room);
        proto_link_commit(&out, PROTO_DATA, PROTO_STDOUT, 1, room);
        sent++;
    }
    /* A control message still fits; the reserve is finite. */
    struct proto_signal sig = {15};
    size_t signals = 0;
    while (proto_link_send_message(&out, PROTO_SIGNAL, 1, signal, &sig) == 0)
        signals++;
    assert_true(signals > 100 && signals < PROTO_LINK_RESERVE);
    while (got < sent + signals) {
        int r = proto_link_flush(&out);
        assert_true(r == 0 || r == -EAGAIN);
        assert_true(proto_link_fill(&in) > 0);
        while (proto_link_next(&in, &f) == 1) {
            assert_int_equal(f.type, got < sent ? PROTO_DATA : PROTO_SIGNAL);
            if (f.type == PROTO_DATA)
                assert_int_equal(f.payload[0], got & 0xff);
            got++;
        }
    }
    assert_int_equal(proto_link_flush(&out), 0);
    proto_link_finish(&out);
    proto_link_finish(&in);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_rejects_what_cannot_be),
        cmocka_unit_test(test_header_is_little_endian),
        cmocka_unit_test(test_setup_comes_back_as_it_was),
        cmocka_unit_test(test_setup_must_make_sense),
        cmocka_unit_test(test_exec_comes_back_as_it_was),
        cmocka_unit_test(test_exec_must_make_sense),
        cmocka_unit_test(test_secret_comes_back_or_is_refused),
        cmocka_unit_test(test_wiped_link_has_nothing_of_what_went_through),
        cmocka_unit_test(test_link_carries_frames_in_pieces),
        cmocka_unit_test(test_link_never_takes_more_than_it_has_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
