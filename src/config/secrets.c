/* SPDX-License-Identifier: Apache-2.0 */
/* All of it lies in one piece, which is laid out twice: to learn its size, and to fill it. */
#include "config/secrets.h"

#include <errno.h>
#include <string.h>

#include "util/arith.h"
#include "util/options.h"
#include "util/secret.h"

struct whole {
    struct secret memory;
    struct config_secrets secrets;
    struct border_secret all[];
};

/* Bytes at the end of what is there; without memory they are only counted. */
struct layout {
    uint8_t *memory;
    size_t used;
};

static void *put(struct layout *l, const void *from, size_t bytes)
{
    void *to = l->memory ? l->memory + l->used : NULL;
    if (to && bytes)
        memcpy(to, from, bytes);
    l->used += align_up(bytes, sizeof(void *));
    return to;
}

static void put_hosts(struct layout *l, const char *const *hosts, struct border_secret *out)
{
    const char *names[BORDER_HOSTS_MAX + 1];
    while (hosts && hosts[out->host_count] && out->host_count < ARRAY_SIZE(names)) {
        names[out->host_count] = put(l, hosts[out->host_count], strlen(hosts[out->host_count]) + 1);
        out->host_count++;
    }
    out->hosts = put(l, names, out->host_count * sizeof(*names));
}

static int put_secret(struct layout *l, const struct dayfly_net_secret *from, struct border_secret *out)
{
    struct dayfly_net_secret given = DAYFLY_NET_SECRET_INIT;
    int r = options_take(&given, sizeof(given), FIRST_BYTES(struct dayfly_net_secret, no_query), from);
    if (r < 0)
        return r;
    const char *name = given.name ? given.name : "";
    *out = (struct border_secret){.allow_http = given.allow_http, .no_query = given.no_query};
    out->name = put(l, name, strlen(name) + 1);
    out->value_bytes = given.value ? MIN(given.value_bytes, (size_t)BORDER_VALUE_MAX + 1) : 0;
    out->value = put(l, given.value, out->value_bytes);
    put_hosts(l, given.hosts, out);
    return 0;
}

static int put_all(struct layout *l, const struct dayfly_net_secret *given, size_t count,
                   struct border_secret *out)
{
    const char *at = (const char *)given;
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++, at += given->size)
        r = put_secret(l, (const struct dayfly_net_secret *)(const void *)at, &out[i]);
    return r;
}

int config_secrets_copy(struct config_secrets **out, const struct dayfly_net_secret *given,
                        size_t count)
{
    struct border_secret all[BORDER_SECRETS_MAX + 1];
    struct layout layout = {0};
    struct secret memory;
    *out = NULL;
    count = given ? MIN(count, ARRAY_SIZE(all)) : 0;
    if (!count)
        return 0;
    size_t head = sizeof(struct whole) + count * sizeof(*all);
    int r = put_all(&layout, given, count, all);
    if (r == 0)
        r = secret_new(&memory, head + layout.used, NULL, NULL);
    if (r < 0)
        return r;
    struct whole *whole = memory.bytes;
    whole->memory = memory;
    layout = (struct layout){.memory = (uint8_t *)memory.bytes + head};
    put_all(&layout, given, count, whole->all);
    whole->secrets = (struct config_secrets){.count = count, .all = whole->all};
    *out = &whole->secrets;
    return 0;
}

void config_secrets_free(struct config_secrets *secrets)
{
    if (!secrets)
        return;
    struct secret memory = container_of(secrets, struct whole, secrets)->memory;
    secret_finish(&memory);
}
