/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has to be so in a tree before libarchive writes an entry to it: parents that are directories and
 * no links, room for the name, whiteouts done, and directories' times kept for the end.
 *
 * Every name is walked from the root by openat with O_NOFOLLOW. The tree is nobody else's, so what was
 * looked at stays so.
 */
#include "image/layer_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/tree.h"

#define DIRS_MAX_BYTES (512u << 20)
#define MADE_MAX_BYTES (512u << 20)

#define WHITEOUT        ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_AUFS   ".wh..wh." /* aufs's own book-keeping; nothing of the image */

struct layer_dir {
    char *path;
    struct timespec mtime;
};

/* ---- directories' times ---- */

int layer_tree_add_dir(struct layer_tree *tree, const char *name, struct timespec mtime,
                       struct dayfly_err *err)
{
    struct layer_dirs *dirs = &tree->dirs;
    dirs->bytes += sizeof(*dirs->items) + strlen(name) + 1;
    if (dirs->bytes > DIRS_MAX_BYTES)
        return err_set(err, EFBIG, "refused: more than %u MiB of names of directories",
                       DIRS_MAX_BYTES >> 20);
    if (dirs->count == dirs->room) {
        size_t room = dirs->room ? 2 * dirs->room : 64;
        struct layer_dir *bigger = realloc(dirs->items, room * sizeof(*bigger));
        if (!bigger)
            return err_errno(err, ENOMEM, "layer");
        dirs->items = bigger;
        dirs->room = room;
    }
    char *copy = strdup(name);
    if (!copy)
        return err_errno(err, ENOMEM, "layer");
    dirs->items[dirs->count++] = (struct layer_dir){copy, mtime};
    return 0;
}

/* Open a directory below the root, following no link on the way. -errno; ELOOP or ENOTDIR where
 * something else is in the way, and *good_len is the length of the path up to it. */
static int open_below(int root_fd, const char *path, size_t *good_len)
{
    const char *at = path;
    int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return -errno;
    while (*at && strcmp(at, ".") != 0) {
        char part[NAME_MAX + 1];
        size_t len = strcspn(at, "/");
        if (len > NAME_MAX) {
            close(fd);
            return -ENAMETOOLONG;
        }
        memcpy(part, at, len);
        part[len] = '\0';
        if (good_len)
            *good_len = (size_t)(at - path) + len;
        int next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int code = errno;
        close(fd);
        if (next < 0)
            return -code;
        fd = next;
        at += len + (at[len] == '/');
    }
    return fd;
}

void layer_tree_set_times(const struct layer_tree *tree)
{
    for (size_t i = 0; i < tree->dirs.count; i++) {
        const struct layer_dir *dir = &tree->dirs.items[i];
        const struct timespec times[2] = {dir->mtime, dir->mtime};
        /* Gone, or no directory any more, when a later entry or layer took it away. */
        _cleanup_close_ int fd = open_below(tree->root_fd, dir->path, NULL);
        if (fd >= 0)
            futimens(fd, times);
    }
}

/* ---- what the layer at hand has made ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Note a name and its parents, from the longest on: where one is known, those above it are. */
static int note_made(struct layer_tree *tree, const char *name, struct dayfly_err *err)
{
    _cleanup_free_ char *part = strdup(name);
    if (!part)
        return err_errno(err, ENOMEM, "layer");
    for (char *slash = part; slash; slash = strrchr(part, '/')) {
        if (slash != part)
            *slash = '\0';
        char *copy = strdup(part);
        char **found = copy ? tsearch(copy, &tree->made, compare_names) : NULL;
        if (!found || *found != copy)
            free(copy);
        if (!found)
            return err_errno(err, ENOMEM, "layer");
        if (*found != copy)
            return 0;
        tree->made_bytes += strlen(part) + 1 + 4 * sizeof(void *);
        if (tree->made_bytes > MADE_MAX_BYTES)
            return err_set(err, EFBIG, "refused: more than %u MiB of names", MADE_MAX_BYTES >> 20);
    }
    return 0;
}

static bool is_made(const struct layer_tree *tree, const char *name)
{
    return tfind(name, &tree->made, compare_names) != NULL;
}

void layer_tree_next_layer(struct layer_tree *tree)
{
    tdestroy(tree->made, free);
    tree->made = NULL;
    tree->made_bytes = 0;
}

/* ---- begin and end ---- */

int layer_tree_begin(struct layer_tree *tree, int64_t epoch, struct dayfly_err *err)
{
    *tree = (struct layer_tree){.epoch = epoch, .parent_fd = -1};
    tree->root_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree->root_fd < 0)
        return err_errno(err, errno, "cannot open the directory to extract to");
    return layer_tree_add_dir(tree, ".", (struct timespec){.tv_sec = epoch}, err);
}

static void forget_parent(struct layer_tree *tree)
{
    close_fd(&tree->parent_fd);
    free(tree->parent);
    tree->parent = NULL;
}

