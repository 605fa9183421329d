/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels from packages made by hand. DAYFLY_TEST_DEB=FILE runs one of them on a real package. */
#include "image/kernel.h"

#include "util/testing.h"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <errno.h>
#include <sys/stat.h>

#define TEST_ZEROES 4096
#include "arch/x86_64/testing_kernel.h"
#include "image/deb.h"
#include "image/modinfo.h"
#include "image/testing_store.h"
#include "util/arith.h"
#include "util/io.h"
#include "util/late.h"

struct fixture {
    struct testing_home home;
    struct store store;
    char deb[100];
};

static int set_up(void **state)
{
    static struct fixture f;
    char path[128];
    f.home = testing_home_make();
    snprintf(f.deb, sizeof(f.deb), "%s/test.deb", f.home.path);
    snprintf(path, sizeof(path), "%s/data", f.home.path);
    assert_int_equal(store_open(&f.store, path, STORE_WRITE, NULL), 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_close(&f->store);
    testing_home_remove(&f->home);
    return 0;
}

/* ---- modules and packages ---- */

/* A module that is nothing but its .modinfo. */
struct module_file {
    Elf64_Ehdr head;
    Elf64_Shdr sections[3]; /* null, .modinfo, .shstrtab */
    char names[32];
    char info[200];
};

static struct module_file module_file(const char *depends, const char *softdep)
{
    struct module_file m = {0};
    memcpy(m.head.e_ident, ELFMAG, SELFMAG);
    m.head.e_ident[EI_CLASS] = ELFCLASS64;
    m.head.e_ident[EI_DATA] = ELFDATA2LSB;
    m.head.e_shoff = offsetof(struct module_file, sections);
    m.head.e_shentsize = sizeof(Elf64_Shdr);
    m.head.e_shnum = 3;
    m.head.e_shstrndx = 2;
    memcpy(m.names, "\0.modinfo\0.shstrtab", 20);
    int n =
        snprintf(m.info, sizeof(m.info), "license=GPL%cdepends=%s%csoftdep=%s", 0, depends, 0, softdep);
    m.sections[1] = (Elf64_Shdr){.sh_name = 1,
                                 .sh_type = SHT_PROGBITS,
                                 .sh_offset = offsetof(struct module_file, info),
                                 .sh_size = (Elf64_Xword)n + 1};
    m.sections[2] = (Elf64_Shdr){.sh_name = 10,
                                 .sh_type = SHT_STRTAB,
                                 .sh_offset = offsetof(struct module_file, names),
                                 .sh_size = sizeof(m.names)};
    return m;
}

struct package {
    struct archive *tar;
    char *bytes;
    size_t size, used;
};

static void package_begin(struct package *p)
{
    *p = (struct package){.tar = archive_write_new(), .size = 8 << 20};
    p->bytes = malloc(p->size);
    archive_write_set_format_gnutar(p->tar);
    archive_write_add_filter_xz(p->tar);
    assert_int_equal(archive_write_open_memory(p->tar, p->bytes, p->size, &p->used), ARCHIVE_OK);
}

static void package_add(struct package *p, const char *name, const void *data, size_t len)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, AE_IFREG | 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    assert_int_equal(archive_write_header(p->tar, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(p->tar, data, len), len);
    archive_entry_free(entry);
}

#define RELEASE "6.12.1-test"

static void package_add_module(struct package *p, const char *name, const char *depends,
                               const char *softdep)
{
    char path[128];
    struct module_file m = module_file(depends, softdep);
    snprintf(path, sizeof(path), "./lib/modules/" RELEASE "/kernel/%s.ko", name);
    package_add(p, path, &m, sizeof(m));
}

static void ar_member(struct archive *ar, const char *name, const void *data, size_t len)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, AE_IFREG | 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    assert_int_equal(archive_write_header(ar, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(ar, data, len), len);
    archive_entry_free(entry);
}

static void package_end(struct package *p, const char *path)
{
    archive_write_free(p->tar);
    struct archive *ar = archive_write_new();
    archive_write_set_format_ar_svr4(ar);
    assert_int_equal(archive_write_open_filename(ar, path), ARCHIVE_OK);
    ar_member(ar, "debian-binary", "2.0\n", 4);
    ar_member(ar, "control.tar.xz", "", 0);
    ar_member(ar, "data.tar.xz", p->bytes, p->used);
    archive_write_free(ar);
    free(p->bytes);
}

static void package_add_kernel(struct package *p, const char *release)
{
    static struct test_kernel kernel;
    char path[128];
    test_kernel_init(&kernel);
    snprintf(path, sizeof(path), "./boot/vmlinuz-%s", release);
    package_add(p, path, &kernel, sizeof(kernel));
}

static const char builtin[] = "kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio_pci.ko\n"
                              "kernel/fs/ext4/ext4.ko\nkernel/net/packet/af_packet.ko";

/* Everything that a guest needs. */
static void make_package(const char *path)
{
    struct package p;
    package_begin(&p);
    package_add_kernel(&p, RELEASE);
    package_add_module(&p, "virtio-blk", "virtio", "");
    package_add_module(&p, "vmw_vsock_virtio_transport", "vmw_vsock_virtio_transport_common,vsock", "");
    package_add_module(&p, "vmw_vsock_virtio_transport_common", "vsock", "");
    package_add_module(&p, "vsock", "", "");
    package_add_module(&p, "erofs", "libcrc32c", "");
    package_add_module(&p, "libcrc32c", "", "pre: crc32c nosuchthing post: overlay");
    package_add_module(&p, "crc32c_generic", "", "");
    package_add_module(&p, "overlay", "", "");
    package_add_module(&p, "unneeded", "", "");
    package_add(&p, "./lib/modules/" RELEASE "/modules.builtin", builtin, strlen(builtin));
    package_end(&p, path);
}

/* ---- tests ---- */

static void test_a_package_becomes_a_kernel(void **state)
{
    static const char *const order[] = {"vsock",
                                        "vmw_vsock_virtio_transport_common",
                                        "vmw_vsock_virtio_transport",
                                        "virtio_blk",
                                        "crc32c_generic",
                                        "libcrc32c",
                                        "erofs",
                                        "overlay"};
    struct fixture *f = *state;
    struct kernel kernel;
    struct dayfly_err err = {0};
    char name[KERNEL_NAME_BYTES];
    make_package(f->deb);
    if (kernel_import_deb(&f->store, f->deb, NULL, false, name, NULL, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(name, RELEASE);
    if (kernel_open(&f->store, NULL, &kernel, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(kernel.release, RELEASE);
    assert_int_equal(kernel.module_count, ARRAY_SIZE(order));
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        assert_string_equal(kernel.modules[i].name, order[i]);
        assert_non_null(modinfo_get(kernel.modules[i].data, kernel.modules[i].len, "license", NULL));
    }
    assert_string_equal(kernel.modules[0].sake, "vmw_vsock_virtio_transport");
    assert_string_equal(kernel.modules[5].sake, "erofs");
    char magic[4];
    assert_int_equal(pread(kernel.vmlinux_fd, magic, 4, 0), 4);
    assert_memory_equal(magic, "\177ELF", 4);
    struct digest digest;
    assert_true(digest_parse(kernel.digest, &digest));

    /* The same package under another name is the same kernel. */
    char first[DIGEST_STR_BYTES];
    memcpy(first, kernel.digest, sizeof(first));
    kernel_finish(&kernel);
    assert_int_equal(kernel_import_deb(&f->store, f->deb, "mine", true, name, NULL, &err), 0);
    assert_int_equal(kernel_open(&f->store, NULL, &kernel, &err), 0);
    assert_string_equal(kernel.name, "mine");
    assert_string_equal(kernel.digest, first);
    kernel_finish(&kernel);
    /* Again, in the place of the old one. */
    assert_int_equal(kernel_import_deb(&f->store, f->deb, "mine", false, name, NULL, &err), 0);
    assert_int_equal(kernel_remove(&f->store, "mine", &err), 0);
    assert_int_equal(kernel_open(&f->store, NULL, &kernel, &err), 0);
    assert_string_equal(kernel.name, RELEASE);
    kernel_finish(&kernel);
    assert_int_equal(kernel_remove(&f->store, "mine", &err), -ENOENT);
    assert_string_equal(err.msg, "there is no kernel \"mine\"; `dayfly kernel ls` lists them");
}

/* As kernel/build packs it: everything is built in, and lib/modules stands below usr. */
static void test_our_own_kernel_has_no_modules_and_is_the_default(void **state)
{
    static const char all[] =
        "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio_blk.ko\n"
        "kernel/net/vmw_vsock/vmw_vsock_virtio_transport.ko\n"
        "kernel/fs/ext4/ext4.ko\nkernel/fs/erofs/erofs.ko\n"
        "kernel/fs/overlayfs/overlay.ko\n";
    struct fixture *f = *state;
    struct package p;
    struct kernel kernel;
    struct dayfly_err err = {0};
    make_package(f->deb); /* 6.12.1-test */
    assert_int_equal(kernel_import_deb(&f->store, f->deb, NULL, false, NULL, NULL, &err), 0);
    assert_int_equal(kernel_import_deb(&f->store, f->deb, "6.13.0-newer", false, NULL, NULL, &err), 0);

    package_begin(&p);
    package_add_kernel(&p, "6.12.0-dayfly");
    package_add(&p, "./usr/lib/modules/6.12.0-dayfly/modules.builtin", all, strlen(all));
    package_end(&p, f->deb);
    if (kernel_import_deb(&f->store, f->deb, NULL, false, NULL, NULL, &err))
        fail_msg("%s", err.msg);

    assert_int_equal(kernel_open(&f->store, NULL, &kernel, &err), 0);
    assert_string_equal(kernel.name, "6.12.0-dayfly");
    assert_string_equal(kernel.release, "6.12.0-dayfly");
    assert_int_equal(kernel.module_count, 0);
    int fd = -1;
    assert_int_equal(kernel_initramfs(&kernel, ~0u, &fd, &err), 0);
    close(fd);
    kernel_finish(&kernel);

    json_t *list = kernel_list(&f->store, &err), *entry;
    size_t i, defaults = 0;
    json_array_foreach (list, i, entry) {
        bool is_default = json_is_true(json_object_get(entry, "default"));
        const char *name = json_string_value(json_object_get(entry, "name"));
        assert_int_equal(is_default, !strcmp(name, "6.12.0-dayfly"));
        defaults += is_default;
    }
    assert_int_equal(defaults, 1);
    json_decref(list);

    /* Without it Debian's 6.12 is it again, and one that was chosen is it in any case. */
    assert_int_equal(kernel_remove(&f->store, "6.12.0-dayfly", &err), 0);
    assert_int_equal(kernel_open(&f->store, NULL, &kernel, &err), 0);
    assert_string_equal(kernel.name, RELEASE);
    kernel_finish(&kernel);
    assert_int_equal(kernel_import_deb(&f->store, f->deb, NULL, false, NULL, NULL, &err), 0);
    make_package(f->deb);
    assert_int_equal(kernel_import_deb(&f->store, f->deb, "chosen", true, NULL, NULL, &err), 0);
    assert_int_equal(kernel_open(&f->store, NULL, &kernel, &err), 0);
    assert_string_equal(kernel.name, "chosen");
    kernel_finish(&kernel);
}

/* Whether the initramfs for these devices has the module. */
static bool boots_with(const struct kernel *kernel, unsigned devices, const char *module)
{
    static char bytes[8 << 20];
    char path[128];
    int fd = -1;
    assert_int_equal(kernel_initramfs(kernel, devices, &fd, NULL), 0);
    ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
    close(fd);
    assert_in_range(n, 1, sizeof(bytes) - 1); /* the whole of it */
    snprintf(path, sizeof(path), "lib/modules/%s.ko", module);
    return memmem(bytes, (size_t)n, path, strlen(path));
}

static void test_a_machine_loads_no_driver_that_it_has_no_device_for(void **state)
{
    (void)state;
    char bytes[] = "a module";
    struct kernel_module modules[] = {
        {.name = "virtio_mmio", .sake = "virtio_mmio"},
        {.name = "virtio_blk", .sake = "virtio_blk"},
        {.name = "failover", .sake = "virtio_net"},
        {.name = "virtio_net", .sake = "virtio_net"},
        {.name = "fuse", .sake = "fuse"},
        {.name = "virtiofs", .sake = "virtiofs"},
        {.name = "virtio_balloon", .sake = "virtio_balloon"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
        modules[i].data = bytes;
        modules[i].len = sizeof(bytes);
    }
    const struct kernel kernel = {
        .vmlinux_fd = -1, .modules = modules, .module_count = ARRAY_SIZE(modules)};
    static const struct {
        const char *module;
        unsigned device; /* 0: always there */
    } rows[] = {
        {"virtio_mmio", KERNEL_MMIO},       {"virtio_blk", 0}, {"failover", KERNEL_NET},
        {"virtio_net", KERNEL_NET},         {"fuse", 0},       {"virtiofs", KERNEL_SHARE},
        {"virtio_balloon", KERNEL_BALLOON},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_true(boots_with(&kernel, rows[i].device, rows[i].module));
        assert_int_equal(boots_with(&kernel, ~rows[i].device, rows[i].module), rows[i].device == 0);
        assert_int_equal(boots_with(&kernel, 0, rows[i].module), rows[i].device == 0);
    }
}

static void test_without_a_kernel_the_error_says_how_to_get_one(void **state)
{
    struct fixture *f = *state;
    struct kernel kernel;
    struct dayfly_err err = {0};
    assert_int_equal(kernel_open(&f->store, NULL, &kernel, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "dayfly kernel import"));
    make_package(f->deb);
    assert_int_equal(kernel_import_deb(&f->store, f->deb, "debian-612", false, NULL, NULL, &err), 0);
    assert_int_equal(kernel_open(&f->store, "debian-621", &kernel, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "did you mean \"debian-612\""));
    assert_int_equal(kernel_open(&f->store, "../kernels/debian-612", &kernel, &err), -ENOENT);
}

static void test_damage_is_seen(void **state)
{
    struct fixture *f = *state;
    struct kernel kernel;
    struct dayfly_err err = {0};
    make_package(f->deb);
    assert_int_equal(kernel_import_deb(&f->store, f->deb, "k", false, NULL, NULL, &err), 0);
    const char *module = "k/modules/03-virtio_blk.ko";
    assert_int_equal(fchmodat(f->store.kernels_fd, module, 0644, 0), 0);
    int fd = openat(f->store.kernels_fd, module, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, 300), 1);
    close(fd);
    assert_int_equal(kernel_open(&f->store, "k", &kernel, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "virtio_blk"));
    assert_non_null(strstr(err.msg, "import its package again"));

    assert_int_equal(kernel_import_deb(&f->store, f->deb, "k", false, NULL, NULL, &err), 0);
    assert_int_equal(kernel_open(&f->store, "k", &kernel, &err), 0);
    kernel_finish(&kernel);
    assert_int_equal(fchmodat(f->store.kernels_fd, "k/vmlinux", 0644, 0), 0);
    fd = openat(f->store.kernels_fd, "k/vmlinux", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1000), 0);
    close(fd);
    assert_int_equal(kernel_open(&f->store, "k", &kernel, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "vmlinux has 1000 bytes"));
    json_t *list = kernel_list(&f->store, &err);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
}

static void refused(struct fixture *f, struct package *p, const char *why)
{
    struct dayfly_err err = {0};
    package_end(p, f->deb);
    assert_true(kernel_import_deb(&f->store, f->deb, NULL, false, NULL, NULL, &err) < 0);
    if (!strstr(err.msg, why))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, why);
    json_t *list = kernel_list(&f->store, &err);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
}

static void test_hostile_and_useless_packages(void **state)
{
    struct fixture *f = *state;
    struct package p;
    package_begin(&p);
    refused(f, &p, "no boot/vmlinuz-*");

    package_begin(&p);
    package_add(&p, "boot/../../etc/passwd", "x", 1);
    refused(f, &p, "refused");

    package_begin(&p);
    package_add_kernel(&p, RELEASE);
    package_add_kernel(&p, "6.12.2-test");
    refused(f, &p, "more than one kernel");

    package_begin(&p);
    package_add_kernel(&p, ".hidden");
    refused(f, &p, "is called");

    package_begin(&p);
    package_add(&p, "boot/vmlinuz-" RELEASE, "not a kernel", 12);
    package_add_module(&p, "virtio-blk", "", "");
    refused(f, &p, "kernel");

    package_begin(&p);
    package_add_kernel(&p, RELEASE);
    refused(f, &p, "no modules of its kernel");

    /* Lacks the way to the host. */
    package_begin(&p);
    package_add_kernel(&p, RELEASE);
    package_add_module(&p, "erofs", "", "");
    package_add(&p, "./lib/modules/" RELEASE "/modules.builtin", builtin, strlen(builtin));
    refused(f, &p, "has no vmw_vsock_virtio_transport");

    /* Modules that need each other. */
    package_begin(&p);
    package_add_kernel(&p, RELEASE);
    package_add_module(&p, "vmw_vsock_virtio_transport", "vsock", "");
    package_add_module(&p, "vsock", "vmw_vsock_virtio_transport", "");
    package_add(&p, "./lib/modules/" RELEASE "/modules.builtin", builtin, strlen(builtin));
    refused(f, &p, "too deep");

    package_begin(&p);
    package_add_kernel(&p, RELEASE);
    package_add(&p, "./lib/modules/" RELEASE "/kernel/vmw_vsock_virtio_transport.ko", "noise", 5);
    package_add(&p, "./lib/modules/" RELEASE "/modules.builtin", builtin, strlen(builtin));
    refused(f, &p, "no kernel module");

    struct dayfly_err err = {0};
    int fd = open(f->deb, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(io_write_full(fd, "no package", 10), 0);
    close(fd);
    assert_true(kernel_import_deb(&f->store, f->deb, NULL, false, NULL, NULL, &err) < 0);
    assert_non_null(strstr(err.msg, "not a Debian package (no ar archive); give a linux-image-*.deb"));
    assert_non_null(strstr(err.msg, "test.deb"));
}

static void test_a_cut_package_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    struct dayfly_err err = {0};
    make_package(f->deb);
    assert_int_equal(stat(f->deb, &st), 0);
    assert_int_equal(truncate(f->deb, st.st_size / 2), 0);
    assert_true(kernel_import_deb(&f->store, f->deb, NULL, false, NULL, NULL, &err) < 0);
}

static void test_modinfo_of_damaged_modules(void **state)
{
    (void)state;
    struct module_file m = module_file("a,b", "");
    assert_string_equal(modinfo_get(&m, sizeof(m), "depends", NULL), "a,b");
    assert_null(modinfo_get(&m, sizeof(m), "depend", NULL));
    for (size_t len = 0; len < sizeof(m); len++)
        modinfo_get(&m, len, "depends", NULL);
    m.sections[1].sh_offset = UINT64_MAX - 4;
    assert_null(modinfo_get(&m, sizeof(m), "depends", NULL));
    m = module_file("a", "");
    m.head.e_shoff = UINT64_MAX - 8;
    assert_null(modinfo_get(&m, sizeof(m), "depends", NULL));
    m = module_file("a", "");
    m.head.e_shstrndx = 3;
    assert_null(modinfo_get(&m, sizeof(m), "depends", NULL));
    m = module_file("a", "");
    m.sections[1].sh_size = strlen("license=GPL") + 1 + strlen("depends=a");
    assert_null(modinfo_get(&m, sizeof(m), "depends", NULL));
}

static void test_signatures_of_modules_are_left_away(void **state)
{
    (void)state;
    /* What it signs, the signature, its length in a trailer, the mark. */
    static const char with[] = "module"
                               "sig"
                               "\0\0\2\0\0\0\0\0\0\0\0\3"
                               "~Module signature appended~\n";
    char bytes[sizeof(with) - 1];
    size_t len = sizeof(bytes);
    memcpy(bytes, with, len);
    assert_int_equal(modinfo_unsigned_len(bytes, len), strlen("module"));
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(modinfo_unsigned_len(bytes, cut), cut);

    /* Exactly all of it, and more than all of it. */
    bytes[20] = 9;
    assert_int_equal(modinfo_unsigned_len(bytes, len), 0);
    bytes[20] = 10;
    assert_int_equal(modinfo_unsigned_len(bytes, len), len);
    memset(bytes + 17, 0xff, 4);
    assert_int_equal(modinfo_unsigned_len(bytes, len), len);
}

static void test_decompression_is_bounded(void **state)
{
    (void)state;
    static char zeroes[1 << 20], packed[1 << 16];
    size_t used, len;
    void *out;
    struct dayfly_err err = {0};
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    archive_write_set_format_raw(a);
    archive_write_add_filter_xz(a);
    archive_write_open_memory(a, packed, sizeof(packed), &used);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_write_header(a, entry);
    archive_write_data(a, zeroes, sizeof(zeroes));
    archive_entry_free(entry);
    archive_write_free(a);
    assert_int_equal(deb_decompress(packed, used, sizeof(zeroes), &out, &len, &err), 0);
    assert_int_equal(len, sizeof(zeroes));
    free(out);
    assert_int_equal(deb_decompress(packed, used, sizeof(zeroes) - 1, &out, &len, &err), -EFBIG);
}

static void test_a_real_package(void **state)
{
    struct fixture *f = *state;
    const char *deb = getenv("DAYFLY_TEST_DEB");
    struct kernel kernel;
    struct dayfly_err err = {0};
    if (!deb)
        skip();
    if (kernel_import_deb(&f->store, deb, NULL, false, NULL, NULL, &err) ||
        kernel_open(&f->store, NULL, &kernel, &err))
        fail_msg("%s", err.msg);
    assert_true(kernel.module_count > 0);
    kernel_finish(&kernel);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_package_becomes_a_kernel),
        TEST(test_our_own_kernel_has_no_modules_and_is_the_default),
        TEST(test_a_machine_loads_no_driver_that_it_has_no_device_for),
        TEST(test_without_a_kernel_the_error_says_how_to_get_one),
        TEST(test_damage_is_seen),
        TEST(test_hostile_and_useless_packages),
        TEST(test_a_cut_package_is_an_error),
        TEST(test_modinfo_of_damaged_modules),
        TEST(test_signatures_of_modules_are_left_away),
        TEST(test_decompression_is_bounded),
        TEST(test_a_real_package),
    };
    late_archive(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
