/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fuzz the file server with sequences of requests.
 *
 * The input is a guest's program: options, then one request after another. Node ids and handles are
 * mostly such as earlier replies gave, names mostly from a list of good and nasty ones, arguments are
 * the input's bytes; some requests are bytes from their header on. The client checks the form of each
 * reply and that nothing is written beside it.
 *
 * The shared directory lies in a tmpfs of its own that nobody else sees, small, and gone with the
 * process. Beside it is a file that no program may touch. After each program all descriptors must be
 * closed.
 */

#include <assert.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/testing_client.h"
#include "fs/server.h"
#include "util/arith.h"
#include "util/testing_input.h"
#include "util/tree.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUESTS_MAX 100
#define KNOWN_MAX    32
#define SECRET       "untouched"

static int base = -1; /* the tmpfs */

/* -- where it happens ---------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, text, strlen(text)) < 0)
        perror(path);
    close(fd);
}

static int mount_private(const char *path)
{
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) < 0)
        return -1;
    if (uid != 0) {
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof(map), "%u %u 1", uid, uid);
        write_file("/proc/self/uid_map", map);
        snprintf(map, sizeof(map), "%u %u 1", gid, gid);
        write_file("/proc/self/gid_map", map);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    return mount("fuzz", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,nr_inodes=4096,mode=755");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char path[] = "/tmp/unit-fuzz-XXXXXX";
    if (!mkdtemp(path) || mount_private(path) < 0) {
        perror("a tmpfs of its own");
        exit(1);
    }
    base = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert(base >= 0);
    umount2(path, MNT_DETACH);
    rmdir(path);
    if (geteuid() != 0) { /* an ordinary user again, as it was before the user namespace */
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
        int rc = (int)syscall(SYS_capset, &header, none);
        assert(rc == 0);
    }
    signal(SIGXFSZ, SIG_IGN);
    return 0;
}

static void make_file(const char *name, const char *text)
{
    int fd = openat(base, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0);
    ssize_t n = write(fd, text, strlen(text));
    assert(n == (ssize_t)strlen(text));
    close(fd);
}

static struct stat prepare(void)
{
    struct stat st;
    tree_remove(base, "share");
    make_file("secret", SECRET);
    int rc = mkdirat(base, "share", 0755) | mkdirat(base, "share/dir", 0755) |
             symlinkat("../secret", base, "share/link") | symlinkat("..", base, "share/up") |
             mkfifoat(base, "share/fifo", 0644) | fstatat(base, "secret", &st, 0);
    assert(rc == 0);
    make_file("share/file", "some bytes of a file");
    return st;
}

static void check_secret(const struct stat *before)
{
    struct stat st;
    int rc = fstatat(base, "secret", &st, 0);
    assert(rc == 0 && st.st_size == before->st_size && st.st_mode == before->st_mode);
    assert(st.st_ino == before->st_ino && st.st_nlink == 1 && st.st_uid == before->st_uid);
    assert(st.st_ctim.tv_sec == before->st_ctim.tv_sec &&
           st.st_ctim.tv_nsec == before->st_ctim.tv_nsec);
    /* Nothing beside it: "." ".." "secret" "share". */
    rc = fstatat(base, ".", &st, 0);
    assert(rc == 0 && st.st_nlink == 3);
}

/* -- the program --------------------------------------------------------------------------------- */

static size_t bytes(struct input *in, void *buf, size_t len)
{
    size_t n = MIN(len, in->left);
    memcpy(buf, in->data, n);
    memset((uint8_t *)buf + n, 0, len - n);
    in->data += n;
    in->left -= n;
    return n;
}

struct known {
    uint64_t ids[KNOWN_MAX];
    unsigned count;
};

static void learn(struct known *k, uint64_t id)
{
    k->ids[k->count % KNOWN_MAX] = id;
    k->count++;
}

static uint64_t pick(const struct known *k, struct input *in)
{
    uint8_t which = u8(in);
    uint64_t wild;
    if (which == 0xff) {
        bytes(in, &wild, sizeof(wild));
        return wild;
    }
    unsigned n = MIN(k->count, KNOWN_MAX);
    return n ? k->ids[which % n] : which;
}

