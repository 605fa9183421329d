/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/message.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/proto.h"
#include "proto/wire.h"
#include "util/arith.h"

#define SIGNAL_MAX 64

static const char *const STEPS[] = {
    [PROTO_STEP_RESOURCES] = "resources",   [PROTO_STEP_USER] = "user",
    [PROTO_STEP_CWD] = "working directory", [PROTO_STEP_COMMAND] = "command",
    [PROTO_STEP_SECRETS] = "secret",
};
static_assert(ARRAY_SIZE(STEPS) == PROTO_STEP_COUNT, "a name for each step");

const char *proto_step_name(unsigned step)
{
    return step < PROTO_STEP_COUNT ? STEPS[step] : "?";
}

static struct wire_out writer(uint8_t *out, size_t cap)
{
    return (struct wire_out){.p = out, .cap = MIN(cap, PROTO_PAYLOAD_MAX)};
}

static ssize_t written(const struct wire_out *w)
{
    return w->bad ? -EMSGSIZE : (ssize_t)w->len;
}

static struct wire_in reader(const uint8_t *in, size_t len)
{
    return (struct wire_in){.p = in, .left = len};
}

static int verdict(const struct wire_in *r, int valid)
{
    return wire_in_done(r) && valid ? 0 : -EPROTO;
}

ssize_t proto_hello_encode(const struct proto_hello *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->version);
    wire_put32(&w, m->pid);
    wire_put64(&w, m->start_ns);
    wire_put64(&w, m->age_ns);
    wire_put_string(&w, m->release);
    return written(&w);
}

int proto_hello_decode(struct proto_hello *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->version = wire_get32(&r);
    m->pid = wire_get32(&r);
    m->start_ns = wire_get64(&r);
    m->age_ns = wire_get64(&r);
    wire_copy_string(&r, m->release, sizeof(m->release));
    return verdict(&r, 1);
}

static void put_disk(struct wire_out *w, const struct proto_disk *d)
{
    wire_put_string(w, d->serial);
    wire_put_string(w, d->fstype);
    wire_put_string(w, d->options);
}

static void get_disk(struct wire_in *r, struct proto_disk *d)
{
    wire_copy_string(r, d->serial, sizeof(d->serial));
    wire_copy_string(r, d->fstype, sizeof(d->fstype));
    wire_copy_string(r, d->options, sizeof(d->options));
}

static void put_addresses(struct wire_out *w, const struct proto_address *list, uint32_t count,
                          uint32_t max)
{
    wire_put32(w, count);
    if (count > max)
        w->bad = true;
    for (uint32_t i = 0; i < count && !w->bad; i++) {
        size_t bytes = list[i].family == 4 ? 4 : 16;
        wire_put16(w, list[i].family);
        wire_put16(w, list[i].prefix);
        uint8_t *room = wire_room(w, bytes);
        if (room)
            memcpy(room, list[i].bytes, bytes);
    }
}

/* Returns the count, or max + 1 for what cannot be. */
static uint32_t get_addresses(struct wire_in *r, struct proto_address *list, uint32_t max)
{
    uint32_t count = wire_get32(r);
    for (uint32_t i = 0; i < count && count <= max; i++) {
        struct proto_address *a = &list[i];
        a->family = wire_get16(r);
        a->prefix = wire_get16(r);
        size_t bytes = a->family == 4 ? 4 : 16;
        const uint8_t *from = wire_take(r, bytes);
        if (!from || (a->family != 4 && a->family != 6) || a->prefix > 8 * bytes)
            return max + 1;
        memcpy(a->bytes, from, bytes);
    }
    return count;
}

static void put_net(struct wire_out *w, const struct proto_net *n)
{
    uint8_t *mac = wire_room(w, sizeof(n->mac));
    if (mac)
        memcpy(mac, n->mac, sizeof(n->mac));
    wire_put32(w, n->mtu);
    put_addresses(w, n->addresses, n->address_count, PROTO_ADDRESSES_MAX);
    put_addresses(w, n->gateways, n->gateway_count, ARRAY_SIZE(n->gateways));
}

