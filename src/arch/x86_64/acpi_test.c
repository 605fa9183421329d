/* SPDX-License-Identifier: Apache-2.0 */
/* Tables are followed from the RSDP as a guest would, and given to Intel's compiler (iasl). */
#include "arch/x86_64/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/testing.h"

static unsigned char memory[X86_ACPI_BYTES];
static size_t used;

static uint64_t le(const unsigned char *p, size_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

static const unsigned char *at(uint64_t gpa, size_t len)
{
    assert_true(gpa >= X86_ACPI && range_within(gpa - X86_ACPI, len, used));
    return memory + (gpa - X86_ACPI);
}

static void assert_sum(const unsigned char *p, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + p[i]);
    assert_int_equal(sum, 0);
}

static size_t table_bytes(const unsigned char *t)
{
    return le(t + 4, 4);
}

static const unsigned char *table_at(uint64_t gpa, const char *signature)
{
    const unsigned char *t = at(gpa, 36);
    assert_int_equal(gpa % 16, 0);
    at(gpa, table_bytes(t));
    assert_sum(t, table_bytes(t));
    assert_memory_equal(t, signature, 4);
    return t;
}

struct tables {
    const unsigned char *fadt, *dsdt, *madt, *mcfg;
};

static struct tables build(unsigned cpus, uint64_t ram_bytes, bool serial)
{
    struct x86_memory_map map = x86_memory_map(ram_bytes);
    const struct acpi_config config = {.cpus = cpus, .map = &map, .serial = serial};
    struct dayfly_err err = {0};
    memset(memory, 0xee, sizeof(memory)); /* the builder must not count on zeroes */
    if (acpi_build(&config, X86_ACPI, memory, sizeof(memory), &used, &err) < 0)
        fail_msg("%s", err.msg);

    const unsigned char *rsdp = at(X86_ACPI, 36);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_sum(rsdp, 20);
    assert_sum(rsdp, 36);
    const unsigned char *xsdt = table_at(le(rsdp + 24, 8), "XSDT");
    assert_int_equal(table_bytes(xsdt), 36 + 3 * 8);
    struct tables t = {
        .fadt = table_at(le(xsdt + 36, 8), "FACP"),
        .madt = table_at(le(xsdt + 44, 8), "APIC"),
        .mcfg = table_at(le(xsdt + 52, 8), "MCFG"),
    };
    t.dsdt = table_at(le(t.fadt + 140, 8), "DSDT");
    return t;
}

static void test_every_processor_is_in_the_madt(void **state)
{
    (void)state;
    static const unsigned counts[] = {1, 2, 64, 254, 255, 256, 257, 300, X86_MAX_CPUS};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        struct tables t = build(counts[i], UINT64_C(1) << 30, true);
        unsigned cpus = 0, ioapics = 0;
        assert_int_equal(le(t.madt + 36, 4), 0xfee00000);
        assert_int_equal(le(t.madt + 40, 4), 0);
        for (size_t pos = 44; pos < table_bytes(t.madt); pos += t.madt[pos + 1]) {
            const unsigned char *e = t.madt + pos;
            assert_true(e[1] >= 8 && pos + e[1] <= table_bytes(t.madt));
            if (e[0] == 0) {
                assert_true(cpus < 255);
                assert_int_equal(e[2], cpus);
                assert_int_equal(e[3], cpus);
                assert_int_equal(le(e + 4, 4), 1);
                cpus++;
            } else if (e[0] == 9) {
                assert_true(cpus >= 255);
                assert_int_equal(le(e + 2, 2), 0);
                assert_int_equal(le(e + 4, 4), cpus);
                assert_int_equal(le(e + 8, 4), 1);
                assert_int_equal(le(e + 12, 4), cpus);
                cpus++;
            } else {
                assert_int_equal(e[0], 1);
                assert_int_equal(le(e + 4, 4), 0xfec00000);
                assert_int_equal(le(e + 8, 4), 0);
                ioapics++;
            }
        }
        assert_int_equal(cpus, counts[i]);
        assert_int_equal(ioapics, 1);
    }
}

static void test_the_fadt_describes_a_reduced_machine(void **state)
{
    (void)state;
    struct tables t = build(1, UINT64_C(1) << 30, true);
    assert_int_equal(table_bytes(t.fadt), 276);
    assert_int_equal(t.fadt[8], 6);
    assert_true(le(t.fadt + 112, 4) & 1u << 20);              /* HW_REDUCED_ACPI */
    assert_true(le(t.fadt + 112, 4) & 1u << 10);              /* RESET_REG_SUP */
    assert_int_equal(le(t.fadt + 109, 2), 1u << 2 | 1u << 5); /* no VGA, no CMOS clock, no 8042 */
    assert_int_equal(le(t.fadt + 116 + 4, 8), X86_PORT_RESET);
    assert_int_equal(t.fadt[128], X86_RESET_VALUE);
    assert_int_equal(le(t.fadt + 244 + 4, 8), X86_PORT_SLEEP_CONTROL);
    assert_int_equal(le(t.fadt + 256 + 4, 8), X86_PORT_SLEEP_STATUS);
}

