/* SPDX-License-Identifier: Apache-2.0 */
/* What has no name can be used all the same, and leaves nothing. */
#include "util/nameless.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/testing.h"

static int make_folder(void **state)
{
    char *dir = strdup("/tmp/unit-test-XXXXXX");
    *state = dir;
    return !dir || !mkdtemp(dir) || setenv("TMPDIR", dir, 1) < 0 ? -1 : 0;
}

static int remove_folder(void **state)
{
    int r = rmdir(*state);
    free(*state);
    return r;
}

static unsigned count_entries(const char *dir)
{
    unsigned count = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count - 2;
}

static int bind_one(int *door)
{
    struct dayfly_err err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(nameless_socket_bind(fd, door, &err), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void test_a_door_without_a_name(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int door, fd = bind_one(&door), caller = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(count_entries(*state), 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", door);
    assert_int_equal(connect(caller, (struct sockaddr *)&address, sizeof(address)), 0);
    int answer = accept(fd, NULL, NULL);
    assert_true(answer >= 0);
    close(answer);
    close(caller);
    close(door);
    close(fd);
}

/* A folder as a killed process leaves it. */
static void leave(const char *dir, const char *name, char path[static 128])
{
    char socket_path[160];
    snprintf(path, 128, "%s/%s", dir, name);
    snprintf(socket_path, sizeof(socket_path), "%s/s", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mknod(socket_path, S_IFSOCK | 0600, 0), 0);
}

static void remove_again(const char *path)
{
    char inside[160];
    snprintf(inside, sizeof(inside), "%s/s", path);
    assert_int_equal(unlink(inside), 0);
    assert_int_equal(rmdir(path), 0);
}

static void test_what_a_killed_one_left_is_removed(void **state)
{
    char left[128], used[128], other[128];
    leave(*state, "dayfly-door-aaaaaa", left);
    leave(*state, "dayfly-door-bbbbbb", used);
    leave(*state, "somebody-cccccc", other);
    int lock = open(used, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    int door, fd = bind_one(&door);
    assert_int_equal(access(left, F_OK), -1);
    close(lock);
    remove_again(used);
    remove_again(other);
    close(door);
    close(fd);
}

struct told {
    unsigned count;
    char name[160];
};

static void tell(void *opaque, const char *kind, const char *name, int error)
{
    struct told *told = opaque;
    assert_string_equal(kind, "socket");
    assert_int_equal(error, 0);
    told->count++;
    snprintf(told->name, sizeof(told->name), "%s", name);
}

static void test_a_sweep_says_what_it_removes(void **state)
{
    char left[128];
    struct told told = {0};
    struct sweep sweep = {.dry_run = true, .tell = tell, .opaque = &told};
    leave(*state, "dayfly-door-aaaaaa", left);
    nameless_sweep(&sweep);
    assert_int_equal(told.count, 1);
    assert_string_equal(told.name, left);
    assert_int_equal(access(left, F_OK), 0);
    sweep.dry_run = false;
    nameless_sweep(&sweep);
    assert_int_equal(told.count, 2);
    assert_int_equal(access(left, F_OK), -1);
    nameless_sweep(&sweep);
    assert_int_equal(told.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_door_without_a_name),
        cmocka_unit_test(test_what_a_killed_one_left_is_removed),
        cmocka_unit_test(test_a_sweep_says_what_it_removes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
