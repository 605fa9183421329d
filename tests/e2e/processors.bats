#!/usr/bin/env bats
# Several processors. In a file of its own, because the lab's emulated processor now and then hangs for good
# under a guest with more than one: tests/e2e/run gives this file more than one try there.

load common

@test "4 processors are seen" {
    run job --cpus 4 -- nproc
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = 4 ]
}
