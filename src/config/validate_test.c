/* SPDX-License-Identifier: Apache-2.0 */
/* The substance of a description: what the host says to it. Works in a folder of its own, "@" below. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/config.h"
#include "config/disk_lock.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

static const struct dayfly_limits limits = {
    .size = sizeof(limits),
    .min_cpus = 1,
    .max_cpus = 8,
    .min_memory_bytes = CONFIG_MIN_MEMORY,
    .max_memory_bytes = (UINT64_C(4) << 30) + 12345,
};

struct folder {
    char path[64];
};

static void make_file(const struct folder *folder, const char *name, off_t bytes)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
}

static int setup(void **state)
{
    struct folder *folder = calloc(1, sizeof(*folder));
    char path[128];
    if (!folder)
        return -1;
    strcpy(folder->path, "/tmp/unit-validate-XXXXXX");
    if (!mkdtemp(folder->path) || chmod(folder->path, 0755) != 0)
        return -1;
    make_file(folder, "vmlinuz", 100);
    make_file(folder, "empty", 0);
    make_file(folder, "root.img", 4096);
    make_file(folder, "data.img", 8192);
    make_file(folder, "odd.img", 1000);
    snprintf(path, sizeof(path), "%s/alias.img", folder->path);
    if (symlink("root.img", path) != 0)
        return -1;
    snprintf(path, sizeof(path), "%s/fifo", folder->path);
    if (mkfifo(path, 0600) != 0)
        return -1;
    snprintf(path, sizeof(path), "%s/dir", folder->path);
    if (mkdir(path, 0755) != 0)
        return -1;
    *state = folder;
    return 0;
}

static int teardown(void **state)
{
    struct folder *folder = *state;
    DIR *dir = opendir(folder->path);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (unlinkat(dirfd(dir), entry->d_name, 0) != 0)
            unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
    }
    if (dir)
        closedir(dir);
    rmdir(folder->path);
    free(folder);
    return 0;
}

/* Faults as lines "LINE:COLUMN WHERE: MESSAGE | HINT", the folder's path written as "@". */
struct lines {
    const struct folder *folder;
    char text[4096];
    size_t len;
};

static void note(void *opaque, const struct dayfly_fault *fault)
{
    struct lines *lines = opaque;
    char line[1024];
    snprintf(line, sizeof(line), "%s%u:%u %s: %s | %s\n",
             fault->severity == DAYFLY_FAULT_WARNING ? "warning " : "", fault->line, fault->column,
             fault->where, fault->message, fault->hint ? fault->hint : "-");
    size_t skip = strlen(lines->folder->path);
    for (const char *p = line; *p;) {
        assert_true(lines->len + 1 < sizeof(lines->text));
        bool here = !strncmp(p, lines->folder->path, skip);
        lines->text[lines->len++] = here ? '@' : *p;
        p += here ? skip : 1;
    }
    lines->text[lines->len] = '\0';
}

static int validate(const struct folder *folder, const struct dayfly_config *config,
                    struct lines *lines)
{
    *lines = (struct lines){.folder = folder};
    return config_validate(config, &limits, note, lines, NULL);
}

/* Parse and validate; the faults of both are in *lines. */
static int validate_yaml(const struct folder *folder, const char *yaml, struct lines *lines)
{
    struct dayfly_config *config;
    assert_int_equal(dayfly_config_new(&config), 0);
    *lines = (struct lines){.folder = folder};
    dayfly_config_parse_yaml(config, "m.yaml", yaml, strlen(yaml), folder->path, note, lines, NULL);
    int rc = config_validate(config, &limits, note, lines, NULL);
    dayfly_config_free(config);
    return rc;
}

#define GOOD "linux: {kernel: vmlinuz}\n"

