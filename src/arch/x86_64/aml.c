/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AML grows front to back, but a PkgLength stands in front of what it counts and has one to four
 * bytes. So `begin` notes where the content starts, and `end` moves the content up by as many bytes
 * as its length needs. Nesting is a few levels deep and a DSDT some hundred bytes long.
 */
#include "arch/x86_64/aml.h"

#include <assert.h>
#include <string.h>

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_DUAL_NAME = 0x2e,
    OP_MULTI_NAME = 0x2f,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
    OP_ARG0 = 0x68,
    OP_NOTIFY = 0x86,
    OP_EQUAL = 0x93,
    OP_IF = 0xa0,
};

#define NAME_SEG_BYTES 4

/* Resource descriptors: small items have their length in the tag, large ones behind it. */
enum {
    RES_IO = 0x47,
    RES_END_TAG = 0x79,
    RES_MEMORY32_FIXED = 0x86,
    RES_DWORD_SPACE = 0x87,
    RES_WORD_SPACE = 0x88,
    RES_INTERRUPT = 0x89,
    RES_QWORD_SPACE = 0x8a,
};

#define SPACE_MEMORY        0
#define SPACE_BUS           2
#define SPACE_FIXED         (1 << 2 | 1 << 3) /* minimum and maximum address are fixed; producer */
#define SPACE_MEMORY_RW     1                 /* read-write, not cacheable */
#define INTERRUPT_EDGE_HIGH (1 << 0 | 1 << 1) /* consumer, edge-triggered; active high, exclusive */

void aml_init(struct aml *aml, void *buf, size_t cap)
{
    *aml = (struct aml){.buf = buf, .cap = cap};
}

/* Make room for len bytes at pos, moving what is behind. NULL on overflow. */
static unsigned char *insert(struct aml *aml, size_t pos, size_t len)
{
    if (aml->overflow || len > aml->cap - aml->len) {
        aml->overflow = true;
        return NULL;
    }
    unsigned char *at = aml->buf + pos;
    memmove(at + len, at, aml->len - pos);
    aml->len += len;
    return at;
}

