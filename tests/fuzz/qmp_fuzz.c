/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the client of QEMU's monitor protocol. The input is what the peer says: lines of JSON that are
 * mostly whole (greetings, answers with ids near the last one, errors, events), sometimes raw bytes,
 * cut into reads anywhere; between them commands are executed, with no time to wait. A second input
 * channel of QEMU's, the relay behind its serial port, is given the same bytes.
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/qmp.h"
#include "engine/relay.h"
#include "program.h"
#include "util/arith.h"

#define OPS_MAX 100

static void event(void *opaque, const char *name, const char *reason)
{
    /* Both are texts, to their ends. */
    size_t *sum = opaque;
    *sum += strlen(name) + strlen(reason);
}

static void say(struct input *in, int fd, int other)
{
    static const char *const lines[] = {
        "{\"QMP\":{\"version\":{}}}\r\n",
        "{\"return\":{},\"id\":1}\n",
        "{\"return\":{},\"id\":2}\r\n",
        "{\"id\":3,\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}\n",
        "{\"id\":1,\"error\":{}}\n",
        "{\"id\":1,\"error\":{\"desc\":7}}\n",
        "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\n",
        "{\"event\":\"STOP\"}\n",
        "{\"event\":[],\"data\":[]}\n",
        "{\"event\":\"X\",\"data\":{\"reason\":null}}\n",
        "{\"id\":{\"id\":1},\"return\":1}\n",
        "[[[[[[[[[[",
        "\n",
    };
    uint8_t how = u8(in);
    char bytes[256];
    size_t n;
    if (how < 200) {
        const char *line = lines[how % ARRAY_SIZE(lines)];
        n = strlen(line);
        memcpy(bytes, line, n);
        if (how & 64)
            bytes[u8(in) % n] = (char)u8(in);
        if (how & 128)
            n = u8(in) % n;
    } else {
        n = u8(in);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (char)u8(in);
    }
    send(fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    send(other, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    int pair[2], serial[2], output[2];
    size_t sum = 0;
    struct loop *loop = NULL;
    struct qmp *qmp = NULL;
    struct relay *relay = NULL;
    struct dayfly_err err;
    char sink[512];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, serial) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, output) == 0 &&
          loop_new(&loop) == 0);
    const struct qmp_options options = {.fd = pair[0], .loop = loop, .event = event, .opaque = &sum};
    const struct relay_options relayed = {
        .loop = loop, .socket = serial[0], .output_fd = output[0], .input_fd = output[0]};
    check(qmp_new(&qmp, &options, &err) == 0 && relay_new(&relay, &relayed, &err) == 0);
    for (unsigned i = 0; i < OPS_MAX && in.left > 0; i++) {
        uint8_t op = u8(&in);
        if (op < 200)
            say(&in, pair[1], serial[1]);
        else if (op < 230)
            qmp_execute(qmp, "stop", 0, &err);
        else if (op < 240)
            while (recv(output[1], sink, sizeof(sink), 0) > 0)
                ;
        else if (op == 250)
            shutdown(pair[1], SHUT_RDWR);
        else
            send(output[1], "typed", 5, MSG_NOSIGNAL);
        loop_run_once(loop, 0);
        while (recv(pair[1], sink, sizeof(sink), 0) > 0)
            ;
    }
    relay_free(relay);
    qmp_free(qmp);
    loop_free(loop);
    close(pair[1]);
    close(serial[1]);
    close(output[0]);
    close(output[1]);
    return 0;
}