void layer_tree_finish(struct layer_tree *tree)
{
    if (!tree->root_fd) /* zeroed */
        return;
    for (size_t i = 0; i < tree->dirs.count; i++)
        free(tree->dirs.items[i].path);
    free(tree->dirs.items);
    layer_tree_next_layer(tree);
    forget_parent(tree);
    close_fd(&tree->root_fd);
}

/* ---- parents ---- */

/* Split "a/b/c" into the parent's length and the last component. */
static const char *last_component(const char *name, size_t *parent_len)
{
    const char *slash = strrchr(name, '/');
    *parent_len = slash ? (size_t)(slash - name) : 0;
    return slash ? slash + 1 : name;
}

/* Why a parent cannot be opened: a link or a file is in its place. */
static int bad_parent(const char *name, const char *parent, size_t bad_len, int code,
                      struct dayfly_err *err)
{
    if (code != ELOOP && code != ENOTDIR)
        return err_errno(err, code, "\"" LAYER_NAME_CUT "\"", name);
    return err_set(err, EINVAL,
                   "refused: \"" LAYER_NAME_CUT "\" is behind \"%.*s\", which is a symbolic link or a "
                   "file",
                   name, (int)(bad_len < 40 ? bad_len : 40), parent);
}

static int make_parents(struct layer_tree *tree, const char *parent, struct dayfly_err *err)
{
    _cleanup_free_ char *part = strdup(parent);
    if (!part)
        return err_errno(err, ENOMEM, "layer");
    const struct timespec epoch = {.tv_sec = tree->epoch};
    for (char *end = part; end;) {
        end = strchr(end + (end != part), '/');
        if (end)
            *end = '\0';
        bool made = mkdirat(tree->root_fd, part, 0755) == 0;
        bool failed = !made && errno != EEXIST;
        /* A parent with the set-gid bit would pass its group on. Who is not root has one owner only. */
        if (made)
            failed = (fchownat(tree->root_fd, part, 0, 0, 0) < 0 && geteuid() == 0) ||
                     fchmodat(tree->root_fd, part, 0755, 0) < 0;
        if (failed)
            return err_errno(err, errno, "cannot make the directory \"" LAYER_NAME_CUT "\"", part);
        int rc = made ? layer_tree_add_dir(tree, part, epoch, err) : 0;
        if (rc)
            return rc;
        if (end)
            *end = '/';
    }
    return 0;
}

/* The directory that `name` is in, made where it is missing. Without `make`, as for a whiteout, -ENOENT
 * and no message where there is none: nor where the layer at hand has put something else in its place,
 * as then all that was below is gone. Borrowed until the next call. */
static int open_parent(struct layer_tree *tree, const char *name, bool make, struct dayfly_err *err)
{
    size_t len, bad_len = 0;
    last_component(name, &len);
    if (tree->parent && strlen(tree->parent) == len && !memcmp(tree->parent, name, len))
        return tree->parent_fd;
    forget_parent(tree);
    tree->parent = strndup(name, len);
    if (!tree->parent)
        return err_errno(err, ENOMEM, "layer");
    int fd = open_below(tree->root_fd, tree->parent, &bad_len);
    if (fd == -ENOENT && make) {
        /* Up to bad_len the path is of directories, so that making more follows no link. */
        int rc = make_parents(tree, tree->parent, err);
        if (rc) {
            forget_parent(tree);
            return rc;
        }
        fd = open_below(tree->root_fd, tree->parent, &bad_len);
    }
    if (fd < 0 && !make && (fd == -ELOOP || fd == -ENOTDIR)) {
        tree->parent[bad_len] = '\0';
        fd = is_made(tree, tree->parent) ? -ENOENT : fd;
    }
    if (fd < 0) {
        int rc = fd == -ENOENT && !make ? fd : bad_parent(name, tree->parent, bad_len, -fd, err);
        forget_parent(tree);
        return rc;
    }
    tree->parent_fd = fd;
    return fd;
}

/* ---- room for an entry ---- */

