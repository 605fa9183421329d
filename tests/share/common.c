/* SPDX-License-Identifier: Apache-2.0 */
#include "common.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A finaliser that spreads each bit of its argument over all of the result. */
static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

uint64_t random_next(struct random *random)
{
    return mix(random->state += 0x9e3779b97f4a7c15u);
}

uint64_t random_below(struct random *random, uint64_t n)
{
    return random_next(random) % n;
}

bool random_one_in(struct random *random, unsigned n)
{
    return random_below(random, n) == 0;
}

uint64_t random_seed(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return mix((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec) % 1000000;
}

void pattern_fill(void *to, size_t length, uint64_t key, uint64_t offset)
{
    unsigned char *byte = to;

    while (length > 0) {
        uint64_t word = mix(key + offset / 8) >> offset % 8 * 8;
        size_t n = 8 - offset % 8;

        if (n > length)
            n = length;
        memcpy(byte, &word, n);
        byte += n;
        offset += n;
        length -= n;
    }
}

uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
    const unsigned char *byte = bytes;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}

uint64_t parse_number(const char *option, const char *text)
{
    char *end;
    unsigned long long value;
    unsigned shift = 0;

    errno = 0;
    value = strtoull(text, &end, 0);
    if (end != text && *end != '\0' && end[1] == '\0')
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (end == text || errno || *text == '-' || (*end != '\0' && !shift) || value > UINT64_MAX >> shift)
        unable("%s: not a number: '%s'", option, text);
    return (uint64_t)value << shift;
}

static void complain(const char *format, va_list arguments, int error)
{
    fflush(stdout);
    fputs("share-exercise: ", stderr);
    vfprintf(stderr, format, arguments);
    if (error)
        fprintf(stderr, ": %s", strerror(error));
    fputc('\n', stderr);
}

void unable(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    complain(format, arguments, 0);
    va_end(arguments);
    exit(EXIT_UNABLE);
}

void unable_errno(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    complain(format, arguments, errno);
    va_end(arguments);
    exit(EXIT_UNABLE);
}

int read_all_at(int fd, void *to, size_t length, off_t offset)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(fd, (char *)to + done, length - done, offset + (off_t)done);

        if (n < 0)
            return -errno;
        if (n == 0)
            return -ENODATA;
        done += (size_t)n;
    }
    return 0;
}

int write_all_at(int fd, const void *from, size_t length, off_t offset)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = pwrite(fd, (const char *)from + done, length - done, offset + (off_t)done);

        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

int rename_flags(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}
