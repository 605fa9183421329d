/* SPDX-License-Identifier: Apache-2.0 */
/* What the ciphertext is, that there is no plaintext beside it, and where the key is not. */
#include "block/testing_stack.h"

#include <stdio.h>
#include <sys/mman.h>

#include "block/cipher.h"
#include "util/secret.h"

/* -- the cipher ---------------------------------------------------------------------------------- */

/* IEEE 1619-2007, annex B, vector 10. Its unit has 512 bytes; ours begins with the same ones. */
static void test_a_known_answer(void **state)
{
    static const uint8_t key[CIPHER_KEY_BYTES] = {
        0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26,
        0x62, 0x49, 0x77, 0x57, 0x24, 0x70, 0x93, 0x69, 0x99, 0x59, 0x57, 0x49, 0x66, 0x96, 0x76, 0x27,
        0x31, 0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95,
        0x02, 0x88, 0x41, 0x97, 0x16, 0x93, 0x99, 0x37, 0x51, 0x05, 0x82, 0x09, 0x74, 0x94, 0x45, 0x92};
    static const uint8_t begins[] = {0x1c, 0x3b, 0x3a, 0x10, 0x2f, 0x77, 0x03, 0x86, 0xe4, 0x83, 0x6c,
                                     0x99, 0xe3, 0x70, 0xcf, 0x9b, 0xea, 0x00, 0x80, 0x3f, 0x5e, 0x48,
                                     0x23, 0x57, 0xa4, 0xae, 0x12, 0xd4, 0x14, 0xa3, 0xe6, 0x3b};
    uint8_t plain[CIPHER_UNIT_BYTES], out[CIPHER_UNIT_BYTES];
    struct dayfly_err err;
    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)i;
    /* The same through the back end: what is below is the standard's ciphertext at the unit's place. */
    struct toy *toy = toy_new(1 << 21, 1);
    struct block *block;
    assert_int_equal(
        block_crypt_open(&block,
                         &(struct block_crypt_options){.lower = &toy->block, .key = key, .threads = 2},
                         &err),
        0);
    assert_int_equal(run_one(block, BLOCK_WRITE, 0xff * 4096, plain, sizeof(plain)), 0);
    assert_memory_equal(toy->bytes + 0xff * 4096, begins, sizeof(begins));
    assert_int_equal(run_one(block, BLOCK_READ, 0xff * 4096, out, sizeof(out)), 0);
    assert_memory_equal(out, plain, sizeof(plain));
    block_destroy(block);
}

static void test_a_weak_key_is_refused(void **state)
{
    static const uint8_t key[CIPHER_KEY_BYTES]; /* its halves are the same */
    struct dayfly_err err;
    struct block *block = NULL;
    struct toy *toy = toy_new(1 << 20, 1);
    assert_int_equal(
        block_crypt_open(&block,
                         &(struct block_crypt_options){.lower = &toy->block, .key = key, .threads = 2},
                         &err),
        -EINVAL);
    assert_null(block);
    assert_non_null(strstr(err.msg, "same"));
}

static void test_a_disk_of_less_than_a_unit_is_refused(void **state)
{
    struct dayfly_err err;
    struct block *block = NULL;
    struct toy *toy = toy_new(3584, 1);
    assert_int_equal(
        block_crypt_open(&block, &(struct block_crypt_options){.lower = &toy->block}, &err), -EINVAL);
    assert_null(block);
}