/* What a hard link leads to, checked. Returns 1 when it is what `name` is already. */
static int check_link(struct layer_tree *tree, const char *name, const char *target,
                      const struct stat *there, struct dayfly_err *err)
{
    size_t len, bad_len = 0;
    struct stat st;
    const char *base = last_component(target, &len);
    _cleanup_free_ char *parent = strndup(target, len);
    if (!parent)
        return err_errno(err, ENOMEM, "layer");
    _cleanup_close_ int fd = open_below(tree->root_fd, parent, &bad_len);
    if (fd == -ELOOP || fd == -ENOTDIR)
        return bad_parent(target, parent, bad_len, -fd, err);
    if (fd < 0 || fstatat(fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_set(err, EINVAL,
                       "refused: \"" LAYER_NAME_CUT "\" is a hard link to \"%.40s\", which is not "
                       "there",
                       name, target);
    if (S_ISDIR(st.st_mode))
        return err_set(err, EINVAL,
                       "refused: \"" LAYER_NAME_CUT "\" is a hard link to the directory \"%.40s\"",
                       name, target);
    return there && there->st_dev == st.st_dev && there->st_ino == st.st_ino;
}

/* A directory's entry replaces its attributes as well: of those that the lower layer gave it none may
 * stay. What cannot be removed was not set by us. */
static void clear_attributes(int parent_fd, const char *base)
{
    _cleanup_close_ int fd = openat(parent_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : flistxattr(fd, NULL, 0);
    _cleanup_free_ char *names = len > 0 ? malloc((size_t)len) : NULL;
    if (names)
        len = flistxattr(fd, names, (size_t)len);
    for (ssize_t at = 0; names && at < len; at += (ssize_t)strlen(names + at) + 1)
        fremovexattr(fd, names + at);
}

int layer_tree_make_room(struct layer_tree *tree, struct archive_entry *entry, struct dayfly_err *err)
{
    const char *name = archive_entry_pathname(entry), *target = archive_entry_hardlink(entry);
    bool is_dir = !target && archive_entry_filetype(entry) == AE_IFDIR;
    struct stat st;
    size_t len;
    const char *base = last_component(name, &len);
    int parent_fd = open_parent(tree, name, true, err);
    if (parent_fd < 0)
        return parent_fd;
    bool there = fstatat(parent_fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0;
    int rc = target ? check_link(tree, name, target, there ? &st : NULL, err) : 0;
    if (rc < 0)
        return rc;
    if (there && is_dir && S_ISDIR(st.st_mode)) {
        clear_attributes(parent_fd, base);
    } else if (there && rc == 0) {
        int code = tree_remove(parent_fd, base);
        if (code)
            return err_errno(err, -code, "cannot replace \"" LAYER_NAME_CUT "\"", name);
        forget_parent(tree); /* it may have been within */
    }
    int noted = note_made(tree, name, err);
    return noted ? noted : rc;
}

/* ---- whiteouts ---- */

bool layer_is_whiteout(const char *name)
{
    size_t len;
    return !strncmp(last_component(name, &len), WHITEOUT, strlen(WHITEOUT));
}

static int remove_lower(const struct layer_tree *tree, int dir_fd, const char *base, char *path);

/* Remove from a directory what the layer at hand has not made. `path`, of PATH_MAX bytes, is its name;
 * it is used and left as it was. Takes fd. */
static int remove_lower_below(const struct layer_tree *tree, int fd, char *path)
{
    size_t len = strlen(path);
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    int rc = 0;
    if (!dir) {
        close(fd);
        return -ENOMEM;
    }
    while (!rc && (entry = readdir(dir))) {
        const char *base = entry->d_name;
        if (!strcmp(base, ".") || !strcmp(base, ".."))
            continue;
        /* What is too long for a name was not made by an entry: it is refused there. */
        if (len + 1 + strlen(base) >= PATH_MAX) {
            rc = tree_remove(fd, base);
            continue;
        }
        snprintf(path + len, PATH_MAX - len, "%s%s", len ? "/" : "", base);
        rc = remove_lower(tree, fd, base, path);
        path[len] = '\0';
    }
    closedir(dir);
    return rc;
}

/* Depth costs a descriptor and a small frame, and only along names that this layer has made. */
static int remove_lower(const struct layer_tree *tree, int dir_fd, const char *base, char *path)
{
    if (!is_made(tree, path)) {
        int rc = tree_remove(dir_fd, base);
        return rc == -ENOENT ? 0 : rc;
    }
    int fd = openat(dir_fd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR || errno == ELOOP || errno == ENOENT ? 0 : -errno;
    return remove_lower_below(tree, fd, path);
}

int layer_tree_whiteout(struct layer_tree *tree, const char *name, struct dayfly_err *err)
{
    char path[PATH_MAX];
    size_t len;
    const char *base = last_component(name, &len);
    const char *victim = base + strlen(WHITEOUT);
    bool opaque = !strcmp(base, WHITEOUT_OPAQUE);
    if (!opaque && !strncmp(base, WHITEOUT_AUFS, strlen(WHITEOUT_AUFS)))
        return 0;
    if (!*victim || !strcmp(victim, ".") || !strcmp(victim, ".."))
        return err_set(err, EINVAL, "refused: \"" LAYER_NAME_CUT "\" is the whiteout of no name", name);
    int parent_fd = open_parent(tree, name, false, err);
    if (parent_fd < 0)
        return parent_fd == -ENOENT ? 0 : parent_fd;
    snprintf(path, sizeof(path), "%.*s", (int)len, name);
    int rc;
    if (opaque) {
        int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = fd < 0 ? -errno : remove_lower_below(tree, fd, path);
    } else {
        snprintf(path + len, sizeof(path) - len, "%s%s", len ? "/" : "", victim);
        rc = remove_lower(tree, parent_fd, victim, path);
    }
    forget_parent(tree);
    return rc ? err_errno(err, -rc, "cannot take away what \"" LAYER_NAME_CUT "\" says", name) : 0;
}
