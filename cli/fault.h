/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_FAULT_H
#define CLI_FAULT_H

#include "dayfly/config.h"

/* "error" or "warning". */
const char *fault_severity_name(enum dayfly_severity severity);

/* One fault of a machine file on standard error, as a compiler would put it, its hint on a line of its
 * own. `file` is its name where the fault has none. */
void fault_print(const struct dayfly_fault *fault, const char *file);

#endif
