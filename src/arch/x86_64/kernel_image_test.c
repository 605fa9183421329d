/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/kernel_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "arch/x86_64/testing_kernel.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/late.h"

#define IMAGE_BYTES (2 * sizeof(struct test_kernel))

struct fixture {
    struct test_kernel kernel;
    unsigned char payload[IMAGE_BYTES];
    unsigned char image[IMAGE_BYTES];
    size_t payload_len, image_len;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    test_kernel_init(&f->kernel);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static const struct {
    const char *name;
    int (*filter)(struct archive *); /* NULL: LZ4 legacy */
} formats[] = {
    {"gzip", archive_write_add_filter_gzip}, {"bzip2", archive_write_add_filter_bzip2},
    {"lzma", archive_write_add_filter_lzma}, {"xz", archive_write_add_filter_xz},
    {"zstd", archive_write_add_filter_zstd}, {"LZ4", NULL},
};

/* Compress f->kernel as Linux's build would, and wrap it. */
static void make_image(struct fixture *f, size_t format)
{
    if (formats[format].filter)
        f->payload_len = test_compress(formats[format].filter, &f->kernel, sizeof(f->kernel),
                                       f->payload, sizeof(f->payload));
    else
        f->payload_len = test_lz4_legacy(&f->kernel, sizeof(f->kernel), f->payload);
    if (strcmp(formats[format].name, "gzip") != 0) {
        uint32_t size = sizeof(f->kernel);
        memcpy(f->payload + f->payload_len, &size, 4);
        f->payload_len += 4;
    }
    f->image_len = test_bzimage(f->payload, (uint32_t)f->payload_len, f->image);
}

/* Unpack these bytes to a fresh file. */
static int unpack(const void *bytes, size_t len, int *out_fd, struct dayfly_err *err)
{
    _cleanup_close_ int in = test_file(bytes, len);
    *out_fd = memfd_create("out", MFD_CLOEXEC);
    return kernel_image_unpack(in, *out_fd, err);
}

static void assert_unpacks(const void *bytes, size_t len, const struct test_kernel *kernel)
{
    struct dayfly_err err = {0};
    _cleanup_close_ int out = -1;
    int rc = unpack(bytes, len, &out, &err);
    if (rc < 0)
        fail_msg("%s", err.msg);
    static struct test_kernel got;
    struct stat st;
    assert_int_equal(fstat(out, &st), 0);
    assert_int_equal(st.st_size, sizeof(got));
    assert_int_equal(io_pread_full(out, &got, sizeof(got), 0), sizeof(got));
    assert_memory_equal(&got, kernel, sizeof(got));
    /* The zeroes are a hole. */
    assert_true(st.st_blocks * 512 < (off_t)sizeof(got));
}

static void assert_refused(const void *bytes, size_t len, int code, const char *message)
{
    struct dayfly_err err = {0};
    _cleanup_close_ int out = -1;
    int rc = unpack(bytes, len, &out, &err);
    if (rc != -code || !strstr(err.msg, message))
        fail_msg("got %d \"%s\", not %d \"...%s...\"", rc, err.msg, -code, message);
}

static void test_an_elf_file_is_copied(void **state)
{
    struct fixture *f = *state;
    assert_unpacks(&f->kernel, sizeof(f->kernel), &f->kernel);
}

static void test_every_compression_unpacks(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        print_message("%s\n", formats[i].name);
        make_image(f, i);
        assert_unpacks(f->image, f->image_len, &f->kernel);
    }
}

static void test_the_file_offset_does_not_matter(void **state)
{
    struct fixture *f = *state;
    make_image(f, 0);
    _cleanup_close_ int in = test_file(f->image, f->image_len), out = memfd_create("out", 0);
    assert_int_equal(lseek(in, 77, SEEK_SET), 77);
    assert_int_equal(kernel_image_unpack(in, out, NULL), 0);
    assert_int_equal(lseek(in, 0, SEEK_CUR), 77);
}

static void test_a_checksum_finds_damage(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        /* The kernel's formats without one, or (zstd) as libarchive writes it. */
        if (!formats[i].filter || formats[i].filter == archive_write_add_filter_lzma ||
            formats[i].filter == archive_write_add_filter_zstd)
            continue;
        make_image(f, i);
        f->image[TEST_BZIMAGE_PAYLOAD + f->payload_len / 2] ^= 0x55;
        assert_refused(f->image, f->image_len, EBADMSG, "damaged");
    }
}

