/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/testing_client.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"

#define SEGMENTS_MAX 400
#define PARTS_MAX    4
#define FILLING      0xa5

struct segments {
    struct iovec iov[SEGMENTS_MAX];
    unsigned count;
    size_t bytes;
};

struct client {
    struct fs *fs;
    enum client_cut cut;
    bool at_once;
    uint64_t random;
    uint64_t unique;
    uint32_t uid, gid;
    size_t extension_bytes;
    uint64_t flags; /* agreed by INIT */

    struct fs_thread self;
    bool here; /* no thread of its own */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct fs_request *job; /* NULL: none; taken and given back by the thread */
    bool done, stop, ready;
    ssize_t result;
};

/* -- the serving thread -------------------------------------------------------------------------- */

static void enter(struct client *c)
{
    struct dayfly_err err;
    int rc = fs_thread_enter(c->fs, &c->self, &err);
    assert(rc == 0);
}

static void *serve(void *arg)
{
    struct client *c = arg;
    enter(c);
    pthread_mutex_lock(&c->lock);
    c->ready = true;
    pthread_cond_broadcast(&c->wake);
    for (;;) {
        while (!c->job && !c->stop)
            pthread_cond_wait(&c->wake, &c->lock);
        if (c->stop)
            break;
        struct fs_request *job = c->job;
        pthread_mutex_unlock(&c->lock);
        ssize_t n = fs_serve(c->fs, &c->self, job);
        pthread_mutex_lock(&c->lock);
        c->result = n;
        c->job = NULL;
        c->done = true;
        pthread_cond_broadcast(&c->wake);
    }
    pthread_mutex_unlock(&c->lock);
    fs_thread_leave(&c->self);
    return NULL;
}

static struct client *make(struct fs *fs)
{
    struct client *c = calloc(1, sizeof(*c));
    assert(c);
    c->fs = fs;
    c->random = 0x2545f4914f6cdd1d;
    return c;
}

struct client *client_new_here(struct fs *fs)
{
    struct client *c = make(fs);
    c->here = true;
    enter(c);
    return c;
}

struct client *client_new(struct fs *fs)
{
    struct client *c = make(fs);
    sigset_t all, before;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&c->thread, NULL, serve, c);
    assert(rc == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_lock(&c->lock);
    while (!c->ready)
        pthread_cond_wait(&c->wake, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return c;
}

void client_free(struct client *c)
{
    if (!c)
        return;
    if (c->here) {
        fs_thread_leave(&c->self);
        free(c);
        return;
    }
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    free(c);
}

static ssize_t hand_over(struct client *c, struct fs_request *job)
{
    if (c->here)
        return fs_serve(c->fs, &c->self, job);
    pthread_mutex_lock(&c->lock);
    c->job = job;
    c->done = false;
    pthread_cond_broadcast(&c->wake);
    while (!c->done)
        pthread_cond_wait(&c->wake, &c->lock);
    ssize_t n = c->result;
    pthread_mutex_unlock(&c->lock);
    return n;
}

void client_cut(struct client *c, enum client_cut cut)
{
    c->cut = cut;
}

void client_at_once(struct client *c, bool at_once)
{
    c->at_once = at_once;
}

void client_user(struct client *c, uint32_t uid, uint32_t gid)
{
    c->uid = uid;
    c->gid = gid;
}

void client_extensions(struct client *c, size_t bytes)
{
    c->extension_bytes = bytes;
}

/* -- segments ------------------------------------------------------------------------------------ */

/* A block of `len` bytes; malloc(0) is a block, too. */
static void add_segment(struct segments *s, const uint8_t *bytes, size_t len)
{
    assert(s->count < SEGMENTS_MAX);
    uint8_t *block = malloc(len);
    assert(block || len == 0);
    if (bytes && len > 0)
        memcpy(block, bytes, len);
    else if (len > 0)
        memset(block, FILLING, len);
    s->iov[s->count++] = (struct iovec){block, len};
    s->bytes += len;
}

static size_t next_cut(struct client *c, size_t done, size_t left)
{
    switch (c->cut) {
    case CLIENT_BYTES:
        return done < 64 ? 1 : left;
    case CLIENT_RANDOM:
        c->random ^= c->random << 13;
        c->random ^= c->random >> 7;
        c->random ^= c->random << 17;
        /* Short ones at first, so that headers are cut; not so many that they run out. */
        return done < 512 ? MIN(left, c->random % 24) : MIN(left, 1 + c->random % 65536);
    default:
        return left;
    }
}

/* NULL bytes: filled. */
static void cut(struct client *c, struct segments *s, const uint8_t *bytes, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t n = s->count + 2 < SEGMENTS_MAX ? next_cut(c, done, len - done) : len - done;
        add_segment(s, bytes ? bytes + done : NULL, n);
        done += n;
    }
}