static const struct {
    const char *yaml, *faults;
} cases[] = {
    {GOOD, ""},
    {GOOD "disks:\n  - path: root.img\n  - {path: data.img, id: d, read_only: true}\n", ""},
    {GOOD "consoles:\n  - {name: a, output: stdio, primary: true}\n  - {name: b, output: new.log}\n"
          "  - {name: c, output: fifo}\nserial: {output: early.log}\nvsock: {}\n",
     ""},
    /* required, ranges, lengths, names */
    {"cpus: 1\n", "1:1 linux.kernel: missing | write `kernel: vmlinuz`\n"},
    {"cpus: 1\nlinux: {initrd: empty}\n", "2:1 linux.kernel: missing | write `kernel: vmlinuz`\n"
                                          "2:17 linux.initrd: @/empty is empty | -\n"},
    {"linux: {kernel: [x]}\n",
     "1:17 linux.kernel: expected a path, found a list | write `kernel: vmlinuz`\n"},
    {"linux: 5\n",
     "1:8 linux: expected a mapping, found \"5\" | write `kernel: vmlinuz` below `linux:`\n"},
    {GOOD "cpus: 0\n", "2:7 cpus: 0 is out of range | from 1 to 254 is possible\n"},
    {GOOD "cpus: 9\n", "2:7 cpus: 9 processors are more than KVM allows on this host | at most 8\n"},
    {GOOD "cpus: 255\n", "2:7 cpus: 255 is out of range | from 1 to 254 is possible\n"},
    {GOOD "memory: 512\n",
     "2:9 memory: 512 bytes is too little | at least 16MiB; a number without a unit is "
     "bytes, so write 512MiB\n"},
    {GOOD "memory: 20000000\n",
     "2:9 memory: 20000000 bytes are no multiple of 4KiB | write it in MiB or GiB\n"},
    {GOOD "memory: 5G\n", "2:9 memory: 5GiB is more than this host's memory | the host has 4GiB\n"},
    {GOOD "vsock: {cid: 2}\n",
     "2:14 vsock.cid: 2 is out of range | from 3 to 4294967294 is possible\n"},
    {GOOD "disks: [{id: a b, path: root.img}, {id: abcdefghijklmnopqrstu, path: data.img}]\n",
     "2:14 disks[0].id: \"a b\" is not a name | letters, digits, dots, underscores and hyphens make a "
     "name\n"
     "2:41 disks[1].id: 21 bytes are too long: at most 20 fit | -\n"},
    {"linux: {kernel: vmlinuz, command_line: \"a\\nb\"}\n",
     "1:40 linux.command_line: the text has a line break in it | write it as one line\n"},
    {GOOD "consoles: [{output: none}]\n", "2:12 consoles[0].name: missing | write `name: log`\n"},
    {GOOD "disks: [{path: \"\"}]\n", "2:16 disks[0].path: the text is empty | -\n"},
    /* twice */
    {GOOD "disks: [{path: root.img, id: x}, {path: data.img, id: x}]\n",
     "2:55 disks[1].id: \"x\" is taken | disks[0] has it; give each its own\n"},
    {GOOD "consoles: [{name: x}, {name: y}, {name: x}]\n",
     "2:41 consoles[2].name: \"x\" is taken | consoles[0] has it; give each its own\n"},
    {GOOD "consoles: [{name: x, primary: true}, {name: y, primary: true}]\n",
     "2:57 consoles[1].primary: only one console can be the kernel's | consoles[0] is it already\n"},
    {GOOD "consoles: [{name: x, output: stdio}]\nserial: {output: stdio}\n",
     "3:18 serial.output: standard input can go to one device, and consoles[0] has it | give one of "
     "them a file, "
     "or none\n"},
    {GOOD "disks: [{path: root.img}, {path: alias.img, read_only: true}]\n",
     "2:34 disks[1].path: it is the same file as disks[0].path, and one is written | give each its own "
     "file, or "
     "let both only read it\n"},
    {GOOD "disks: [{path: root.img, read_only: true}, {path: alias.img, read_only: true}]\n", ""},
    {GOOD
     "disks: [{path: root.img, ephemeral: true}, {path: alias.img, ephemeral: true, scratch: dir}]\n",
     ""},
    {GOOD "disks: [{path: root.img, ephemeral: true, read_only: true, scratch: no}]\n",
     "2:37 disks[0].ephemeral: the disk is read-only as well | leave out one of the two\n"
     "2:69 disks[0].scratch: there is no folder @/no | make it, or correct the path\n"},
    {GOOD
     "disks: [{path: root.img, scratch: dir}, {path: data.img, ephemeral: true, scratch: empty}]\n",
     "2:35 disks[0].scratch: only an ephemeral disk has one | say `ephemeral: true` as well\n"
     "2:84 disks[1].scratch: @/empty is a file | -\n"},
    {GOOD "disks: [{path: root.img, cache: cached, sync: none, on_full: fail}]\n", ""},
    {GOOD "disks: [{path: root.img, cache: writeback, sync: fsink, on_full: stop}]\n",
     "2:33 disks[0].cache: expected one of auto, cached, direct, found \"writeback\" | write `cache: "
     "direct`\n"
     "2:50 disks[0].sync: expected one of auto, full, fsync, none, found \"fsink\" | write `sync: "
     "none`\n"
     "2:66 disks[0].on_full: expected one of auto, fail, pause, found \"stop\" | write `on_full: "
     "fail`\n"},
    {GOOD "disks: [{path: root.img, read_only: true}]\nserial: {output: alias.img}\n",
     "3:18 serial.output: it is the same file as disks[0].path, and one is written | give each its own "
     "file, or "
     "let both only read it\n"},
    /* files */
    {"linux: {kernel: vmlinux}\n",
     "1:17 linux.kernel: there is no file @/vmlinux | did you mean vmlinuz?\n"},
    {"linux: {kernel: dir}\n", "1:17 linux.kernel: @/dir is a folder | -\n"},
    {"linux: {kernel: fifo}\n", "1:17 linux.kernel: @/fifo is not a regular file | -\n"},
    {"linux: {kernel: empty}\n", "1:17 linux.kernel: @/empty is empty | -\n"},
    {"linux: {kernel: no/where}\n",
     "1:17 linux.kernel: there is no file @/no/where | there is no folder @/no\n"},
    {"linux: {kernel: vmlinuz/x}\n",
     "1:17 linux.kernel: there is no file @/vmlinuz/x | make it, or correct the path\n"},
    {GOOD "disks: [{path: gone.qcow2}, {path: dir}, {path: fifo}, {path: empty}, {path: odd.img}]\n",
     "2:16 disks[0].path: there is no file @/gone.qcow2 | make it, or correct the path\n"
     "2:36 disks[1].path: @/dir is a folder | a disk is a regular file or a block device\n"
     "2:49 disks[2].path: @/fifo is not a regular file | a disk is a regular file or a block device\n"
     "2:63 disks[3].path: @/empty is empty | give it a size: truncate -s 1G FILE\n"
     "2:78 disks[4].path: @/odd.img has 1000 bytes | a disk's size is a multiple of 512 bytes; is it a "
     "raw "
     "image?\n"},
    {GOOD "serial: {output: no/log}\n",
     "2:18 serial.output: there is no folder @/no | mkdir -p @/no\n"},
    {GOOD "serial: {output: dir}\n", "2:18 serial.output: @/dir is a folder | name a file in it\n"},
    {GOOD "vsock: {socket: no/s}\n", "2:17 vsock.socket: there is no folder @/no | mkdir -p @/no\n"},
    {GOOD "vsock: {socket: odd.img}\n",
     "2:17 vsock.socket: @/odd.img exists, and is no socket | name a path where nothing is yet\n"},
    /* shares */
    {GOOD "shares: [{tag: s, path: dir}, {tag: t, path: dir, mode: ro, writeback: true}]\n", ""},
    {GOOD
     "shares: [{tag: s, directories: [{name: a b, path: dir}, {name: ..., path: ., mode: cow}]}]\n",
     ""},
    {GOOD
     "shares: [{tag: a, path: dir, dax: 3GiB}, {tag: b, path: dir, mode: cow, dax: 2MiB},\n"
     "  {tag: c, path: dir, dax: 32GiB}, {tag: d, path: dir, dax: 16GiB},\n"
     "  {tag: f, path: dir, cache: none, dax: 1GiB},\n"
     "  {tag: e, dax: 4MiB, directories: [{name: x, path: dir, mode: cow}, {name: y, path: dir}]}]\n",
     "2:35 shares[0].dax: 3GiB cannot be a window's size | take a power of two from 2MiB to 16GiB, "
     "such as 1GiB\n"
     "2:78 shares[1].dax: files of `mode: cow` cannot be mapped from the host | leave one of the two "
     "out\n"
     "3:28 shares[2].dax: 32GiB cannot be a window's size | take a power of two from 2MiB to 16GiB, "
     "such as 1GiB\n"
     "4:41 shares[4].dax: with `cache: none` programs move data between files and mappings, which no "
     "device can reach | leave one of the two out\n"},
    {GOOD "shares: [{path: dir}, {tag: s}, {tag: \"\", path: dir}]\n",
     "2:10 shares[0].tag: missing | write `tag: src`\n"
     "2:23 shares[1].path: missing | write `path: src`, or `directories`\n"
     "2:39 shares[2].tag: the text is empty | -\n"},
    {GOOD "shares: [{tag: s, path: dir}, {tag: s, path: dir}, {tag: "
          "1234567890123456789012345678901234567, path: dir}]\n",
     "2:58 shares[2].tag: 37 bytes are too long: at most 36 fit | -\n"
     "2:37 shares[1].tag: \"s\" is taken | shares[0] has it; give each its own\n"},
    {GOOD "shares: [{tag: a, path: gone}, {tag: b, path: root.img}, {tag: c, path: dirs}]\n",
     "2:25 shares[0].path: there is no folder @/gone | make it, or correct the path\n"
     "2:47 shares[1].path: @/root.img is a file | only a folder can be shared\n"
     "2:73 shares[2].path: there is no folder @/dirs | did you mean dir?\n"},
    {GOOD
     "shares:\n  - tag: s\n    directories:\n      - {name: a/b, path: dir}\n"
     "      - {name: ., path: dir}\n      - {name: .., path: dir}\n      - {name: \"\", path: dir}\n"
     "      - {path: dir}\n      - {name: x}\n      - {name: x, path: no}\n",
     "9:9 shares[0].directories[4].name: missing | write `name: src`\n"
     "10:9 shares[0].directories[5].path: missing | write `path: src`\n"
     "11:16 shares[0].directories[6].name: \"x\" is taken | shares[0].directories[5] has it; give each "
     "its own\n"
     "5:16 shares[0].directories[0].name: \"a/b\" is not a name | take one name, as of a file\n"
     "6:16 shares[0].directories[1].name: \".\" is not a name | take one name, as of a file\n"
     "7:16 shares[0].directories[2].name: \"..\" is not a name | take one name, as of a file\n"
     "8:16 shares[0].directories[3].name: the text is empty | -\n"
     "11:25 shares[0].directories[6].path: there is no folder @/no | make it, or correct the path\n"},
    {GOOD "shares: [{tag: s, mode: ro, directories: [{name: a, path: dir}]}]\n",
     "2:29 shares[0].directories: a share has a directory of its own, or several | put path, mode and "
     "ids into the items\n"},
    {GOOD "shares: [{tag: s, path: dir, cache: none, writeback: true, queues: 17}]\n",
     "2:68 shares[0].queues: 17 is out of range | from 1 to 16 is possible\n"
     "2:54 shares[0].writeback: with `cache: none` the guest has nothing to gather writes in | leave "
     "one of the two out\n"},
    {GOOD "shares: [{tag: s, path: dir, uids: [{host: 5}]}]\n",
     "2:30 shares[0].uids: it counts with `ids: map` only | write `ids: map`, or leave it out\n"},
    {GOOD "shares: [{tag: s, path: dir, mode: cow, changes: new}, {tag: t, path: dir, mode: cow, "
          "changes: dir}]\n",
     ""},
    {GOOD "shares:\n  - {tag: a, path: dir, changes: new}\n  - {tag: b, path: dir, mode: cow, changes: "
          "no/new}\n  - {tag: c, path: dir, mode: cow, changes: empty}\n",
     "3:34 shares[0].changes: it counts with `mode: cow` only | write `mode: cow`, or leave it out\n"
     "4:45 shares[1].changes: there is no folder @/no | mkdir -p @/no\n"
     "5:45 shares[2].changes: @/empty is a file | -\n"},
    /* nothing is called missing in a file that was not read to its end */
    {"cpus: 0\nlinux: [\n",
     "2:8 linux: expected a mapping, found a list | write `kernel: vmlinuz` below `linux:`\n"
     "3:1 : YAML syntax: did not find expected node content, while parsing a flow node | -\n"
     "1:7 cpus: 0 is out of range | from 1 to 254 is possible\n"},
};

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* Names, sizes and times of what is in the folder, as one text. */
static void list_folder(const struct folder *folder, char out[4096])
{
    struct dirent **entries;
    int count = scandir(folder->path, &entries, NULL, alphasort);
    size_t len = 0;
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        char path[384];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", folder->path, entries[i]->d_name);
        if (strcmp(entries[i]->d_name, "..") != 0 && lstat(path, &st) == 0)
            len += (size_t)snprintf(out + len, 4096 - len, "%s %lld %lld.%ld %lld.%ld\n",
                                    entries[i]->d_name, (long long)st.st_size,
                                    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                                    (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
        free(entries[i]);
    }
    free(entries);
}

static void test_every_fault_of_substance_is_named(void **state)
{
    const struct folder *folder = *state;
    char before[4096], after[4096];
    unsigned descriptors = open_descriptors(), bad = 0;
    list_folder(folder, before);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct lines lines;
        int rc = validate_yaml(folder, cases[i].yaml, &lines);
        if (strcmp(lines.text, cases[i].faults) != 0) {
            print_error("---- %sreturned %d\n-- said\n%s-- expected\n%s", cases[i].yaml, rc, lines.text,
                        cases[i].faults);
            bad++;
        }
    }
    assert_int_equal(bad, 0);
    list_folder(folder, after);
    assert_string_equal(before, after);
    assert_int_equal(open_descriptors(), descriptors);
}

