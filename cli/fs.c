/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `dayfly fs`: shared folders for other monitors, over vhost-user.
 *
 * In two parts that do not mix. `set_up` opens all that has a path: folders and socket. `serve` works
 * on what is open; from its begin on the process could do without the file system and all rights but
 * those over the folders' files.
 */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "engine/share.h"
#include "signals.h"
#include "transport/vhost_user.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "virtio/fs.h"

struct fs_command_options {
    const char *socket, *tag, *mode, *changes, *cache, *ids;
    struct word_list dirs, uids, gids;
    uint64_t queues, shown_uid, shown_gid;
    bool writeback, xattr, once, verbose;
};

static const struct fs_command_options defaults = {
    .tag = "share", .mode = "rw", .cache = "auto", .ids = "squash", .queues = 1};

#define LAST_ID (UINT32_MAX - 1)

static const struct option_row rows[] = {
    {"socket", 's', "PATH", "listen there, for one front end at a time",
     OPTION_STRING(struct fs_command_options, socket)},
    {"dir", 'd', "[NAME=]DIR", "share DIR; with NAMEs, several under a root of their own",
     OPTION_LIST(struct fs_command_options, dirs)},
    {"mode", 0, "rw|ro|cow", "what the guest may do; cow: the folder stays as it is",
     OPTION_CHOICE(struct fs_command_options, mode)},
    {"changes", 0, "DIR", "with --mode cow: keep what it changed (see 'dayfly help changes')",
     OPTION_STRING(struct fs_command_options, changes)},
    {"cache", 0, "auto|none|always", "when the guest sees what the host changed",
     OPTION_CHOICE(struct fs_command_options, cache)},
    {"writeback", 0, NULL, "let the guest gather writes in its page cache",
     OPTION_FLAG(struct fs_command_options, writeback)},
    {"xattr", 0, NULL, "extended attributes and access control lists",
     OPTION_FLAG(struct fs_command_options, xattr)},
    {"ids", 0, "squash|identity|map", "whose files the guest's users make",
     OPTION_CHOICE(struct fs_command_options, ids)},
    {"map-uids", 0, "GUEST:HOST:COUNT", "with --ids map: COUNT users from GUEST are those from HOST",
     OPTION_LIST(struct fs_command_options, uids)},
    {"map-gids", 0, "GUEST:HOST:COUNT", "the same for groups",
     OPTION_LIST(struct fs_command_options, gids)},
    {"shown-uid", 0, "ID", "with --ids squash: whose the files seem to be in the guest",
     OPTION_NUMBER(struct fs_command_options, shown_uid, 0, LAST_ID)},
    {"shown-gid", 0, "ID", "the same for the group",
     OPTION_NUMBER(struct fs_command_options, shown_gid, 0, LAST_ID)},
    {"tag", 0, "NAME", "what the guest mounts by, for front ends that ask (QEMU has its own)",
     OPTION_STRING(struct fs_command_options, tag)},
    {"queues", 0, "N", "request queues",
     OPTION_NUMBER(struct fs_command_options, queues, 1, VIRTIO_FS_QUEUES_MAX)},
    {"once", 0, NULL, "end when the first front end has left",
     OPTION_FLAG(struct fs_command_options, once)},
    {"verbose", 'v', NULL, "say who comes and goes, and which rules a guest broke",
     OPTION_FLAG(struct fs_command_options, verbose)},
    {0},
};

static const struct example examples[] = {
    {"dayfly fs -s /run/src.sock -d ~/src", "share ~/src, read and write"},
    {"dayfly fs -s fs.sock -d src=~/src -d tools=/opt/tools --mode ro", "two folders, read-only"},
    {"qemu-system-x86_64 ... -m 2G -machine q35,memory-backend=mem \\\n"
     "      -object memory-backend-memfd,id=mem,size=2G,share=on \\\n"
     "      -chardev socket,id=fs,path=/run/src.sock \\\n"
     "      -device vhost-user-fs-pci,chardev=fs,tag=src,queue-size=1024",
     "a machine of QEMU's with it; its memory has to be shared"},
    {"cloud-hypervisor ... --memory size=2G,shared=on --fs tag=src,socket=/run/src.sock",
     "one of Cloud Hypervisor's"},
    {"mount -t virtiofs src /mnt", "in the guest"},
    {0},
};