static void free_segments(struct segments *s)
{
    for (unsigned i = 0; i < s->count; i++)
        free(s->iov[i].iov_base);
}

/* All the segments' bytes, in one block. */
static uint8_t *gather(const struct segments *s)
{
    uint8_t *all = malloc(s->bytes + 1), *at = all;
    assert(all);
    for (unsigned i = 0; i < s->count; i++) {
        memcpy(at, s->iov[i].iov_base, s->iov[i].iov_len);
        at += s->iov[i].iov_len;
    }
    return all;
}

/* Serve what is in `in`; *all is what `out` then holds. The server may cut the entries it is given. */
static ssize_t run(struct client *c, struct segments *in, struct segments *out, uint8_t **all)
{
    static _Thread_local struct iovec in_iov[SEGMENTS_MAX], out_iov[SEGMENTS_MAX];
    memcpy(in_iov, in->iov, sizeof(in->iov[0]) * in->count);
    memcpy(out_iov, out->iov, sizeof(out->iov[0]) * out->count);
    struct fs_request job = {
        .in = in_iov,
        .in_count = in->count,
        .in_bytes = in->bytes,
        .out = out_iov,
        .out_count = out->count,
        .out_bytes = out->bytes,
        .at_once = c->at_once,
    };
    ssize_t n = hand_over(c, &job);
    *all = gather(out);
    return n;
}

/* -- calls --------------------------------------------------------------------------------------- */

static void check_untouched(const uint8_t *all, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        assert(all[i] == FILLING);
}

int client_call(struct client *c, uint32_t opcode, uint64_t nodeid, const struct client_part *parts,
                unsigned count, void *reply, size_t *reply_bytes)
{
    static _Thread_local struct segments in, out;
    bool no_reply = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
    size_t room = reply ? *reply_bytes : 0;
    uint8_t *message = NULL, *all;
    size_t len = sizeof(struct fuse_in_header);
    in.count = out.count = 0;
    in.bytes = out.bytes = 0;

    assert(count <= PARTS_MAX);
    for (unsigned i = 0; i < count; i++)
        len += parts[i].len;
    struct fuse_in_header header = {
        .len = (uint32_t)len,
        .opcode = opcode,
        .unique = ++c->unique,
        .nodeid = nodeid,
        .uid = c->uid,
        .gid = c->gid,
        .pid = 1,
        .total_extlen = (uint16_t)(c->extension_bytes / 8),
    };
    c->extension_bytes = 0;
    if (c->cut == CLIENT_LINUX) {
        add_segment(&in, (uint8_t *)&header, sizeof(header));
        for (unsigned i = 0; i < count; i++)
            add_segment(&in, parts[i].bytes, parts[i].len);
    } else {
        uint8_t *at = message = malloc(len);
        assert(message);
        at = (uint8_t *)mempcpy(at, &header, sizeof(header));
        for (unsigned i = 0; i < count; i++)
            at = parts[i].len ? (uint8_t *)mempcpy(at, parts[i].bytes, parts[i].len) : at;
        cut(c, &in, message, len);
    }
    if (c->cut == CLIENT_LINUX && !no_reply) {
        add_segment(&out, NULL, sizeof(struct fuse_out_header));
        if (room > 0)
            add_segment(&out, NULL, room);
    } else if (!no_reply) {
        cut(c, &out, NULL, sizeof(struct fuse_out_header) + room);
    }

    ssize_t n = run(c, &in, &out, &all);
    int result;
    struct fuse_out_header head;
    if (n == FS_WAITS) {
        result = CLIENT_WAITS;
    } else if (n < 0) {
        check_untouched(all, 0, out.bytes);
        result = n == FS_LATER ? CLIENT_LATER : CLIENT_BROKEN;
    } else if (n == 0) {
        assert(no_reply);
        result = CLIENT_NO_REPLY;
    } else {
        assert((size_t)n >= sizeof(head) && (size_t)n <= out.bytes);
        memcpy(&head, all, sizeof(head));
        assert(head.len == n && head.unique == header.unique);
        assert(head.error <= 0 && head.error > -4096);
        assert(head.error == 0 || head.len == sizeof(head));
        /* After an error the rest may hold what was written before it. */
        if (head.error == 0)
            check_untouched(all, (size_t)n, out.bytes);
        if (reply) {
            *reply_bytes = (size_t)n - sizeof(head);
            memcpy(reply, all + sizeof(head), *reply_bytes);
        }
        result = head.error;
    }
    free(all);
    free(message);
    free_segments(&in);
    free_segments(&out);
    return result;
}

