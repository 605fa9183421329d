/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into a program, it has the Nth allocation fail, of those of the program and of its
 * libraries: malloc, calloc, realloc and what the C library makes of them. Processes that it forks
 * count on; one that it executes counts anew.
 *
 *     DAYFLY_FAULT_AT   N, 0: only count
 *     DAYFLY_FAULT_LOG  gets `hit PROGRAM malloc BYTES`, and `count N` when the program exits
 *
 * What is allocated before this library's constructor runs does not count (the loader's), nor what
 * libraries allocate that do not bear to be refused: libcrypto 3.0 follows a null pointer in
 * EVP_MD_fetch, and libjansson 2.14 goes on with a text cut short.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);

static atomic_ulong *counter; /* shared with what is forked */
static unsigned long at;
static pid_t program;

static void say(const char *format, unsigned long number)
{
    const char *path = getenv("DAYFLY_FAULT_LOG");
    char line[80];
    int n = snprintf(line, sizeof(line), format, number);
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd >= 0 && n > 0)
        (void)!write(fd, line, (size_t)n);
    if (fd >= 0)
        close(fd);
}

static bool is_spared(void *caller)
{
    static const char *const names[] = {"/libcrypto.", "/libjansson."};
    struct dl_find_object found;
    if (_dl_find_object(caller, &found) < 0)
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strstr(found.dlfo_link_map->l_name, names[i]))
            return true;
    return false;
}

static bool strikes(size_t bytes, void *caller)
{
    if (!counter || is_spared(caller) || atomic_fetch_add(counter, 1) + 1 != at)
        return false;
    say("hit program malloc %lu\n", bytes);
    errno = ENOMEM;
    return true;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t bytes)
{
    return strikes(bytes, CALLER) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return strikes(count * bytes, CALLER) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    return strikes(bytes, CALLER) ? NULL : __libc_realloc(old, bytes);
}

__attribute__((constructor)) static void begin(void)
{
    const char *number = getenv("DAYFLY_FAULT_AT");
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!number || page == MAP_FAILED)
        return;
    at = strtoul(number, NULL, 10);
    program = getpid();
    counter = page;
}

__attribute__((destructor)) static void end(void)
{
    if (counter && getpid() == program)
        say("count %lu\n", atomic_load(counter));
}