/* -- reading the options ------------------------------------------------------------------------- */

struct extents {
    struct dayfly_id_extent uids[CONFIG_MAX_ID_EXTENTS], gids[CONFIG_MAX_ID_EXTENTS];
};

static int read_extents(struct dayfly_id_extent *out, const char *option, const struct word_list *words,
                        struct dayfly_err *err)
{
    if (words->count > CONFIG_MAX_ID_EXTENTS)
        return err_set(err, EINVAL, "--%s: at most %d times", option, CONFIG_MAX_ID_EXTENTS);
    for (size_t i = 0; i < words->count; i++) {
        unsigned long long part[3];
        int end = -1;
        /* No sign, no space: %llu alone would take both. */
        if (strspn(words->words[i], "0123456789:") != strlen(words->words[i]) ||
            sscanf(words->words[i], "%10llu:%10llu:%10llu%n", &part[0], &part[1], &part[2], &end) !=
                3 ||
            words->words[i][end] || MAX(part[0], part[1]) + part[2] > UINT32_MAX || part[2] == 0)
            return err_set(err, EINVAL, "--%s %s: write three numbers, as in 0:100000:65536", option,
                           words->words[i]);
        out[i] = (struct dayfly_id_extent){(uint32_t)part[0], (uint32_t)part[1], (uint32_t)part[2]};
    }
    return 0;
}

/* "NAME=DIR" when what stands before the first "=" is a name; else a directory whose path has one. */
static int split_directory(const char *word, char name[CONFIG_MAX_DIRECTORY_NAME + 1],
                           struct dayfly_share_directory *out, struct dayfly_err *err)
{
    const char *equals = strchr(word, '=');
    const char *slash = strchr(word, '/');
    out->path = word;
    if (!equals || (slash && slash < equals))
        return 0;
    size_t bytes = (size_t)(equals - word);
    if (bytes == 0 || bytes > CONFIG_MAX_DIRECTORY_NAME || !strncmp(word, ".=", 2) ||
        !strncmp(word, "..=", 3))
        return err_set(err, EINVAL, "--dir %.60s: before the \"=\" stands no name of a folder", word);
    memcpy(name, word, bytes);
    name[bytes] = '\0';
    out->name = name;
    out->path = equals + 1;
    return 0;
}

static unsigned index_of(const char *const *words, const char *word)
{
    unsigned i = 0;
    while (words[i] && strcmp(words[i], word) != 0)
        i++;
    return i;
}

/* The options as the description of a share, in a config that holds nothing else. */
static int describe(struct dayfly_config *config, const struct fs_command_options *options,
                    struct dayfly_err *err)
{
    struct dayfly_share_directory dirs[CONFIG_MAX_DIRECTORIES];
    char names[CONFIG_MAX_DIRECTORIES][CONFIG_MAX_DIRECTORY_NAME + 1];
    struct extents extents;
    struct dayfly_share share = DAYFLY_SHARE_INIT;
    int r;
    if (options->dirs.count == 0)
        return err_set(err, EINVAL, "which folder? Name it by --dir DIR");
    if (options->dirs.count > CONFIG_MAX_DIRECTORIES)
        return err_set(err, EINVAL, "--dir: at most %d times", CONFIG_MAX_DIRECTORIES);
    if (options->writeback && !strcmp(options->cache, "none"))
        return err_set(err, EINVAL,
                       "--writeback: with --cache none there is nothing to gather writes in");
    if (options->changes && (strcmp(options->mode, "cow") != 0 || options->dirs.count != 1))
        return err_set(err, EINVAL, "--changes counts with --mode cow and one --dir only");
    if (strcmp(options->ids, "map") != 0 && options->uids.count + options->gids.count > 0)
        return err_set(err, EINVAL, "--map-uids and --map-gids count with --ids map only");
    if (!strcmp(options->ids, "map") && options->uids.count + options->gids.count == 0)
        return err_set(err, EINVAL,
                       "--ids map: say which, by --map-uids 0:100000:65536 and --map-gids");
    if ((r = read_extents(extents.uids, "map-uids", &options->uids, err)) < 0 ||
        (r = read_extents(extents.gids, "map-gids", &options->gids, err)) < 0)
        return r;
    for (size_t i = 0; i < options->dirs.count; i++) {
        dirs[i] = (struct dayfly_share_directory)DAYFLY_SHARE_DIRECTORY_INIT;
        if ((r = split_directory(options->dirs.words[i], names[i], &dirs[i], err)) < 0)
            return r;
        if (!dirs[i].name && options->dirs.count > 1)
            return err_set(err, EINVAL, "--dir %.60s: of several folders each needs a name: NAME=%.60s",
                           dirs[i].path, dirs[i].path);
        dirs[i].mode = (enum dayfly_share_mode)index_of(config_mode_words, options->mode);
        dirs[i].changes = options->changes;
        dirs[i].ids = (enum dayfly_share_ids)index_of(config_ids_words, options->ids);
        dirs[i].shown_uid = (uint32_t)options->shown_uid;
        dirs[i].shown_gid = (uint32_t)options->shown_gid;
        dirs[i].uids = extents.uids;
        dirs[i].uid_count = options->uids.count;
        dirs[i].gids = extents.gids;
        dirs[i].gid_count = options->gids.count;
    }
    share.tag = options->tag;
    share.directories = dirs;
    share.directory_count = options->dirs.count;
    share.cache = (enum dayfly_share_cache)index_of(config_cache_words, options->cache);
    share.writeback = options->writeback;
    share.xattr = options->xattr;
    share.queues = (uint32_t)options->queues;
    return dayfly_config_add_share(config, &share) < 0
               ? err_set(err, EINVAL, "the folders cannot be described")
               : 0;
}

