#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The lab keeps its promises: outputs and status exact, a /dev/kvm that runs an unmodified kernel,
# the host's files safe, a time limit, and nothing left behind. Each test boots L1: some seconds.
# shellcheck disable=SC2016 # the commands in single quotes are for L1's shell

bats_require_minimum_version 1.5.0

setup_file() {
    ROOT=$(cd "$BATS_TEST_DIRNAME/.." && pwd -P)
    export ROOT LAB=$ROOT/lab/run
    # Nothing in an L1 can run another one in good time.
    if [ -e /run/dayfly-lab/tree ]; then
        skip "inside the lab"
    fi
    "$ROOT/lab/prepare" >/dev/null
}

# A folder in the repository that only this test knows: L1 shares it with the host.
setup() {
    mkdir -p "$ROOT/.cache"
    SHARED=$(mktemp -d "$ROOT/.cache/lab-test.XXXXXX")
}

teardown() {
    rm -rf "$SHARED"
}

# For a test of what the others use anyway, or that takes long: at most fifteen minutes are make test's.
long() { [ -n "${DAYFLY_TEST_LONG:-}" ] || skip "with DAYFLY_TEST_LONG=1"; }

@test "status 0, in the repository, as root, arguments kept apart" {
    run --separate-stderr "$LAB" -- sh -c 'echo "$PWD|$(id -u)|$1|$2"' sh 'a  b' "it's \$HOME
second line"
    [ "$status" -eq 0 ]
    [ "$output" = "$ROOT|0|a  b|it's \$HOME
second line" ]
    [ -z "$stderr" ]
}

@test "status 42; stdout and stderr apart; DAYFLY_* passed, others not" {
    export DAYFLY_TEST_WORD='two words' OTHER_WORD=no
    run --separate-stderr "$LAB" bash -c 'echo "out $DAYFLY_TEST_WORD${OTHER_WORD:-}"; echo err >/dev/stderr; exit 42'
    [ "$status" -eq 42 ]
    [ "$output" = "out two words" ]
    [ "$stderr" = "err" ]
}

@test "status 127 for a command that is not there, 128+N for a signal" {
    run -127 "$LAB" /nowhere/at/all
    run "$LAB" bash -c 'kill -9 $$'
    [ "$status" -eq 137 ]
}

@test "1 MiB of every byte on each output comes back unchanged" {
    long
    head -c 1048576 /dev/urandom >"$SHARED/1"
    head -c 1048576 /dev/urandom >"$SHARED/2"
    "$LAB" sh -c 'cat "$1/1" & cat "$1/2" >&2; wait' sh "$SHARED" >"$SHARED/out" 2>"$SHARED/err"
    cmp "$SHARED/1" "$SHARED/out"
    cmp "$SHARED/2" "$SHARED/err"
}

@test "the host's files can be written, and stay as they were" {
    outside=$(mktemp -d)
    echo host >"$outside/file"
    before=$(sha256sum </etc/passwd)
    run "$LAB" sh -ec '
        echo lab >>/etc/passwd; echo lab >/etc/dayfly-lab-was-here; rm -f /etc/hosts; mkdir -p "$1"
        echo lab >"$1/file"; echo lab >"$2/file"
        for dir in /tmp /run /var/tmp /dev/shm /root; do echo x >"$dir/dayfly-lab-was-here"; done' \
        sh "$outside" "$SHARED"
    [ "$status" -eq 0 ]
    [ "$(cat "$outside/file")" = host ]
    rm -r "$outside"
    [ "$(sha256sum </etc/passwd)" = "$before" ]
    [ -e /etc/hosts ]
    for dir in /etc /tmp /run /var/tmp /dev/shm /root; do
        [ ! -e "$dir/dayfly-lab-was-here" ]
    done
    [ "$(cat "$SHARED/file")" = lab ]
}

@test "the command can make namespaces of every kind, and what it leaves running is ended" {
    run "$LAB" sh -c 'sleep 1000 & unshare -Urmpf --mount-proc sh -c "echo \$\$"'
    [ "$status" -eq 0 ]
    [ "$output" = 1 ]
}

@test "the time limit ends the command with 124 and keeps what it wrote" {
    run --separate-stderr "$LAB" --timeout 30 sh -c 'echo started; sleep 1000'
    [ "$status" -eq 124 ]
    [ "$output" = started ]
    [[ $stderr == *"time limit of 30 s"* ]]
}

@test "SIGTERM, and even SIGKILL, leave no process and no file" {
    export TMPDIR=$SHARED/tmp
    mkdir "$TMPDIR"
    for signal in TERM KILL; do
        # 3>&-: bats waits for all who hold its descriptor.
        mkfifo "$SHARED/$signal"
        "$LAB" sh -c "echo up; sleep 1000" >"$SHARED/$signal" 3>&- &
        pid=$!
        read -r line <"$SHARED/$signal"
        [ "$line" = up ]
        children=$(pgrep -P "$pid")
        qemu=$(for child in $children; do pgrep -P "$child" qemu || :; done)
        [ -n "$qemu" ]
        kill -"$signal" "$pid"
        wait "$pid" || :
        timeout 20 tail -f --pid="$qemu" /dev/null
        for child in $children; do
            timeout 20 tail -f --pid="$child" /dev/null
        done
        [ -z "$(ls -A "$TMPDIR")" ]
    done
}

@test "two at once" {
    long
    "$LAB" sh -c 'echo first; exit 3' >"$SHARED/out1" 3>&- &
    first=$!
    run "$LAB" sh -c 'echo second; exit 4'
    [ "$status" -eq 4 ]
    [ "$output" = second ]
    status=0
    wait "$first" || status=$?
    [ "$status" -eq 3 ]
    [ "$(cat "$SHARED/out1")" = first ]
}

@test "--cpus 2 --memory 1024 gives two processors and that memory" {
    long
    run "$LAB" --cpus 2 --memory 1024 sh -c 'nproc; sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = 2 ]
    [ "${lines[1]}" -gt 900000 ]
    [ "${lines[1]}" -lt 1048576 ]
}

@test "the clock interrupts L1 all the time, whatever becomes of its timer" {
    long
    # shellcheck disable=SC2016
    run "$LAB" --timeout 60 sh -c 'ticks() { sed -n "s/^ *[0-9]*: *\([0-9]*\) .* rtc0$/\1/p" /proc/interrupts; }
        before=$(ticks); until [ "$(ticks)" -ge $((before + 16)) ]; do :; done; echo ticks'
    [ "$status" -eq 0 ]
    [ "$output" = ticks ]
}

@test "--no-nested gives no /dev/kvm" {
    long
    run "$LAB" --no-nested sh -c '! (: </dev/kvm)'
    [ "$status" -eq 0 ]
}

@test "/dev/kvm runs an unmodified kernel to its init and out again" {
    eval "$("$ROOT/lab/prepare" --kernel debian)"
    mkdir -p "$SHARED/root/bin"
    cp "$(command -v busybox)" "$SHARED/root/bin/busybox"
    printf '%s\n' '#!/bin/busybox sh' '/bin/busybox echo "L2 is $(/bin/busybox uname -r)"' \
        '/bin/busybox reboot -f' >"$SHARED/root/init"
    chmod +x "$SHARED/root/init"
    (cd "$SHARED/root" && find . | cpio --quiet -o -H newc >"$SHARED/initramfs")
    run "$LAB" --timeout 120 qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
        -M microvm -accel kvm -cpu host -m 256 -serial stdio -kernel "$KERNEL" \
        -initrd "$SHARED/initramfs" -append "console=ttyS0 quiet panic=-1 reboot=t"
    [ "$status" -eq 0 ]
    [[ $output == *"L2 is ${MODULES##*/}"* ]]
}

@test "bad use is said, with 125" {
    run -125 "$LAB"
    [[ $output == *"no command given"* ]]
    run -125 "$LAB" --cpus none true
    [[ $output == *"--cpus takes a whole number"* ]]
    run -125 "$LAB" --frobnicate true
    [[ $output == *"unknown option --frobnicate"* ]]
    run -125 env DAYFLY_KERNEL_DEB=/nowhere.deb "$LAB" --kernel debian true
    [[ $output == *"/nowhere.deb"* ]]
}