static void test_the_status_tells_errors_from_warnings(void **state)
{
    const struct folder *folder = *state;
    struct dayfly_config *config;
    struct dayfly_limits wide = limits;
    struct lines lines = {.folder = folder};
    struct dayfly_err err = {0};
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    char yaml[128];
    snprintf(yaml, sizeof(yaml), GOOD "cpus: %ld\n", online + 1);
    if (online + 1 > CONFIG_MAX_CPUS)
        skip();
    wide.max_cpus = CONFIG_MAX_CPUS;
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(dayfly_config_parse_yaml(config, "m.yaml", yaml, strlen(yaml), folder->path, note,
                                              &lines, &err),
                     0);
    assert_int_equal(config_validate(config, &wide, note, &lines, &err), 0);
    assert_true(!strncmp(lines.text, "warning 2:7 cpus: ", 18));
    dayfly_config_set_cpus(config, 0);
    assert_int_equal(config_validate(config, &wide, NULL, NULL, &err), -EINVAL);
    assert_string_equal(err.msg, "m.yaml:2:7: cpus: 0 is out of range; from 1 to 254 is possible");
    dayfly_config_free(config);
}

static void test_a_disk_in_use_is_seen_and_not_taken(void **state)
{
    const struct folder *folder = *state;
    static const char writes[] = GOOD "disks: [{path: data.img}]\n";
    static const char reads[] = GOOD "disks: [{path: data.img, read_only: true}]\n";
    struct lines lines;
    struct dayfly_err err;
    char path[128];
    snprintf(path, sizeof(path), "%s/data.img", folder->path);

    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(disk_lock(fd, true, "x.img", &err), 0); /* a reader elsewhere */
    assert_int_equal(validate_yaml(folder, reads, &lines), 0);
    assert_int_equal(validate_yaml(folder, writes, &lines), -EINVAL);
    assert_string_equal(lines.text,
                        "2:16 disks[0].path: @/data.img is in use elsewhere | stop the other machine, "
                        "or use a copy\n");
    assert_int_equal(disk_lock(fd, false, "x.img", &err),
                     0); /* now a writer: validate held nothing back */
    assert_int_equal(validate_yaml(folder, reads, &lines), -EINVAL);
    assert_string_equal(
        lines.text, "2:16 disks[0].path: @/data.img is in use for writing elsewhere | stop the other "
                    "machine, or use a copy\n");
    _cleanup_close_ int second = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(disk_lock(second, false, "x.img", &err), -EBUSY);
    assert_string_equal(err.msg, "disk x.img is in use elsewhere; stop what uses it");
    close(fd);
    assert_int_equal(validate_yaml(folder, writes, &lines), 0);
    assert_int_equal(disk_lock(second, false, "x.img", &err), 0);
}

