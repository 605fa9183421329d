/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_VM_H
#define ENGINE_VM_H

/* What only Dayfly itself asks of a public machine (dayfly/vm.h): how its start went. */

#include "dayfly/vm.h"
#include "util/trace.h"

/* dayfly_vm_new; `trace`, NULL or borrowed until dayfly_vm_free, gets the points between there and the
 * guest's first instruction. */
int vm_new_traced(struct dayfly_vm **out, const struct dayfly_config *config,
                  const struct dayfly_vm_options *options, struct trace *trace, struct dayfly_err *err);

/* The exits until now. False where the engine has none to count. Any thread, until dayfly_vm_free. */
bool vm_exits(const struct dayfly_vm *vm, struct trace_exits *out);

#endif