static void test_errors_come_through(void **state)
{
    static uint8_t buf[1 << 20];
    struct toy *toy = toy_new(4 << 20, 1);
    struct block *block;
    assert_int_equal(
        block_crypt_open(&block, &(struct block_crypt_options){.lower = &toy->block}, NULL), 0);
    toy->fail_writes = -ENOSPC;
    assert_int_equal(run_one(block, BLOCK_WRITE, 0, buf, sizeof(buf)), -ENOSPC);
    assert_int_equal(run_one(block, BLOCK_WRITE_ZEROES, 0, NULL, sizeof(buf)), -ENOSPC);
    /* Eight times the buffers at once: those that wait for one fail as well, and nothing hangs. */
    struct waited all[32];
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        prepare(&all[i], BLOCK_WRITE, 0, buf, sizeof(buf));
        assert_int_equal(block_submit(block, &all[i].request), 0);
    }
    block_drain(block);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        assert_int_equal(all[i].result, -ENOSPC);
    toy->fail_writes = 0;
    assert_int_equal(run_one(block, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
    assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
    assert_int_equal(toy->flushes, 1);
    block_destroy(block);
}

/* -- no plaintext -------------------------------------------------------------------------------- */

#define MARKER "all that the job wrote, and synced, it wrote for itself alone"

static bool file_contains(int fd, const char *text)
{
    uint64_t bytes = (uint64_t)lseek(fd, 0, SEEK_END);
    _cleanup_free_ char *all = malloc(bytes);
    assert_int_equal(pread(fd, all, bytes, 0), bytes);
    return memmem(all, bytes, text, strlen(text));
}

/* Whole and partial clusters, over the base and again, in segments that are cut. */
static void write_markers(struct block *block)
{
    uint8_t buf[65536 + 512];
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)MARKER[i % strlen(MARKER)];
    for (int again = 0; again < 2; again++) {
        for (uint64_t i = 0; i < 16; i++) {
            uint64_t offset = align_down(i * 131072 + i * 512, block->unit_bytes);
            uint64_t len = align_down(i % 2 ? sizeof(buf) : 12288 - 512 * i, block->unit_bytes);
            struct waited w;
            struct iovec cut[] = {{buf, 1000}, {buf + 1000, 20}, {buf + 1020, len - 1020}};
            prepare(&w, BLOCK_WRITE, offset, buf, len);
            w.request.iov = cut;
            w.request.iov_count = ARRAY_SIZE(cut);
            assert_int_equal(run_waited(block, &w), 0);
        }
    }
    assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
}

static void test_the_file_has_no_plaintext(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(stack_kinds); i++) {
        if (stack_kinds[i].toy)
            continue;
        struct stacked s = stack_up(&stack_kinds[i]);
        write_markers(s.block);
        assert_int_equal(file_contains(s.file, MARKER), !stack_kinds[i].crypt);
        stack_down(&s);
    }
}

/* What is the same on the disk looks different, by place and by disk. */
static void test_nothing_repeats(void **state)
{
    static uint8_t zeroes[64 * 4096];
    uint8_t *content[2];
    for (int disk = 0; disk < 2; disk++) {
        struct stacked s = stack_up(&stack_kinds[4]);
        assert_true(s.toy && stack_kinds[4].crypt && !stack_kinds[4].overlay);
        assert_int_equal(run_one(s.block, BLOCK_WRITE, 0, zeroes, sizeof(zeroes)), 0);
        content[disk] = malloc(sizeof(zeroes));
        memcpy(content[disk], s.toy->bytes, sizeof(zeroes));
        stack_down(&s);
    }
    for (size_t i = 0; i < sizeof(zeroes); i += 16) {
        assert_memory_not_equal(content[0] + i, content[1] + i, 16);
        for (size_t k = 0; k < i; k += 512)
            assert_memory_not_equal(content[0] + i, content[0] + k, 16);
    }
    free(content[0]);
    free(content[1]);
}

/* -- the key ------------------------------------------------------------------------------------- */

#define MASK  0x5a
#define PART  16u
#define PARTS (CIPHER_KEY_BYTES / PART)

/*
 * How often a part of the key is in this process's writable memory. `masked` is the key, each byte
 * XOR MASK, so that the search does not find itself.
 */