static void test_permission_is_the_callers(void **state)
{
    const struct folder *folder = *state;
    struct lines lines;
    char path[128];
    if (geteuid() != 0)
        skip();
    snprintf(path, sizeof(path), "%s/vmlinuz", folder->path);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(seteuid(65534), 0);
    validate_yaml(folder, GOOD "disks: [{path: root.img}]\nserial: {output: log}\n", &lines);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(path, 0644), 0);
    assert_string_equal(lines.text, "1:17 linux.kernel: no permission to read @/vmlinuz | user 65534 "
                                    "must be allowed to read it and to pass the "
                                    "folders above it\n"
                                    "2:16 disks[0].path: no permission to write @/root.img | user "
                                    "65534 must be allowed to write it and to pass "
                                    "the folders above it\n"
                                    "3:18 serial.output: no permission to write @ | user 65534 must be "
                                    "allowed to write it and to pass the "
                                    "folders above it\n");
}

/* What root may do, and what others may not. */
static void test_ids_of_a_share(void **state)
{
    static const struct {
        const char *yaml, *faults;
    } of_root[] = {
        {GOOD "shares: [{tag: s, path: dir, ids: identity}]\n", ""},
        {GOOD
         "shares: [{tag: s, path: dir, ids: map, uids: [{host: 1, count: 9}, {guest: 9, host: 10}]}]\n",
         ""},
        {GOOD "shares: [{tag: s, path: dir, ids: map}]\n",
         "2:35 shares[0].ids: the map is empty | write `uids: [{guest: 0, host: 100000, count: "
         "65536}]`, and `gids`\n"},
        {GOOD
         "shares: [{tag: s, path: dir, ids: map, gids: [{host: 1, count: 9}, {guest: 9, host: 9}]}]\n",
         "2:68 shares[0].gids[1]: some of these ids of the host are taken | shares[0].gids[0] has "
         "them\n"},
        {GOOD "shares: [{tag: s, path: dir, ids: map, uids: [{host: 1}, {host: 2, count: 2}]}]\n",
         "2:58 shares[0].uids[1]: some of these ids of the guest are taken | shares[0].uids[0] has "
         "them\n"},
        {GOOD
         "shares: [{tag: s, path: dir, ids: map, uids: [{host: 4294967294}, {guest: 4294967290, host: "
         "1, count: 6}]}]\n",
         "2:67 shares[0].uids[1]: the ids go too far | the last id is 4294967294\n"},
        {GOOD "shares: [{tag: s, path: dir, ids: map, uids: [{count: 0}]}]\n",
         "2:55 shares[0].uids[0].count: 0 is out of range | from 1 to 4294967295 is possible\n"},
        {GOOD "shares: [{tag: s, path: dir, ids: identity, shown_gid: 5}]\n",
         "2:56 shares[0].shown_gid: it counts with `ids: squash` only | leave it out\n"},
    };
    const struct folder *folder = *state;
    struct lines lines;
    if (geteuid() != 0)
        skip();
    for (size_t i = 0; i < ARRAY_SIZE(of_root); i++) {
        validate_yaml(folder, of_root[i].yaml, &lines);
        assert_string_equal(lines.text, of_root[i].faults);
    }
    assert_int_equal(seteuid(65534), 0);
    validate_yaml(folder,
                  GOOD "shares: [{tag: s, path: dir}, {tag: t, path: dir, mode: ro, ids: identity}]\n",
                  &lines);
    assert_int_equal(seteuid(0), 0);
    assert_string_equal(
        lines.text, "2:25 shares[0].path: no permission to write @/dir | user 65534 must be allowed "
                    "to write it and to pass the folders above it\n"
                    "2:66 shares[1].ids: only root can take the ids of others | run it as root, or "
                    "leave it at `ids: squash`\n");
}

