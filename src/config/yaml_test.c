/* SPDX-License-Identifier: Apache-2.0 */
/* The form of a machine file: every fault, where it stands and what it says. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

/* Faults as lines: "LINE:COLUMN WHERE: MESSAGE | HINT". */
struct lines {
    char text[4096];
    size_t len;
};

static void note(void *opaque, const struct dayfly_fault *fault)
{
    struct lines *lines = opaque;
    assert_int_equal(fault->size, sizeof(*fault));
    assert_string_equal(fault->file, "m.yaml");
    lines->len += (size_t)snprintf(lines->text + lines->len, sizeof(lines->text) - lines->len,
                                   "%u:%u %s: %s | %s\n", fault->line, fault->column, fault->where,
                                   fault->message, fault->hint ? fault->hint : "-");
    assert_true(lines->len < sizeof(lines->text));
}

static int parse(struct dayfly_config **config, const char *text, size_t len, struct lines *lines,
                 struct dayfly_err *err)
{
    assert_int_equal(dayfly_config_new(config), 0);
    *lines = (struct lines){0};
    return dayfly_config_parse_yaml(*config, "m.yaml", text, len, "/base", note, lines, err);
}

static void test_a_whole_file_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "# a machine\n"
        "cpus: 4\n"
        "memory: 2GiB\n"
        "linux:\n"
        "  kernel: boot/vmlinuz\n"
        "  initrd: /abs/initrd\n"
        "  command_line: \"console=hvc0 quiet\"\n"
        "disks:\n"
        "  - path: root.img\n"
        "    read_only: true\n"
        "  - {path: /dev/sdb, id: data, cache: direct, sync: none, on_full: pause}\n"
        "shares:\n"
        "  - {tag: src, path: src, mode: ro, cache: always, writeback: true, "
        "xattr: true, queues: 2, dax: 1GiB, shown_uid: 1000}\n"
        "  - tag: two\n"
        "    directories:\n"
        "      - {name: a b, path: a}\n"
        "      - name: c\n"
        "        path: /c\n"
        "        mode: cow\n"
        "        ids: map\n"
        "        uids: [{host: 100000, count: 10}, {guest: 10, host: 7}]\n"
        "        gids: [{host: 5}]\n"
        "consoles:\n"
        "  - name: main\n"
        "    output: stdio\n"
        "    primary: true\n"
        "  - name: log\n"
        "    output: log.txt\n"
        "vsock: {cid: 7, socket: vm.sock}\n"
        "entropy: false\n"
        "serial: {output: none}\n"
        "jail: required\n";
    struct dayfly_config *config;
    struct lines lines;
    struct dayfly_err err = {0};
    assert_int_equal(parse(&config, text, strlen(text), &lines, &err), 0);
    assert_string_equal(lines.text, "");
    assert_int_equal(config->cpus, 4);
    assert_true(config->memory_bytes == UINT64_C(2) << 30);
    assert_string_equal(config->boot.kernel, "/base/boot/vmlinuz");
    assert_string_equal(config->boot.initrd, "/abs/initrd");
    assert_string_equal(config->boot.command_line, "console=hvc0 quiet");
    assert_int_equal(config->disk_count, 2);
    assert_string_equal(config->disks[0].path, "/base/root.img");
    assert_true(config->disks[0].read_only);
    assert_int_equal(config->disks[0].fd, -1);
    assert_null(config->disks[0].id);
    assert_string_equal(config->disks[1].id, "data");
    assert_false(config->disks[1].read_only);
    assert_int_equal(config->disks[0].cache, DAYFLY_DISK_CACHE_AUTO);
    assert_int_equal(config->disks[1].cache, DAYFLY_DISK_CACHE_DIRECT);
    assert_int_equal(config->disks[1].sync, DAYFLY_DISK_SYNC_NONE);
    assert_int_equal(config->disks[1].on_full, DAYFLY_DISK_FULL_PAUSE);
    assert_int_equal(config->share_count, 2);
    const struct config_share *share = config->shares;
    size_t count;
    assert_string_equal(share->tag, "src");
    assert_int_equal(share->cache, DAYFLY_SHARE_CACHE_ALWAYS);
    assert_true(share->writeback);
    assert_true(share->xattr);
    assert_int_equal(share->queues, 2);
    assert_int_equal(share->window_bytes, UINT64_C(1) << 30);
    assert_ptr_equal(config_share_directories(share, &count), &share->only);
    assert_int_equal(count, 1);
    assert_string_equal(share->only.path, "/base/src");
    assert_int_equal(share->only.fd, -1);
    assert_null(share->only.name);
    assert_int_equal(share->only.mode, DAYFLY_SHARE_RO);
    assert_int_equal(share->only.ids, DAYFLY_SHARE_SQUASH);
    assert_int_equal(share->only.shown_uid, 1000);
    share++;
    assert_int_equal(share->cache, DAYFLY_SHARE_CACHE_AUTO);
    assert_int_equal(share->queues, 1);
    assert_null(share->only.path);
    const struct config_directory *dir = config_share_directories(share, &count);
    assert_int_equal(count, 2);
    assert_string_equal(dir[0].name, "a b");
    assert_string_equal(dir[0].path, "/base/a");
    assert_int_equal(dir[0].mode, DAYFLY_SHARE_RW);
    assert_int_equal(dir[1].fd, -1);
    assert_int_equal(dir[1].mode, DAYFLY_SHARE_COW);
    assert_int_equal(dir[1].ids, DAYFLY_SHARE_MAP);
    assert_int_equal(dir[1].uid_count, 2);
    assert_int_equal(dir[1].uids[0].count, 10);
    assert_int_equal(dir[1].uids[1].guest, 10);
    assert_int_equal(dir[1].uids[1].host, 7);
    assert_int_equal(dir[1].uids[1].count, 1);
    assert_int_equal(dir[1].gid_count, 1);
    assert_int_equal(dir[1].gids[0].host, 5);
    assert_int_equal(config->console_count, 2);
    assert_true(config->consoles[0].primary);
    assert_int_equal(config->consoles[0].stream.output_fd, 1);
    assert_int_equal(config->consoles[0].stream.input_fd, 0);
    assert_null(config->consoles[0].stream.path);
    assert_string_equal(config->consoles[1].stream.path, "/base/log.txt");
    assert_int_equal(config->consoles[1].stream.output_fd, -1);
    assert_true(config->vsock.present);
    assert_int_equal(config->vsock.cid, 7);
    assert_string_equal(config->vsock.socket, "/base/vm.sock");
    assert_false(config->entropy);
    assert_null(config->serial.stream.path);
    assert_int_equal(config->jail, DAYFLY_JAIL_REQUIRED);
    dayfly_config_free(config);
}

