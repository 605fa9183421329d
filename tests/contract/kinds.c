/* SPDX-License-Identifier: Apache-2.0 */
#include "kinds.h"

const struct contract_kind *const contract_kinds[] = {
    &contract_entropy,
    NULL,
};