static void test_shares_made_by_calls(void **state)
{
    const struct folder *folder = *state;
    struct dayfly_config *config;
    struct lines lines;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_share share = DAYFLY_SHARE_INIT;
    struct {
        struct dayfly_share_directory known;
        uint64_t field_of_tomorrow;
    } dirs[2] = {{.known = DAYFLY_SHARE_DIRECTORY_INIT}, {.known = DAYFLY_SHARE_DIRECTORY_INIT}};
    struct dayfly_id_extent extents[100];
    char path[128];
    snprintf(path, sizeof(path), "%s/vmlinuz", folder->path);
    _cleanup_close_ int kernel = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int root = open(folder->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(kernel >= 0 && root >= 0);
    for (uint32_t i = 0; i < ARRAY_SIZE(extents); i++)
        extents[i] = (struct dayfly_id_extent){i, i, 1};
    boot.kernel_fd = kernel;
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(dayfly_config_set_linux(config, &boot), 0);

    /* one; two, as a newer program makes them; one that has a name all the same */
    share.tag = "one";
    share.directories = &dirs[0].known;
    share.directory_count = 1;
    dirs[0].known.fd = root;
    assert_int_equal(dayfly_config_add_share(config, &share), 0);
    assert_int_equal(config->shares[0].directory_count, 0);
    assert_int_equal(config->shares[0].only.fd, root);
    share.tag = "two";
    share.directory_count = 2;
    dirs[0].known.size = dirs[1].known.size = sizeof(dirs[0]);
    dirs[0].known.name = "a";
    dirs[1].known.name = "b";
    dirs[1].known.path = folder->path;
    assert_int_equal(dayfly_config_add_share(config, &share), 0);
    assert_string_equal(config->shares[1].directories[1].name, "b");
    share.tag = "three";
    share.directory_count = 1;
    assert_int_equal(dayfly_config_add_share(config, &share), 0);
    assert_int_equal(config->shares[2].directory_count, 1);
    assert_int_equal(validate(folder, config, &lines), 0);
    assert_string_equal(lines.text, "");

    dirs[0].field_of_tomorrow = 1;
    assert_int_equal(dayfly_config_add_share(config, &share), -E2BIG);
    dirs[0].field_of_tomorrow = 0;
    dirs[0].known.size = 1;
    assert_int_equal(dayfly_config_add_share(config, &share), -EINVAL);
    share.size = 1;
    assert_int_equal(dayfly_config_add_share(config, &share), -EINVAL);
    assert_int_equal(config->share_count, 3);

    /* nothing, what is no folder, words out of range, too many extents */
    share = (struct dayfly_share)DAYFLY_SHARE_INIT;
    assert_int_equal(dayfly_config_add_share(config, &share), 0);
    share.tag = "four";
    share.directories = &dirs[0].known;
    share.directory_count = 1;
    dirs[0].known = (struct dayfly_share_directory)DAYFLY_SHARE_DIRECTORY_INIT;
    dirs[0].known.fd = kernel;
    dirs[0].known.mode = (enum dayfly_share_mode)3;
    dirs[0].known.uids = extents;
    dirs[0].known.uid_count = ARRAY_SIZE(extents);
    assert_int_equal(dayfly_config_add_share(config, &share), 0);
    assert_int_equal(validate(folder, config, &lines), -EINVAL);
    char expected[1024];
    snprintf(expected, sizeof(expected),
             "0:0 shares[3].tag: missing | write `tag: src`\n"
             "0:0 shares[4].mode: 3 is not one of rw, ro, cow | -\n"
             "0:0 shares[4].uids: 9 are too many: at most 8 | -\n"
             "0:0 shares[3].path: missing | write `path: src`, or `directories`\n"
             "0:0 shares[4].path: descriptor %d is not a folder | -\n"
             "0:0 shares[4].uids: it counts with `ids: map` only | write `ids: map`, or leave it out\n",
             kernel);
    assert_string_equal(lines.text, expected);
    dayfly_config_free(config);
}

static void test_networks(void **state)
{
    static const struct {
        const char *yaml, *faults;
    } of_networks[] = {
        {GOOD "networks: [{}]\n", ""},
        {GOOD "networks: [{allow: [example.org, \"*\"], publish: [\"8080:80\"]}]\n", ""},
        {GOOD "networks: [{allow: [example.org, a b, example.org], publish: [80, [1]], mtu: 1279}]\n",
         "2:67 networks[0].publish[1]: expected text, found a list | write `8080:80`\n"
         "2:39 networks[0].allow[2]: \"example.org\" is taken | networks[0].allow[0] has it; give each "
         "its own\n"
         "2:34 networks[0].allow[1]: 'a b': write NAME, *.NAME, ADDRESS[/BITS], each with or "
         "without :PORT; host:PORT; or * | -\n"
         "2:63 networks[0].publish[0]: '80': say [ADDRESS:]HOST:GUEST, ports from 1 to 65535 | -\n"
         "2:78 networks[0].mtu: 1279 is out of range | from 1280 to 65520 is possible\n"},
        {GOOD "networks: [{allow: example.org, interface: tap0}]\n",
         "2:20 networks[0].allow: expected a list of texts, found \"example.org\" | write `- "
         "example.org` "
         "below `allow:`\n"
         "2:44 networks[0].interface: it counts with `mode: tap` only | write `mode: tap`, or leave it "
         "out\n"},
        {GOOD "networks: [{mode: tap}]\n",
         "2:12 networks[0].interface: missing | write `interface: tap0`\n"},
        {GOOD "networks: [{mode: tap, interface: lo, socket: vmlinuz}]\n",
         "2:35 networks[0].interface: network interface lo is no tap | name a tap interface, and put "
         "that into the same bridge\n"
         "2:47 networks[0].socket: it counts with `mode: socket` only | write `mode: socket`, or leave "
         "it out\n"},
        {GOOD "networks: [{mode: socket}]\n",
         "2:12 networks[0].socket: missing | write `socket: switch.sock`\n"},
        {GOOD "networks: [{mode: socket, socket: vmlinuz, interface: tap0}]\n",
         "2:35 networks[0].socket: @/vmlinuz is no socket | -\n"
         "2:55 networks[0].interface: it counts with `mode: tap` only | write `mode: tap`, or leave it "
         "out\n"},
        {GOOD "networks: [{mode: socket, socket: switch}]\n",
         "2:35 networks[0].socket: there is no socket @/switch | make it, or correct the path\n"},
        {GOOD "networks: [{mode: socket, socket: sock, mac: 1, mtu: 67}]\n",
         "2:46 networks[0].mac: \"1\" is no Ethernet address | write it as \"02:00:00:00:00:01\", in "
         "quotes\n"
         "2:54 networks[0].mtu: 67 is out of range | from 68 to 65535 is possible\n"},
        {GOOD "networks: [{mode: socket, socket: sock, mac: \"33:00:00:00:00:01\"}]\n",
         "2:46 networks[0].mac: 33:00:00:00:00:01 is a group's address | let it begin with 02: that is "
         "nobody else's\n"},
        {GOOD "networks: [{mode: socket, socket: sock, mac: \"02:00:00:00:00:01\", mtu: 65535}]\n", ""},
        {GOOD "networks: [{mode: tap, interface: nosuchinterface0}]\n",
         "2:35 networks[0].interface: 16 bytes are too long: at most 15 fit | -\n"},
        {GOOD "networks: [{mtu: 65536}]\n", NULL},
    };
    const struct folder *folder = *state;
    struct lines lines;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", folder->path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    for (size_t i = 0; i < ARRAY_SIZE(of_networks); i++) {
        int rc = validate_yaml(folder, of_networks[i].yaml, &lines);
        assert_int_equal(rc, of_networks[i].faults && !*of_networks[i].faults ? 0 : -EINVAL);
        if (of_networks[i].faults)
            assert_string_equal(lines.text, of_networks[i].faults);
    }
    validate_yaml(folder, GOOD "networks: [{mode: tap, interface: nosuch0}]\n", &lines);
    assert_non_null(strstr(lines.text,
                           "there is no network interface nosuch0 | ip tuntap add dev nosuch0 "
                           "mode tap user "));
}

