/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_MODULES_H
#define AGENT_MODULES_H

#define MODULES_LIST "/lib/modules/load"

/* Load the kernel modules that MODULES_LIST names, one path a line, in that order. Those that are
 * missing, loaded already or built in are passed over: what the machine really lacks shows when it is
 * used. */
void modules_load(void);

#endif
