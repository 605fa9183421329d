/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTRACT_KINDS_H
#define CONTRACT_KINDS_H

#include "contract.h"

/* Every kind of device the suite knows, a file each; the last is NULL. */
extern const struct contract_kind *const contract_kinds[];

extern const struct contract_kind contract_block;
extern const struct contract_kind contract_block_threads;
extern const struct contract_kind contract_block_read_only;
extern const struct contract_kind contract_block_held;
extern const struct contract_kind contract_console;
extern const struct contract_kind contract_entropy;
extern const struct contract_kind contract_fs;
extern const struct contract_kind contract_net;
extern const struct contract_kind contract_net_offloads;
extern const struct contract_kind contract_vsock;

#endif
