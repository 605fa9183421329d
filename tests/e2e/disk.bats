#!/usr/bin/env bats
# How disks are attached, and what the guest sees when the host fails it.

load common
load disk

small_host() { # SIZE: a file system of the host with so much room, in $TEST_DIR/small
    [ "$(id -u)" -eq 0 ] || skip "a small file system needs root"
    mkdir "$TEST_DIR/small"
    mount -t tmpfs -o size="$1" tmpfs "$TEST_DIR/small" || skip "no mounts here"
    truncate -s 32M "$TEST_DIR/small/disk.img"
}

FILL='dd if=/dev/zero of=/dev/vda bs=64k count=256 conv=fsync 2>/dev/null && echo written || echo not written'

@test "a guest waits while the host is full, and goes on when it is not; nobody else gets the disk" {
    small_host 8m
    describe "$FILL" "[{path: small/disk.img}]"
    start
    wait_for_message "disk .*/small/disk.img: the host has no room"
    run "$DAYFLY" vm run --engine "$ENGINE" -f "$TEST_DIR/machine.yaml"
    [ "$status" -eq 125 ]
    [[ "$output" =~ small/disk.img\ is\ in\ use\ elsewhere ]]
    mount -o remount,size=64m "$TEST_DIR/small"
    wait_for_line '^(not )?written'
    [ "$line" = written ]
    wait_for_end
    [ "$status" -eq 0 ]
    grep "there is room again" "$TEST_DIR/err"
    [ "$(stat -c %b "$TEST_DIR/small/disk.img")" -ge 32768 ]
    umount_small
    nothing_left
}

@test "a machine whose guest waits for room can be stopped" {
    small_host 8m
    describe "$FILL" "[{path: small/disk.img}]"
    start
    wait_for_message "no room"
    # The first presses the power button, which this guest does not look at; the second pulls the plug.
    kill -TERM "$RUNNER"
    kill -INT "$RUNNER"
    wait_for_end
    [ "$status" -gt 128 ]
    umount_small
    nothing_left
}

@test "with on_full: fail a full host is an I/O error in the guest" {
    small_host 8m
    describe "$FILL; dmesg | grep 'I/O error, dev vda'" "[{path: small/disk.img, on_full: fail}]"
    start
    wait_for_line '^(not )?written'
    [ "$line" = "not written" ]
    wait_for_line 'I/O error, dev vda'
    wait_for_end
    [ "$status" -eq 0 ]
    run cat "$TEST_DIR/err"
    [[ ! "$output" =~ "no room" ]]
    umount_small
    nothing_left
}

@test "a disk that the host cuts off is an I/O error in the guest; its serial number is its identifier" {
    truncate -s 32M "$TEST_DIR/disk.img"
    describe 'echo "serial $(cat /sys/block/vda/serial)"
        read_end() { dd if=/dev/vda of=/dev/null bs=4096 skip=8000 count=1 2>/dev/null; }
        read_end && echo "it reads"
        while read_end; do echo 1 >/proc/sys/vm/drop_caches; done
        echo "it fails"' "[{path: disk.img, id: abcdefghij.123456789}]"
    start
    wait_for_line '^serial'
    [ "$line" = "serial abcdefghij.123456789" ]
    wait_for_line 'it reads'
    truncate -s 16M "$TEST_DIR/disk.img"
    wait_for_line 'it fails'
    wait_for_end
    [ "$status" -eq 0 ]
    nothing_left
}