static void test_a_truncated_file_says_so(void **state)
{
    struct fixture *f = *state;
    assert_refused("", 0, ENOEXEC, "empty");
    assert_refused(&f->kernel, 40, EBADMSG, "truncated");
    assert_refused(&f->kernel, 70, EBADMSG, "truncated");
    assert_refused(&f->kernel, sizeof(f->kernel) - 1, EBADMSG, "truncated");
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        make_image(f, i);
        assert_refused(f->image, 0x24f, EBADMSG, "truncated");
        assert_refused(f->image, 0x250, EBADMSG, "truncated");
        assert_refused(f->image, TEST_BZIMAGE_PAYLOAD + f->payload_len - 1, EBADMSG, "truncated");
    }
}

static void test_a_stream_that_ends_early_is_damaged(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        make_image(f, i);
        uint32_t size = sizeof(f->kernel), half = (uint32_t)f->payload_len / 2;
        memcpy(f->payload + half - 4, &size, 4);
        f->image_len = test_bzimage(f->payload, half, f->image);
        assert_refused(f->image, f->image_len, EBADMSG, "damaged");
    }
}

static void test_the_size_in_the_trailer_is_held_to(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        static const int32_t offsets[] = {-1, 1, -(int32_t)sizeof(struct test_kernel), 100000};
        for (size_t j = 0; j < ARRAY_SIZE(offsets); j++) {
            make_image(f, i);
            uint32_t size = (uint32_t)((int32_t)sizeof(f->kernel) + offsets[j]);
            memcpy(f->image + TEST_BZIMAGE_PAYLOAD + f->payload_len - 4, &size, 4);
            assert_refused(f->image, f->image_len, EBADMSG, "damaged");
        }
        uint32_t size = (1u << 30) + 1;
        memcpy(f->image + TEST_BZIMAGE_PAYLOAD + f->payload_len - 4, &size, 4);
        assert_refused(f->image, f->image_len, EFBIG, "at most");
    }
}

static void test_what_is_no_kernel_says_so(void **state)
{
    struct fixture *f = *state;
    static const char text[1024] = "#!/bin/sh\n";
    assert_refused(text, sizeof(text), ENOEXEC, "neither");
    assert_refused("x", 1, ENOEXEC, "neither");

    make_image(f, 0);
    f->image[TEST_BZIMAGE_PAYLOAD] = 0x89;
    assert_refused(f->image, f->image_len, ENOTSUP, "compression");
    make_image(f, 0);
    f->image[0x206] = 7;
    assert_refused(f->image, f->image_len, ENOEXEC, "boot protocol 2.07");
    make_image(f, 0);
    memset(f->image + 0x24c, 0, 4);
    assert_refused(f->image, f->image_len, EBADMSG, "payload of 0");
    memset(f->image + 0x248, 0xff, 8);
    assert_refused(f->image, f->image_len, EBADMSG, "truncated");

    f->kernel.note.pvh.n_type = 17;
    assert_refused(&f->kernel, sizeof(f->kernel), ENOEXEC, "CONFIG_PVH=y");
    make_image(f, 0);
    assert_refused(f->image, f->image_len, ENOEXEC, "CONFIG_PVH=y");

    _cleanup_close_ int out = memfd_create("out", 0), dir = open("/", O_RDONLY | O_CLOEXEC);
    struct dayfly_err err = {0};
    assert_int_equal(kernel_image_unpack(dir, out, &err), -EINVAL);
}

/* Kernels of a distribution, where someone has them: DAYFLY_TEST_KERNELS="vmlinuz-1 vmlinuz-2". */
static void test_real_kernels_unpack(void **state)
{
    (void)state;
    const char *list = getenv("DAYFLY_TEST_KERNELS");
    if (!list)
        skip();
    _cleanup_free_ char *names = strdup(list);
    char *rest = names;
    for (char *name; (name = strsep(&rest, " ")) != NULL;) {
        struct dayfly_err err = {0};
        _cleanup_close_ int in = open(name, O_RDONLY | O_CLOEXEC), out = memfd_create("out", 0);
        print_message("%s\n", name);
        if (kernel_image_unpack(in, out, &err) < 0)
            fail_msg("%s: %s", name, err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_elf_file_is_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_compression_unpacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_file_offset_does_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_checksum_finds_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_truncated_file_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stream_that_ends_early_is_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_size_in_the_trailer_is_held_to, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_kernel_says_so, setup, teardown),
        cmocka_unit_test(test_real_kernels_unpack),
    };
    late_archive(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
