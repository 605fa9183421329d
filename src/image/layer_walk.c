/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way to a directory of the tree as a process would go that has the tree for its root: links are
 * followed, an absolute one begins again at the root, and the root's ".." is the root. What comes out
 * is the directory, and its name without links.
 *
 * Each step is one component by openat with O_NOFOLLOW; a link is read and its text walked. ".." is
 * only opened from a directory that was reached so and is not the root. The tree is nobody else's, so
 * what was looked at stays so.
 *
 * The links on one way may have LINKS_BYTES of text together, which also bounds how often they may lead
 * in a circle.
 */
#include "image/layer_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"

#define LINKS_BYTES PATH_MAX
#define DIR_FLAGS   (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

struct walk {
    struct layer_tree *tree;
    enum layer_walk how;
    struct layer_place *at;
    size_t len;        /* of at->path */
    size_t link_bytes; /* that have been put in front of `left` */
    bool said;         /* *err has the reason */
    char *left;        /* what is still to be walked; links' texts grow it to its front */
    char text[LINKS_BYTES + PATH_MAX];
};

static int move_to(struct walk *w, int fd)
{
    if (fd < 0)
        return -errno;
    if (w->at->fd >= 0)
        close(w->at->fd);
    w->at->fd = fd;
    return 0;
}

static int to_root(struct walk *w)
{
    w->len = 0;
    w->at->path[0] = '\0';
    return move_to(w, openat(w->tree->root_fd, ".", DIR_FLAGS));
}

static void cut_last(struct walk *w)
{
    while (w->len && w->at->path[--w->len] != '/')
        ;
    w->at->path[w->len] = '\0';
}

/* A directory that no entry has mentioned: at->path. */
static int make_dir(struct walk *w, const char *part, struct dayfly_err *err)
{
    int at = w->at->fd;
    const struct timespec epoch = {.tv_sec = w->tree->epoch};
    w->said = true;
    /* A parent with the set-gid bit would pass its group on. Who is not root has one owner only. */
    if (mkdirat(at, part, 0755) < 0 || (fchownat(at, part, 0, 0, 0) < 0 && geteuid() == 0) ||
        fchmodat(at, part, 0755, 0) < 0)
        return err_errno(err, errno, "cannot make the directory \"" LAYER_NAME_CUT "\"", w->at->path);
    int rc = layer_tree_add_dir(w->tree, w->at->path, epoch, err);
    w->said = rc != 0;
    return rc;
}

/* at->path is no directory: put what it says in front, when it is a link. */
static int take_link(struct walk *w, const char *part)
{
    char target[PATH_MAX];
    if (w->how == LAYER_WALK_LOWER && layer_tree_has_made(w->tree, w->at->path))
        return -ENOENT;
    ssize_t len = readlinkat(w->at->fd, part, target, sizeof(target));
    if (len < 0)
        return errno == EINVAL ? -ENOTDIR : -errno;
    size_t bytes = (size_t)len + 1;
    if (bytes > LINKS_BYTES - w->link_bytes)
        return -ELOOP;
    w->link_bytes += bytes;
    w->left -= bytes;
    memcpy(w->left, target, (size_t)len);
    w->left[len] = '/';
    cut_last(w);
    return target[0] == '/' ? to_root(w) : 0;
}

static int step_down(struct walk *w, const char *part, struct dayfly_err *err)
{
    size_t bytes = strlen(part), slash = w->len > 0;
    if (w->len + slash + bytes >= PATH_MAX)
        return -ENAMETOOLONG;
    if (slash)
        w->at->path[w->len++] = '/';
    memcpy(w->at->path + w->len, part, bytes + 1);
    w->len += bytes;
    int fd = openat(w->at->fd, part, DIR_FLAGS);
    if (fd < 0 && errno == ENOENT && w->how == LAYER_WALK_MAKE) {
        int rc = make_dir(w, part, err);
        if (rc)
            return rc;
        fd = openat(w->at->fd, part, DIR_FLAGS);
    }
    if (fd < 0 && (errno == ELOOP || errno == ENOTDIR) && w->how != LAYER_WALK_STRAIGHT)
        return take_link(w, part);
    return move_to(w, fd);
}

static int step_up(struct walk *w)
{
    if (!w->len)
        return 0;
    cut_last(w);
    return move_to(w, openat(w->at->fd, "..", DIR_FLAGS));
}

static int step(struct walk *w, struct dayfly_err *err)
{
    char *part = w->left;
    size_t len = strcspn(part, "/");
    bool more = part[len] == '/';
    part[len] = '\0';
    w->left += len + more;
    if (!len || !strcmp(part, "."))
        return 0;
    return strcmp(part, "..") ? step_down(w, part, err) : step_up(w);
}

static int say_why(int rc, const char *name, const struct layer_place *at, struct dayfly_err *err)
{
    switch (rc) {
    case -ENOENT:
        return rc;
    case -ENOTDIR:
        return err_set(err, EINVAL,
                       "refused: \"" LAYER_NAME_CUT "\" is behind \"%.40s\", which is a file", name,
                       at->path);
    case -ELOOP:
        return err_set(
            err, EINVAL,
            "refused: \"" LAYER_NAME_CUT "\" is behind links that lead in a circle, or too far", name);
    case -ENAMETOOLONG:
        return err_set(err, EINVAL,
                       "refused: \"" LAYER_NAME_CUT "\" is behind links to too long a name", name);
    default:
        return err_errno(err, -rc, "\"" LAYER_NAME_CUT "\"", name);
    }
}

int layer_walk(struct layer_tree *tree, const char *name, size_t len, enum layer_walk how,
               struct layer_place *out, struct dayfly_err *err)
{
    struct walk w = {.tree = tree, .how = how, .at = out};
    out->fd = -1;
    if (len >= PATH_MAX)
        return say_why(-ENAMETOOLONG, name, out, err);
    w.left = w.text + LINKS_BYTES;
    memcpy(w.left, name, len);
    w.left[len] = '\0';
    int rc = to_root(&w);
    while (!rc && *w.left)
        rc = step(&w, err);
    if (!rc)
        return 0;
    close_fd(&out->fd);
    return w.said ? rc : say_why(rc, name, out, err);
}