static size_t name(struct input *in, uint8_t *buf, size_t room)
{
    static const char *const names[] = {
        "file",
        "dir",
        "link",
        "up",
        "fifo",
        "a",
        "b",
        ".",
        "..",
        "",
        "/",
        "a/b",
        "../secret",
        "dir/",
        "user.x",
        "security.capability",
        "system.posix_acl_access",
        "trusted.overlay.opaque",
    };
    uint8_t which = u8(in);
    if (which < ARRAY_SIZE(names)) {
        strcpy((char *)buf, names[which]);
        return strlen(names[which]) + 1;
    }
    if (which == 0xfe) {
        memset(buf, 'n', 256);
        buf[255] = '\0';
        return 256;
    }
    size_t len = MIN((size_t)which, room);
    return bytes(in, buf, len); /* with a NUL, or without */
}

struct program {
    struct fs *fs;
    struct client *c;
    uint8_t how;
    struct input in;
    struct known nodes, handles;
};

/* Where arguments hold a node id or a handle: the bytes from their start. */
struct field {
    uint8_t opcode, at;
    bool node;
};

static const struct field fields[] = {
    {FUSE_READ, 0},
    {FUSE_WRITE, 0},
    {FUSE_RELEASE, 0},
    {FUSE_RELEASEDIR, 0},
    {FUSE_FLUSH, 0},
    {FUSE_FSYNC, 0},
    {FUSE_FSYNCDIR, 0},
    {FUSE_FALLOCATE, 0},
    {FUSE_LSEEK, 0},
    {FUSE_GETLK, 0},
    {FUSE_SETLK, 0},
    {FUSE_SETLKW, 0},
    {FUSE_READDIR, 0},
    {FUSE_READDIRPLUS, 0},
    {FUSE_GETATTR, 8},
    {FUSE_STATX, 8},
    {FUSE_SETATTR, 8},
    {FUSE_COPY_FILE_RANGE, 0},
    {FUSE_COPY_FILE_RANGE, 24},
    {FUSE_COPY_FILE_RANGE, 16, true},
    {FUSE_SETUPMAPPING, 0},
    {FUSE_LINK, 0, true},
    {FUSE_RENAME, 0, true},
    {FUSE_RENAME2, 0, true},
};

static void learn_from(struct program *p, uint32_t opcode, const uint8_t *reply, size_t len)
{
    const struct row *row = session_row(opcode);
    uint64_t id;
    if (!row || len < sizeof(id) || len < row->out)
        return;
    memcpy(&id, reply, sizeof(id));
    if (opcode == FUSE_OPEN || opcode == FUSE_OPENDIR)
        learn(&p->handles, id);
    else if (row->out >= sizeof(struct fuse_entry_out) && opcode != FUSE_STATX)
        learn(&p->nodes, id);
    if (opcode == FUSE_CREATE || opcode == FUSE_TMPFILE) {
        memcpy(&id, reply + sizeof(struct fuse_entry_out), sizeof(id));
        learn(&p->handles, id);
    }
}

/* Places in the window, most of which are legal. */
static void aim(uint32_t opcode, uint8_t *args)
{
    struct fuse_setupmapping_in in;
    if (opcode != FUSE_SETUPMAPPING || (args[sizeof(in) - 1] & 1))
        return;
    memcpy(&in, args, sizeof(in));
    if (in.foffset & 1)
        in.fh = UINT64_MAX;
    in.foffset = (in.foffset >> 1 & 3) * FS_WINDOW_MIN;
    in.moffset = (in.moffset & 3) * FS_WINDOW_MIN;
    in.len = (in.len & 1023) * 4096;
    memcpy(args, &in, sizeof(in));
}

