#!/usr/bin/env bats
# Machines without a job: programs on libdayfly. (`dayfly vm run` is in processors.bats.)

load common

@test "the example on libdayfly boots a machine" {
    make_initrd
    run env TINY_ENGINE="$ENGINE" timeout -k 10 "$LIMIT" build/examples/tiny/tiny "$KERNEL" "$TEST_DIR/initrd" \
        "console=ttyS0 quiet panic=-1"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"up with 1"* ]]
    [[ "$output" == *"the machine ended"* ]]
    nothing_left
}

@test "a program that ignores SIGCHLD hears of the end all the same" {
    make_initrd
    # Within timeout, which makes it the default for what it starts.
    run timeout -k 10 "$LIMIT" env --ignore-signal=CHLD TINY_ENGINE="$ENGINE" build/examples/tiny/tiny \
        "$KERNEL" "$TEST_DIR/initrd" "console=ttyS0 quiet panic=-1"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"the machine ended: power off"* ]]
    nothing_left
}

@test "two machines in one process are paused, resumed and stopped apart from each other" {
    make_initrd 'while :; do echo tick; /bin/busybox usleep 100000; done'
    run timeout -k 10 "$LIMIT" build/tests/machine/lifecycle "$ENGINE" "$KERNEL" "$TEST_DIR/initrd"
    echo "$output"
    [ "$status" -eq 0 ]
    nothing_left
}