static void test_networks_made_by_calls(void **state)
{
    const struct folder *folder = *state;
    struct dayfly_net net = DAYFLY_NET_INIT;
    struct dayfly_config *config;
    struct lines lines;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    char kernel[128];
    snprintf(kernel, sizeof(kernel), "%s/vmlinuz", folder->path);
    boot.kernel = kernel;
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(dayfly_config_set_linux(config, &boot), 0);
    net.mode = DAYFLY_NET_SOCKET;
    net.fd = pair[0];
    assert_int_equal(dayfly_config_add_net(config, &net), 0);
    assert_int_equal(validate(folder, config, &lines), 0);
    net.fd = 9999;
    assert_int_equal(dayfly_config_add_net(config, &net), 0);
    net.mode = (enum dayfly_net_mode)7;
    assert_int_equal(dayfly_config_add_net(config, &net), 0);
    assert_int_equal(validate(folder, config, &lines), -EINVAL);
    assert_string_equal(lines.text, "0:0 networks[2].mode: 7 is not one of nat, tap, socket | -\n"
                                    "0:0 networks[1].socket: descriptor 9999 is not open | -\n");
    dayfly_config_free(config);
    close(pair[0]);
    close(pair[1]);
}

static void test_secrets_of_networks(void **state)
{
    static const char *const hosts[] = {"api.example.org", NULL}, *const wrong[] = {"*.example.org",
                                                                                    NULL};
    const struct folder *folder = *state;
    struct dayfly_net_secret secret = DAYFLY_NET_SECRET_INIT;
    struct dayfly_net net = DAYFLY_NET_INIT;
    struct dayfly_config *config;
    struct lines lines;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    char kernel[128];
    snprintf(kernel, sizeof(kernel), "%s/vmlinuz", folder->path);
    boot.kernel = kernel;
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(dayfly_config_set_linux(config, &boot), 0);
    net.secrets = &secret;
    net.secret_count = 1;
    secret.name = "TOKEN";
    secret.value = "value-of-a-token";
    secret.value_bytes = 16;
    secret.hosts = hosts;
    assert_int_equal(dayfly_config_add_net(config, &net), 0);
    assert_int_equal(validate(folder, config, &lines), 0);
    secret.hosts = wrong;
    assert_int_equal(dayfly_config_add_net(config, &net), 0);
    secret.hosts = NULL;
    assert_int_equal(dayfly_config_add_net(config, &net), 0);
    secret.hosts = hosts;
    net.mode = DAYFLY_NET_SOCKET;
    net.fd = pair[0];
    assert_int_equal(dayfly_config_add_net(config, &net), 0);
    secret.size = 3;
    assert_int_equal(dayfly_config_add_net(config, &net), -EINVAL);
    assert_int_equal(validate(folder, config, &lines), -EINVAL);
    assert_string_equal(
        lines.text,
        "0:0 networks[1].secrets: secret TOKEN: '*.example.org' is not the name of a host | -\n"
        "0:0 networks[2].secrets: secret TOKEN is for no host | -\n"
        "0:0 networks[3].secrets: it counts with `mode: nat` only | write `mode: nat`, or leave it "
        "out\n");
    dayfly_config_free(config);
    close(pair[0]);
    close(pair[1]);
}