/* -- set-up: what has a path --------------------------------------------------------------------- */

struct daemon {
    struct share *share;
    struct fs *server; /* until the device takes it */
    int listen_fd;
    int folder_fd;    /* where the socket's file is */
    char *file;       /* and its name there; NULL while there is none */
    struct stat made; /* by us */
    int signal_fd, left_fd;
    struct log log;
};

static void tear_down(struct daemon *daemon)
{
    struct stat st;
    if (daemon->file && fstatat(daemon->folder_fd, daemon->file, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == daemon->made.st_dev && st.st_ino == daemon->made.st_ino)
        unlinkat(daemon->folder_fd, daemon->file, 0);
    free(daemon->file);
    close_fd(&daemon->listen_fd);
    close_fd(&daemon->folder_fd);
    close_fd(&daemon->signal_fd);
    close_fd(&daemon->left_fd);
    fs_free(daemon->server);
    share_close(daemon->share);
}

static int make_socket(struct daemon *daemon, const char *path, struct dayfly_err *err)
{
    _cleanup_free_ char *one = strdup(path), *two = strdup(path);
    _cleanup_free_ char *file = one && two ? strdup(basename(one)) : NULL;
    if (!file)
        return err_set(err, ENOMEM, "socket %s: out of memory", path);
    int r = 0;
    daemon->folder_fd = open(dirname(two), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (daemon->folder_fd < 0)
        r = err_errno(err, errno, "socket %s", path);
    else if ((daemon->listen_fd = vhost_user_bind(path, err)) < 0)
        r = daemon->listen_fd;
    else if (fstatat(daemon->folder_fd, file, &daemon->made, AT_SYMLINK_NOFOLLOW) < 0)
        r = err_errno(err, errno, "socket %s", path);
    else
        daemon->file = steal_ptr(&file);
    return r;
}

/* Signals that end the daemon are read from a descriptor from here on, in whichever thread. */
static int catch_signals(struct daemon *daemon, struct dayfly_err *err)
{
    signal(SIGPIPE, SIG_IGN);
    daemon->signal_fd = signals_catch(NULL, err);
    if (daemon->signal_fd < 0)
        return daemon->signal_fd;
    daemon->left_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return daemon->left_fd < 0 ? err_errno(err, errno, "prepare") : 0;
}

static int set_up(struct daemon *daemon, const struct fs_command_options *options,
                  struct dayfly_err *err)
{
    struct dayfly_config *config = NULL;
    int r = dayfly_config_new(&config);
    if (r < 0)
        return err_errno(err, -r, "prepare");
    if ((r = describe(config, options, err)) == 0 && (r = catch_signals(daemon, err)) == 0 &&
        (r = share_open(&daemon->share, &daemon->server, &config->shares[0], 1, &daemon->log, err)) ==
            0)
        r = make_socket(daemon, options->socket, err);
    dayfly_config_free(config);
    return r;
}

/* -- serving: nothing has a path any more -------------------------------------------------------- */

/* In the device's loop. */
static void left(void *opaque, const struct dayfly_err *why)
{
    struct daemon *daemon = opaque;
    log_line(&daemon->log, LOG_INFO, "the front end left: %s", why->msg);
    eventfd_write(daemon->left_fd, 1);
}

/* Until a signal, or until the first front end has left. */
static int serve_front_ends(struct daemon *daemon, struct virtio_device *device, bool once,
                            struct dayfly_err *err)
{
    struct vhost_user *front_end = NULL;
    int r = 0;
    for (bool ended = false; !ended;) {
        struct pollfd fds[] = {
            {.fd = daemon->signal_fd, .events = POLLIN},
            {.fd = daemon->left_fd, .events = POLLIN},
            {.fd = front_end ? -1 : daemon->listen_fd, .events = POLLIN},
        };
        if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR) {
            r = err_errno(err, errno, "wait for a front end");
            break;
        }
        eventfd_t count;
        if (fds[1].revents & POLLIN && eventfd_read(daemon->left_fd, &count) == 0) {
            vhost_user_free(steal_ptr(&front_end));
            ended = once;
        }
        if (fds[2].revents & POLLIN) {
            int fd = accept4(daemon->listen_fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0) /* else it is gone again */
                log_line(&daemon->log, LOG_INFO, "a front end has come");
            if (fd >= 0 && (r = vhost_user_new(&front_end, device, fd, left, daemon, err)) < 0)
                break;
        }
        ended |= (fds[0].revents & POLLIN) != 0;
    }
    vhost_user_free(front_end);
    return r;
}

static int serve(struct daemon *daemon, const struct fs_command_options *options,
                 struct dayfly_err *err)
{
    const struct virtio_fs_options device_options = {
        .tag = options->tag,
        .queues = (unsigned)options->queues,
        .carrier_calls = &vhost_user_calls,
    };
    struct virtio_device *device;
    int r = virtio_fs_new(&device, steal_ptr(&daemon->server), &device_options, &daemon->log, err);
    if (r < 0)
        return r;
    r = serve_front_ends(daemon, device, options->once, err);
    virtio_fs_free(device);
    return r;
}

static int fs_run(const struct call *call)
{
    const struct fs_command_options *options = call->options;
    struct dayfly_err err = {0};
    struct daemon daemon = {
        .listen_fd = -1,
        .folder_fd = -1,
        .signal_fd = -1,
        .left_fd = -1,
        .log = {.write = log_to_stderr, .level = options->verbose ? LOG_DEBUG : LOG_ERROR},
    };
    int r;
    if (!options->socket)
        r = err_set(&err, EINVAL, "where should it listen? Name a socket by --socket PATH");
    else if ((r = set_up(&daemon, options, &err)) == 0)
        r = serve(&daemon, options, &err);
    tear_down(&daemon);
    return r < 0 ? command_fail(call, &err) : 0;
}

const struct command fs_command = {
    .name = "fs",
    .summary = "share folders with the machines of other monitors",
    .description =
        "A vhost-user back end for virtio-fs: QEMU, Cloud Hypervisor or any other monitor connects to "
        "the socket, and its guest mounts the folders. One front end is served at a time, the next "
        "when it has left. SIGTERM or SIGINT ends it and removes the socket. (dayfly's own machines "
        "need no daemon: see --share of 'dayfly run', and 'dayfly help machine-file'.)\n\n"
        "The mode holds on the host's side, whatever the guest does. Users: with squash all of the "
        "guest's users act as one of the host, the folder's owner when the daemon is root, else "
        "whoever started it; with identity the guest's root is root on these files. Cache: auto shows "
        "what the host changed within a second, none at once, always perhaps never.\n\n"
        "Exit status: 0 when a signal ended it, or the front end with --once; 125 when it failed.",
    .rows = rows,
    .options_size = sizeof(struct fs_command_options),
    .defaults = &defaults,
    .examples = examples,
    .run = fs_run,
};
