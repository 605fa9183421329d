/* SPDX-License-Identifier: Apache-2.0 */
#include "image/modinfo.h"

#include <elf.h>
#include <stdint.h>
#include <string.h>

#include "util/arith.h"

/* The bytes of the section `name`, or NULL. */
static const char *section(const uint8_t *elf, size_t len, const char *name, size_t *out_len)
{
    Elf64_Ehdr head;
    Elf64_Shdr names, sh;
    if (len < sizeof(head))
        return NULL;
    memcpy(&head, elf, sizeof(head));
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
        head.e_ident[EI_DATA] != ELFDATA2LSB || head.e_shentsize != sizeof(sh) ||
        head.e_shstrndx >= head.e_shnum ||
        !range_within(head.e_shoff, (uint64_t)head.e_shnum * sizeof(sh), len))
        return NULL;
    memcpy(&names, elf + head.e_shoff + (size_t)head.e_shstrndx * sizeof(sh), sizeof(names));
    if (!range_within(names.sh_offset, names.sh_size, len))
        return NULL;
    for (unsigned i = 0; i < head.e_shnum; i++) {
        memcpy(&sh, elf + head.e_shoff + (size_t)i * sizeof(sh), sizeof(sh));
        /* With the NUL: a longer name that begins so is another one. */
        if (sh.sh_type != SHT_NOBITS && range_within(sh.sh_offset, sh.sh_size, len) &&
            range_within(sh.sh_name, strlen(name) + 1, names.sh_size) &&
            !memcmp(elf + names.sh_offset + sh.sh_name, name, strlen(name) + 1)) {
            *out_len = sh.sh_size;
            return (const char *)elf + sh.sh_offset;
        }
    }
    return NULL;
}

const char *modinfo_get(const void *module, size_t len, const char *key, const char *from)
{
    size_t info_len = 0, key_len = strlen(key);
    const char *info = section(module, len, ".modinfo", &info_len);
    for (size_t at = 0; info && at < info_len;) {
        const char *word = info + at;
        size_t word_len = strnlen(word, info_len - at);
        if (word_len == info_len - at)
            break; /* no NUL behind it */
        if (word_len > key_len && !memcmp(word, key, key_len) && word[key_len] == '=' &&
            (!from || word > from))
            return word + key_len + 1;
        at += word_len + 1;
    }
    return NULL;
}

size_t modinfo_unsigned_len(const void *module, size_t len)
{
    static const char mark[] = "~Module signature appended~\n";
    const size_t mark_len = sizeof(mark) - 1;
    struct {
        uint8_t algorithm, hash, id_type, signer_len, key_id_len, pad[3];
        uint8_t signature_len[4]; /* big-endian */
    } trailer;
    const uint8_t *bytes = module;
    if (len < sizeof(trailer) + mark_len || memcmp(bytes + len - mark_len, mark, mark_len) != 0)
        return len;
    size_t rest = len - mark_len - sizeof(trailer);
    memcpy(&trailer, bytes + rest, sizeof(trailer));
    const uint8_t *b = trailer.signature_len;
    uint64_t drop = ((uint64_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3]) + trailer.signer_len +
                    trailer.key_id_len;
    return drop <= rest ? rest - (size_t)drop : len;
}

bool modinfo_same_name(const char *a, size_t len, const char *b)
{
    if (strlen(b) != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];
        if (x != y)
            return false;
    }
    return true;
}
