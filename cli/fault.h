/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_FAULT_H
#define CLI_FAULT_H

#include "dayfly/config.h"

/* "error" or "warning". */
const char *fault_severity_name(enum dayfly_severity severity);

/* One fault of a machine file on standard error, as a compiler would put it, its hint on a line of its
 * own. `file` is its name where the fault has none. */
void fault_print(const struct dayfly_fault *fault, const char *file);

/* Faults that are printed as they are found. */
struct fault_teller {
    const char *file; /* borrowed */
    unsigned errors;
};

/* A dayfly_report_fn; `teller` is a struct fault_teller. */
void fault_tell(void *teller, const struct dayfly_fault *fault);

/* What the reading ended with: where it were faults, have err say how many, in place of the first,
 * which was printed. Returns rc. */
int fault_told(const struct fault_teller *teller, int rc, struct dayfly_err *err);

#endif