static void test_disks_and_shares_fit_the_bus_together(void **state)
{
    const struct folder *folder = *state;
    struct lines lines;
    char yaml[4096] = GOOD "disks:\n";
    for (int i = 0; i < CONFIG_MAX_DISKS; i++)
        strcat(yaml, "  - {path: root.img, read_only: true}\n");
    strcat(yaml, "shares:\n");
    for (int i = CONFIG_MAX_DISKS; i < CONFIG_MAX_SLOTS; i++)
        sprintf(yaml + strlen(yaml), "  - {tag: t%d, path: dir}\n", i);
    assert_int_equal(validate_yaml(folder, yaml, &lines), 0);
    strcat(yaml, "  - {tag: more, path: dir}\n");
    assert_int_equal(validate_yaml(folder, yaml, &lines), -EINVAL);
    assert_string_equal(
        lines.text,
        "27:1 shares: 28 disks, shares and networks are more than the bus has room for | at most "
        "27; a share can have several directories\n");
}

static void test_a_description_made_by_calls(void **state)
{
    const struct folder *folder = *state;
    struct dayfly_config *config;
    struct lines lines;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_disk disk = DAYFLY_DISK_INIT;
    struct dayfly_console console = DAYFLY_CONSOLE_INIT;
    char path[128];
    snprintf(path, sizeof(path), "%s/vmlinuz", folder->path);
    _cleanup_close_ int kernel = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "%s/data.img", folder->path);
    _cleanup_close_ int data = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(kernel >= 0 && data >= 0);

    assert_int_equal(dayfly_config_new(&config), 0);
    boot.kernel_fd = kernel;
    assert_int_equal(dayfly_config_set_linux(config, &boot), 0);
    disk.fd = data;
    disk.read_only = true;
    assert_int_equal(dayfly_config_add_disk(config, &disk), 0);
    console.name = "log";
    console.output_fd = STDERR_FILENO;
    assert_int_equal(dayfly_config_add_console(config, &console), 0);
    assert_int_equal(validate(folder, config, &lines), 0);
    assert_string_equal(lines.text, "");

    disk.read_only = false;
    assert_int_equal(dayfly_config_add_disk(config, &disk), 0);
    disk.fd = -1;
    assert_int_equal(dayfly_config_add_disk(config, &disk), 0);
    console.name = "no";
    console.output_fd = -1;
    console.input_fd = 9999;
    assert_int_equal(dayfly_config_add_console(config, &console), 0);
    assert_int_equal(validate(folder, config, &lines), -EINVAL);
    char expected[512];
    snprintf(expected, sizeof(expected),
             "0:0 disks[2].path: missing | write `path: root.img`\n"
             "0:0 disks[1].path: descriptor %d is not open for reading and writing | open it with "
             "O_RDWR, or make "
             "the disk read-only\n"
             "0:0 disks[1].path: it is the same file as disks[0].path, and one is written | give each "
             "its own file, "
             "or let both only read it\n"
             "0:0 consoles[1].output: descriptor 9999 is not open | -\n",
             data);
    assert_string_equal(lines.text, expected);
    for (int i = 0; i < CONFIG_MAX_DISKS; i++)
        assert_int_equal(dayfly_config_add_disk(config, &disk), 0);
    assert_int_equal(validate(folder, config, &lines), -EINVAL);
    assert_non_null(strstr(lines.text, "0:0 disks: 27 are too many: at most 24 | -\n"));
    dayfly_config_free(config);
}

