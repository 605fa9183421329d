/* SPDX-License-Identifier: Apache-2.0 */
/* See late.h: the functions of OpenSSL's libcrypto that we call. */
#include "util/late.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "util/arith.h"

/* clang-format off */
#define FUNCTIONS(X) \
    X(EVP_CIPHER_CTX_free) \
    X(EVP_CIPHER_CTX_new) \
    X(EVP_CIPHER_fetch) \
    X(EVP_CIPHER_free) \
    X(EVP_CipherInit_ex2) \
    X(EVP_CipherUpdate)
/* clang-format on */

FUNCTIONS(LATE_DEFINE)

int late_crypto(struct dayfly_err *err)
{
    static atomic_bool loaded;
    static const struct late_function functions[] = {FUNCTIONS(LATE_ROW)};
    if (atomic_load_explicit(&loaded, memory_order_acquire))
        return 0;
    int r = late_load(LATE_CRYPTO, functions, ARRAY_SIZE(functions), err);
    if (r == 0)
        atomic_store_explicit(&loaded, true, memory_order_release);
    return r;
}