/* The low `bytes` bytes of value, little-endian. */
static void put(struct aml *aml, uint64_t value, size_t bytes)
{
    unsigned char *at = insert(aml, aml->len, bytes);
    for (size_t i = 0; at && i < bytes; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static void put8(struct aml *aml, uint8_t value)
{
    put(aml, value, 1);
}

static void put_text(struct aml *aml, const char *text, size_t bytes)
{
    unsigned char *at = insert(aml, aml->len, bytes);
    if (at)
        memcpy(at, text, bytes);
}

/* NameString (20.2.2). */
static void put_path(struct aml *aml, const char *path)
{
    if (*path == '\\') {
        put8(aml, '\\');
        path++;
    }
    unsigned segments = 1;
    for (const char *p = path; *p; p++)
        segments += *p == '.';
    assert(*path && segments < 256);
    if (segments == 2) {
        put8(aml, OP_DUAL_NAME);
    } else if (segments > 2) {
        put8(aml, OP_MULTI_NAME);
        put8(aml, (uint8_t)segments);
    }
    while (segments-- > 0) {
        size_t len = strcspn(path, ".");
        assert(len > 0 && len <= NAME_SEG_BYTES);
        put_text(aml, path, len);
        put_text(aml, "____", NAME_SEG_BYTES - len);
        path += len + (path[len] == '.');
    }
}

/* PkgLength (20.2.4) for what was written since mark; it counts itself. */
void aml_end(struct aml *aml, size_t mark)
{
    if (aml->overflow)
        return;
    size_t len = aml->len - mark, bytes = 1;
    if (len + 1 >= 1u << 6)
        for (bytes = 2; len + bytes >= (size_t)1 << (4 + 8 * (bytes - 1)); bytes++)
            assert(bytes < 4);
    unsigned char *at = insert(aml, mark, bytes);
    if (!at)
        return;
    len += bytes;
    if (bytes == 1) {
        at[0] = (unsigned char)len;
        return;
    }
    at[0] = (unsigned char)((bytes - 1) << 6 | (len & 0xf));
    for (size_t i = 1; i < bytes; i++)
        at[i] = (unsigned char)(len >> (4 + 8 * (i - 1)));
}

size_t aml_scope_begin(struct aml *aml, const char *path)
{
    put8(aml, OP_SCOPE);
    size_t mark = aml->len;
    put_path(aml, path);
    return mark;
}

size_t aml_device_begin(struct aml *aml, const char *name)
{
    put8(aml, OP_EXT);
    put8(aml, OP_EXT_DEVICE);
    size_t mark = aml->len;
    put_path(aml, name);
    return mark;
}

size_t aml_method_begin(struct aml *aml, const char *name, unsigned args, bool serialized)
{
    assert(args < 8);
    put8(aml, OP_METHOD);
    size_t mark = aml->len;
    put_path(aml, name);
    put8(aml, (uint8_t)(args | (unsigned)serialized << 3));
    return mark;
}

size_t aml_if_arg0_is_begin(struct aml *aml, uint64_t value)
{
    put8(aml, OP_IF);
    size_t mark = aml->len;
    put8(aml, OP_EQUAL);
    put8(aml, OP_ARG0);
    aml_integer(aml, value);
    return mark;
}

size_t aml_package_begin(struct aml *aml, unsigned elements)
{
    assert(elements < 256);
    put8(aml, OP_PACKAGE);
    size_t mark = aml->len;
    put8(aml, (uint8_t)elements);
    return mark;
}

void aml_integer(struct aml *aml, uint64_t value)
{
    if (value <= 1) {
        put8(aml, value ? OP_ONE : OP_ZERO);
        return;
    }
    static const uint8_t ops[] = {OP_BYTE, OP_WORD, OP_DWORD, OP_QWORD};
    size_t log = 0;
    while (log < 3 && value >> (8u << log))
        log++;
    put8(aml, ops[log]);
    put(aml, value, (size_t)1 << log);
}

void aml_string(struct aml *aml, const char *text)
{
    put8(aml, OP_STRING);
    put_text(aml, text, strlen(text) + 1);
}

/* Three letters of five bits and four hex digits, big-endian in a DWord (19.3.4). */
void aml_eisa_id(struct aml *aml, const char *id)
{
    assert(strlen(id) == 7);
    uint32_t v = 0;
    for (int i = 0; i < 3; i++)
        v = v << 5 | (uint32_t)(id[i] - '@');
    for (int i = 3; i < 7; i++)
        v = v << 4 | (uint32_t)(id[i] <= '9' ? id[i] - '0' : id[i] - 'A' + 10);
    put8(aml, OP_DWORD);
    put(aml, __builtin_bswap32(v), 4);
}

void aml_name(struct aml *aml, const char *name)
{
    put8(aml, OP_NAME);
    put_path(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

void aml_name_string(struct aml *aml, const char *name, const char *text)
{
    aml_name(aml, name);
    aml_string(aml, text);
}

void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
    aml_name(aml, name);
    aml_eisa_id(aml, id);
}

void aml_notify(struct aml *aml, const char *path, uint64_t value)
{
    put8(aml, OP_NOTIFY);
    put_path(aml, path);
    aml_integer(aml, value);
}

size_t aml_resources_begin(struct aml *aml)
{
    put8(aml, OP_BUFFER);
    return aml->len;
}

/* Behind the descriptors the end tag, whose checksum may be 0, "not computed" (6.4.2.9): so does iasl.
 * In front of them the buffer's size, and before that the package length. */
void aml_resources_end(struct aml *aml, size_t mark)
{
    put8(aml, RES_END_TAG);
    put8(aml, 0);
    size_t len = aml->len - mark;
    assert(len <= UINT8_MAX);
    unsigned char *at = insert(aml, mark, 2);
    if (!at)
        return;
    at[0] = OP_BYTE;
    at[1] = (unsigned char)len;
    aml_end(aml, mark);
}

void aml_io(struct aml *aml, uint16_t port, uint8_t len)
{
    put8(aml, RES_IO);
    put8(aml, 1); /* decodes 16 bits */
    put(aml, port, 2);
    put(aml, port, 2);
    put8(aml, 0);
    put8(aml, len);
}

void aml_interrupt_edge(struct aml *aml, uint32_t gsi)
{
    put8(aml, RES_INTERRUPT);
    put(aml, 6, 2);
    put8(aml, INTERRUPT_EDGE_HIGH);
    put8(aml, 1);
    put(aml, gsi, 4);
}

void aml_memory32_fixed(struct aml *aml, uint32_t gpa, uint32_t len)
{
    put8(aml, RES_MEMORY32_FIXED);
    put(aml, 9, 2);
    put8(aml, 1); /* read-write */
    put(aml, gpa, 4);
    put(aml, len, 4);
}

/* Word, DWord and QWord Address Space Descriptors differ in the width of their five numbers. */
static void put_space(struct aml *aml, uint8_t tag, size_t width, uint8_t type, uint8_t type_flags,
                      uint64_t first, uint64_t len)
{
    put8(aml, tag);
    put(aml, 3 + 5 * width, 2);
    put8(aml, type);
    put8(aml, SPACE_FIXED);
    put8(aml, type_flags);
    put(aml, 0, width); /* granularity */
    put(aml, first, width);
    put(aml, first + len - 1, width);
    put(aml, 0, width); /* translation */
    put(aml, len, width);
}

void aml_bus_range(struct aml *aml, uint16_t first, uint16_t last)
{
    put_space(aml, RES_WORD_SPACE, 2, SPACE_BUS, 0, first, (uint64_t)last - first + 1);
}

void aml_memory32_window(struct aml *aml, uint32_t gpa, uint32_t len)
{
    put_space(aml, RES_DWORD_SPACE, 4, SPACE_MEMORY, SPACE_MEMORY_RW, gpa, len);
}

void aml_memory64_window(struct aml *aml, uint64_t gpa, uint64_t len)
{
    put_space(aml, RES_QWORD_SPACE, 8, SPACE_MEMORY, SPACE_MEMORY_RW, gpa, len);
}