static void test_setters_copy_and_replace(void **state)
{
    (void)state;
    struct dayfly_config *config;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_vsock vsock = DAYFLY_VSOCK_INIT;
    char kernel[] = "one";
    assert_int_equal(dayfly_config_new(&config), 0);
    boot.kernel = kernel;
    assert_int_equal(dayfly_config_set_linux(config, &boot), 0);
    strcpy(kernel, "two");
    assert_string_equal(config->boot.kernel, "one");
    assert_int_equal(dayfly_config_set_linux(config, &boot), 0);
    assert_string_equal(config->boot.kernel, "two");
    vsock.socket = "s";
    assert_int_equal(dayfly_config_set_vsock(config, &vsock), 0);
    assert_true(config->vsock.present);
    assert_int_equal(dayfly_config_set_vsock(config, NULL), 0);
    assert_false(config->vsock.present);
    assert_null(config->vsock.socket);
    dayfly_config_free(config);
    dayfly_config_free(NULL);
}

static void test_options_of_other_versions(void **state)
{
    (void)state;
    struct dayfly_config *config;
    struct {
        struct dayfly_disk disk;
        uint64_t field_of_tomorrow;
    } newer = {.disk = DAYFLY_DISK_INIT};
    newer.disk.path = "x";
    assert_int_equal(dayfly_config_new(&config), 0);
    newer.disk.size = sizeof(newer);
    assert_int_equal(dayfly_config_add_disk(config, &newer.disk), 0);
    newer.field_of_tomorrow = 1;
    assert_int_equal(dayfly_config_add_disk(config, &newer.disk), -E2BIG);
    newer.disk.size = 0;
    assert_int_equal(dayfly_config_add_disk(config, &newer.disk), -EINVAL);
    assert_int_equal(config->disk_count, 1);
    dayfly_config_free(config);
}

static void test_limits_of_this_host(void **state)
{
    (void)state;
    struct dayfly_limits here = {.size = sizeof(here)};
    assert_int_equal(dayfly_limits_get(&here), 0);
    assert_int_equal(here.min_cpus, 1);
    assert_in_range(here.max_cpus, 1, CONFIG_MAX_CPUS);
    assert_true(here.max_memory_bytes > here.min_memory_bytes);
    here.size = 4;
    assert_int_equal(dayfly_limits_get(&here), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_fault_of_substance_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_status_tells_errors_from_warnings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_disk_in_use_is_seen_and_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_permission_is_the_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ids_of_a_share, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shares_made_by_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disks_and_shares_fit_the_bus_together, setup, teardown),
        cmocka_unit_test_setup_teardown(test_networks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_networks_made_by_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_secrets_of_networks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_description_made_by_calls, setup, teardown),
        cmocka_unit_test(test_setters_copy_and_replace),
        cmocka_unit_test(test_options_of_other_versions),
        cmocka_unit_test(test_limits_of_this_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
