/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_ARTIFACT_PLACE_H
#define JOB_ARTIFACT_PLACE_H

/*
 * A directory of the host in which artifacts are to appear. They come to stand in a directory of ours
 * in it, with a mode that shows nobody else what is in it, and are renamed from there when they are
 * whole.
 *
 * That directory is locked while it is used; one that is not was left behind by a runner that was
 * killed, and goes when the place is opened the next time, or is swept.
 */

#include <stddef.h>

#include "dayfly/error.h"
#include "util/held_dir.h"
#include "util/sweep.h"

#define PLACE_NEW "new" /* what is being made, in the directory of ours */

struct artifact_place {
    int dir_fd, stage_fd;            /* -1: not open */
    char stage[HELD_DIR_NAME_BYTES]; /* the name of the directory of ours */
};

/* Make the directory (of util/firm.h) if it is missing, and the one of ours in it. Returns 0 or
 * -errno. */
int artifact_place_open(struct artifact_place *place, const char *firm, struct dayfly_err *err);

/*
 * Give what stands as PLACE_NEW its name. A file takes another's place. A directory that is there
 * already is added to: its files give way to those of the same names, the others stay, and no symbolic
 * link is followed. A directory in the place of a file, or a file in that of a directory, is refused
 * (-EISDIR, -ENOTDIR); what came before it is then there already.
 */
int artifact_place_publish(struct artifact_place *place, const char *name, struct dayfly_err *err);

/* Remove the directory of ours. Safe on one that was not opened ({-1, -1}). */
void artifact_place_close(struct artifact_place *place);

/* Remove what killed runners left in the directory `path`. 0, or -errno when it cannot be looked into.
 */
int artifact_place_sweep(const char *path, const struct sweep *sweep, struct dayfly_err *err);

#endif
