/* SPDX-License-Identifier: Apache-2.0 */
#include "kinds.h"

const struct contract_kind *const contract_kinds[] = {
    &contract_block,
    &contract_block_threads,
    &contract_block_read_only,
    &contract_block_held,
    &contract_console,
    &contract_entropy,
    &contract_fs,
    &contract_net,
    &contract_net_offloads,
    &contract_vsock,
    NULL,
};