#define SIZE_HINT(example) "write `" example "`; the units are K, M, G, T, KiB, MiB, GiB and TiB"

static const struct {
    const char *yaml, *faults;
} faulty[] = {
    /* keys */
    {"cpu: 2\n", "1:1 : unknown key \"cpu\" | did you mean `cpus`?\n"},
    {"linux: {kernel: k}\nnetwork: nat\n",
     "2:1 : unknown key \"network\" | did you mean `networks`?\n"},
    {"disks:\n  - path: a\n    readonly: true\n",
     "3:5 disks[0]: unknown key \"readonly\" | did you mean `read_only`?\n"},
    {"unknown: {deep: [1, {x: y}], more: *z}\ncpus: x\n",
     "1:1 : unknown key \"unknown\" | known here: cpus, memory, linux, disks, shares, networks, "
     "consoles, vsock, "
     "entropy, serial, jail\n"
     "1:36 : the alias *z is not allowed here | write the value out\n"
     "2:7 cpus: expected a whole number, found \"x\" | write `cpus: 2`\n"},
    {"cpus: 1\nmemory: 1G\ncpus: 2\n",
     "3:1 : the key \"cpus\" is given twice | it stands in line 1 already\n"},
    {"linux:\n  kernel: a\n  kernel: b\n",
     "3:3 linux: the key \"kernel\" is given twice | it stands in line 2 already\n"},
    {"? [a, b]\n: 1\ncpus: x\n", "1:3 : a key must be a word | quote it if it is meant as text\n"
                                 "3:7 cpus: expected a whole number, found \"x\" | write `cpus: 2`\n"},
    {"<<: {cpus: 2}\n",
     "1:1 : unknown key \"<<\" | known here: cpus, memory, linux, disks, shares, networks, consoles, "
     "vsock, entropy, serial, jail\n"},
    {"\"cpus\\0x\": 2\n",
     "1:1 : unknown key \"\" | known here: cpus, memory, linux, disks, shares, networks, consoles, "
     "vsock, entropy, serial, jail\n"},
    /* kinds and units */
    {"cpus: two\n", "1:7 cpus: expected a whole number, found \"two\" | write `cpus: 2`\n"},
    {"cpus: \"2\"\n", "1:7 cpus: expected a whole number, found \"2\" | write `cpus: 2`\n"},
    {"cpus: -1\n", "1:7 cpus: expected a whole number, found \"-1\" | write `cpus: 2`\n"},
    {"cpus: 1.5\n", "1:7 cpus: expected a whole number, found \"1.5\" | write `cpus: 2`\n"},
    {"cpus: 4294967296\n",
     "1:7 cpus: 4294967296 is out of range: it must be from 0 to 4294967295 | -\n"},
    {"cpus:\n", "1:6 cpus: expected a whole number, found nothing | write `cpus: 2`\n"},
    {"cpus: [1]\n", "1:7 cpus: expected a whole number, found a list | write `cpus: 2`\n"},
    {"cpus: {a: 1}\nmemory: 1\n",
     "1:7 cpus: expected a whole number, found a mapping | write `cpus: 2`\n"},
    {"memory: 512MB\n",
     "1:9 memory: expected a size, found \"512MB\" | " SIZE_HINT("memory: 512MiB") "\n"},
    {"memory: 512 MiB\n",
     "1:9 memory: expected a size, found \"512 MiB\" | " SIZE_HINT("memory: 512MiB") "\n"},
    {"memory: ~\n", "1:9 memory: expected a size, found nothing | " SIZE_HINT("memory: 512MiB") "\n"},
    {"memory: 99999999999T\n",
     "1:9 memory: \"99999999999T\" is too large: a size fits into 64 bits | -\n"},
    {"entropy: yes\n",
     "1:10 entropy: expected true or false, found \"yes\" | write `entropy: false`\n"},
    {"entropy: \"true\"\n",
     "1:10 entropy: expected true or false, found \"true\" | write `entropy: false`\n"},
    {"linux: vmlinuz\n",
     "1:8 linux: expected a mapping, found \"vmlinuz\" | write `kernel: vmlinuz` below `linux:`\n"},
    {"linux: [a]\n",
     "1:8 linux: expected a mapping, found a list | write `kernel: vmlinuz` below `linux:`\n"},
    {"linux: {kernel: [a]}\n",
     "1:17 linux.kernel: expected a path, found a list | write `kernel: vmlinuz`\n"},
    {"linux:\n  kernel: null\n",
     "2:11 linux.kernel: expected a path, found nothing | write `kernel: vmlinuz`\n"},
    {"linux: {kernel: \"a\\0b\"}\n", "1:17 linux.kernel: the text has a NUL byte in it | -\n"},
    {"disks: a.img\n",
     "1:8 disks: expected a list, found \"a.img\" | write `- path: root.img` below `disks:`\n"},
    {"disks:\n  path: a\n",
     "2:3 disks: expected a list, found a mapping | write `- path: root.img` below `disks:`\n"},
    {"disks:\n  - a.img\n  - path: {}\n",
     "2:5 disks[0]: expected a mapping, found \"a.img\" | write `- path: root.img` below `disks:`\n"
     "3:11 disks[1].path: expected a path, found a mapping | write `path: root.img`\n"},
    {"disks: [[], {path: a}, ]\n",
     "1:9 disks[0]: expected a mapping, found a list | write `- path: root.img` below `disks:`\n"},
    {"disks: [{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{x: y}]\n",
     "1:81 disks: too many: at most 24 | -\n"},
    {"shares: [{tag: s, path: p, mode: r0}]\n",
     "1:34 shares[0].mode: expected one of rw, ro, cow, found \"r0\" | write `mode: ro`\n"},
    {"shares: [{tag: s, path: p, cache: }]\n",
     "1:35 shares[0].cache: expected one of auto, none, always, found nothing | write `cache: "
     "always`\n"},
    {"shares: src\n",
     "1:9 shares: expected a list, found \"src\" | write `- tag: src` below `shares:`\n"},
    {"shares: [{tag: s, directories: [{name: a, path: b}, c]}]\n",
     "1:53 shares[0].directories[1]: expected a mapping, found \"c\" | write `- name: src` below "
     "`directories:`\n"},
    {"shares: [{tag: s, path: p, uids: [{guest: x}, {gest: 1}]}]\n",
     "1:43 shares[0].uids[0].guest: expected a whole number, found \"x\" | write `guest: 0`\n"
     "1:48 shares[0].uids[1]: unknown key \"gest\" | did you mean `guest`?\n"},
    /* the document */
    {"", "1:1 : the file is empty | see `dayfly help machine-file`\n"},
    {"# nothing\n", "2:1 : the file is empty | see `dayfly help machine-file`\n"},
    {"- cpus: 1\n", "1:1 : a machine file is a mapping | write `cpus: 2`, `memory: 512MiB` and so on, "
                    "each in a line\n"},
    {"machine\n", "1:1 : a machine file is a mapping | write `cpus: 2`, `memory: 512MiB` and so on, "
                  "each in a line\n"},
    {"cpus: 1\n---\ncpus: 2\n",
     "2:1 : a machine file is one document | put the second machine into a file of its own\n"},
    {"linux: &a {kernel: k}\nserial: *a\n",
     "1:8 linux: the anchor &a is not allowed here | leave it out: every value is written once, where "
     "it stands\n"
     "2:9 serial: the alias *a is not allowed here | write the value out\n"},
    {"cpus: !!int 2\n", "1:7 cpus: the tag tag:yaml.org,2002:int is not allowed here | leave it out: "
                        "the type is known from the key\n"},
    {"cpus: !x 2\n",
     "1:7 cpus: the tag !x is not allowed here | leave it out: the type is known from the key\n"},
    {"x: [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]\ncpus: x\n",
     "1:1 : unknown key \"x\" | known here: cpus, memory, linux, disks, shares, networks, consoles, "
     "vsock, "
     "entropy, "
     "serial, jail\n"
     "1:19 : nested more than 16 deep | -\n"},
    /* what is quoted can be printed */
    {"\"\\e[31m\": 1\n",
     "1:1 : unknown key \"?[31m\" | known here: cpus, memory, linux, disks, shares, "
     "networks, consoles, vsock, entropy, serial, jail\n"},
    {"cpus: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xbc\n",
     "1:7 cpus: expected a whole number, found \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?\" | write "
     "`cpus: 2`\n"},
    /* syntax */
    {"cpus: 1\n\tmemory: 1G\n", "2:1 : YAML syntax: found a tab character that violates indentation, "
                                "while scanning a plain scalar that "
                                "began in line 1 | "
                                "indent with spaces, not tabs\n"},
    {"cpus: [1, 2\nmemory: 1G\n", "1:7 cpus: expected a whole number, found a list | write `cpus: 2`\n"
                                  "2:7 : YAML syntax: did not find expected ',' or ']', while parsing "
                                  "a flow sequence that began in line 1 | -\n"},
    {"linux:\n  command_line: a: b\n", "2:18 : YAML syntax: mapping values are not allowed in this "
                                       "context | put a value that contains \": \" into "
                                       "quotes\n"},
    {"cpus: 1\nmemory\n", "3:1 : YAML syntax: could not find expected ':', while scanning a simple key "
                          "that began in line 2 | write "
                          "`key: value`, with a colon and a space between them\n"},
    {"cpus: 1\nlinux: \"abc\n", "3:1 : YAML syntax: found unexpected end of stream, while scanning a "
                                "quoted scalar that began in line 2 | -\n"},
    {"cpus: 1\nlinux: \xff\xfe\n",
     "2:8 : YAML syntax: invalid leading UTF-8 octet | the file must be UTF-8 text\n"},
};