static unsigned find_key(const uint8_t masked[CIPHER_KEY_BYTES])
{
    unsigned found = 0;
    char line[512], rights[5];
    unsigned long begin, end;
    _cleanup_fclose_ FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx %4s", &begin, &end, rights) != 3 || strncmp(rights, "rw", 2) != 0)
            continue;
        for (const uint8_t *at = (const uint8_t *)begin; at + PART <= (const uint8_t *)end; at++) {
            for (unsigned p = 0; p < PARTS; p++) {
                unsigned same = 0;
                while (same < PART && (at[same] ^ MASK) == masked[p * PART + same])
                    same++;
                found += same == PART;
            }
        }
    }
    return found;
}

/* A sanitizer's shadow would take days to look through, and its quarantine keeps what was freed. */
static bool is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer);
#else
    return false;
#endif
}

static void test_the_key_is_gone_after_the_end(void **state)
{
    static uint8_t key[CIPHER_KEY_BYTES], masked[CIPHER_KEY_BYTES];
    static uint8_t buf[1 << 20];
    uint64_t seed = (uint64_t)getpid();
    if (is_sanitized())
        skip();
    fill_by_chance(&seed, masked, sizeof(masked));
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = masked[i] ^ MASK;
    struct toy *toy = toy_new(4 << 20, 1);
    struct block *block;
    assert_int_equal(
        block_crypt_open(&block,
                         &(struct block_crypt_options){.lower = &toy->block, .key = key, .threads = 2},
                         NULL),
        0);
    assert_true(find_key(masked) > PARTS); /* the search finds it: ours, and what OpenSSL made of it */
    explicit_bzero(key, sizeof(key));
    assert_true(find_key(masked) > 0);
    assert_int_equal(run_one(block, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
    assert_int_equal(run_one(block, BLOCK_READ, 0, buf, sizeof(buf)), 0);
    block_destroy(block);
    assert_int_equal(find_key(masked), 0);
}

/* What the kernel says of the mapping at an address, or NULL. The caller frees it. */
static char *flags_of(const void *address)
{
    char line[512];
    unsigned long begin, end;
    bool here = false;
    _cleanup_fclose_ FILE *maps = fopen("/proc/self/smaps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            here = begin <= (unsigned long)address && (unsigned long)address < end;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            return strdup(line);
    }
    return NULL;
}

static void count_lines(void *opaque, enum log_level level, const char *line)
{
    ++*(unsigned *)opaque;
}

static void test_a_secret_stays_here(void **state)
{
    unsigned lines = 0;
    const struct log log = {.write = count_lines, .opaque = &lines, .level = LOG_DEBUG};
    struct secret secret;
    assert_int_equal(secret_new(&secret, 64, &log, NULL), 0);
    memset(secret.bytes, 1, 64);
    const void *where = secret.bytes;
    _cleanup_free_ char *flags = flags_of(where);
    assert_non_null(flags);
    assert_non_null(strstr(flags, " dd")); /* not dumped */
    assert_non_null(strstr(flags, " dc")); /* not copied by fork */
    if (!is_sanitized())                   /* which makes mlock succeed and do nothing */
        assert_int_equal(!strstr(flags, " lo"), lines > 0);
    secret_finish(&secret);
    assert_null(secret.bytes);
    _cleanup_free_ char *after = flags_of(where);
    assert_true(!after || !strstr(after, " dd"));
    secret_finish(&secret);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_known_answer),
        cmocka_unit_test(test_a_weak_key_is_refused),
        cmocka_unit_test(test_a_disk_of_less_than_a_unit_is_refused),
        cmocka_unit_test(test_errors_come_through),
        cmocka_unit_test(test_the_file_has_no_plaintext),
        cmocka_unit_test(test_nothing_repeats),
        cmocka_unit_test(test_the_key_is_gone_after_the_end),
        cmocka_unit_test(test_a_secret_stays_here),
    };
    return cmocka_run_group_tests_name("block-crypt", tests, NULL, NULL);
}