ssize_t client_raw(struct client *c, const void *in_bytes, size_t len, size_t out_room)
{
    static _Thread_local struct segments in, out;
    uint8_t *all;
    in.count = out.count = 0;
    in.bytes = out.bytes = 0;
    cut(c, &in, in_bytes, len);
    cut(c, &out, NULL, out_room);
    ssize_t n = run(c, &in, &out, &all);
    assert(n >= FS_BROKEN && (n < 0 || (size_t)n <= out_room));
    if (n < 0)
        check_untouched(all, 0, out_room);
    free(all);
    free_segments(&in);
    free_segments(&out);
    return n;
}

/* -- requests ------------------------------------------------------------------------------------ */

int client_call_exact(struct client *c, uint32_t opcode, uint64_t nodeid,
                      const struct client_part *parts, unsigned count, void *reply, size_t size)
{
    size_t got = size;
    int rc = client_call(c, opcode, nodeid, parts, count, reply, &got);
    assert(rc != 0 || got == size);
    return rc;
}

int client_init(struct client *c, uint64_t flags, struct fuse_init_out *out)
{
    struct fuse_init_in in = {
        .major = FUSE_KERNEL_VERSION,
        .minor = 41,
        .max_readahead = 131072,
        .flags = (uint32_t)flags | FUSE_INIT_EXT,
        .flags2 = (uint32_t)(flags >> 32),
    };
    int rc = client_ask(c, FUSE_INIT, 0, out, CLIENT_PART(&in));
    if (rc == 0)
        c->flags = out->flags | (uint64_t)out->flags2 << 32;
    return rc;
}

int client_lookup(struct client *c, uint64_t dir, const char *name, struct fuse_entry_out *out)
{
    return client_ask(c, FUSE_LOOKUP, dir, out, CLIENT_TEXT(name));
}

void client_forget(struct client *c, uint64_t nodeid, uint64_t lookups)
{
    struct fuse_forget_in in = {.nlookup = lookups};
    int rc = client_send(c, FUSE_FORGET, nodeid, CLIENT_PART(&in));
    assert(rc == CLIENT_NO_REPLY);
}

int client_getattr(struct client *c, uint64_t nodeid, struct fuse_attr *attr)
{
    struct fuse_getattr_in in = {0};
    struct fuse_attr_out out;
    int rc = client_ask(c, FUSE_GETATTR, nodeid, &out, CLIENT_PART(&in));
    *attr = out.attr;
    return rc;
}

int client_setattr(struct client *c, uint64_t nodeid, const struct fuse_setattr_in *in,
                   struct fuse_attr *attr)
{
    struct fuse_attr_out out;
    int rc = client_ask(c, FUSE_SETATTR, nodeid, &out, CLIENT_PART(in));
    if (attr)
        *attr = out.attr;
    return rc;
}

int client_create(struct client *c, uint64_t dir, const char *name, uint32_t flags, uint32_t mode,
                  struct fuse_entry_out *entry, struct fuse_open_out *open)
{
    struct fuse_create_in in = {.flags = flags, .mode = S_IFREG | mode};
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out;
    int rc = client_ask(c, FUSE_CREATE, dir, &out, CLIENT_PART(&in), CLIENT_TEXT(name));
    *entry = out.entry;
    *open = out.open;
    return rc;
}

int client_mkdir(struct client *c, uint64_t dir, const char *name, uint32_t mode,
                 struct fuse_entry_out *entry)
{
    struct fuse_mkdir_in in = {.mode = mode};
    return client_ask(c, FUSE_MKDIR, dir, entry, CLIENT_PART(&in), CLIENT_TEXT(name));
}

int client_mknod(struct client *c, uint64_t dir, const char *name, uint32_t mode, uint32_t rdev,
                 struct fuse_entry_out *entry)
{
    struct fuse_mknod_in in = {.mode = mode, .rdev = rdev};
    return client_ask(c, FUSE_MKNOD, dir, entry, CLIENT_PART(&in), CLIENT_TEXT(name));
}

int client_symlink(struct client *c, uint64_t dir, const char *name, const char *target,
                   struct fuse_entry_out *entry)
{
    return client_ask(c, FUSE_SYMLINK, dir, entry, CLIENT_TEXT(name), CLIENT_TEXT(target));
}

int client_link(struct client *c, uint64_t old, uint64_t dir, const char *name,
                struct fuse_entry_out *entry)
{
    struct fuse_link_in in = {.oldnodeid = old};
    return client_ask(c, FUSE_LINK, dir, entry, CLIENT_PART(&in), CLIENT_TEXT(name));
}

int client_unlink(struct client *c, uint64_t dir, const char *name)
{
    return client_send(c, FUSE_UNLINK, dir, CLIENT_TEXT(name));
}

int client_rmdir(struct client *c, uint64_t dir, const char *name)
{
    return client_send(c, FUSE_RMDIR, dir, CLIENT_TEXT(name));
}