static void test_every_fault_of_form_is_named(void **state)
{
    (void)state;
    unsigned bad = 0;
    for (size_t i = 0; i < ARRAY_SIZE(faulty); i++) {
        struct dayfly_config *config;
        struct lines lines;
        struct dayfly_err err = {0};
        int rc = parse(&config, faulty[i].yaml, strlen(faulty[i].yaml), &lines, &err);
        if (rc != -EINVAL || strcmp(lines.text, faulty[i].faults) != 0) {
            print_error("---- %sreturned %d\n-- said\n%s-- expected\n%s", faulty[i].yaml, rc,
                        lines.text, faulty[i].faults);
            bad++;
        }
        assert_int_equal(err.code, EINVAL);
        dayfly_config_free(config);
    }
    assert_int_equal(bad, 0);
}

static void test_the_error_is_the_first_fault(void **state)
{
    (void)state;
    struct dayfly_config *config;
    struct lines lines;
    struct dayfly_err err = {0};
    static const char text[] = "cpu: 2\nmemory: x\n";
    assert_int_equal(parse(&config, text, strlen(text), &lines, &err), -EINVAL);
    assert_string_equal(err.msg, "m.yaml:1:1: unknown key \"cpu\"; did you mean `cpus`?");
    dayfly_config_free(config);
}

