/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_HOME_H
#define UTIL_HOME_H

/*
 * Where Dayfly keeps things.
 *
 *   data (images, kernels, caches)   $DAYFLY_HOME, else root: /var/lib/dayfly,
 *                                    else $XDG_DATA_HOME/dayfly, else $HOME/.local/share/dayfly
 *   run  (running sandboxes)         root: /run/dayfly, else $XDG_RUNTIME_DIR/dayfly
 *
 * A variable that is not an absolute path is refused, not ignored: data would land where nobody looks.
 */

#include <stddef.h>

#include "dayfly/error.h"

/* Write the directory's path into out (bytes long, NUL included). Nothing is created.
 * -ENOENT when the environment does not say, -EINVAL for a relative path, -ENAMETOOLONG. */
int home_data_dir(char *out, size_t bytes, struct dayfly_err *err);
int home_run_dir(char *out, size_t bytes, struct dayfly_err *err);

/* Create `path` and its missing parents, each with `mode`. An existing directory is left as it is. */
int home_make_dirs(const char *path, unsigned mode, struct dayfly_err *err);

#endif