int client_rename(struct client *c, uint64_t dir, const char *name, uint64_t newdir,
                  const char *newname, uint32_t flags)
{
    struct fuse_rename2_in in = {.newdir = newdir, .flags = flags};
    struct fuse_rename_in old = {.newdir = newdir};
    return flags ? client_send(c, FUSE_RENAME2, dir, CLIENT_PART(&in), CLIENT_TEXT(name),
                               CLIENT_TEXT(newname))
                 : client_send(c, FUSE_RENAME, dir, CLIENT_PART(&old), CLIENT_TEXT(name),
                               CLIENT_TEXT(newname));
}

int client_open(struct client *c, uint64_t nodeid, uint32_t flags, struct fuse_open_out *out)
{
    struct fuse_open_in in = {.flags = flags};
    return client_ask(c, FUSE_OPEN, nodeid, out, CLIENT_PART(&in));
}

int client_opendir(struct client *c, uint64_t nodeid, struct fuse_open_out *out)
{
    struct fuse_open_in in = {.flags = O_RDONLY | O_DIRECTORY};
    return client_ask(c, FUSE_OPENDIR, nodeid, out, CLIENT_PART(&in));
}

int client_release(struct client *c, uint64_t nodeid, uint64_t fh)
{
    struct fuse_release_in in = {.fh = fh};
    return client_send(c, FUSE_RELEASE, nodeid, CLIENT_PART(&in));
}

int client_releasedir(struct client *c, uint64_t nodeid, uint64_t fh)
{
    struct fuse_release_in in = {.fh = fh};
    return client_send(c, FUSE_RELEASEDIR, nodeid, CLIENT_PART(&in));
}

int client_flush(struct client *c, uint64_t nodeid, uint64_t fh, uint64_t owner)
{
    struct fuse_flush_in in = {.fh = fh, .lock_owner = owner};
    return client_send(c, FUSE_FLUSH, nodeid, CLIENT_PART(&in));
}

ssize_t client_read(struct client *c, uint64_t nodeid, uint64_t fh, void *buf, size_t len,
                    uint64_t offset)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = (uint32_t)len};
    int rc = client_call(c, FUSE_READ, nodeid, CLIENT_PARTS(CLIENT_PART(&in)), 1, buf, &len);
    return rc < 0 ? rc : (ssize_t)len;
}

ssize_t client_write(struct client *c, uint64_t nodeid, uint64_t fh, const void *buf, size_t len,
                     uint64_t offset, uint32_t write_flags)
{
    struct fuse_write_in in = {
        .fh = fh, .offset = offset, .size = (uint32_t)len, .write_flags = write_flags};
    struct fuse_write_out out;
    int rc = client_ask(c, FUSE_WRITE, nodeid, &out, CLIENT_PART(&in), {buf, len});
    return rc < 0 ? rc : (ssize_t)out.size;
}

ssize_t client_readdir(struct client *c, uint64_t nodeid, uint64_t fh, uint64_t offset, void *buf,
                       size_t len, bool plus)
{
    struct fuse_read_in in = {.fh = fh, .offset = offset, .size = (uint32_t)len};
    uint32_t opcode = plus ? FUSE_READDIRPLUS : FUSE_READDIR;
    int rc = client_call(c, opcode, nodeid, CLIENT_PARTS(CLIENT_PART(&in)), 1, buf, &len);
    return rc < 0 ? rc : (ssize_t)len;
}

ssize_t client_getxattr(struct client *c, uint64_t nodeid, const char *name, void *buf, size_t len)
{
    struct fuse_getxattr_in in = {.size = (uint32_t)len};
    struct fuse_getxattr_out out;
    int rc;
    if (len == 0) {
        rc = client_ask(c, FUSE_GETXATTR, nodeid, &out, CLIENT_PART(&in), CLIENT_TEXT(name));
        return rc < 0 ? rc : (ssize_t)out.size;
    }
    rc = client_call(c, FUSE_GETXATTR, nodeid, CLIENT_PARTS(CLIENT_PART(&in), CLIENT_TEXT(name)), 2,
                     buf, &len);
    return rc < 0 ? rc : (ssize_t)len;
}

int client_setxattr(struct client *c, uint64_t nodeid, const char *name, const void *value, size_t len,
                    uint32_t flags, uint32_t ext_flags)
{
    struct fuse_setxattr_in in = {.size = (uint32_t)len, .flags = flags, .setxattr_flags = ext_flags};
    size_t in_bytes = c->flags & FUSE_SETXATTR_EXT ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
    return client_send(c, FUSE_SETXATTR, nodeid, {&in, in_bytes}, CLIENT_TEXT(name), {value, len});
}

int client_lock(struct client *c, uint32_t opcode, uint64_t nodeid, const struct fuse_lk_in *in,
                struct fuse_lk_out *out)
{
    return opcode == FUSE_GETLK ? client_ask(c, opcode, nodeid, out, CLIENT_PART(in))
                                : client_send(c, opcode, nodeid, CLIENT_PART(in));
}