static void test_what_is_right_is_read_beside_faults(void **state)
{
    (void)state;
    struct dayfly_config *config;
    struct lines lines;
    static const char text[] = "cpu: 2\nmemory: 1G\ndisks: [7, {path: a}]\ncpus: x\n";
    assert_int_equal(parse(&config, text, strlen(text), &lines, NULL), -EINVAL);
    assert_true(config->memory_bytes == UINT64_C(1) << 30);
    assert_int_equal(config->cpus, 1);
    assert_int_equal(config->disk_count, 2); /* the indexes are the file's */
    assert_string_equal(config->disks[1].path, "/base/a");
    assert_true(config_mark_at(config, "disks[0]")->faulty);
    assert_false(config_mark_at(config, "disks[1]")->faulty);
    assert_int_equal(config_mark_of(config, "disks[1].id")->line, 3);
    assert_int_equal(config_mark_of(config, "disks[1].id")->column, 12);
    dayfly_config_free(config);
}

static void test_hostile_texts_are_bounded(void **state)
{
    (void)state;
    struct dayfly_config *config;
    struct lines lines;
    struct dayfly_err err = {0};
    static const char laughs[] =
        "a: &a [l,l,l,l]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\ncpus: *c\n";
    assert_int_equal(parse(&config, laughs, strlen(laughs), &lines, &err), -EINVAL);
    dayfly_config_free(config);

    size_t big_bytes = 256 * 1024 + 1;
    _cleanup_free_ char *big = malloc(big_bytes);
    assert_non_null(big);
    memset(big, '[', big_bytes);
    assert_int_equal(parse(&config, big, big_bytes, &lines, &err), -EFBIG);
    assert_string_equal(err.msg, "m.yaml is larger than 256 KiB, which no machine file needs");
    dayfly_config_free(config);
    assert_int_equal(parse(&config, big, big_bytes - 1, &lines, &err), -EINVAL);
    dayfly_config_free(config);
}

static void test_a_file_that_cannot_be_read_is_named(void **state)
{
    (void)state;
    struct dayfly_config *config;
    struct dayfly_err err = {0};
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(dayfly_config_load_yaml(config, "/nonexistent/m.yaml", NULL, NULL, &err), -ENOENT);
    assert_string_equal(err.msg, "/nonexistent/m.yaml: No such file or directory");
    assert_int_equal(dayfly_config_load_yaml(config, "/", NULL, NULL, &err), -EISDIR);
    dayfly_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_file_is_read),
        cmocka_unit_test(test_every_fault_of_form_is_named),
        cmocka_unit_test(test_the_error_is_the_first_fault),
        cmocka_unit_test(test_what_is_right_is_read_beside_faults),
        cmocka_unit_test(test_hostile_texts_are_bounded),
        cmocka_unit_test(test_a_file_that_cannot_be_read_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