static void test_the_mcfg_is_bus_0(void **state)
{
    (void)state;
    struct tables t = build(1, UINT64_C(1) << 30, true);
    assert_int_equal(table_bytes(t.mcfg), 60);
    assert_int_equal(le(t.mcfg + 44, 8), X86_ECAM);
    assert_int_equal(le(t.mcfg + 52, 4), 0);
}

static void test_faults_are_refused(void **state)
{
    (void)state;
    struct x86_memory_map map = x86_memory_map(UINT64_C(1) << 30);
    struct acpi_config config = {.cpus = 0, .map = &map};
    struct dayfly_err err = {0};
    assert_int_equal(acpi_build(&config, X86_ACPI, memory, sizeof(memory), NULL, &err), -EINVAL);
    config.cpus = X86_MAX_CPUS + 1;
    assert_int_equal(acpi_build(&config, X86_ACPI, memory, sizeof(memory), NULL, &err), -EINVAL);
    config.cpus = 2;
    assert_int_equal(acpi_build(&config, X86_ACPI, memory, sizeof(memory), &used, &err), 0);
    for (size_t cap = 0; cap < used; cap++) {
        memset(memory, 0xee, sizeof(memory));
        assert_int_equal(acpi_build(&config, X86_ACPI, memory, cap, NULL, &err), -ENOSPC);
        assert_int_equal(memory[cap], 0xee);
    }
}

/* iasl */

static int run(const char *dir, const char *command)
{
    char line[512];
    snprintf(line, sizeof(line), "cd '%s' && %s", dir, command);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_file(const char *dir, const char *name, const unsigned char *bytes, size_t len)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Does iasl's disassembly of the DSDT contain the text? */
static bool dsl_has(const char *dir, const char *text)
{
    char path[256];
    _cleanup_free_ char *dsl = NULL;
    snprintf(path, sizeof(path), "%s/dsdt.dsl", dir);
    assert_int_equal(io_read_file(-1, path, 1 << 20, &dsl, NULL), 0);
    return strstr(dsl, text) != NULL;
}

/* Disassemble each table and compile what came out: no error, no warning, and the same table. */
static void check_with_iasl(const char *dir, const struct tables *t)
{
    const struct {
        const char *name;
        const unsigned char *table;
    } files[] = {{"facp", t->fadt}, {"dsdt", t->dsdt}, {"apic", t->madt}, {"mcfg", t->mcfg}};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        char name[32], command[256];
        snprintf(name, sizeof(name), "%s.aml", files[i].name);
        write_file(dir, name, files[i].table, table_bytes(files[i].table));
        snprintf(command, sizeof(command), "iasl -d %s.aml >log 2>&1 && ! grep -Ei 'error|warning' log",
                 files[i].name);
        assert_int_equal(run(dir, command), 0);
        /* -oa: compile as it stands, do not optimise. */
        snprintf(command, sizeof(command),
                 "iasl -oa -p again %s.dsl >log 2>&1 && grep -q '0 Errors, 0 Warnings, 0 Remarks' log",
                 files[i].name);
        assert_int_equal(run(dir, command), 0);
        /* Behind the header, which names the compiler, the tables are the same to the byte. */
        snprintf(command, sizeof(command), "cmp -i 36 %s.aml again.aml", files[i].name);
        assert_int_equal(run(dir, command), 0);
    }
}

static void test_iasl_agrees(void **state)
{
    (void)state;
    char dir[] = "/tmp/unit-acpi-XXXXXX";
    assert_non_null(mkdtemp(dir));
    if (run(dir, "command -v iasl >/dev/null") != 0) {
        rmdir(dir);
        print_message("iasl is missing: install acpica-tools\n");
        skip();
    }
    static const unsigned counts[] = {1, 2, 64, 300};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        struct tables t = build(counts[i], (UINT64_C(1) << 28) << 2 * i, i % 2 == 0);
        check_with_iasl(dir, &t);
        assert_int_equal(dsl_has(dir, "Device (COM1)"), i % 2 == 0);
        assert_true(dsl_has(dir, "Device (PCI0)"));
        assert_true(dsl_has(dir, "Device (PWRB)"));
        assert_true(dsl_has(dir, "ACPI0013"));
        assert_true(dsl_has(dir, "Notify (\\_SB.PWRB, 0x80)"));
        assert_true(dsl_has(dir, "QWordMemory"));
    }

    struct x86_memory_map map = x86_memory_map(UINT64_C(1) << 30);
    map.mmio64_bytes = 0;
    const struct acpi_config config = {.cpus = 1, .map = &map};
    assert_int_equal(acpi_build(&config, X86_ACPI, memory, sizeof(memory), &used, NULL), 0);
    write_file(dir, "dsdt.aml", memory + 48, table_bytes(memory + 48));
    assert_int_equal(run(dir, "iasl -d dsdt.aml >log 2>&1"), 0);
    assert_false(dsl_has(dir, "QWordMemory"));
    char command[64];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    assert_int_equal(run("/", command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_processor_is_in_the_madt),
        cmocka_unit_test(test_the_fadt_describes_a_reduced_machine),
        cmocka_unit_test(test_the_mcfg_is_bus_0),
        cmocka_unit_test(test_faults_are_refused),
        cmocka_unit_test(test_iasl_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