static bool get_net(struct wire_in *r, struct proto_net *n)
{
    const uint8_t *mac = wire_take(r, sizeof(n->mac));
    if (!mac)
        return false;
    memcpy(n->mac, mac, sizeof(n->mac));
    n->mtu = wire_get32(r);
    n->address_count = get_addresses(r, n->addresses, PROTO_ADDRESSES_MAX);
    if (n->address_count > PROTO_ADDRESSES_MAX)
        return false;
    n->gateway_count = get_addresses(r, n->gateways, ARRAY_SIZE(n->gateways));
    return n->gateway_count <= ARRAY_SIZE(n->gateways) && n->mtu <= UINT16_MAX;
}

static void put_networks(struct wire_out *w, const struct proto_setup *m)
{
    wire_put32(w, m->net_count);
    if (m->net_count > PROTO_NETS_MAX)
        w->bad = true;
    for (uint32_t i = 0; i < m->net_count && !w->bad; i++)
        put_net(w, &m->nets[i]);
    put_addresses(w, m->servers, m->server_count, PROTO_SERVERS_MAX);
    wire_put_string(w, m->search);
}

static bool get_networks(struct wire_in *r, struct proto_setup *m)
{
    m->net_count = wire_get32(r);
    if (m->net_count > PROTO_NETS_MAX)
        return false;
    for (uint32_t i = 0; i < m->net_count; i++)
        if (!get_net(r, &m->nets[i]))
            return false;
    m->server_count = get_addresses(r, m->servers, PROTO_SERVERS_MAX);
    if (m->server_count > PROTO_SERVERS_MAX)
        return false;
    wire_copy_string(r, m->search, sizeof(m->search));
    return !strpbrk(m->search, "\n\r");
}

ssize_t proto_setup_encode(const struct proto_setup *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    if (m->entropy_len > sizeof(m->entropy) || m->mount_count > PROTO_MOUNTS_MAX)
        return -EMSGSIZE;
    put_disk(&w, &m->root);
    put_disk(&w, &m->scratch);
    wire_put_string(&w, m->hostname);
    wire_put64(&w, m->wall_ns);
    wire_put64(&w, m->deadline_ns);
    wire_put32(&w, m->entropy_len);
    uint8_t *entropy = wire_room(&w, m->entropy_len);
    if (entropy)
        memcpy(entropy, m->entropy, m->entropy_len);
    wire_put32(&w, m->mount_count);
    for (uint32_t i = 0; i < m->mount_count; i++) {
        put_disk(&w, &m->mounts[i].disk);
        wire_put_string(&w, m->mounts[i].path);
        wire_put32(&w, m->mounts[i].flags);
    }
    put_networks(&w, m);
    return written(&w);
}

int proto_setup_decode(struct proto_setup *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    memset(m, 0, sizeof(*m));
    get_disk(&r, &m->root);
    get_disk(&r, &m->scratch);
    wire_copy_string(&r, m->hostname, sizeof(m->hostname));
    m->wall_ns = wire_get64(&r);
    m->deadline_ns = wire_get64(&r);
    m->entropy_len = wire_get32(&r);
    if (m->entropy_len < PROTO_ENTROPY_MIN || m->entropy_len > PROTO_ENTROPY_MAX)
        return -EPROTO;
    const uint8_t *entropy = wire_take(&r, m->entropy_len);
    if (!entropy)
        return -EPROTO;
    memcpy(m->entropy, entropy, m->entropy_len);
    m->mount_count = wire_get32(&r);
    if (m->mount_count > PROTO_MOUNTS_MAX)
        return -EPROTO;
    int valid = m->hostname[0] && !m->root.serial[0] == !m->root.fstype[0] &&
                !m->scratch.serial[0] == !m->scratch.fstype[0];
    for (uint32_t i = 0; i < m->mount_count; i++) {
        struct proto_mount *mount = &m->mounts[i];
        get_disk(&r, &mount->disk);
        wire_copy_string(&r, mount->path, sizeof(mount->path));
        mount->flags = wire_get32(&r);
        valid = valid && mount->disk.serial[0] && mount->disk.fstype[0] && mount->path[0] == '/' &&
                !(mount->flags & ~PROTO_MOUNT_READONLY);
    }
    valid = get_networks(&r, m) && valid;
    return verdict(&r, valid);
}

