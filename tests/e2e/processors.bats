#!/usr/bin/env bats
# Several processors.

load common

@test "4 processors are seen" {
    run job --cpus 4 -- nproc
    echo "status $status: $output"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = 4 ]
}

@test "a kernel that patches its own code, while several processors run it" {
    # A first limit of processor time, and the end of the last one, each change the scheduler's code.
    run job --cpus 2 -- sh -c '
        cd /sys/fs/cgroup && echo +cpu >cgroup.subtree_control && mkdir limited || exit 1
        for i in 1 2 3; do (while :; do echo; done | cat >/dev/null) & done
        turns=0
        while [ $turns -lt 50 ]; do
            echo 50000 100000 >limited/cpu.max && echo max >limited/cpu.max && turns=$((turns + 1)) || exit 1
        done
        echo $turns'
    echo "status $status: $output"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = 50 ]
}

@test "a machine from a file boots, prints to its serial port, and switches itself off" {
    make_initrd
    cat >"$TEST_DIR/machine.yaml" <<YAML
cpus: 2
memory: 256MiB
linux:
  kernel: $KERNEL
  initrd: initrd
  command_line: console=ttyS0 quiet panic=-1
serial: {output: stdio}
YAML
    run timeout -k 10 "$LIMIT" "$DAYFLY" vm run --engine "$ENGINE" -f "$TEST_DIR/machine.yaml"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"up with 2"* ]]
    nothing_left
}

@test "a jail that is required and is not to be had whole: the machine is not made" {
    make_initrd
    mkdir "$TEST_DIR/shared"
    # Of the ids that a guest gives its files, some are kept: such shares go without landlock.
    cat >"$TEST_DIR/machine.yaml" <<YAML
cpus: 1
memory: 256MiB
linux: {kernel: $KERNEL, initrd: initrd}
shares:
  - {tag: files, path: shared, ids: identity}
YAML
    run timeout -k 10 "$LIMIT" "$DAYFLY" vm run --engine "$ENGINE" --jail required -f "$TEST_DIR/machine.yaml"
    echo "$output"
    [ "$status" -eq 125 ]
    [[ "$output" == *"the jail is required, but what serves the guest (file server) lacks"* ]]
    nothing_left
}
