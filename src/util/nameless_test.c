/* SPDX-License-Identifier: Apache-2.0 */
/* What has no name can be used all the same, and leaves nothing. */
#include "util/nameless.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "util/testing.h"

static int make_folder(void **state)
{
    char *dir = strdup("/tmp/dayfly-test-XXXXXX");
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

/* A folder as a killed process leaves it, last changed `age` seconds ago. */
static void leave(const char *dir, const char *name, time_t age, char path[static 128])
{
    char socket_path[160];
    const struct timespec then = {.tv_sec = time(NULL) - age};
    snprintf(path, 128, "%s/%s", dir, name);
    snprintf(socket_path, sizeof(socket_path), "%s/s", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mknod(socket_path, S_IFSOCK | 0600, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){then, then}, 0), 0);
}

static void test_what_a_killed_one_left_is_removed(void **state)
{
    char old[128], fresh[128], other[128], inside[160];
    leave(*state, "dayfly-door-aaaaaa", 3600, old);
    leave(*state, "dayfly-door-bbbbbb", 0, fresh);
    leave(*state, "somebody-cccccc", 3600, other);
    int door, fd = bind_one(&door);
    assert_int_equal(access(old, F_OK), -1);
    const char *const left[] = {fresh, other};
    for (int i = 0; i < 2; i++) {
        snprintf(inside, sizeof(inside), "%s/s", left[i]);
        assert_int_equal(unlink(inside), 0);
        assert_int_equal(rmdir(left[i]), 0);
    }
    close(door);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_door_without_a_name),
        cmocka_unit_test(test_what_a_killed_one_left_is_removed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
