/* SPDX-License-Identifier: Apache-2.0 */
#include "util/late.h"

#include <dlfcn.h>
#include <errno.h>

#include "util/err.h"

/* What every function is until it has been found. */
__asm__(".pushsection .text,\"ax\"\n"
        ".hidden late_nothing\n.globl late_nothing\n.type late_nothing, @function\n"
        "late_nothing:\n"
        ".cfi_startproc\n"
        "xor %eax, %eax\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size late_nothing, . - late_nothing\n"
        ".popsection\n");

/* Two threads that are here at once find the same: the second one's stores change nothing. */
int late_load(const char *soname, const struct late_function *functions, size_t count,
              struct dayfly_err *err)
{
    void *library = dlopen(soname, RTLD_LAZY | RTLD_LOCAL);
    if (!library)
        return err_set(err, ENOENT, "the library %s cannot be loaded: is its package installed?",
                       soname);
    for (size_t i = 0; i < count; i++)
        if (!dlsym(library, functions[i].name)) {
            dlclose(library);
            return err_set(err, ENOSYS, "the library %s has no %s: it is of another version", soname,
                           functions[i].name);
        }
    for (size_t i = 0; i < count; i++)
        __atomic_store_n(functions[i].slot, dlsym(library, functions[i].name), __ATOMIC_RELEASE);
    return 0;
}