ssize_t proto_ready_encode(const struct proto_ready *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put64(&w, m->age_ns);
    wire_put64(&w, m->modules_ns);
    wire_put64(&w, m->setup_ns);
    return written(&w);
}

int proto_ready_decode(struct proto_ready *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->age_ns = wire_get64(&r);
    m->modules_ns = wire_get64(&r);
    m->setup_ns = wire_get64(&r);
    return verdict(&r, 1);
}

ssize_t proto_fail_encode(const struct proto_fail *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->code);
    wire_put_string(&w, m->text);
    return written(&w);
}

int proto_fail_decode(struct proto_fail *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->code = wire_get32(&r);
    wire_copy_string(&r, m->text, sizeof(m->text));
    return verdict(&r, 1);
}

ssize_t proto_exec_encode(const struct proto_exec *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    if (m->argc > PROTO_STRINGS_MAX || m->envc > PROTO_STRINGS_MAX - m->argc)
        return -EMSGSIZE;
    wire_put32(&w, m->flags);
    wire_put16(&w, m->rows);
    wire_put16(&w, m->cols);
    wire_put32(&w, m->stdout_window);
    wire_put32(&w, m->stderr_window);
    wire_put_string(&w, m->user);
    wire_put_string(&w, m->cwd);
    wire_put32(&w, m->argc);
    wire_put32(&w, m->envc);
    for (uint32_t i = 0; i < m->argc; i++)
        wire_put_string(&w, m->argv[i]);
    for (uint32_t i = 0; i < m->envc; i++)
        wire_put_string(&w, m->env[i]);
    return written(&w);
}

static int window_valid(uint32_t bytes)
{
    return bytes >= 1 && bytes <= PROTO_WINDOW_MAX;
}

int proto_exec_decode(struct proto_exec *m, struct proto_exec_strings *strings, const uint8_t *in,
                      size_t len)
{
    struct wire_in r = reader(in, len);
    m->flags = wire_get32(&r);
    m->rows = wire_get16(&r);
    m->cols = wire_get16(&r);
    m->stdout_window = wire_get32(&r);
    m->stderr_window = wire_get32(&r);
    m->user = wire_get_string(&r);
    m->cwd = wire_get_string(&r);
    m->argc = wire_get32(&r);
    m->envc = wire_get32(&r);
    if (m->argc < 1 || m->argc > PROTO_STRINGS_MAX || m->envc > PROTO_STRINGS_MAX - m->argc)
        return -EPROTO;
    const char **at = strings->at;
    m->argv = at;
    for (uint32_t i = 0; i < m->argc; i++)
        *at++ = wire_get_string(&r);
    *at++ = NULL;
    m->env = at;
    int valid = !(m->flags & ~PROTO_EXEC_FLAGS) && window_valid(m->stdout_window) &&
                window_valid(m->stderr_window) && strlen(m->user) < PROTO_USER_BYTES &&
                (!m->cwd[0] || m->cwd[0] == '/');
    for (uint32_t i = 0; i < m->envc; i++) {
        *at = wire_get_string(&r);
        const char *equals = strchr(*at++, '=');
        valid = valid && equals && equals != at[-1];
    }
    *at = NULL;
    return verdict(&r, valid);
}

static int secret_name_valid(const char *name)
{
    return name[0] && name[0] != '.' && !strchr(name, '/') && !strchr(name, '=');
}

ssize_t proto_secret_encode(const struct proto_secret *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->flags);
    wire_put_string(&w, m->name);
    wire_put32(&w, m->len);
    uint8_t *room = wire_room(&w, m->len);
    if (room && m->len)
        memcpy(room, m->bytes, m->len);
    return written(&w);
}

