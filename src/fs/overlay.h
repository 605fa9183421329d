/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_OVERLAY_H
#define FS_OVERLAY_H

/* One entry of an overlay's upper directory, beside what the base has under the same name. */

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>

enum overlay_kind {
    OVERLAY_WHITEOUT, /* the base's entry is deleted */
    OVERLAY_MERGED,   /* a directory, shown together with the base's */
    OVERLAY_FULL,     /* whatever it is, it stands for itself and hides the base's */
};

struct overlay_entry {
    enum overlay_kind kind;
    struct stat st;
    bool in_base;
    bool base_is_dir;
    bool attributes_differ; /* mode or owner, of two directories that are merged */
};

/* `base_fd` -1: there is no base here. Returns 0 or -errno. */
int overlay_look(int upper_fd, int base_fd, const char *name, struct overlay_entry *entry);

/* The names in a directory, "." and ".." left out, sorted by bytes. Returns their number or -errno. */
int overlay_names(int dir_fd, struct dirent ***names);
/* Safe after a failure. */
void overlay_free_names(struct dirent **names, int count);

/* Remove overlayfs's own marks (trusted.overlay.*, user.overlay.*) from an entry; where they cannot be
 * seen or removed there were none that we made. Returns 0 or -errno. */
int overlay_clear_marks(int dir_fd, const char *name);

#endif
