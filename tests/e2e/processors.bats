#!/usr/bin/env bats
# Several processors. In a file of its own, because the lab's emulated processor now and then hangs for good
# under a guest with more than one: tests/e2e/run gives this file more than one try there.

load common

@test "4 processors are seen" {
    run job --cpus 4 -- nproc
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = 4 ]
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