int proto_secret_decode(struct proto_secret *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->flags = wire_get32(&r);
    wire_copy_string(&r, m->name, sizeof(m->name));
    m->len = wire_get32(&r);
    if (m->len > PROTO_SECRET_MAX)
        return -EPROTO;
    m->bytes = wire_take(&r, m->len);
    return verdict(&r, !(m->flags & ~PROTO_SECRET_FLAGS) && m->flags != PROTO_SECRET_FLAGS &&
                           secret_name_valid(m->name));
}

ssize_t proto_started_encode(const struct proto_started *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->pid);
    wire_put32(&w, m->stdin_window);
    return written(&w);
}

int proto_started_decode(struct proto_started *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->pid = wire_get32(&r);
    m->stdin_window = wire_get32(&r);
    return verdict(&r, m->stdin_window <= PROTO_WINDOW_MAX);
}

ssize_t proto_exec_failed_encode(const struct proto_exec_failed *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->code);
    wire_put32(&w, m->step);
    wire_put_string(&w, m->text);
    return written(&w);
}

int proto_exec_failed_decode(struct proto_exec_failed *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->code = wire_get32(&r);
    m->step = wire_get32(&r);
    wire_copy_string(&r, m->text, sizeof(m->text));
    return verdict(&r, m->step < PROTO_STEP_COUNT);
}

ssize_t proto_window_encode(const struct proto_window *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->bytes);
    return written(&w);
}

int proto_window_decode(struct proto_window *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->bytes = wire_get32(&r);
    return verdict(&r, window_valid(m->bytes));
}

ssize_t proto_signal_encode(const struct proto_signal *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->number);
    return written(&w);
}

int proto_signal_decode(struct proto_signal *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->number = wire_get32(&r);
    return verdict(&r, m->number >= 1 && m->number <= SIGNAL_MAX);
}

ssize_t proto_resize_encode(const struct proto_resize *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put16(&w, m->rows);
    wire_put16(&w, m->cols);
    return written(&w);
}

int proto_resize_decode(struct proto_resize *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->rows = wire_get16(&r);
    m->cols = wire_get16(&r);
    return verdict(&r, 1);
}

ssize_t proto_exit_encode(const struct proto_exit *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->code);
    wire_put32(&w, m->signal);
    wire_put64(&w, m->wall_ns);
    return written(&w);
}

int proto_exit_decode(struct proto_exit *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->code = wire_get32(&r);
    m->signal = wire_get32(&r);
    m->wall_ns = wire_get64(&r);
    return verdict(&r, m->code <= 255 && m->signal <= SIGNAL_MAX && (!m->signal || !m->code));
}

ssize_t proto_stat_encode(const struct proto_stat *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put64(&w, m->memory_total_bytes);
    wire_put64(&w, m->memory_bytes);
    wire_put64(&w, m->memory_peak_bytes);
    wire_put64(&w, m->cpu_us);
    wire_put64(&w, m->pids);
    wire_put64(&w, m->pids_refused);
    wire_put64(&w, m->oom_kills);
    wire_put64(&w, m->disk_bytes);
    wire_put64(&w, m->disk_used_bytes);
    return written(&w);
}

int proto_stat_decode(struct proto_stat *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->memory_total_bytes = wire_get64(&r);
    m->memory_bytes = wire_get64(&r);
    m->memory_peak_bytes = wire_get64(&r);
    m->cpu_us = wire_get64(&r);
    m->pids = wire_get64(&r);
    m->pids_refused = wire_get64(&r);
    m->oom_kills = wire_get64(&r);
    m->disk_bytes = wire_get64(&r);
    m->disk_used_bytes = wire_get64(&r);
    return verdict(&r, 1);
}

ssize_t proto_shutdown_encode(const struct proto_shutdown *m, uint8_t *out, size_t cap)
{
    struct wire_out w = writer(out, cap);
    wire_put32(&w, m->flags);
    return written(&w);
}

int proto_shutdown_decode(struct proto_shutdown *m, const uint8_t *in, size_t len)
{
    struct wire_in r = reader(in, len);
    m->flags = wire_get32(&r);
    return verdict(&r, !(m->flags & ~PROTO_SHUTDOWN_SYNC));
}
