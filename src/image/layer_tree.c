/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has to be so in a tree before libarchive writes an entry to it: parents that are directories and
 * no links, room for the name, whiteouts done, and directories' times kept for the end.
 *
 * A layer may name a file by way of a link that a layer below has ("lib/x" where lib leads to usr/lib).
 * Such a name is brought to the one without links first (layer_walk.c), and all that is kept here goes
 * by that.
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

void layer_tree_set_times(struct layer_tree *tree)
{
    for (size_t i = 0; i < tree->dirs.count; i++) {
        const struct layer_dir *dir = &tree->dirs.items[i];
        const struct timespec times[2] = {dir->mtime, dir->mtime};
        struct layer_place place;
        /* Gone, or no directory any more, when a later entry or layer took it away. */
        if (layer_walk(tree, dir->path, strlen(dir->path), LAYER_WALK_STRAIGHT, &place, NULL))
            continue;
        futimens(place.fd, times);
        close(place.fd);
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

bool layer_tree_has_made(const struct layer_tree *tree, const char *path)
{
    return tfind(path, &tree->made, compare_names) != NULL;
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
    *tree = (struct layer_tree){.epoch = epoch, .place.fd = -1};
    tree->root_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree->root_fd < 0)
        return err_errno(err, errno, "cannot open the directory to extract to");
    return layer_tree_add_dir(tree, ".", (struct timespec){.tv_sec = epoch}, err);
}

static void forget_parent(struct layer_tree *tree)
{
    close_fd(&tree->place.fd);
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

/* The directory that an entry is to be in, made where it is missing: it stands in tree->place until the
 * next call, or until forget_parent. */
static int open_parent(struct layer_tree *tree, const char *name, struct dayfly_err *err)
{
    size_t len;
    last_component(name, &len);
    if (tree->parent && strlen(tree->parent) == len && !memcmp(tree->parent, name, len))
        return 0;
    forget_parent(tree);
    tree->parent = strndup(name, len);
    if (!tree->parent)
        return err_errno(err, ENOMEM, "layer");
    int rc = layer_walk(tree, name, len, LAYER_WALK_MAKE, &tree->place, err);
    if (rc)
        forget_parent(tree);
    return rc;
}

/* The name of what is in a place. `name` is what the entry calls it. */
static int path_in(const struct layer_place *place, const char *base, const char *name,
                   char out[PATH_MAX], struct dayfly_err *err)
{
    int len = snprintf(out, PATH_MAX, "%s%s%s", place->path, place->path[0] ? "/" : "", base);
    if (len >= PATH_MAX)
        return err_set(err, EINVAL,
                       "refused: \"" LAYER_NAME_CUT "\" has a name that is too long without the links "
                       "in it",
                       name);
    return 0;
}

/* ---- room for an entry ---- */

/* What a hard link leads to, checked; its name through no link goes to `out`. Returns 1 when it is what
 * `name` is already. */
static int check_link(struct layer_tree *tree, const char *name, const char *target,
                      const struct stat *there, char out[PATH_MAX], struct dayfly_err *err)
{
    size_t len;
    struct stat st;
    struct layer_place place;
    const char *base = last_component(target, &len);
    int rc = layer_walk(tree, target, len, LAYER_WALK_LOOK, &place, err);
    if (rc && rc != -ENOENT)
        return rc;
    bool found = !rc && fstatat(place.fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!rc)
        close(place.fd);
    if (!found)
        return err_set(err, EINVAL,
                       "refused: \"" LAYER_NAME_CUT "\" is a hard link to \"%.40s\", which is not "
                       "there",
                       name, target);
    if (S_ISDIR(st.st_mode))
        return err_set(err, EINVAL,
                       "refused: \"" LAYER_NAME_CUT "\" is a hard link to the directory \"%.40s\"",
                       name, target);
    rc = path_in(&place, base, target, out, err);
    return rc ? rc : there && there->st_dev == st.st_dev && there->st_ino == st.st_ino;
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
    char path[PATH_MAX], target_path[PATH_MAX];
    struct stat st;
    size_t len;
    const char *base = last_component(name, &len);
    int same = 0, rc = open_parent(tree, name, err);
    if (!rc)
        rc = path_in(&tree->place, base, name, path, err);
    if (rc)
        return rc;
    bool there = fstatat(tree->place.fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (target)
        same = check_link(tree, name, target, there ? &st : NULL, target_path, err);
    if (same < 0)
        return same;
    if (there && is_dir && S_ISDIR(st.st_mode)) {
        clear_attributes(tree->place.fd, base);
    } else if (there && !same) {
        if (S_ISDIR(st.st_mode) && layer_tree_has_made(tree, path))
            rc = tree->before_dir_goes(tree->opaque, err);
        if (rc)
            return rc;
        int code = tree_remove(tree->place.fd, base);
        if (code)
            return err_errno(err, -code, "cannot replace \"" LAYER_NAME_CUT "\"", name);
        forget_parent(tree); /* it may have been within */
    }
    /* libarchive is to write through no link either, and says so of its own accord. */
    archive_entry_copy_pathname(entry, path);
    if (target)
        archive_entry_copy_hardlink(entry, target_path);
    rc = note_made(tree, path, err);
    return rc ? rc : same;
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
    if (!layer_tree_has_made(tree, path)) {
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
    struct layer_place place;
    size_t len;
    const char *base = last_component(name, &len);
    const char *victim = base + strlen(WHITEOUT);
    bool opaque = !strcmp(base, WHITEOUT_OPAQUE);
    if (!opaque && !strncmp(base, WHITEOUT_AUFS, strlen(WHITEOUT_AUFS)))
        return 0;
    if (!*victim || !strcmp(victim, ".") || !strcmp(victim, ".."))
        return err_set(err, EINVAL, "refused: \"" LAYER_NAME_CUT "\" is the whiteout of no name", name);
    int rc = layer_walk(tree, name, len, LAYER_WALK_LOWER, &place, err);
    if (rc)
        return rc == -ENOENT ? 0 : rc;
    if (opaque) {
        rc = remove_lower_below(tree, place.fd, place.path);
    } else {
        /* Of a name that is too long there is no file. */
        if (!path_in(&place, victim, name, path, NULL))
            rc = remove_lower(tree, place.fd, victim, path);
        close(place.fd);
    }
    forget_parent(tree);
    return rc ? err_errno(err, -rc, "cannot take away what \"" LAYER_NAME_CUT "\" says", name) : 0;
}
