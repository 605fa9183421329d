/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both sides of an exchange. The first byte says whether there is TLS, whether the secret may go
 * without, and whether the server breaks off where it ends; then come pieces: a byte whose lowest bit
 * is the side, and whose others are the length, and as many bytes. A side that says nothing has ended.
 *
 * Whatever comes: the value never reaches the client, and never a server that is not its host.
 */
#include <assert.h>
#include <stdlib.h>

#include "border/exchange.h"
#include "util/arith.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The corpus has both, so that a server can say the value. */
static const char placeholder[] = "dayfly-secret-00112233445566778899aabbccddeeff";
static const char value[] = "qhunter2-qhunter3";

struct world {
    struct swap swap;
    const struct echo *echoes[SWAP_HOSTS_MAX];
    struct exchange_options options;
    struct exchange x;
    uint8_t client[1 << 18];
    size_t client_len;
    bool says_value; /* the input can have it, or make it of pieces */
    bool other_host; /* one that may say what it likes was spoken to */
};

static void take_event(void *opaque, enum exchange_event event, int host, const char *why)
{
    (void)opaque;
    assert(event < EXCHANGE_EVENTS && host >= -1 && host < 2);
    assert((event == EXCHANGE_REFUSED || event == EXCHANGE_FAILED) == (why != NULL));
}

static void settle(struct world *w)
{
    struct exchange *x = &w->x;
    for (bool moved = true; moved;) {
        exchange_run(x);
        w->other_host |= x->host == 1;
        struct buffer *out = &x->client_out;
        size_t n = MIN(buffer_len(out), sizeof(w->client) - w->client_len);
        memcpy(w->client + w->client_len, buffer_data(out), n);
        w->client_len += n;
        moved = buffer_len(out) > 0;
        buffer_clear(out);
        if (x->drop_server) {
            exchange_dropped(x);
            moved = true;
        }
        if (x->state == EXCHANGE_BUSY && !x->connected)
            x->connected = moved = true;
        if (x->connected && buffer_len(&x->server_out)) {
            if (x->host != 0 && !w->says_value)
                assert(!memmem(buffer_data(&x->server_out), buffer_len(&x->server_out), value,
                               sizeof(value) - 1));
            buffer_clear(&x->server_out);
            moved = true;
        }
    }
}

static void feed(struct world *w, struct buffer *to, const uint8_t *bytes, size_t len)
{
    while (len && w->x.state < EXCHANGE_ENDS) {
        size_t n = MIN(len, buffer_room(to));
        if (!n)
            return;
        buffer_put(to, bytes, n);
        bytes += n;
        len -= n;
        settle(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct world *w = calloc(1, sizeof(*w));
    struct swap_secret *s = &w->swap.secrets[0];
    w->swap.secret_count = 1;
    w->swap.host_count = 2;
    strcpy(w->swap.hosts[0], "a.example");
    strcpy(w->swap.hosts[1], "b.example");
    memcpy(s->placeholder, placeholder, sizeof(placeholder));
    s->hosts = 1;
    s->allow_http = data[0] & 2;
    s->value_len = sizeof(value) - 1;
    memcpy(s->value, value, s->value_len);
    void *memory = calloc(1, echo_bytes(&w->swap));
    echo_make(&w->swap, memory, w->echoes);
    w->options = (struct exchange_options){
        .swap = &w->swap, .echoes = w->echoes, .event = take_event, .opaque = w};
    w->says_value = memchr(data, 'q', size) != NULL;
    exchange_begin(&w->x, &w->options, data[0] & 1 ? 0 : -1);
    for (size_t at = 1; at < size && w->x.state < EXCHANGE_ENDS;) {
        bool server = data[at] & 1;
        size_t len = MIN((size_t)(data[at] >> 1), size - at - 1);
        at++;
        if (server && !len && w->x.connected)
            exchange_server_ended(&w->x, !(data[0] & 4));
        else if (!server && !len)
            exchange_client_ended(&w->x);
        else if (!server || w->x.connected)
            feed(w, server ? &w->x.server_in : &w->x.client_in, data + at, len);
        settle(w);
        at += len;
    }
    assert(w->other_host || !memmem(w->client, w->client_len, value, sizeof(value) - 1));
    free(memory);
    free(w);
    return 0;
}
