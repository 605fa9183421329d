/* SPDX-License-Identifier: Apache-2.0 */
/* Run when Dayfly is built: writes filter_programs (filter_rules.h) to standard output, as C. */
#include <stdio.h>
#include <unistd.h>

#include "sandbox/filter_rules.h"

#define PROGRAM_MAX_BYTES (4096 * 8) /* the kernel's limit on a program */

static int print_program(size_t index)
{
    static unsigned char bytes[PROGRAM_MAX_BYTES];
    struct dayfly_err err;
    const struct filter_options options = {.shared_writes = index & 1, .shared_user = index & 2};
    int fd = filter_compile(&options, &err);
    if (fd < 0) {
        fprintf(stderr, "filter-build: %s\n", err.msg);
        return -1;
    }
    ssize_t len = pread(fd, bytes, sizeof(bytes), 0);
    close(fd);
    if (len <= 0 || (size_t)len == sizeof(bytes)) {
        fprintf(stderr, "filter-build: a filter that is empty, or too long\n");
        return -1;
    }
    printf("static const unsigned char program_%zu[] = {", index);
    for (ssize_t i = 0; i < len; i++)
        printf("%s%u,", i % 24 ? "" : "\n    ", bytes[i]);
    printf("\n};\n\n");
    return 0;
}

int main(void)
{
    printf("#include \"sandbox/filter_rules.h\"\n\n");
    for (size_t i = 0; i < FILTER_PROGRAMS; i++)
        if (print_program(i) < 0)
            return 1;
    printf("const struct filter_program filter_programs[FILTER_PROGRAMS] = {\n");
    for (size_t i = 0; i < FILTER_PROGRAMS; i++)
        printf("    {program_%zu, sizeof(program_%zu)},\n", i, i);
    printf("};\n");
    return fflush(stdout) == 0 ? 0 : 1;
}