static void one_request(struct program *p)
{
    static uint8_t args[256], names[2][300], data[4096], reply[8192];
    struct client_part parts[4];
    unsigned count = 0;
    uint8_t opcode = u8(&p->in), shape = u8(&p->in);
    const struct row *row = session_row(opcode);
    uint64_t node = pick(&p->nodes, &p->in);
    client_cut(p->c, shape % CLIENT_CUTS);
    if (row && row->in > 0) {
        size_t len = opcode == FUSE_INIT ? sizeof(struct fuse_init_in) : row->in;
        bytes(&p->in, args, len);
        for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
            if (fields[i].opcode != opcode)
                continue;
            uint64_t id = pick(fields[i].node ? &p->nodes : &p->handles, &p->in);
            memcpy(args + fields[i].at, &id, sizeof(id));
        }
        aim(opcode, args);
        parts[count++] = (struct client_part){args, len};
    }
    for (unsigned i = 0; i < (shape >> 4 & 3u) && i < 2; i++) {
        size_t len = name(&p->in, names[i], sizeof(names[i]));
        parts[count++] = (struct client_part){names[i], len};
    }
    if (shape & 0x40) {
        size_t len = MIN((size_t)u8(&p->in) * 16, sizeof(data));
        bytes(&p->in, data, len);
        client_extensions(p->c, len);
        parts[count++] = (struct client_part){data, len};
    }
    size_t room = shape & 0x80 ? (size_t)u8(&p->in) * 32 : sizeof(reply);
    int rc = client_call(p->c, opcode, node, parts, count, reply, &room);
    if (rc == 0)
        learn_from(p, opcode, reply, room);
}

static void raw_request(struct program *p)
{
    static uint8_t raw[600];
    size_t len = bytes(&p->in, raw, (size_t)u8(&p->in) * 2);
    client_cut(p->c, CLIENT_RANDOM);
    client_raw(p->c, raw, len, (size_t)u8(&p->in) * 4);
}

static int lowest_fd(void)
{
    int fd = dup(base);
    close(fd);
    return fd;
}

/* In a thread of its own, which enters the server. */
static void *run(void *arg)
{
    struct program *p = arg;
    struct fuse_init_out init;
    p->c = client_new_here(p->fs);
    if (!(p->how & 0x80))
        client_init(p->c, ~(UINT64_C(1) << 31), &init);
    learn(&p->nodes, FUSE_ROOT_ID);
    for (unsigned i = 0; i < REQUESTS_MAX && p->in.left > 0; i++) {
        if (*p->in.data >= 0xf0) {
            u8(&p->in);
            raw_request(p);
        } else {
            one_request(p);
        }
    }
    client_free(p->c);
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program p = {.in = {data, size}};
    struct stat secret = prepare();
    int lowest = lowest_fd();
    int share = openat(base, "share", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint8_t how = p.how = u8(&p.in);
    struct fs_idmap squash = {.kind = FS_IDMAP_SQUASH, .host_uid = geteuid(), .host_gid = getegid()};
    struct fs_idmap identity = {.kind = FS_IDMAP_IDENTITY};
    struct fs_directory directories[] = {
        {.name = how & 0x20 ? "file" : NULL,
         .fd = share,
         .idmap = geteuid() == 0 && !(how & 0x40) ? identity : squash},
        {.name = "dir", .fd = share, .idmap = squash, .read_only = true},
    };
    struct fs_options options = {
        .directories = directories,
        .directory_count = how & 0x20 ? 2 : 1,
        .cache = how % 3,
        .writeback = how % 3 != FS_CACHE_NONE && (how & 4),
        .no_xattr = how & 8,
        .open_max = 24,
        .inodes_max = 64,
        .fds_max = 8,
        .window_bytes = 2 * FS_WINDOW_MIN,
    };
    struct dayfly_err err;
    pthread_t thread;
    int rc = fs_new(&p.fs, &options, &err);
    assert(rc == 0);
    fs_show_window(p.fs, true);
    rc = pthread_create(&thread, NULL, run, &p);
    assert(rc == 0);
    pthread_join(thread, NULL);
    fs_free(p.fs);
    close(share);
    assert(lowest_fd() == lowest);
    check_secret(&secret);
    return 0;
}
