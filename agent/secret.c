/* SPDX-License-Identifier: Apache-2.0 */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trust.h"
#include "util/cleanup.h"
#include "util/io.h"

#define PLACE "/run/secrets"

static void fail_with(struct secrets *s, const char *name, int code, const char *what)
{
    if (s->failed.code)
        return;
    s->failed = (struct proto_exec_failed){.code = (uint32_t)code, .step = PROTO_STEP_SECRETS};
    snprintf(s->failed.text, sizeof(s->failed.text), "%s: %s", name, what);
}

/* No job has run yet, and /run is the agent's own: nothing can be in the way. */
static int open_place(struct secrets *s)
{
    if (s->files_fd >= 0)
        return 0;
    if ((mkdir(PLACE, 0755) < 0 && errno != EEXIST) ||
        mount("tmpfs", PLACE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=0755,size=8m,nr_inodes=256") < 0)
        return -errno;
    s->files_fd = open(PLACE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s->files_fd < 0 ? -errno : 0;
}

static int write_file(struct secrets *s, const struct proto_secret *m)
{
    _cleanup_close_ int fd =
        openat(s->files_fd, m->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
    return fd < 0 ? -errno : io_write_full(fd, m->bytes, m->len);
}

static int keep_line(struct secret_entry *entry, const struct proto_secret *m)
{
    size_t name = strlen(m->name), size = name + 1 + m->len + 1;
    char *line = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (line == MAP_FAILED)
        return -errno;
    madvise(line, size, MADV_DONTDUMP);
    memcpy(line, m->name, name);
    line[name] = '=';
    memcpy(line + name + 1, m->bytes, m->len);
    entry->line = line;
    return 0;
}

void secrets_take(struct secrets *s, const struct proto_secret *m)
{
    if (s->count == PROTO_SECRETS_MAX) {
        fail_with(s, m->name, E2BIG, "too many secrets");
        return;
    }
    struct secret_entry *entry = &s->entries[s->count];
    int r;
    if (m->flags & PROTO_SECRET_TRUST) {
        if ((r = trust_add("", m->bytes, m->len)) < 0)
            fail_with(s, m->name, -r, "the file system's trust stores");
        return;
    }
    if (m->flags & PROTO_SECRET_ENV)
        r = keep_line(entry, m);
    else if ((r = open_place(s)) == 0)
        r = write_file(s, m);
    if (r < 0) {
        fail_with(s, m->name, -r, m->flags & PROTO_SECRET_ENV ? "memory" : "a file in " PLACE);
        return;
    }
    snprintf(entry->name, sizeof(entry->name), "%s", m->name);
    s->count++;
}

int secrets_give(const struct secrets *s, uid_t uid, gid_t gid)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct secret_entry *e = &s->entries[i];
        /* One that an earlier command has removed is not missed here. */
        if (!e->line && fchownat(s->files_fd, e->name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 &&
            errno != ENOENT)
            return -errno;
    }
    return 0;
}
